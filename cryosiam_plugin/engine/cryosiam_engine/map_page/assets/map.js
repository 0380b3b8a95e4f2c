// The page: what is shown and selected, and everything that changes it.

const data = readData();
const choice = new Choice(data);
const pictures = data.thumbnails ? new Pictures(data.thumbnails) : null;
const cards = { hover: new Card(find("hover"), data, pictures), pinned: new Card(find("pinned"), data, pictures) };
const scales = data.numbers.map(({ values }) => new NumberScale(values));
const tomograms = data.categories.findIndex(({ name }) => name.toLowerCase() === "tomogram");
const found = new Uint8Array(data.n);
let searching = false;
let theme = "light";
let colouring = data.categories.length ? { category: 0 } : { number: data.numbers.length ? 0 : -1 };
let colourOf = () => PALETTE[0];
const colours = new Uint8Array(4 * data.n);

const chart = new Chart(find("stage"), data, choice, {
  hover(i, x, y) {
    if (i < 0 || i === chart.pinned) return cards.hover.hide();
    cards.hover.show(i, colourOf(i));
    return cards.hover.place(x, y, chart.width, chart.height);
  },
  pick: pin,
  outline: (polygon, mode) => select(chart.grid.inside(polygon, choice.shown), mode),
});

// ---- colours ------------------------------------------------------------------------------

/** A function that gives a particle's colour in the present colouring, from a table. */
function colourer() {
  const grey = NO_VALUE[theme];
  if (colouring.category >= 0) {
    const category = data.categories[colouring.category];
    const table = category.names.map((_, code) => categoryColour(category, code, theme));
    return (i) => table[category.codes[i]];
  }
  if (colouring.number < 0) return () => PALETTES[theme][0];
  const scale = scales[colouring.number];
  const { values } = data.numbers[colouring.number];
  const table = Array.from({ length: 256 }, (_, k) => rampColour(k / 255, theme));
  return (i) => {
    const position = scale.position(values[i]);
    return position === position ? table[Math.round(Math.min(Math.max(position, 0), 1) * 255)] : grey;
  };
}

/** Colours and order of drawing: the grey ones lie below, the selected ones on top. */
function paint() {
  const dims = choice.count > 0 || searching;
  const grey = NO_VALUE[theme];
  const order = [[], [], []];
  colourOf = colourer();
  for (let i = 0; i < data.n; i++) {
    const stands = (!choice.count || choice.selected[i]) && (!searching || found[i]);
    const own = colourOf(i);
    const colour = dims && !stands ? grey : own;
    for (let k = 0; k < 3; k++) colours[4 * i + k] = colour[k];
    colours[4 * i + 3] = dims && !stands ? 70 : 255;
    if (choice.shown[i] && isPlaced(chart.xy, i)) order[own === grey ? 0 : dims && stands ? 2 : 1].push(i);
  }
  chart.points.upload("colours", colours);
  chart.points.upload("order", Uint32Array.from(order.flat()));
  chart.redraw();
}

function setColouring(next) {
  colouring = next;
  find("colour").value = next.category >= 0 ? `c${next.category}` : `n${next.number}`;
  const isCategory = next.category >= 0;
  find("legend").hidden = find("legend-note").hidden = find("hide-all").hidden = !isCategory;
  find("ramp").hidden = isCategory || next.number < 0;
  refresh();
}

function setTheme(next) {
  theme = next;
  document.documentElement.dataset.theme = next;
  refresh();
}

// ---- what the page says -------------------------------------------------------------------

/** Everything that depends on the map, on colours, or on what is shown. */
function refresh() {
  const { category } = colouring;
  if (category >= 0) showLegend(data.categories[category], category);
  else if (colouring.number >= 0) showRamp();
  chart.labels = find("names").checked && category >= 0
    ? labelsOf(data.categories[category], chart.xy, choice.shown)
    : [];
  find("show-all").disabled = choice.shownCount === data.n;
  find("legend-actions").hidden = !(category >= 0) && choice.shownCount === data.n;
  showStatus();
  refreshSelection();
}

function refreshSelection() {
  showSelection();
  paint();
}

