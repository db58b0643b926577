// Pictures at the size of their own pixels, with names and boxes.

const MAX_ZOOM = 16;
const LABEL_PX = 13;
const dialog = byId("enlarged");
const view = { opener: null, picture: null, width: 1, height: 1, zoom: 1 };

const openers = all("figure .picture").map((picture) => {
  const button = makeButton("open", "", () => enlarge(button));
  const name = picture.getAttribute("aria-label") ?? picture.alt;
  button.setAttribute("aria-label", `Enlarge ${name}`);
  button.pictureName = name;
  picture.replaceWith(button);
  button.append(picture);
  return button;
});

function enlarge(opener) {
  const picture = opener.firstElementChild;
  const copy = picture.cloneNode(true);
  const isDrawing = copy.tagName === "svg";
  const box = isDrawing ? copy.viewBox.baseVal : null;
  Object.assign(view, {
    opener,
    picture: copy,
    width: isDrawing ? box.width : picture.naturalWidth,
    height: isDrawing ? box.height : picture.naturalHeight,
  });
  byId("enlarged-name").textContent = opener.pictureName;
  const figure = opener.closest("figure");
  const words = figure.querySelector("figcaption")?.cloneNode(true);
  byId("enlarged-words").replaceChildren(...(words ? words.childNodes : []));
  byId("enlarged-note").textContent = picture.dataset.note ?? "";
  byId("enlarged-picture").replaceChildren(copy);
  const shapes = !isDrawing ? [] : all("g.judged:not(.off), :scope > :not(g):has(> title)", copy);
  if (!dialog.open) dialog.showModal();
  if (isDrawing) addLabels(copy);
  // What the picture is about stands first.
  const isMeant = (shape) => ["wrong", "missed", "before", "after"].some((kind) => shape.classList.contains(kind));
  shapes.sort((a, b) => isMeant(b) - isMeant(a));
  byId("enlarged-boxes").replaceChildren(...shapes.map(describeShape));
  const room = byId("enlarged-picture");
  const fitting = Math.min(room.clientWidth / view.width, room.clientHeight / view.height);
  // A picture has its own pixels; one that is small gets each of them several times.
  zoomTo(Math.min(8, Math.max(1, Math.floor(fitting))));
  room.scrollTo(0, 0);
}

function describeShape(shape) {
  const title = shape.querySelector("title").textContent;
  const entry = document.createElement("li");
  const kind = ["wrong", "missed", "right", "found", "before", "after"].find((name) => shape.classList.contains(name)) ?? "other";
  // Whether a difficult object was found does not count, and nobody looked.
  const found = shape.classList.contains("difficult") ? "" : ({ missed: "not found: ", found: "found: " }[kind] ?? "");
  const button = makeButton(`shape ${kind}`, found + title, () => shape.scrollIntoView({ block: "center", inline: "center" }));
  for (const [event, on] of Object.entries({ focus: true, blur: false, pointerenter: true, pointerleave: false })) {
    button.addEventListener(event, () => shape.classList.toggle("lit", on));
  }
  entry.append(button);
  return entry;
}

function addLabels(drawing) {
  for (const mark of all("g.judged:not(.off):not(.found)", drawing)) {
    const label = document.createElementNS(drawing.namespaceURI, "text");
    label.textContent = mark.dataset.label;
    label.setAttribute("class", `label ${["wrong", "missed", "right"].find((kind) => mark.classList.contains(kind)) ?? ""}`);
    label.mark = mark;
    drawing.append(label);
  }
}

// Labels keep their size on the screen, and stay inside the picture.
function placeLabels() {
  const { x, y, width, height } = view.picture.viewBox.baseVal;
  const size = LABEL_PX / view.zoom;
  for (const label of all("text.label", view.picture)) {
    const box = label.mark.lastElementChild.getBBox();
    label.style.fontSize = `${size}px`;
    label.style.strokeWidth = `${3 / view.zoom}px`;
    const left = Math.min(box.x, x + width - label.getComputedTextLength() - size / 4);
    const top = box.y - size / 4 > y + size ? box.y - size / 4 : box.y + size * 1.1;
    label.setAttribute("x", Math.max(x, left));
    label.setAttribute("y", Math.min(top, y + height - size / 4));
  }
}

function zoomTo(zoom) {
  view.zoom = Math.min(MAX_ZOOM, Math.max(1 / MAX_ZOOM, zoom));
  view.picture.style.width = `${view.width * view.zoom}px`;
  view.picture.style.height = `${view.height * view.zoom}px`;
  view.picture.classList.toggle("magnified", view.zoom > 1);
  byId("enlarged-zoom").textContent = `${Math.round(100 * view.zoom)} %`;
  if (view.picture.tagName === "svg") placeLabels();
}

function turnOver(way) {
  const shown = openers.filter((opener) => opener.checkVisibility());
  const next = shown.indexOf(view.opener) + way;
  if (shown[next]) enlarge(shown[next]);
}

const ACTIONS = {
  larger: () => zoomTo(view.zoom * 1.5),
  smaller: () => zoomTo(view.zoom / 1.5),
  whole: () => zoomTo(1),
  fit: () => {
    const room = byId("enlarged-picture");
    zoomTo(Math.min(room.clientWidth / view.width, room.clientHeight / view.height));
  },
  previous: () => turnOver(-1),
  next: () => turnOver(1),
  close: () => dialog.close(),
};
const KEYS = { "+": "larger", "=": "larger", "-": "smaller", 0: "whole", f: "fit", p: "previous", n: "next" };

if (dialog) {
  for (const button of all("[data-action]", dialog)) button.addEventListener("click", () => ACTIONS[button.dataset.action]());
  dialog.addEventListener("keydown", (event) => {
    const action = KEYS[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    ACTIONS[action]();
  });
  // Focus goes back to the picture that was looked at last.
  dialog.addEventListener("close", () => view.opener.focus());
}
