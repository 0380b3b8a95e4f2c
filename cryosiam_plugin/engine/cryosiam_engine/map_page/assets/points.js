// Drawing the points: on the graphics card, or where there is none, with a plain canvas.

const VERTEX_SHADER = `#version 300 es
in vec2 position;
in vec4 colour;
uniform vec2 centre;
uniform vec2 scale;
uniform float diameter;
out vec4 tint;
void main() {
  gl_Position = vec4((position - centre) * scale, 0.0, 1.0);
  gl_PointSize = diameter + 1.0;
  tint = colour;
}`;

const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec4 tint;
uniform float diameter;
uniform float opacity;
out vec4 result;
void main() {
  float distance = length(gl_PointCoord - 0.5) * (diameter + 1.0);
  float alpha = clamp(diameter * 0.5 - distance + 0.5, 0.0, 1.0) * tint.a * opacity;
  if (alpha < 0.004) discard;
  result = vec4(tint.rgb * alpha, alpha);
}`;

/** Points by WebGL 2. `order` says which points are drawn, the last on top. */
class CardPoints {
  constructor(canvas) {
    this.gl = canvas.getContext("webgl2", { antialias: false, alpha: true, premultipliedAlpha: true });
    if (!this.gl) throw new Error("no WebGL 2");
    this.parts = {};
    this.prepare();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.prepare();
      for (const [name, values] of Object.entries(this.parts)) this.upload(name, values);
      canvas.dispatchEvent(new Event("redraw"));
    });
  }

  prepare() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(gl.getProgramInfoLog(program));
    }
    gl.useProgram(program);
    this.uniform = (name) => gl.getUniformLocation(program, name);
    this.buffers = { positions: gl.createBuffer(), colours: gl.createBuffer(), order: gl.createBuffer() };
    this.attribute(program, "position", this.buffers.positions, 2, gl.FLOAT, false);
    this.attribute(program, "colour", this.buffers.colours, 4, gl.UNSIGNED_BYTE, true);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  attribute(program, name, buffer, size, type, normalised) {
    const { gl } = this;
    const place = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type, normalised, 0, 0);
  }

  /** Replace "positions" (x, y), "colours" (red, green, blue, alpha) or the "order". */
  upload(name, values) {
    const { gl } = this;
    this.parts[name] = values;
    const target = name === "order" ? gl.ELEMENT_ARRAY_BUFFER : gl.ARRAY_BUFFER;
    gl.bindBuffer(target, this.buffers[name]);
    gl.bufferData(target, values, gl.DYNAMIC_DRAW);
  }

  draw({ width, height, ratio, view, radius, opacity }) {
    const { gl } = this;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!this.parts.order?.length) return;
    gl.uniform2f(this.uniform("centre"), view.x, view.y);
    gl.uniform2f(this.uniform("scale"), (2 * view.scale) / width, (2 * view.scale) / height);
    gl.uniform1f(this.uniform("diameter"), 2 * radius * ratio);
    gl.uniform1f(this.uniform("opacity"), opacity);
    gl.drawElements(gl.POINTS, this.parts.order.length, gl.UNSIGNED_INT, 0);
  }
}

/** The same by a plain canvas, for remote desktops without WebGL: squares, several times slower. */
class PlainPoints {
  constructor(canvas) {
    this.context = canvas.getContext("2d");
    this.parts = {};
  }

  upload(name, values) {
    this.parts[name] = values;
  }

  draw({ width, height, ratio, view, radius, opacity }) {
    const { context, parts } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const words = parts.colours ? new Uint32Array(parts.colours.buffer) : [];
    let last = -1;
    for (const i of parts.order || []) {
      const x = (parts.positions[2 * i] - view.x) * view.scale + width / 2;
      const y = height / 2 - (parts.positions[2 * i + 1] - view.y) * view.scale;
      if (!(x > -radius && x < width + radius && y > -radius && y < height + radius)) continue;
      if (words[i] !== last) {
        const [red, green, blue, alpha] = parts.colours.subarray(4 * i, 4 * i + 4);
        context.fillStyle = cssColour([red, green, blue], (alpha / 255) * opacity);
        last = words[i];
      }
      context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
    }
  }
}

/** The best drawer that this browser offers, and the canvas it draws on. */
function pointsOn(canvas) {
  try {
    return [new CardPoints(canvas), canvas];
  } catch (error) {
    console.info(`Drawing without WebGL 2: ${error.message}`);
    // A canvas that was asked for one kind of drawing gives no other.
    const fresh = canvas.cloneNode();
    canvas.replaceWith(fresh);
    return [new PlainPoints(fresh), fresh];
  }
}
