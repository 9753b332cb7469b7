// What a drawing begins from: an image that the visitor picks, drops or pastes, and a mask over it.

import { MaskPainter } from "./mask.js";
import { blend, fit, hole, maskImage, scaled } from "./soft.js";

/** The longer side, in pixels, of what is shown, and of what is drawn where nobody says: the built-in model is small. */
const MOST = 512;
const SIDES = { builtin: 128 };
/** What sizes are multiples of. */
const STEP = 8;

const $ = (id) => document.getElementById(id);

export class Start {
  #fields;
  /** A canvas, or null. */
  #picture = null;
  #painter;
  /** Of the last request: the mask, if there was one, and the picture under it. */
  #asked = null;

  /** `onError` gets what went wrong with a picture. */
  constructor(fields, onError) {
    this.#fields = fields;
    const settings = () => ({ erase: fields.tool.value === "erase", size: Number(fields.brush.value), feather: Number(fields.feather.value) });
    this.#painter = new MaskPainter($("mask"), settings, (news) => this.#tell(news));
    const open = (file) => file && this.open(file).catch(() => onError(new Error(`${file.name ?? "that"} is not an image that this browser can read`)));
    fields.picture.addEventListener("change", () => open(fields.picture.files[0]));
    const carriesFile = ({ dataTransfer }) => dataTransfer.types.includes("Files");
    document.addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
    document.addEventListener("drop", (event) => {
      if (!carriesFile(event)) return;
      event.preventDefault();
      open(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => open(event.clipboardData.files[0]));
    for (const name of ["brush", "feather"]) fields[name].addEventListener("input", () => this.#painter.redraw());
    $("undo").addEventListener("click", () => this.#painter.undo());
    $("clear").addEventListener("click", () => this.#painter.clear());
    $("remove").addEventListener("click", () => this.remove());
  }

  /** Whether there is a picture. */
  get isOpen() {
    return this.#picture !== null;
  }

  async open(file) {
    const bitmap = await createImageBitmap(file);
    const [width, height] = fit(bitmap.width, bitmap.height, MOST);
    this.#picture = new OffscreenCanvas(width, height);
    this.#picture.getContext("2d").putImageData(scaled(bitmap, width, height), 0, 0);
    bitmap.close();
    this.#painter.open(this.#picture);
    $("start").hidden = false;
  }

  remove() {
    this.#picture = null;
    this.#painter.open(null);
    this.#fields.picture.value = "";
    $("start").hidden = true;
    this.#fields.picture.focus();
  }

  /** What a request of this size, if it has one, has beside its other options. */
  options({ width, height }, strength) {
    this.#asked = null;
    if (!this.#picture) return {};
    const own = fit(this.#picture.width, this.#picture.height, SIDES[this.#fields.model.value] ?? MOST, STEP);
    const size = { width: width ?? own[0], height: height ?? own[1] };
    const mask = this.#painter.mask();
    if (!mask) return { ...size, image: this.#picture, strength };
    const [w, h] = [this.#picture.width, this.#picture.height];
    this.#asked = { kept: this.#picture, mask: maskImage(mask, w, h) };
    return { ...size, image: this.#picture, mask: maskImage(hole(mask), w, h), strength };
  }

  /** What is shown of the pixels that came of the request: with a mask they are laid over the picture. */
  async finish(made) {
    if (!this.#asked) return made;
    const { width, height } = made;
    const mask = scaled(await createImageBitmap(this.#asked.mask), width, height);
    return blend(scaled(this.#asked.kept, width, height), made, mask);
  }

  #tell({ share, at }) {
    const [x, y] = at.map(Math.round);
    const much = share > 0 ? `${Math.max(Math.round(100 * share), 1)} % is painted` : "nothing is painted, all of it is made anew";
    $("painted").textContent = `Brush at ${x}, ${y}; ${much}`;
    $("undo").disabled = !this.#painter.canUndo;
    $("clear").disabled = share === 0;
  }
}
