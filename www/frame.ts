// What an element shows: a canvas with a text for those who do not see it, how far the work is, and what went wrong.
// Everything is built by calls and styled by a sheet of its own, so that a strict Content-Security-Policy has nothing to
// refuse: no markup is parsed, no style is written into an attribute, and the image has no address.

const STYLE = `
  :host { display: inline-block; position: relative; max-inline-size: 100%; }
  :host([hidden]) { display: none; }
  canvas { display: block; inline-size: 100%; block-size: 100%; object-fit: contain; }
  canvas.empty { background: color-mix(in srgb, currentColor 8%, transparent); }
  div, p { position: absolute; inset: auto 0 0; margin: 0; padding: 0.5em; font: 0.8rem/1.3 system-ui, sans-serif; color: CanvasText; background: Canvas; }
  div:not(.busy) { inset: auto auto 0 0; inline-size: 1px; block-size: 1px; padding: 0; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  progress { display: block; inline-size: 100%; }
  div:not(.busy) progress { display: none; }
  p { inset: 0; overflow: auto; overflow-wrap: anywhere; }
  p:empty { background: none; pointer-events: none; }
  @media (prefers-reduced-motion: no-preference) {
    canvas.first { animation: appear 0.3s; }
    @keyframes appear { from { opacity: 0; } }
  }
`;
let sheet: CSSStyleSheet | undefined;

export class Frame {
  readonly #canvas = document.createElement("canvas");
  readonly #news = document.createElement("div");
  readonly #label = document.createElement("span");
  readonly #progress = document.createElement("progress");
  readonly #error = document.createElement("p");

  constructor(root: ShadowRoot) {
    if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const attributes = (element: Element, all: Record<string, string>) => Object.entries(all).forEach(([name, value]) => element.setAttribute(name, value));
    attributes(this.#canvas, { part: "image", class: "empty" });
    attributes(this.#news, { part: "news" });
    // It names the bar, and is read out when it changes. These texts are English, whatever the page is.
    attributes(this.#label, { part: "label", id: "label", role: "status", lang: "en" });
    attributes(this.#progress, { part: "progress", max: "1", "aria-labelledby": "label" });
    attributes(this.#error, { part: "error", role: "alert", lang: "en" });
    this.#news.append(this.#label, this.#progress);
    root.append(this.#canvas, this.#news, this.#error);
    this.name(null);
  }

  /** What the image is called. An empty text says that it is decoration, as with `<img>`. */
  name(alt: string | null): void {
    this.#canvas.setAttribute("role", alt === "" ? "presentation" : "img");
    if (alt) this.#canvas.setAttribute("aria-label", alt);
    else this.#canvas.removeAttribute("aria-label");
  }

  /** The size of an image that is to come, for which there is room from now on. One that is there keeps its own. */
  reserve(width: number, height: number): void {
    if (this.#isEmpty) this.#resize(width, height);
  }

  /** Work goes on: what it is. */
  busy(label: string): void {
    this.#error.replaceChildren();
    this.#say(label);
    this.#news.classList.add("busy");
    this.#canvas.setAttribute("aria-busy", "true");
  }

  /** The share of the work that is done. A bar without a number would move by itself. */
  progress(fraction: number): void {
    this.#progress.value = fraction;
  }

  /** A small image of what is to come. */
  preview(image: ImageBitmap, width: number, height: number): void {
    this.#resize(width, height);
    this.#draw(image);
  }

  show(image: ImageBitmap): void {
    this.#canvas.classList.toggle("first", this.#isEmpty);
    this.#resize(image.width, image.height);
    this.#draw(image);
    this.#rest("The image is drawn.");
  }

  /** Nothing is shown, or why there is nothing. */
  clear(error = ""): void {
    // Resizing is what empties a canvas, even to the size that it has.
    this.#canvas.width = this.#canvas.width;
    this.#canvas.className = "empty";
    this.#rest("");
    this.#error.textContent = error;
  }

  get #isEmpty(): boolean {
    return this.#canvas.classList.contains("empty");
  }

  #rest(label: string): void {
    this.#say(label);
    this.#error.replaceChildren();
    this.#news.classList.remove("busy");
    this.#canvas.setAttribute("aria-busy", "false");
  }

  /** Only what is new is read out. */
  #say(label: string): void {
    if (this.#label.textContent !== label) this.#label.textContent = label;
  }

  #draw(image: ImageBitmap): void {
    this.#canvas.classList.remove("empty");
    const { width, height } = this.#canvas;
    this.#canvas.getContext("2d")!.drawImage(image, 0, 0, width, height);
  }

  #resize(width: number, height: number): void {
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
  }
}
