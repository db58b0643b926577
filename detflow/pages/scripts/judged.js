// Judged boxes: what is right, wrong and missed at the score threshold that a reader chooses. All
// comparisons are of steps of the slider, whole numbers, so that they agree with what Python counted.

const judged = byId("judged") ? JSON.parse(byId("judged").textContent) : null;
const cards = all("figure.card");
let step = judged?.at ?? 0;

// What is read from the marks of a picture once, so that sliding only compares numbers.
function readMarks(card) {
  return all("g.judged", card).map((node) => ({
    node,
    isTruth: node.classList.contains("truth"),
    isWrong: node.classList.contains("wrong"),
    isRight: node.classList.contains("right"),
    isDifficult: node.classList.contains("difficult"),
    until: Number(node.dataset.until),
    near: Number(node.dataset.near ?? -1),
    kind: node.dataset.kind ?? "",
    words: node.dataset.words ?? "",
    cost: Number(node.dataset.cost ?? 0),
    classes: (node.dataset.classes ?? "").split(" "),
  }));
}

const marksOf = new Map(judged ? cards.map((card) => [card, readMarks(card)]) : []);

// Returns the errors of a card at the threshold, and shows its marks accordingly.
function judge(card) {
  const found = { errors: [], right: 0, wrong: 0, lost: 0 };
  for (const mark of marksOf.get(card)) {
    const isReached = mark.until >= step;
    if (mark.isTruth) {
      const isLost = !isReached && !mark.isDifficult;
      mark.node.classList.toggle("missed", isLost);
      mark.node.classList.toggle("found", !isLost);
      found.lost += isLost;
      if (isLost && mark.near < step) found.errors.push(mark);
    } else {
      mark.node.classList.toggle("off", !isReached);
      found.right += isReached && mark.isRight;
      found.wrong += isReached && mark.isWrong;
      if (isReached && mark.isWrong) found.errors.push(mark);
    }
  }
  found.errors.sort((a, b) => b.cost - a.cost);
  return found;
}

function describe(errors) {
  const phrases = new Map();
  for (const { words } of errors) phrases.set(words, (phrases.get(words) ?? 0) + 1);
  const sorted = [...phrases].sort(([, a], [, b]) => b - a);
  const parts = sorted.map(([words, count]) => (count > 1 ? `${count.toLocaleString("en")} × ${words}` : words));
  return parts.join(", ") || "all right";
}

const found = new Map();

function judgeAll() {
  for (const card of marksOf.keys()) {
    const result = judge(card);
    found.set(card, result);
    card.querySelector(".words").textContent = describe(result.errors);
    const { right, wrong, lost } = result;
    card.querySelector(".outcome").textContent = `${right} right, ${wrong} wrong, ${lost} not found`;
  }
}

// Adds up counts that are stored as [step, number, step, number, …].
function sum(pairs, counts) {
  let total = 0;
  for (let i = 0; i < pairs.length; i += 2) if (counts(pairs[i])) total += pairs[i + 1];
  return total;
}

function showNumbers(choice) {
  const reaches = (until) => until >= step;
  const total = { objects: 0, right: 0, wrong: 0 };
  const kinds = judged.kinds.map(() => 0);
  for (const [split, classId, objects, right, ...byKind] of judged.counts) {
    if (choice.split && split !== choice.split) continue;
    if (choice.class && String(classId) !== choice.class) continue;
    total.objects += objects;
    total.right += sum(right, reaches);
    byKind.forEach((pairs, i) => {
      const isMissed = judged.kinds[i] === "missed";
      const number = sum(pairs, isMissed ? (near) => near < step : reaches);
      kinds[i] += number;
      if (!isMissed) total.wrong += number;
    });
  }
  const { objects, right, wrong } = total;
  const share = (part, whole) => (whole ? (part / whole).toFixed(3) : "n/a");
  const numbers = {
    right,
    wrong,
    lost: objects - right,
    precision: share(right, right + wrong),
    recall: share(right, objects),
    f1: objects ? share(2 * right, right + wrong + objects) : "n/a",
  };
  for (const [name, value] of Object.entries(numbers)) byId(`number-${name}`).textContent = value.toLocaleString("en");
  judged.kinds.forEach((kind, i) => {
    byId(`kind-${kind}`).textContent = kinds[i].toLocaleString("en");
  });
}