function showLegend(category, index) {
  const list = find("legend");
  if (list.dataset.shows !== `${index} ${theme}`) {
    list.dataset.shows = `${index} ${theme}`;
    fillLegend(list, category, theme, {
      toggle: (code) => hide(index, choice.hidden[index].has(code)
        ? [...choice.hidden[index]].filter((other) => other !== code)
        : [...choice.hidden[index], code]),
      only: (code) => hide(index, othersOf(category, code, choice.hidden[index])),
      select: (code, event) => select(choice.members(index, code), modeOf(event)),
    });
  }
  markLegend(list, choice.hidden[index]);
  find("legend-note").textContent = legendNote(category);
}

/** All groups but one, to hide; none when they are hidden already: show them again. */
function othersOf(category, code, hidden) {
  const others = [...category.names.keys()].filter((other) => other !== code);
  return hidden.size === others.length && !hidden.has(code) ? [] : others;
}

function showRamp() {
  const scale = scales[colouring.number];
  drawHistogram(find("histogram"), scale, data.numbers[colouring.number].values, theme);
  [find("ramp-low").textContent, find("ramp-high").textContent] = rampEnds(scale);
  find("log").checked = scale.log;
  find("log-label").hidden = !scale.canLog;
  find("ramp-note").textContent = scale.unknown ? `${formatCount(scale.unknown)} without a value, in grey` : "";
}

function showSelection() {
  const any = choice.count > 0;
  find("selected-count").textContent = formatCount(choice.count);
  find("selection-hint").hidden = any;
  find("selection-details").hidden = !any || !data.categories.length;
  for (const id of ["clear", "export", "send"]) find(id).disabled = !any;
  find("invert").disabled = !choice.shownCount;
  const category = Math.max(colouring.category ?? 0, 0);
  if (any && data.categories.length) fillCounts(find("counts"), data.categories[category], choice.counts(category), theme);
}

function showStatus() {
  const parts = [`${formatCount(data.n)} particles`];
  if (tomograms >= 0) {
    const { names, nameless } = data.categories[tomograms];
    const number = names.length - nameless.size;
    parts.push(`${formatCount(number)} ${number === 1 ? "tomogram" : "tomograms"}`);
  }
  if (choice.shownCount < data.n) parts.push(`${formatCount(data.n - choice.shownCount)} hidden`);
  const unplaced = data.n - chart.grid.bounds.count;
  if (unplaced) parts.push(`${formatCount(unplaced)} without a place`);
  find("status").textContent = parts.join(" · ");
}

// ---- what a person does -------------------------------------------------------------------

function hide(category, codes) {
  choice.hide(category, codes);
  if (chart.pinned >= 0 && !choice.shown[chart.pinned]) pin(-1);
  refresh();
}

function showAll() {
  choice.showEverything();
  refresh();
}

function modeOf(event) {
  return event?.shiftKey ? "add" : event?.altKey ? "subtract" : chart.mode;
}

function select(indices, mode) {
  choice.apply(indices, mode);
  refreshSelection();
}

function clear() {
  pin(-1);
  find("search").value = "";
  search();
  select([], "replace");
}

function invert() {
  choice.invert();
  refreshSelection();
}

function pin(i) {
  chart.pinned = i;
  chart.redraw();
  if (i < 0) return cards.pinned.hide();
  cards.hover.hide();
  return cards.pinned.show(i, colourOf(i), [
    iconButton("select", "Add to the selection, or take away", () => select([i], choice.selected[i] ? "subtract" : "add")),
    iconButton("close", "Close", () => pin(-1)),
  ]);
}

function search() {
  if (tomograms < 0) return;
  const text = find("search").value;
  const category = data.categories[tomograms];
  const codes = matching(category, text);
  const wanted = new Set(codes);
  searching = codes.length > 0;
  for (let i = 0; i < data.n; i++) found[i] = wanted.has(category.codes[i]) ? 1 : 0;
  fillMatches(find("matches"), category, codes, text.trim() !== "", selectTomograms);
  paint();
}

/** Select the particles of tomograms; the search is over then. */
function selectTomograms(codes, event) {
  const indices = codes.flatMap((code) => choice.members(tomograms, code));
  find("search").value = "";
  search();
  select(indices, modeOf(event));
}

function setMap(index) {
  pin(-1);
  chart.hover(-1);
  chart.setMap(index);
  pressOne(find("maps").children, find("maps").children[index]);
  refresh();
}

function setTool(tool) {
  chart.tool = tool;
  find("stage").dataset.tool = tool;
  pressOne(document.querySelectorAll("[data-tool][role]"), document.querySelector(`[role][data-tool=${tool}]`));
}

