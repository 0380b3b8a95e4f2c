// The card of one particle: its three central sections and what is known of it.

const SECTIONS = ["xy", "xz", "yz"];

/** Pictures of particles out of sheets; a sheet is read when a particle of it is first shown. */
class Pictures {
  constructor(description) {
    this.description = description;
    this.sheets = new Map();
  }

  /** A promise of sheet `number`; of null when its file is not beside the page any more. */
  sheet(number) {
    const wanted = this.sheets.get(number) ?? this.read(number);
    this.sheets.delete(number);
    this.sheets.set(number, wanted);
    // Decoded sheets are 4 MB each: keep those looked at last.
    if (this.sheets.size > 24) this.sheets.delete(this.sheets.keys().next().value);
    return wanted;
  }

  read(number) {
    const { files, type } = this.description;
    const image = new Image();
    const loaded = new Promise((resolve) => {
      image.onload = () => resolve(image);
      image.onerror = () => resolve(null);
    });
    image.src = files.length
      ? files[number]
      : `data:${type};base64,${document.getElementById(`sheet-${number}`).textContent}`;
    return loaded;
  }

  /** Draw the sections of particle `i` on three canvases, as soon as its sheet is there. */
  async draw(i, canvases) {
    const { size, columns, perSheet } = this.description;
    const image = await this.sheet(Math.floor(i / perSheet));
    if (!image) return;
    const left = ((i % perSheet) % columns) * size * SECTIONS.length;
    const top = Math.floor((i % perSheet) / columns) * size;
    canvases.forEach((canvas, k) => {
      canvas.getContext("2d").drawImage(image, left + k * size, top, size, size, 0, 0, size, size);
      canvas.classList.add("ready");
    });
  }
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** A button with one of the page's icons. */
function iconButton(icon, label, action) {
  const button = element("button", "icon");
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  use.setAttribute("href", `#icon-${icon}`);
  svg.append(use);
  button.append(svg);
  button.setAttribute("aria-label", label);
  button.title = label;
  button.addEventListener("click", action);
  return button;
}

class Card {
  constructor(article, data, pictures) {
    this.article = article;
    this.data = data;
    this.pictures = pictures;
    this.particle = -1;
  }

  hide() {
    this.particle = -1;
    this.article.hidden = true;
  }

  /** Show particle `i`, its swatch in `colour`; `buttons` stand at the end of the card's head. */
  show(i, colour, buttons = []) {
    if (i === this.particle && !buttons.length) return;
    this.particle = i;
    this.article.replaceChildren(this.head(i, colour, buttons));
    if (this.pictures) this.article.append(this.sections(i));
    this.article.append(this.facts(i));
    this.article.hidden = false;
  }

  head(i, colour, buttons) {
    const head = element("header");
    const swatch = element("span", "swatch");
    swatch.style.backgroundColor = cssColour(colour);
    const [first] = this.data.categories;
    const title = first ? titleOf(first, first.codes[i]) : `row ${this.data.rows[i]}`;
    head.append(swatch, element("strong", "", title), ...buttons);
    return head;
  }

  sections(i) {
    const row = element("div", "sections");
    const canvases = SECTIONS.map((name) => {
      const figure = element("figure");
      const canvas = element("canvas");
      canvas.width = canvas.height = this.pictures.description.size;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Central ${name} section`);
      figure.append(canvas, element("figcaption", "", name));
      row.append(figure);
      return canvas;
    });
    this.pictures.draw(i, canvases);
    return row;
  }

  facts(i) {
    const list = element("dl");
    const add = (name, value) => list.append(element("dt", "", name), element("dd", "", value));
    for (const category of this.data.categories.slice(1)) add(category.name, nameOf(category, category.codes[i]));
    for (const { name, values } of this.data.numbers) add(name, formatNumber(values[i]));
    add("row", String(this.data.rows[i]));
    return list;
  }

  /** Stand beside (x, y), inside a stage of `width` x `height`. */
  place(x, y, width, height) {
    const { offsetWidth, offsetHeight } = this.article;
    const left = x + 18 + offsetWidth < width ? x + 18 : x - 18 - offsetWidth;
    const top = Math.min(Math.max(y - offsetHeight / 2, 8), height - offsetHeight - 8);
    this.article.style.left = `${Math.max(left, 8)}px`;
    this.article.style.top = `${Math.max(top, 8)}px`;
  }
}
