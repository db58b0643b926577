"use strict";

const element = (id) => document.getElementById(id);
const state = { classes: [], maxBytes: Infinity, token: null, file: null, answer: null, lit: null, turn: 0 };
// With more boxes than this, labels would hide the picture; a box then shows its label only while it is pointed at.
const MAX_LABELS = 25;

class Unauthorised extends Error {}

async function ask(path, options = {}) {
  const headers = state.token === null ? {} : { Authorization: `Bearer ${state.token}` };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (response.status === 401) throw new Unauthorised();
  let content;
  try {
    content = await response.json();
  } catch {
    throw new Error(`The server answered ${response.status} without a reason.`);
  }
  if (!response.ok) throw new Error(content.error);
  return content;
}

function say(text, bad = false) {
  element("status").textContent = text;
  element("status").classList.toggle("bad", bad);
}

function fail(error) {
  if (error instanceof Unauthorised) {
    say(state.token === null ? "The server asks for a token." : "The server does not accept this token.", state.token !== null);
    element("login").hidden = false;
    element("token").focus();
  } else {
    say(error.message, true);
  }
}

async function loadSettings() {
  const settings = await ask("page.json");
  state.classes = settings.classes;
  state.maxBytes = settings.max_body_bytes;
  const names = state.classes.map((one) => one.name);
  const shown = names.slice(0, 12).join(", ") + (names.length > 12 ? ", …" : "");
  element("classes").textContent = `Finds ${names.length === 1 ? "one class" : `${names.length} classes`}: ${shown}`;
}

async function detect(file) {
  const turn = ++state.turn;
  Object.assign(state, { file, answer: null, lit: null });
  element("results").hidden = true;
  element("boxes").replaceChildren();
  show(file);
  if (file.size > state.maxBytes) {
    say(`The file has ${(file.size / 2 ** 20).toFixed(1)} MiB; the server takes at most ${Math.floor(state.maxBytes / 2 ** 20)} MiB.`, true);
    return;
  }
  say("Looking …");
  element("busy").hidden = false;
  const form = new FormData();
  form.append("file", file, file.name || "pasted");
  const began = performance.now();
  try {
    if (!state.classes.length) await loadSettings();
    const answer = await ask("predict?score_threshold=0", { method: "POST", body: form });
    // Another picture was chosen meanwhile, so this answer is no longer wanted.
    if (turn !== state.turn) return;
    state.answer = answer.images[0];
    state.seconds = (performance.now() - began) / 1000;
    const blob = new Blob([JSON.stringify(answer, null, 1)], { type: "application/json" });
    URL.revokeObjectURL(element("save").href);
    element("save").href = URL.createObjectURL(blob);
    element("results").hidden = false;
    draw();
  } catch (error) {
    if (turn === state.turn) fail(error);
  } finally {
    if (turn === state.turn) element("busy").hidden = true;
  }
}

function show(file) {
  const picture = element("picture");
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(file);
  element("stage").classList.remove("empty");
  element("view").hidden = false;
}

function draw() {
  const threshold = Number(element("threshold").value);
  element("shown").textContent = threshold.toFixed(2);
  if (state.answer === null) return;
  const all = state.answer.detections;
  const kept = all.filter((one) => one.score >= threshold);
  if (!kept.includes(state.lit)) state.lit = null;
  // The highest score is drawn last, on top.
  element("boxes").replaceChildren(...kept.map(drawBox).reverse());
  element("boxes").classList.toggle("crowded", kept.length > MAX_LABELS);
  element("list").replaceChildren(...kept.map(drawEntry));
  drawCounts(kept);
  const hidden = all.length - kept.length;
  const below = hidden ? `, ${hidden} below the threshold` : "";
  say(`${kept.length} ${kept.length === 1 ? "object" : "objects"}${below} · ${state.seconds.toFixed(2)} s`);
}

function paint(node, classId) {
  const colour = state.classes[classId - 1]?.colour ?? "#888888";
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  node.style.setProperty("--colour", colour);
  node.style.setProperty("--on", 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff");
}

function make(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function drawBox(one) {
  const [top, left, bottom, right] = one.box;
  const node = make("div", "box");
  paint(node, one.class_id);
  node.classList.toggle("high", top < 0.06);
  node.classList.toggle("right", left > 0.75);
  node.classList.toggle("lit", one === state.lit);
  Object.assign(node.style, {
    left: `${100 * left}%`,
    top: `${100 * top}%`,
    width: `${100 * (right - left)}%`,
    height: `${100 * (bottom - top)}%`,
  });
  node.append(make("span", "", `${one.name} ${one.score.toFixed(2)}`));
  one.node = node;
  return node;
}

function drawEntry(one) {
  const button = make("button", "");
  button.type = "button";
  button.setAttribute("aria-pressed", String(one === state.lit));
  const swatch = make("span", "swatch");
  paint(swatch, one.class_id);
  button.append(swatch, make("span", "name", one.name), make("span", "score", one.score.toFixed(2)));
  const light = (on) => one.node.classList.toggle("lit", on || one === state.lit);
  button.addEventListener("pointerenter", () => light(true));
  button.addEventListener("pointerleave", () => light(false));
  button.addEventListener("focus", () => light(true));
  button.addEventListener("blur", () => light(false));
  button.addEventListener("click", () => {
    state.lit = state.lit === one ? null : one;
    for (const other of element("list").querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
    for (const box of element("boxes").children) box.classList.remove("lit");
    button.setAttribute("aria-pressed", String(state.lit === one));
    light(state.lit === one);
  });
  const entry = document.createElement("li");
  entry.append(button);
  return entry;
}

function drawCounts(kept) {
  const counts = new Map();
  for (const one of kept) counts.set(one.class_id, (counts.get(one.class_id) ?? 0) + 1);
  const entries = [...counts].sort(([a], [b]) => a - b);
  element("counts").replaceChildren(
    ...entries.map(([classId, count]) => {
      const entry = make("li", "");
      const swatch = make("span", "swatch");
      paint(swatch, classId);
      entry.append(swatch, `${state.classes[classId - 1]?.name ?? classId} ${count}`);
      return entry;
    }),
  );
}

function choose(files) {
  const file = [...files].find((one) => one.type.startsWith("image/") || !one.type);
  if (file) detect(file);
  else if (files.length) say("This file is not a picture.", true);
}

element("file").addEventListener("change", (event) => {
  choose(event.target.files);
  event.target.value = "";
});
element("threshold").addEventListener("input", draw);
element("picture").addEventListener("error", () => {
  element("picture").alt = "This browser cannot show the picture.";
});
element("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  state.token = element("token").value.trim();
  element("login").hidden = true;
  try {
    await loadSettings();
    if (state.file) await detect(state.file);
    else say("No picture was chosen yet.");
  } catch (error) {
    fail(error);
  }
});
document.addEventListener("paste", (event) => choose(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("stage").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) element("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("stage").classList.remove("over");
  choose(event.dataTransfer.files);
});

element("command").textContent = `curl -F file=@picture.jpg ${new URL("predict", location.href)}`;
loadSettings().catch(fail);
