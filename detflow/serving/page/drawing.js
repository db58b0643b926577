// Boxes, labels and lists of the picture that is looked at, and small ones of all.

const readThreshold = () => Number(element("threshold").value);

// Shows what is known about the picture; of one that failed or waits, no box and no list is left.
function draw() {
  const threshold = readThreshold();
  element("shown").textContent = threshold.toFixed(2);
  const picture = state.current;
  const all = picture?.answer?.detections ?? [];
  const kept = all.filter((one) => one.score >= threshold);
  if (!kept.includes(state.lit)) state.lit = null;
  // The highest score is drawn last, on top.
  element("boxes").replaceChildren(...kept.map(drawBox).reverse());
  element("boxes").classList.toggle("crowded", kept.length > MAX_LABELS);
  element("list").replaceChildren(...kept.map(drawEntry));
  element("results").hidden = !picture?.answer;
  drawCounts(kept);
  placeLabels();
  element("busy").hidden = !picture || Boolean(picture.answer || picture.error);
  if (picture === null) return;
  if (picture.error !== null) {
    say(picture.error, true);
  } else if (picture.answer === null) {
    say("Looking …");
  } else {
    const hidden = all.length - kept.length;
    const below = hidden ? `, ${hidden} below the threshold` : "";
    say(`${kept.length} ${kept.length === 1 ? "object" : "objects"}${below} · ${picture.seconds.toFixed(2)} s`);
  }
}

function paint(node, classId) {
  const colour = state.classes[classId - 1]?.colour ?? "#888888";
  const parts = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255);
  const [red, green, blue] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  node.style.setProperty("--colour", colour);
  // Where black and white have the same contrast (WCAG 2.1), the luminance is .179.
  node.style.setProperty("--on", 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff");
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

// A label stands above its box where there is room, else in it, and never leaves the picture.
function placeLabels() {
  const room = element("boxes").getBoundingClientRect();
  for (const label of element("boxes").querySelectorAll(".box span")) {
    const box = label.parentElement.getBoundingClientRect();
    // A label that is not shown yet has no size: it is placed as wide as it may become.
    const width = Math.min(label.offsetWidth, room.width);
    const height = label.offsetHeight;
    const left = Math.max(room.left, Math.min(box.left, room.right - width));
    const above = box.top - height;
    const top = above >= room.top ? above : Math.min(Math.max(box.top, room.top), room.bottom - height);
    // It lies in the box, behind the line around it.
    label.style.left = `${left - box.left - label.parentElement.clientLeft}px`;
    label.style.top = `${top - box.top - label.parentElement.clientTop}px`;
    label.style.maxWidth = `${room.width}px`;
  }
}

function drawEntry(one) {
  const button = make("button", "");
  button.type = "button";
  button.setAttribute("aria-pressed", String(one === state.lit));
  const swatch = make("span", "swatch");
  paint(swatch, one.class_id);
  button.append(swatch, make("span", "name", one.name), make("span", "score", one.score.toFixed(2)));
  const light = (on) => {
    one.node.classList.toggle("lit", on || one === state.lit);
    placeLabels();
  };
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

function describeState(picture) {
  if (picture.error !== null) return "refused";
  if (picture.answer === null) return "waits";
  const threshold = readThreshold();
  return String(picture.answer.detections.filter((one) => one.score >= threshold).length);
}

// The pictures as small ones, as soon as there are several.
function drawStrip() {
  const strip = element("strip");
  strip.hidden = state.pictures.length < 2;
  const entries = state.pictures.map((picture) => {
    picture.entry ??= makeStripEntry(picture);
    const [button] = picture.entry.children;
    button.setAttribute("aria-pressed", String(picture === state.current));
    button.lastElementChild.textContent = describeState(picture);
    return picture.entry;
  });
  // Put in place only where they are not, so that none loses the focus.
  if (entries.some((entry, i) => entry !== strip.children[i]) || entries.length !== strip.children.length) {
    strip.replaceChildren(...entries);
  }
}

function makeStripEntry(picture) {
  const button = make("button", "");
  button.type = "button";
  button.title = picture.name;
  const small = document.createElement("canvas");
  small.width = THUMBNAIL_PX;
  small.height = Math.round(THUMBNAIL_PX * 0.75);
  small.setAttribute("role", "img");
  small.setAttribute("aria-label", picture.name);
  button.append(small, make("span", "score"));
  button.addEventListener("click", () => look(picture));
  // What the browser cannot show stays grey.
  createImageBitmap(picture.file).then((bitmap) => {
    const scale = Math.max(small.width / bitmap.width, small.height / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    small.getContext("2d").drawImage(bitmap, (small.width - width) / 2, (small.height - height) / 2, width, height);
    bitmap.close();
  }, () => {});
  const entry = document.createElement("li");
  entry.append(button);
  return entry;
}

// What is shown of all pictures, as `detflow predict` writes it.
function collectAnswers() {
  const threshold = readThreshold();
  const images = state.pictures
    .filter((picture) => picture.answer !== null)
    .map(({ answer }) => ({
      ...answer,
      detections: answer.detections.filter((one) => one.score >= threshold).map(({ node, ...one }) => one),
    }));
  return { ...state.about, score_threshold: threshold, images };
}

function save(event) {
  const blob = new Blob([JSON.stringify(collectAnswers(), null, 1)], { type: "application/json" });
  const link = event.currentTarget;
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(blob);
}
