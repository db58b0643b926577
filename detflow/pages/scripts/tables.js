// Tables that a click on a head sorts, and parts that scroll.

const NUMBER = /^[-+−]?\.?\d[\d,.]*/;

const readCell = (row, column) => row.cells[column].textContent.trim();

function readNumber(text) {
  const found = NUMBER.exec(text);
  return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : NaN;
}

function sortRows(rows, column, isNumeric, isDown) {
  const sign = isDown ? -1 : 1;
  return rows.sort((a, b) => {
    const texts = [readCell(a, column), readCell(b, column)];
    if (!isNumeric) return texts[0].localeCompare(texts[1], "en", { numeric: true }) * sign;
    const [x, y] = texts.map(readNumber);
    // What could not be measured stands last, whichever way the table is sorted.
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return (x - y) * sign;
  });
}

function enableSorting(table) {
  const [body] = table.tBodies;
  const heads = [...table.tHead.rows[0].cells];
  if (body.rows.length < 2) return;
  heads.forEach((head, column) => {
    // No head stands over bars, which say what a column of numbers says; curves have no order.
    if (head.tagName !== "TH" || ![...body.rows].some((row) => readCell(row, column))) return;
    // The first column has names, which may begin with a figure.
    const isNumeric = column > 0 && [...body.rows].some((row) => NUMBER.test(readCell(row, column)));
    const button = makeButton("sort", head.textContent.trim(), () => {
      const was = head.getAttribute("aria-sort");
      // Numbers begin with the largest, names with the first.
      const isDown = was === null ? isNumeric : was === "ascending";
      body.append(...sortRows([...body.rows], column, isNumeric, isDown));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    });
    head.replaceChildren(button);
  });
}

all(".scroll > table").forEach(enableSorting);

// A part that scrolls can be reached by the keyboard.
function markScrollers() {
  for (const part of all(".scroll, pre")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  }
}

addEventListener("resize", markScrollers);
markScrollers();
