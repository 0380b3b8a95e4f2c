// Which particle is where: a grid of buckets over the plane, and polygons.

/** Points sorted into square cells; about four in each. Points without a place are left out. */
class Grid {
  constructor(xy) {
    this.xy = xy;
    this.bounds = boundsOf(xy);
    const { left, right, bottom, top, count } = this.bounds;
    const width = Math.max(right - left, 1e-9);
    const height = Math.max(top - bottom, 1e-9);
    this.cell = Math.max(Math.sqrt((width * height * 4) / Math.max(count, 1)), Math.max(width, height) / 2048);
    this.columns = Math.floor(width / this.cell) + 1;
    this.rows = Math.floor(height / this.cell) + 1;
    this.fill(xy, count);
  }

  fill(xy, count) {
    const n = xy.length / 2;
    this.starts = new Uint32Array(this.columns * this.rows + 1);
    const cells = new Int32Array(n).fill(-1);
    for (let i = 0; i < n; i++) {
      if (!isPlaced(xy, i)) continue;
      cells[i] = this.row(xy[2 * i + 1]) * this.columns + this.column(xy[2 * i]);
      this.starts[cells[i] + 1]++;
    }
    for (let c = 1; c < this.starts.length; c++) this.starts[c] += this.starts[c - 1];
    const next = this.starts.slice();
    this.members = new Uint32Array(count);
    for (let i = 0; i < n; i++) if (cells[i] >= 0) this.members[next[cells[i]]++] = i;
  }

  column(x) {
    return Math.min(Math.max(Math.floor((x - this.bounds.left) / this.cell), 0), this.columns - 1);
  }

  row(y) {
    return Math.min(Math.max(Math.floor((y - this.bounds.bottom) / this.cell), 0), this.rows - 1);
  }

  /** Call `visit` with every point in the cells that a rectangle touches. */
  each(left, bottom, right, top, visit) {
    const first = this.column(left);
    const last = this.column(right);
    for (let row = this.row(bottom); row <= this.row(top); row++) {
      const end = this.starts[row * this.columns + last + 1];
      for (let k = this.starts[row * this.columns + first]; k < end; k++) visit(this.members[k]);
    }
  }

  /** The shown point nearest to (x, y) and no further than `radius`, or -1. */
  nearest(x, y, radius, shown) {
    let best = -1;
    let closest = radius * radius;
    this.each(x - radius, y - radius, x + radius, y + radius, (i) => {
      const distance = (this.xy[2 * i] - x) ** 2 + (this.xy[2 * i + 1] - y) ** 2;
      if (shown[i] && distance <= closest) [best, closest] = [i, distance];
    });
    return best;
  }

  /** The shown points inside a polygon [[x, y], ...]. */
  inside(polygon, shown) {
    const xs = polygon.map((p) => p[0]);
    const ys = polygon.map((p) => p[1]);
    const [left, right, bottom, top] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const found = [];
    this.each(left, bottom, right, top, (i) => {
      if (shown[i] && isInside(xs, ys, this.xy[2 * i], this.xy[2 * i + 1])) found.push(i);
    });
    return found;
  }
}

function isPlaced(xy, i) {
  return Number.isFinite(xy[2 * i]) && Number.isFinite(xy[2 * i + 1]);
}

function boundsOf(xy) {
  const bounds = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity, count: 0 };
  for (let i = 0; i < xy.length / 2; i++) {
    if (!isPlaced(xy, i)) continue;
    bounds.left = Math.min(bounds.left, xy[2 * i]);
    bounds.right = Math.max(bounds.right, xy[2 * i]);
    bounds.bottom = Math.min(bounds.bottom, xy[2 * i + 1]);
    bounds.top = Math.max(bounds.top, xy[2 * i + 1]);
    bounds.count++;
  }
  return bounds.count ? bounds : { left: -1, right: 1, bottom: -1, top: 1, count: 0 };
}

/** Even-odd rule: a ray to the right crosses the outline an odd number of times. */
function isInside(xs, ys, x, y) {
  let inside = false;
  for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
    if (ys[i] > y !== ys[j] > y && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) inside = !inside;
  }
  return inside;
}
