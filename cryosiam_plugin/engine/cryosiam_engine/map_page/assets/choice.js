// Which particles are shown and which are selected. A hidden particle does not count as selected
// (what is exported is what is seen), and is what it was before when it is shown again.

class Choice {
  constructor(data) {
    this.data = data;
    this.picked = new Uint8Array(data.n);
    this.selected = new Uint8Array(data.n);
    this.shown = new Uint8Array(data.n).fill(1);
    this.hidden = data.categories.map(() => new Set());
    this.count = 0;
    this.shownCount = data.n;
  }

  /** Make `indices` the selection ("replace"), "add" them to it, or "subtract" them from it. */
  apply(indices, mode) {
    if (mode === "replace") this.picked.fill(0);
    for (const i of indices) if (this.shown[i]) this.picked[i] = mode === "subtract" ? 0 : 1;
    this.recount();
  }

  invert() {
    for (let i = 0; i < this.picked.length; i++) this.picked[i] ^= this.shown[i];
    this.recount();
  }

  /** Hide exactly the groups `codes` of a category; what other categories hide stays hidden. */
  hide(category, codes) {
    this.hidden[category] = new Set(codes);
    this.shown.fill(1);
    this.data.categories.forEach(({ codes: own }, k) => {
      const hidden = this.hidden[k];
      if (hidden.size) for (let i = 0; i < own.length; i++) if (hidden.has(own[i])) this.shown[i] = 0;
    });
    this.recount();
  }

  showEverything() {
    this.hidden.forEach((hidden) => hidden.clear());
    this.shown.fill(1);
    this.recount();
  }

  recount() {
    this.count = this.shownCount = 0;
    for (let i = 0; i < this.picked.length; i++) {
      this.selected[i] = this.picked[i] & this.shown[i];
      this.count += this.selected[i];
      this.shownCount += this.shown[i];
    }
  }

  indices() {
    const found = [];
    for (let i = 0; i < this.selected.length; i++) if (this.selected[i]) found.push(i);
    return found;
  }

  members(category, code) {
    const { codes } = this.data.categories[category];
    const found = [];
    for (let i = 0; i < codes.length; i++) if (codes[i] === code && this.shown[i]) found.push(i);
    return found;
  }

  /** How many selected particles each group of a category has. */
  counts(category) {
    const { codes, names } = this.data.categories[category];
    const counts = new Uint32Array(names.length);
    for (let i = 0; i < codes.length; i++) counts[codes[i]] += this.selected[i];
    return counts;
  }
}
