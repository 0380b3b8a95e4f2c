// What the page was written with: arrays as base64 of little-endian values.

function bytesOf(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes.buffer;
}

function readCategory(name, source) {
  const codes = new Uint32Array(bytesOf(source.codes));
  const totals = new Uint32Array(source.names.length);
  for (const code of codes) totals[code]++;
  return { name, names: source.names, nameless: new Set(source.nameless), codes, totals };
}

function readData() {
  const source = JSON.parse(document.getElementById("map-data").textContent);
  const rows = new Int32Array(bytesOf(source.rows));
  return {
    title: source.title,
    subtitle: source.subtitle,
    n: rows.length,
    rows,
    maps: Object.entries(source.coordinates).map(([name, text]) => ({
      name,
      xy: new Float32Array(bytesOf(text)),
    })),
    categories: Object.entries(source.categories).map(([name, c]) => readCategory(name, c)),
    numbers: Object.entries(source.numbers).map(([name, text]) => ({
      name,
      values: new Float64Array(bytesOf(text)),
    })),
    thumbnails: source.thumbnails || null,
  };
}

/** What a category is called where a particle has none of its names. */
function nameOf(category, code) {
  return category.nameless.has(code) ? `no ${category.name}` : category.names[code];
}

/** The same where it stands alone: "cluster 3", but "ribosome". */
function titleOf(category, code) {
  const name = nameOf(category, code);
  return /^\d+$/.test(name) ? `${category.name} ${name}` : name;
}

function formatCount(number) {
  return number.toLocaleString("en-US");
}

function formatNumber(value) {
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return formatCount(value);
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(2);
  return String(Number(value.toPrecision(size >= 1000 ? 5 : 3)));
}

/** The particles of `indices` as a table, with everything the page knows of them. */
function csvOf(data, indices) {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const number = (value) => (Number.isFinite(value) ? String(value) : "");
  const short = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(7))) : "");
  const header = ["row"];
  for (const category of data.categories) header.push(category.name);
  for (const { name } of data.numbers) header.push(name);
  for (const { name } of data.maps) header.push(`${name} 1`, `${name} 2`);
  const lines = [header.map(quoted).join(",")];
  for (const i of indices) {
    const line = [String(data.rows[i])];
    for (const { names, codes } of data.categories) line.push(quoted(names[codes[i]]));
    for (const { values } of data.numbers) line.push(number(values[i]));
    for (const { xy } of data.maps) line.push(short(xy[2 * i]), short(xy[2 * i + 1]));
    lines.push(line.join(","));
  }
  return lines.join("\r\n") + "\r\n";
}