function setMode(mode) {
  chart.mode = mode;
  pressOne(document.querySelectorAll("[data-mode]"), document.querySelector(`[data-mode=${mode}]`));
}

function exportSelection() {
  if (!choice.count) return;
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([csvOf(data, choice.indices())], { type: "text/csv" }));
  link.download = `${data.title.replace(/[^\w.-]+/g, "_")}_selection.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- a set in Scipion ---------------------------------------------------------------------

// Only a page that Scipion serves has somebody to send a selection to.
const token = new URLSearchParams(location.search).get("token");
const endpoint = location.protocol.startsWith("http") && (window.CRYOSIAM_ENDPOINT || (token && "./selection"));

function answer(text, kind) {
  find("answer").hidden = !text;
  find("answer").textContent = text;
  find("answer").className = kind;
}

async function createSet(event) {
  event.preventDefault();
  if (!choice.count) return;
  const rows = choice.indices().map((i) => data.rows[i]);
  find("send").disabled = true;
  answer("Scipion is making the set …", "");
  try {
    const response = await fetch(endpoint, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: token || "", name: find("set-name").value.trim(), rows }),
    });
    const text = (await response.text()).slice(0, 2000);
    const fallback = response.ok ? `Set of ${formatCount(rows.length)} particles made.` : `Scipion answered with error ${response.status}.`;
    answer(messageIn(text) || fallback, response.ok ? "good" : "bad");
  } catch {
    answer("Scipion does not answer. Open this page from Scipion's Analyze Results again.", "bad");
  }
  find("send").disabled = !choice.count;
}

/** What an answer says: plain text, or the message or error of a JSON object. */
function messageIn(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value ? String(value.message ?? value.error ?? "") : String(value);
  } catch {
    return text.trim();
  }
}

// ---- the keyboard -------------------------------------------------------------------------

const STEP = 60;
const KEYS = {
  v: () => setTool("pan"),
  l: () => setTool("lasso"),
  r: () => setTool("rectangle"),
  n: () => setMode("replace"),
  i: invert,
  e: exportSelection,
  d: () => setTheme(theme === "dark" ? "light" : "dark"),
  m: () => setMap((chart.map + 1) % data.maps.length),
  c: nextColouring,
  0: () => chart.fit(),
  "+": () => chart.zoom(1.4),
  "=": () => chart.zoom(1.4),
  "-": () => chart.zoom(1 / 1.4),
  "?": () => find("help-text").showModal(),
  "/": () => find("search").focus(),
  ArrowLeft: () => chart.pan(STEP, 0),
  ArrowRight: () => chart.pan(-STEP, 0),
  ArrowUp: () => chart.pan(0, STEP),
  ArrowDown: () => chart.pan(0, -STEP),
};

function nextColouring() {
  const select = find("colour");
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

/** Out of the latest thing: a half-drawn outline, a search, or the selection and the pinned card. */
function escape() {
  document.activeElement?.blur();
  if (chart.outline) return chart.cancel();
  if (!find("search").value) return clear();
  find("search").value = "";
  return search();
}

function pressed(event) {
  const inField = event.target.closest?.("input:not([type=range]):not([type=checkbox]), select, dialog[open]");
  if (event.key === "Escape" && !event.target.closest?.("dialog")) {
    return escape();
  }
  if (inField || event.ctrlKey || event.metaKey || event.altKey) return undefined;
  if (event.key === " " && !event.target.closest?.("button, summary, input")) {
    chart.holdsSpace = true;
    find("stage").dataset.tool = "pan";
    return event.preventDefault();
  }
  // Arrows belong to a slider, a list or a row of radio buttons when one of them has the focus.
  if (event.key.startsWith("Arrow") && event.target !== chart.canvas && event.target !== document.body) return undefined;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return undefined;
  event.preventDefault();
  return action();
}

/** Arrows move inside a row of radio buttons, as in any other program. */
function moveInside(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const buttons = [...event.currentTarget.children];
  const at = buttons.indexOf(document.activeElement);
  if (!step || at < 0) return;
  const next = buttons[(at + step + buttons.length) % buttons.length];
  next.focus();
  next.click();
}

// ---- opening the page ---------------------------------------------------------------------

function offerChoices() {
  find("title").textContent = data.title;
  find("subtitle").textContent = data.subtitle;
  data.maps.forEach(({ name }, index) => {
    const button = element("button", "", name);
    button.setAttribute("role", "radio");
    button.addEventListener("click", () => setMap(index));
    find("maps").append(button);
  });
  find("maps").hidden = data.maps.length < 2;
  for (const [kind, parts] of [["c", data.categories], ["n", data.numbers]]) {
    parts.forEach(({ name }, index) => {
      const option = element("option", "", name);
      option.value = `${kind}${index}`;
      find("colour").append(option);
    });
  }
  find("colouring").hidden = !find("colour").options.length;
  find("searching").hidden = tomograms < 0;
  find("create").hidden = !endpoint;
  find("empty").hidden = data.n > 0;
  chart.opacity = data.n > 30000 ? 0.42 : data.n > 5000 ? 0.62 : 0.85;
  find("opacity").value = chart.opacity;
}

function listen() {
  const on = (id, event, action) => find(id).addEventListener(event, action);
  on("colour", "change", () => {
    const [kind, index] = [find("colour").value[0], Number(find("colour").value.slice(1))];
    setColouring(kind === "c" ? { category: index } : { number: index });
  });
  on("log", "change", () => { scales[colouring.number].log = find("log").checked; refresh(); });
  on("names", "change", refresh);
  on("search", "input", search);
  on("search", "keydown", (event) => {
    if (event.key === "Enter") selectTomograms(matching(data.categories[tomograms], find("search").value), event);
  });
  on("show-all", "click", showAll);
  on("hide-all", "click", () => hide(colouring.category, [...data.categories[colouring.category].names.keys()]));
  on("invert", "click", invert);
  on("clear", "click", clear);
  on("export", "click", exportSelection);
  on("create", "submit", createSet);
  on("theme", "click", KEYS.d);
  on("help", "click", KEYS["?"]);
  on("help-close", "click", () => find("help-text").close());
  on("zoom-in", "click", KEYS["+"]);
  on("zoom-out", "click", KEYS["-"]);
  on("fit", "click", KEYS[0]);
  on("size", "input", () => { chart.sizeFactor = 2 ** Number(find("size").value); chart.redraw(); });
  on("opacity", "input", () => { chart.opacity = Number(find("opacity").value); chart.redraw(); });
  for (const button of document.querySelectorAll("button[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
  for (const button of document.querySelectorAll("button[data-mode]")) button.addEventListener("click", () => setMode(button.dataset.mode));
  for (const group of document.querySelectorAll("[role=radiogroup]")) group.addEventListener("keydown", moveInside);
  document.addEventListener("keydown", pressed);
  document.addEventListener("keyup", (event) => {
    if (event.key !== " ") return;
    chart.holdsSpace = false;
    find("stage").dataset.tool = chart.tool;
  });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", () => setTheme(system.matches ? "dark" : "light"));
  return system.matches ? "dark" : "light";
}

offerChoices();
const systemTheme = listen();
document.documentElement.dataset.theme = theme = systemTheme;
setTool("pan");
setMode("replace");
setMap(0);
setColouring(colouring);

/** For tests and for scripts of the curious; rows are those of the embeddings file. */
window.cryosiamMap = {
  state: () => ({
    particles: data.n,
    shown: choice.shownCount,
    selected: choice.indices().map((i) => data.rows[i]),
    map: data.maps[chart.map].name,
    colour: find("colour").selectedOptions[0]?.textContent ?? "",
    tool: chart.tool,
    mode: chart.mode,
    theme,
    hovered: chart.hovered < 0 ? null : data.rows[chart.hovered],
    pinned: chart.pinned < 0 ? null : data.rows[chart.pinned],
    view: { ...chart.view },
    renderer: chart.points.constructor.name,
  }),
  select: (rows) => { const wanted = new Set(rows); select([...data.rows.keys()].filter((i) => wanted.has(data.rows[i])), "replace"); },
  /** Where a particle is on the screen, in CSS pixels from the window's corner. */
  project: (row) => {
    const box = chart.canvas.getBoundingClientRect();
    const [x, y] = chart.screenOf(data.rows.indexOf(row));
    return [x + box.left, y + box.top];
  },
  zoom: (factor, x, y) => chart.zoom(factor, x, y),
  draw: () => chart.draw(),
};
