"use strict";

const element = (id) => document.getElementById(id);
// `pictures` holds what was chosen or taken, in order; `current` is the one that is looked at.
const state = {
  classes: [],
  maxBytes: Infinity,
  token: null,
  about: {},
  pictures: [],
  current: null,
  lit: null,
  isWorking: false,
  stream: null,
  isWatching: false,
  turn: 0,
};
// With more boxes than this, labels would hide the picture; a box then shows its label only while it is pointed at.
const MAX_LABELS = 25;
// A browser keeps each picture in memory; the oldest ones go.
const MAX_PICTURES = 24;
const THUMBNAIL_PX = 112;

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

function askForToken() {
  say(state.token === null ? "The server asks for a token." : "The server does not accept this token.", state.token !== null);
  element("login").hidden = false;
  element("token").focus();
}

async function loadSettings() {
  const settings = await ask("page.json");
  state.classes = settings.classes;
  state.maxBytes = settings.max_body_bytes;
  const names = state.classes.map((one) => one.name);
  const shown = names.slice(0, 12).join(", ") + (names.length > 12 ? ", …" : "");
  element("classes").textContent = `Finds ${names.length === 1 ? "one class" : `${names.length} classes`}: ${shown}`;
}

function makePicture(file, name) {
  return { file, name, url: URL.createObjectURL(file), answer: null, error: null, seconds: 0 };
}

function add(files) {
  const wanted = [...files].filter((one) => one.type.startsWith("image/") || !one.type);
  if (!wanted.length) {
    if (!files.length) return;
    look(null);
    say("This file is not a picture.", true);
    return;
  }
  stopWatching();
  const added = wanted.slice(0, MAX_PICTURES).map((file) => makePicture(file, file.name || "pasted"));
  keep(added);
  look(added[0]);
  if (wanted.length > added.length) note(`The first ${MAX_PICTURES} of ${wanted.length} pictures were taken.`);
  work();
}

function keep(added) {
  state.pictures.push(...added);
  for (const old of state.pictures.splice(0, Math.max(0, state.pictures.length - MAX_PICTURES))) {
    URL.revokeObjectURL(old.url);
  }
  drawStrip();
}

// One picture after the other: what is looked at goes first.
async function work() {
  if (state.isWorking) return;
  state.isWorking = true;
  const isOpen = (picture) => picture.answer === null && picture.error === null;
  try {
    for (;;) {
      const open = state.pictures.filter(isOpen);
      const next = open.includes(state.current) ? state.current : open[0];
      if (!next) break;
      await detect(next);
      if (next === state.current) draw();
      drawStrip();
    }
  } catch (error) {
    if (!(error instanceof Unauthorised)) throw error;
    // The only error that `detect` passes on: without a token no other picture is served either.
    askForToken();
  } finally {
    state.isWorking = false;
    element("busy").hidden = true;
  }
}

async function detect(picture) {
  const { file } = picture;
  if (picture === state.current) draw();
  try {
    if (!state.classes.length) await loadSettings();
    if (file.size > state.maxBytes) {
      throw new Error(`The file has ${(file.size / 2 ** 20).toFixed(1)} MiB; the server takes at most ${Math.floor(state.maxBytes / 2 ** 20)} MiB.`);
    }
    const form = new FormData();
    form.append("file", file, picture.name);
    const began = performance.now();
    // All detections are asked for, so that the threshold can be moved here.
    const answer = await ask("predict?score_threshold=0", { method: "POST", body: form });
    picture.seconds = (performance.now() - began) / 1000;
    const { images, ...about } = answer;
    state.about = about;
    [picture.answer] = images;
  } catch (error) {
    if (error instanceof Unauthorised) throw error;
    picture.error = error.message;
  }
}

function look(picture) {
  if (picture !== state.current) state.lit = null;
  state.current = picture;
  element("stage").classList.toggle("empty", picture === null && state.stream === null);
  element("view").hidden = picture === null;
  element("video").hidden = state.stream === null || picture !== null;
  if (picture !== null && element("picture").src !== picture.url) {
    element("picture").src = picture.url;
    element("picture").alt = picture.name;
  }
  draw();
  drawStrip();
}

function note(text) {
  element("camera-note").textContent = text;
}
