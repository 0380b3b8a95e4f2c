// The scatter plot: view, mouse, touch, and the marks over the points.

const CLICK_DISTANCE = 4;

/** Told through `listener`: hover(i, x, y), pick(i), outline(polygon, mode). */
class Chart {
  constructor(stage, data, choice, listener) {
    this.stage = stage;
    this.marks = stage.querySelector("#marks");
    this.data = data;
    this.choice = choice;
    this.listener = listener;
    [this.points, this.canvas] = pointsOn(stage.querySelector("#points"));
    this.view = { x: 0, y: 0, scale: 1 };
    this.tool = "pan";
    this.mode = "replace";
    this.sizeFactor = 1;
    this.opacity = 0.8;
    this.hovered = -1;
    this.pinned = -1;
    this.labels = [];
    this.outline = null;
    this.grids = [];
    this.pointers = new Map();
    this.pending = false;
    this.listen();
    new ResizeObserver(() => this.resize()).observe(stage);
    this.resize();
  }

  // ---- the view -------------------------------------------------------------------------

  setMap(index) {
    this.map = index;
    this.xy = this.data.maps[index].xy;
    this.grid = this.grids[index] ||= new Grid(this.xy);
    this.points.upload("positions", this.xy);
    this.fit();
  }

  fit() {
    const { left, right, bottom, top } = this.grid.bounds;
    const [width, height] = [right - left, top - bottom];
    const room = Math.min(this.width, this.height) < 500 ? 0.84 : 0.88;
    const scales = [this.width / width, this.height / height].filter((s) => Number.isFinite(s) && s > 0);
    this.fitScale = scales.length ? Math.min(...scales) * room : 100;
    this.view = { x: (left + right) / 2, y: (bottom + top) / 2, scale: this.fitScale };
    this.redraw();
  }

