// Returns what keeps people out of the page that is shown: a small part of what axe looks at.
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility());
  const found = [];
  const tell = (what, one) => found.push(`${what}: ${one.outerHTML.slice(0, 120)}`);

  // --- Names and structure ---
  const nameOf = (one) => {
    const labelled = one.getAttribute("aria-labelledby")?.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
    const labels = [...(one.labels ?? [])].map((label) => label.textContent).join(" ");
    return (one.getAttribute("aria-label") || labelled || labels || one.textContent || one.title || "").trim();
  };
  for (const one of all("button, a, select, input, textarea, summary, output, [role=region], [role=search], dialog, nav")) {
    if (!nameOf(one) && one.type !== "hidden") tell("no name", one);
  }
  for (const one of all("img")) if (!one.hasAttribute("alt")) tell("no alternative", one);
  for (const one of all("svg")) {
    if (one.getAttribute("aria-hidden") !== "true" && !one.getAttribute("aria-label")) tell("no alternative", one);
  }
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of ids.filter((one, i) => ids.indexOf(one) !== i)) found.push(`id twice: ${id}`);
  for (const one of all("[for], [aria-describedby]")) {
    const id = one.getAttribute("for") ?? one.getAttribute("aria-describedby");
    if (!document.getElementById(id)) tell("leads nowhere", one);
  }
  const levels = all("h1, h2, h3, h4").map((one) => Number(one.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) found.push("not one h1");
  levels.forEach((level, i) => {
    if (i && level > levels[i - 1] + 1) found.push(`h${level} behind h${levels[i - 1]}`);
  });
  if (!document.documentElement.lang) found.push("no language");
  for (const tag of ["main", "header", "footer"]) if (all(tag).length !== 1) found.push(`not one ${tag}`);
  for (const one of all("th")) if (!one.textContent.trim()) tell("empty head", one);
  for (const one of all("*")) {
    const style = getComputedStyle(one);
    const scrolls = ["auto", "scroll"].includes(style.overflowX) || ["auto", "scroll"].includes(style.overflowY);
    const isLarger = one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1;
    const isReached = one.tabIndex >= 0 || one.querySelector("a, button, input, select, [tabindex='0']");
    if (scrolls && isLarger && !isReached && one !== document.documentElement && one !== document.body) tell("cannot be scrolled by keys", one);
    if (one.tabIndex > 0) tell("an order of its own", one);
  }

  // --- Contrast, by WCAG 2.1 ---
  const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) =>
    [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const groundOf = (one) => {
    for (let node = one; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour[3] === undefined || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !one.checkVisibility({ opacityProperty: true }) || one.closest("svg, script, style, option")) continue;
    const style = getComputedStyle(one);
    const [low, high] = [luminance(parse(style.color)), luminance(groundOf(one))].sort((a, b) => a - b);
    const isLarge = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && Number(style.fontWeight) >= 700);
    if ((high + 0.05) / (low + 0.05) < (isLarge ? 3 : 4.5)) tell(`contrast ${((high + 0.05) / (low + 0.05)).toFixed(2)}`, one);
  }
  return found;
})()
