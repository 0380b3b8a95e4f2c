// The column beside the map: legend, ramp, search, counts of the selection.

const MOST_LEGEND_ENTRIES = 400;
const MOST_COUNTS = 12;
const MOST_MATCHES = 6;

const find = (id) => document.getElementById(id);

/** Buttons of which one is pressed, as radio buttons for a screen reader. */
function pressOne(buttons, pressed) {
  for (const button of buttons) button.setAttribute("aria-checked", String(button === pressed));
}

/** A list of groups with their colours. `actions`: toggle(code), only(code), select(code, event). */
function fillLegend(list, category, theme, actions) {
  const entries = category.names.slice(0, MOST_LEGEND_ENTRIES).map((_, code) => {
    const item = element("li");
    const button = element("button", "entry");
    button.title = "Click: hide or show. Double click: show only this.";
    const swatch = element("span", "swatch");
    swatch.style.setProperty("--colour", cssColour(categoryColour(category, code, theme)));
    button.append(swatch, element("span", "name", nameOf(category, code)), element("span", "count", formatCount(category.totals[code])));
    button.addEventListener("click", () => actions.toggle(code));
    button.addEventListener("dblclick", () => actions.only(code));
    const select = iconButton("select", `Select ${nameOf(category, code)}`, (event) => actions.select(code, event));
    item.append(button, select);
    return item;
  });
  list.replaceChildren(...entries);
  list.scrollTop = 0;
}

/** Say which groups are shown. In place: a double click needs the same button under it twice. */
function markLegend(list, hidden) {
  [...list.children].forEach((item, code) => item.firstChild.setAttribute("aria-pressed", String(!hidden.has(code))));
}

function legendNote(category) {
  const more = category.names.length - MOST_LEGEND_ENTRIES;
  if (more > 0) return `and ${formatCount(more)} more`;
  const named = category.names.length - category.nameless.size;
  return named > PALETTE.length ? `${named} groups; colours repeat after ${PALETTE.length}` : `${named} groups`;
}

/** The distribution of a number over its ramp. */
function drawHistogram(canvas, scale, values, theme) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth || 260, canvas.clientHeight || 64];
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const bins = Math.max(Math.floor(width / 6), 1);
  const counts = scale.histogram(values, bins);
  const highest = counts.reduce((a, b) => Math.max(a, b), 1);
  for (let k = 0; k < bins; k++) {
    context.fillStyle = cssColour(rampColour((k + 0.5) / bins, theme));
    const tall = counts[k] ? Math.max((counts[k] / highest) * (height - 12), 1.5) : 0;
    context.fillRect((k * width) / bins, height - 9 - tall, width / bins - 1, tall);
  }
  for (let x = 0; x < width; x++) {
    context.fillStyle = cssColour(rampColour(x / width, theme));
    context.fillRect(x, height - 6, 1, 6);
  }
}

/** What stands at the two ends of the ramp. */
function rampEnds(scale) {
  if (!scale.known) return ["no value", ""];
  return [(scale.below ? "≤ " : "") + formatNumber(scale.low), (scale.above ? "≥ " : "") + formatNumber(scale.high)];
}

/** Selected particles of each group, the most numerous first, as bars. */
function fillCounts(list, category, counts, theme) {
  const codes = [...counts.keys()].filter((code) => counts[code]).sort((a, b) => counts[b] - counts[a]);
  const items = codes.slice(0, MOST_COUNTS).map((code) => {
    const item = element("li");
    const bar = element("span", "bar");
    const part = element("span");
    part.style.width = `${(100 * counts[code]) / counts[codes[0]]}%`;
    part.style.backgroundColor = cssColour(categoryColour(category, code, theme));
    bar.append(part);
    item.title = `${formatCount(counts[code])} of ${formatCount(category.totals[code])}`;
    item.append(element("span", "name", nameOf(category, code)), element("span", "count", formatCount(counts[code])), bar);
    return item;
  });
  const more = codes.length - MOST_COUNTS;
  if (more > 0) items.push(element("li", "note", `and ${more} more`));
  list.replaceChildren(...items);
}

/** Codes of the groups whose names contain `text`, capital letters or not. */
function matching(category, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  return [...category.names.keys()].filter((code) => category.names[code].toLowerCase().includes(wanted));
}

function fillMatches(list, category, codes, searched, select) {
  const items = codes.slice(0, MOST_MATCHES).map((code) => {
    const item = element("li");
    const button = element("button", "entry");
    button.title = "Select its particles";
    button.append(element("span", "name", nameOf(category, code)), element("span", "count", formatCount(category.totals[code])));
    button.addEventListener("click", (event) => select([code], event));
    item.append(button);
    return item;
  });
  const more = codes.length - MOST_MATCHES;
  if (more > 0) items.push(element("li", "note", `and ${more} more; Enter selects all`));
  if (searched && !codes.length) items.push(element("li", "note", "none"));
  list.replaceChildren(...items);
}

/** Where to write the names of groups: at the middle of those that lie close together. */
function labelsOf(category, xy, shown) {
  if (category.names.length > 60) return [];
  const members = category.names.map(() => []);
  const all = [];
  for (let i = 0; i < shown.length; i++) {
    if (!shown[i] || !isPlaced(xy, i)) continue;
    members[category.codes[i]].push(i);
    all.push(i);
  }
  const whole = middleOf(all, xy).spread;
  return members
    .map((group, code) => ({ group, code }))
    .filter(({ group, code }) => group.length && !category.nameless.has(code))
    .sort((a, b) => b.group.length - a.group.length)
    .map(({ group, code }) => ({ text: nameOf(category, code), ...middleOf(group, xy) }))
    .filter(({ spread }) => spread < 0.45 * whole);
}

/** Median place, and the median distance from it. */
function middleOf(indices, xy) {
  // A few thousand are enough to know a median by.
  const step = Math.ceil(indices.length / 5000) || 1;
  const some = indices.filter((_, k) => k % step === 0);
  const median = (values) => Float64Array.from(values).sort()[values.length >> 1];
  const x = median(some.map((i) => xy[2 * i]));
  const y = median(some.map((i) => xy[2 * i + 1]));
  return { x, y, spread: median(some.map((i) => Math.hypot(xy[2 * i] - x, xy[2 * i + 1] - y))) };
}