  resize() {
    this.width = Math.max(this.stage.clientWidth, 1);
    this.height = Math.max(this.stage.clientHeight, 1);
    this.ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.marks]) {
      canvas.width = Math.round(this.width * this.ratio);
      canvas.height = Math.round(this.height * this.ratio);
    }
    if (this.grid && this.view.scale === this.fitScale) this.fit();
    else this.redraw();
  }

  toScreen(x, y) {
    const { view } = this;
    return [(x - view.x) * view.scale + this.width / 2, this.height / 2 - (y - view.y) * view.scale];
  }

  toData(x, y) {
    const { view } = this;
    return [(x - this.width / 2) / view.scale + view.x, (this.height / 2 - y) / view.scale + view.y];
  }

  screenOf(i) {
    return this.toScreen(this.xy[2 * i], this.xy[2 * i + 1]);
  }

  /** Zoom so that what lies under (x, y) stays there. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const [dataX, dataY] = this.toData(x, y);
    const scale = Math.min(Math.max(this.view.scale * factor, this.fitScale * 0.3), this.fitScale * 3000);
    this.view.scale = scale;
    this.view.x = dataX - (x - this.width / 2) / scale;
    this.view.y = dataY - (this.height / 2 - y) / scale;
    this.redraw();
  }

  pan(dx, dy) {
    this.view.x -= dx / this.view.scale;
    this.view.y += dy / this.view.scale;
    this.redraw();
  }

  // ---- drawing --------------------------------------------------------------------------

  /** Radius in CSS pixels: smaller the more points there are, growing slowly with the zoom. */
  radius() {
    const many = Math.min(70 / Math.sqrt(this.choice.shownCount + 200) + 1.05, 5.5);
    return Math.min(many * this.growth() * this.sizeFactor, 16);
  }

  /** How much larger and denser points are drawn than in the view of everything. */
  growth() {
    return Math.min(Math.max((this.view.scale / (this.fitScale || 1)) ** 0.3, 0.8), 3.5);
  }

  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
    });
  }

  draw() {
    const { width, height, ratio, view } = this;
    const opacity = Math.min(this.opacity * this.growth(), 1);
    this.points.draw({ width, height, ratio, view, radius: this.radius(), opacity });
    this.drawMarks();
  }

  drawMarks() {
    const context = this.marks.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    if (!this.xy) return;
    this.drawLabels(context, colour);
    for (const [i, line] of [[this.pinned, 2.5], [this.hovered, 1.75]]) {
      if (i < 0 || !isPlaced(this.xy, i)) continue;
      const [x, y] = this.screenOf(i);
      for (const [wide, name] of [[line + 2.5, "--page"], [line, "--ink"]]) {
        context.beginPath();
        context.arc(x, y, this.radius() + 4, 0, 2 * Math.PI);
        [context.lineWidth, context.strokeStyle] = [wide, colour(name)];
        context.stroke();
      }
    }
    if (this.outline) this.drawOutline(context, colour);
  }

  drawLabels(context, colour) {
    context.font = `600 12.5px ${colour("--font")}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const taken = [];
    for (const { text, x, y } of this.labels) {
      const [left, top] = this.toScreen(x, y);
      const half = context.measureText(text).width / 2 + 3;
      // The larger groups come first; a name that would cover one of theirs is left out.
      if (taken.some((t) => Math.abs(t.top - top) < 16 && Math.abs(t.left - left) < t.half + half)) continue;
      taken.push({ left, top, half });
      [context.lineWidth, context.strokeStyle, context.fillStyle] = [4, colour("--page"), colour("--ink")];
      context.strokeText(text, left, top);
      context.fillText(text, left, top);
    }
  }

  drawOutline(context, colour) {
    context.beginPath();
    for (const [x, y] of this.outlineCorners()) context.lineTo(x, y);
    context.closePath();
    [context.lineWidth, context.fillStyle, context.strokeStyle] = [1.5, colour("--accent-soft"), colour("--accent")];
    context.fill();
    context.stroke();
  }

  outlineCorners() {
    const { kind, path } = this.outline;
    if (kind === "lasso") return path;
    const [[x0, y0], [x1, y1]] = [path[0], path[path.length - 1]];
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
  }

  // ---- mouse and touch ------------------------------------------------------------------

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", () => this.cancel());
    canvas.addEventListener("pointerleave", () => this.hover(-1));
    canvas.addEventListener("redraw", () => this.redraw());
    canvas.addEventListener("dblclick", (event) => {
      if (this.tool === "pan") this.zoom(event.altKey || event.shiftKey ? 0.5 : 2, ...this.at(event));
    });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 33 : event.deltaMode === 2 ? 400 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0018;
    this.zoom(Math.exp(-Math.min(Math.max(event.deltaY * lines, -400), 400) * speed), ...this.at(event));
  }

  down(event) {
    if (event.button > 1) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.pointers.set(event.pointerId, at);
    this.start = at;
    this.dragged = false;
    const pans = this.tool === "pan" || event.button === 1 || this.holdsSpace || this.pointers.size > 1;
    this.outline = pans ? null : { kind: this.tool, path: [at] };
    this.hover(-1);
  }

  move(event) {
    const at = this.at(event);
    const last = this.pointers.get(event.pointerId);
    if (!last) {
      const [x, y] = this.toData(...at);
      this.hover(this.grid.nearest(x, y, (this.radius() + 5) / this.view.scale, this.choice.shown), ...at);
      return;
    }
    if (Math.hypot(at[0] - this.start[0], at[1] - this.start[1]) > CLICK_DISTANCE) this.dragged = true;
    if (this.pointers.size === 2) this.pinch(event.pointerId, at);
    else if (!this.outline) this.pan(at[0] - last[0], at[1] - last[1]);
    else this.extendOutline(event, at);
    this.pointers.set(event.pointerId, at);
  }

  pinch(id, at) {
    const before = this.pointers.get(id);
    const [[, other]] = [...this.pointers].filter(([key]) => key !== id);
    const distance = (p) => Math.max(Math.hypot(p[0] - other[0], p[1] - other[1]), 1);
    this.zoom(distance(at) / distance(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
    this.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
  }

  extendOutline(event, at) {
    // The browser hands over several movements at once; a lasso wants every one of them.
    const steps = event.getCoalescedEvents?.() ?? [];
    this.outline.path.push(...steps.map((step) => this.at(step)), at);
    this.redraw();
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const { outline } = this;
    if (!this.dragged) this.click(event);
    else if (outline) {
      const mode = event.shiftKey ? "add" : event.altKey ? "subtract" : this.mode;
      this.listener.outline(this.outlineCorners().map(([x, y]) => this.toData(x, y)), mode);
    }
    this.cancel();
  }

  click(event) {
    const [x, y] = this.toData(...this.at(event));
    this.listener.pick(this.grid.nearest(x, y, (this.radius() + 5) / this.view.scale, this.choice.shown));
  }

  cancel() {
    this.outline = null;
    this.pointers.clear();
    this.redraw();
  }

  hover(i, x = 0, y = 0) {
    if (i !== this.hovered) this.redraw();
    this.hovered = i;
    this.listener.hover(i, x, y);
  }
}
