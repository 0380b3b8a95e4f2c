// Colours of groups and of numbers, for light and dark pages.

// 24 colours chosen to lie far apart in a perceptual space for normal sight and for the three
// colour blindnesses at once; the first eight, which most maps need, are the furthest apart.
const PALETTE = [
  "#2554ca", "#d37e07", "#6ae9bd", "#ac2914", "#aa6ecd", "#fcc618", "#85b784", "#984c70",
  "#35b2fc", "#e84d64", "#06915f", "#d389d1", "#728afc", "#a26e22", "#3f623f", "#aad3fa",
  "#77319b", "#c4d985", "#990b71", "#e2a520", "#6965e6", "#cdb0cb", "#6f5aa1", "#707999",
].map(parseColour);

// A dark page swallows the deepest of them: there all are lightened alike.
const PALETTES = { light: PALETTE, dark: PALETTE.map((colour) => colour.map((c) => Math.round(c + (255 - c) * 0.16))) };

// From dark violet over teal to yellow, lightness rising evenly; each within what its page shows.
const RAMPS = {
  light: ["#391676", "#243892", "#005990", "#05738e", "#048c90", "#0aa58a", "#4abb71", "#99c858", "#d9cf4b"].map(parseColour),
  dark: ["#573c9d", "#405bb8", "#007bc1", "#0196b7", "#05afb2", "#09c9a5", "#72db8a", "#bce572", "#fceb6a"].map(parseColour),
};
const NO_VALUE = { light: [168, 172, 180], dark: [98, 104, 114] };

function parseColour(text) {
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

function cssColour([red, green, blue], alpha = 1) {
  return `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}

function categoryColour(category, code, theme) {
  return category.nameless.has(code) ? NO_VALUE[theme] : PALETTES[theme][code % PALETTE.length];
}

function rampColour(position, theme) {
  const stops = RAMPS[theme];
  const at = Math.min(Math.max(position, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((c, k) => Math.round(c + (stops[low + 1][k] - c) * (at - low)));
}

/** How the values of a number become places on the ramp: 0 at its low end, 1 at its high end. */
class NumberScale {
  constructor(values) {
    const known = Float64Array.from(values.filter(Number.isFinite)).sort();
    const quantile = (q) => known[Math.round(q * (known.length - 1))];
    this.known = known.length;
    this.unknown = values.length - known.length;
    // Outliers share the colours of the ends: they would leave one colour for all the others.
    this.low = known.length ? quantile(0.01) : 0;
    this.high = known.length ? quantile(0.99) : 1;
    this.below = known.length > 0 && known[0] < this.low;
    this.above = known.length > 0 && known[known.length - 1] > this.high;
    this.canLog = this.low > 0 && this.high / this.low > 3;
    const middle = known.length ? (quantile(0.5) - this.low) / (this.high - this.low) : 0.5;
    this.log = this.canLog && middle < 0.25;
  }

  position(value) {
    if (!Number.isFinite(value)) return NaN;
    if (this.high <= this.low) return 0.5;
    return this.log
      ? Math.log(Math.max(value, this.low) / this.low) / Math.log(this.high / this.low)
      : (value - this.low) / (this.high - this.low);
  }

  /** How many values lie in each of `bins` equal parts of the ramp; outliers in its ends. */
  histogram(values, bins) {
    const counts = new Uint32Array(bins);
    for (const value of values) {
      const position = this.position(value);
      if (position === position) counts[Math.min(Math.max(Math.floor(position * bins), 0), bins - 1)]++;
    }
    return counts;
  }
}
