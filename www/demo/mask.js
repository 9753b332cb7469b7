// A mask that is painted over an image, by pointer or by keyboard. The canvas shows both; it has the image's own
// pixels, and only its box is scaled.

import { maskImage, soften } from "./soft.js";

/** Strokes that can be taken back. */
const MOST_UNDO = 30;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class MaskPainter {
  #canvas;
  /** { erase, size, feather }: the size is the brush's width in pixels of the picture. */
  #settings;
  #onChange;
  #picture = null;
  /** Opaque where it is painted. */
  #paint = null;
  #before = [];
  /** The middle of the brush, in pixels of the picture. */
  #at = [0, 0];
  /** Where the stroke that goes on has come to. */
  #last = null;

  constructor(canvas, settings, onChange) {
    this.#canvas = canvas;
    this.#settings = settings;
    this.#onChange = onChange;
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const type of ["pointerup", "pointercancel", "blur"]) canvas.addEventListener(type, () => this.#end());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("keyup", ({ key }) => key === " " && this.#end());
    canvas.addEventListener("focus", () => this.redraw());
  }

  /** Begins anew on a picture, a canvas; on none, there is nothing to paint. */
  open(picture) {
    this.#picture = picture;
    this.#before = [];
    if (!picture) return;
    const { width, height } = picture;
    this.#paint = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    [this.#canvas.width, this.#canvas.height] = [width, height];
    this.#at = [Math.round(width / 2), Math.round(height / 2)];
    this.redraw();
  }

  /** The mask with its soft edge, a value a pixel; null where nothing is painted. */
  mask() {
    const { width, height } = this.#picture;
    const { data } = this.#painted();
    const painted = Uint8ClampedArray.from({ length: width * height }, (_, i) => data[4 * i + 3]);
    return painted.some((value) => value > 0) ? soften(painted, width, height, this.#settings().feather) : null;
  }

  clear() {
    this.#remember();
    this.#paint.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.redraw();
  }

  undo() {
    const before = this.#before.pop();
    if (before) this.#paint.putImageData(before, 0, 0);
    this.redraw();
  }

  get canUndo() {
    return this.#before.length > 0;
  }

  /** Shows the picture, the mask over it in red and, with the focus, where the brush is. */
  redraw() {
    if (!this.#picture) return;
    const { width, height } = this.#picture;
    const mask = this.mask();
    const context = this.#canvas.getContext("2d");
    context.drawImage(this.#picture, 0, 0);
    if (mask) {
      const veil = new OffscreenCanvas(width, height).getContext("2d");
      veil.putImageData(maskImage(mask, width, height, { opacity: true }), 0, 0);
      veil.globalCompositeOperation = "source-in";
      veil.fillStyle = "rgb(255 0 60 / 0.6)";
      veil.fillRect(0, 0, width, height);
      context.drawImage(veil.canvas, 0, 0);
    }
    if (this.#canvas.matches(":focus-visible")) this.#ring(context);
    this.#onChange({ share: mask ? mask.reduce((sum, value) => sum + value, 0) / 255 / mask.length : 0, at: this.#at });
  }

  /** White in black, to be seen on any picture. */
  #ring(context) {
    const circle = new Path2D();
    circle.arc(...this.#at, this.#settings().size / 2, 0, 2 * Math.PI);
    for (const [style, width] of [["black", 3], ["white", 1]]) {
      context.strokeStyle = style;
      context.lineWidth = (width * this.#canvas.width) / this.#canvas.clientWidth;
      context.stroke(circle);
    }
  }

  #painted() {
    return this.#paint.getImageData(0, 0, this.#canvas.width, this.#canvas.height);
  }

  #remember() {
    this.#before.push(this.#painted());
    if (this.#before.length > MOST_UNDO) this.#before.shift();
  }

  #press(event) {
    if (!this.#picture || event.button !== 0) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#at = this.#place(event);
    this.#begin();
  }

  #move(event) {
    if (!this.#last) return;
    // A fast pointer has been at more places than there are events.
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length > 0 ? events : [event]) this.#stroke(this.#place(one));
    this.redraw();
  }

  #place({ clientX, clientY }) {
    const { left, top } = this.#canvas.getBoundingClientRect();
    const { width, height, clientWidth, clientHeight, clientLeft, clientTop } = this.#canvas;
    return [((clientX - left - clientLeft) * width) / clientWidth, ((clientY - top - clientTop) * height) / clientHeight];
  }

  #key(event) {
    if (!this.#picture) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      const step = event.shiftKey ? 1 : Math.max(Math.round(this.#settings().size / 4), 1);
      const limits = [this.#canvas.width, this.#canvas.height];
      const to = this.#at.map((at, i) => Math.min(Math.max(at + arrow[i] * step, 0), limits[i]));
      if (this.#last) this.#stroke(to);
      this.#at = to;
      this.redraw();
    } else if (event.key === " ") {
      if (!event.repeat) this.#begin();
    } else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
      this.undo();
    } else {
      return;
    }
    event.preventDefault();
  }

  #begin() {
    this.#remember();
    this.#last = this.#at;
    this.#stroke(this.#at);
    this.redraw();
  }

  #end() {
    this.#last = null;
    this.redraw();
  }

  #stroke(to) {
    const { erase, size } = this.#settings();
    const paint = this.#paint;
    paint.globalCompositeOperation = erase ? "destination-out" : "source-over";
    paint.lineCap = "round";
    paint.lineWidth = size;
    paint.beginPath();
    paint.moveTo(...this.#last);
    paint.lineTo(...to);
    paint.stroke();
    // A line of no length leaves nothing.
    paint.beginPath();
    paint.arc(...to, size / 2, 0, 2 * Math.PI);
    paint.fill();
    this.#last = this.#at = to;
  }
}
