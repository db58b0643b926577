// Filters, search and order of pictures.

const tools = byId("tools");
const items = all("[data-name]");
items.forEach((item, place) => {
  item.place = place;
});

function readChoice() {
  const choice = { class: "", kind: "", split: "", sort: "", search: "" };
  for (const control of all("[data-choice]", tools)) choice[control.dataset.choice] = control.value;
  return choice;
}

const hasWord = (words, word) => (words ?? "").split(" ").includes(word);

function fits(item, choice) {
  const { dataset } = item;
  if (choice.split && dataset.split !== choice.split) return false;
  if (!dataset.name.toLowerCase().includes(choice.search.trim().toLowerCase())) return false;
  if (marksOf.has(item)) return errorsThatCount(item, choice).length > 0 || (!choice.kind && (!choice.class || showsClass(item, choice.class)));
  return (!choice.class || hasWord(dataset.classes, choice.class)) && (!choice.kind || dataset.kind === choice.kind);
}

const errorsThatCount = (card, choice) =>
  found.get(card).errors.filter(
    (mark) => (!choice.kind || mark.kind === choice.kind) && (!choice.class || mark.classes.includes(choice.class)),
  );

const showsClass = (card, classId) =>
  marksOf.get(card).some((mark) => mark.classes.includes(classId) && (mark.isTruth || mark.until >= step));

const SORTS = {
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, "en", { numeric: true }),
  objects: (a, b) => Number(b.dataset.objects ?? 0) - Number(a.dataset.objects ?? 0),
};

function arrange(choice) {
  const order = { ...SORTS };
  if (judged) {
    const rated = new Map([...marksOf.keys()].map((card) => [card, errorsThatCount(card, choice)]));
    const cost = (card) => rated.get(card).reduce((total, mark) => total + mark.cost, 0);
    order[""] = (a, b) => cost(b) - cost(a);
    order.errors = (a, b) => rated.get(b).length - rated.get(a).length;
  }
  const compare = order[choice.sort] ?? (() => 0);
  for (const group of all(".cards")) {
    const sorted = [...group.children].sort((a, b) => compare(a, b) || a.place - b.place);
    if (sorted.some((card, i) => card !== group.children[i])) group.append(...sorted);
  }
}

// A line that fits is not to stay folded away; what was unfolded for it is folded again.
const unfolded = new Set();

function unfold(part, isWanted) {
  if (isWanted && !part.open) {
    part.open = true;
    unfolded.add(part);
  } else if (!isWanted && unfolded.delete(part)) {
    part.open = false;
  }
}

function filter() {
  const choice = readChoice();
  if (judged) showNumbers(choice);
  const shown = items.filter((item) => {
    item.hidden = !fits(item, choice);
    return !item.hidden;
  });
  const isFiltered = choice.class || choice.kind || choice.split || choice.search.trim();
  for (const group of all(".group")) {
    group.hidden = Boolean(isFiltered) && !group.querySelector("[data-name]:not([hidden])");
    const lines = group.querySelector("details");
    if (lines) unfold(lines, Boolean(isFiltered) && lines.querySelector("[data-name]:not([hidden])") !== null);
  }
  const pictures = shown.filter((item) => item.tagName === "FIGURE").length;
  const lines = shown.length - pictures;
  const text = isFiltered ? `${countNoun(pictures, "picture")}${lines ? ` and ${countNoun(lines, "line")} of text` : ""} of ${cards.length.toLocaleString("en")} ${shown.length === 1 ? "fits" : "fit"}.` : "Everything is shown.";
  byId("fitting").textContent = text;
  return choice;
}

function slide() {
  const slider = byId("threshold");
  step = Number(slider.value);
  const text = judged.thresholds[step];
  byId("threshold-value").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  judgeAll();
  filter();
}

if (tools) {
  tools.hidden = false;
  for (const control of all("[data-choice]", tools)) {
    control.addEventListener(control.type === "search" ? "input" : "change", () => arrange(filter()));
  }
  byId("reset").addEventListener("click", () => {
    for (const control of all("[data-choice]", tools)) control.value = "";
    if (judged) byId("threshold").value = judged.at;
    if (judged) slide();
    arrange(filter());
  });
  if (judged) {
    byId("threshold").addEventListener("input", slide);
    // Pictures change their places when the slider rests, not while it moves.
    byId("threshold").addEventListener("change", () => arrange(readChoice()));
    // A browser that goes back to a page keeps what was chosen before.
    slide();
  }
  arrange(filter());
}
