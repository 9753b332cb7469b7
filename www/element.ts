// <tintype-image prompt="a red circle on blue" seed="5">: an image where it stands. Importing this defines the element.

import { unlessAborted } from "./abort.js";
import { TintypeError } from "./errors.js";
import { Frame } from "./frame.js";
import type { ImageGenerator } from "./generator.js";
import { models } from "./models.js";
import { take, type Lease } from "./shared.js";
import type { CreateOptions, GenerateOptions, Generated, Picture, Progress } from "./types.js";

/** Attributes that an image is made of: a change of one draws another image. */
const TEXTS = ["prompt", "model", "weights", "device", "negative-prompt"] as const;
const NUMBERS = ["seed", "steps", "width", "height", "guidance"] as const;
const REQUEST: readonly string[] = [...TEXTS, ...NUMBERS];
/** Attributes that only affect presentation. */
const SHOWN = ["alt", "loading", "preview"] as const;

/** The sides of images, for the room that they get before they are there: of the built-in model, and where it is not known. */
const BUILTIN_SIDE = 128;
const SIDE = 512;
/** More than any device draws. */
const MOST_SIDE = 8192;

const LABELS: Partial<Record<Progress["stage"], string>> = { download: "Downloading the model", verify: "Reading the model", compile: "Preparing the model" };
/** How far ahead of the visible part of the page images are begun that are `loading="lazy"`. */
const AHEAD = "200px";

/** "idle" without a prompt, or before it comes near with `loading="lazy"`; then "loading", "drawing", "ready" or "error". */
export type TintypeImageState = "idle" | "loading" | "drawing" | "ready" | "error";

/** They do not bubble, as those of `<img>`. */
export interface TintypeImageEventMap {
  /** The image is there. */
  load: CustomEvent<Generated>;
  /** There is none, and the element says why. */
  error: CustomEvent<TintypeError>;
  /** News of the loading, then of the drawing. A `preview` is closed after the event: draw it at once, or not at all. */
  progress: CustomEvent<Progress>;
}

type Events = Omit<HTMLElementEventMap, keyof TintypeImageEventMap> & TintypeImageEventMap;

/** Where there are no elements, there is nothing to define, and importing this does nothing. */
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement;

/**
 * Draws what its attribute `prompt` says. `model`, `weights`, `device`, and `seed`, `steps`, `width`, `height`, `guidance`
 * and `negative-prompt` are the options of `create` and `generate` of these names, `alt` is the text for those who do not
 * see the image (by default the prompt), `loading="lazy"` waits until it comes near the visible part of the page, and
 * `preview` shows it while it is drawn. Elements of the same model, weights and device share a generator.
 *
 * For styles: the attribute `state`, the same as `:state()`, and the parts "image", "news", "label", "progress" and "error".
 */
export class TintypeImage extends Base {
  static readonly observedAttributes = [...REQUEST, ...SHOWN];

  /**
   * What else the elements' own generators are created with, such as `wasmUrl` and `worker` where a bundler does not copy
   * them. To be set by the script that imports this, before it waits for anything.
   */
  static options: CreateOptions = {};

  declare prompt: string;
  /** Empty: the built-in one. */
  declare model: string;
  declare weights: string;
  declare device: string;
  declare negativePrompt: string;
  /** Null: another one each time. */
  declare seed: number | null;
  declare steps: number | null;
  declare width: number | null;
  declare height: number | null;
  declare guidance: number | null;
  declare alt: string;
  declare loading: string;
  declare preview: boolean;

  readonly #frame: Frame;
  readonly #states: CustomStateSet | undefined;
  #state: TintypeImageState = "idle";
  #given: ImageGenerator | Promise<ImageGenerator> | null = null;
  #lease: Lease | null = null;
  /** Ends the last call, and no other one of the generator. */
  #call: AbortController | null = null;
  /** The attributes that were drawn last, or that are being drawn; null to draw again. */
  #request: string | null = null;
  #picture: Generated | null = null;
  #observer: IntersectionObserver | null = null;
  #isNear = false;
  #isScheduled = false;

  constructor() {
    super();
    this.#states = this.attachInternals?.().states;
    this.#frame = new Frame(this.attachShadow({ mode: "open" }));
  }

  /** What draws instead of a generator of the element's own; it stays the caller's to dispose of. */
  get generator(): ImageGenerator | Promise<ImageGenerator> | null {
    return this.#given;
  }

  set generator(value: ImageGenerator | Promise<ImageGenerator> | null) {
    if (value === this.#given) return;
    this.#given = value ?? null;
    // What is wrong with it is said where it is used.
    Promise.resolve(value).catch(() => {});
    this.redraw();
  }

  get state(): TintypeImageState {
    return this.#state;
  }

  /** What is shown; null before the first one, and after an error. */
  get picture(): Generated | null {
    return this.#picture;
  }

  /** Draws again, another image if there is no `seed`. What goes on is ended. */
  redraw(): void {
    this.#request = null;
    this.#schedule();
  }

  /** What is shown as a file, as `toBlob` of a result makes it. Rejects with InvalidStateError where nothing is. */
  async toBlob(...settings: Parameters<Picture["toBlob"]>): Promise<Blob> {
    if (!this.#picture) throw new DOMException("there is no image yet", "InvalidStateError");
    return this.#picture.toBlob(...settings);
  }

  connectedCallback(): void {
    // Properties that were set before this script had come hide the accessors.
    for (const name of [...Object.keys(ACCESSORS), "generator"] as (keyof this)[]) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      this[name] = value;
    }
    this.#become(this.#state);
    this.#schedule();
  }

  disconnectedCallback(): void {
    this.#schedule();
  }

  attributeChangedCallback(): void {
    this.#schedule();
  }

  /**
   * A little later, once for all that a script does in a row: several attributes, a generator, and moving the element, which
   * takes it out of the page and puts it back.
   */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setTimeout(() => {
      this.#isScheduled = false;
      if (this.isConnected) this.#update();
      else this.#leave();
    });
  }

  #update(): void {
    this.#frame.name(this.getAttribute("alt") ?? this.getAttribute("prompt"));
    this.#frame.reserve(...this.#size());
    if (!this.#mayDraw()) return;
    const request = JSON.stringify(REQUEST.map((name) => this.getAttribute(name)));
    if (request === this.#request) return;
    this.#request = request;
    if (this.prompt.trim() === "") return this.#rest();
    this.#call?.abort();
    void this.#draw((this.#call = new AbortController()));
  }

  /** Out of the page: an image stays, and what it took is let go. */
  #leave(): void {
    this.#lease?.release();
    this.#lease = null;
    this.#observer?.disconnect();
    this.#observer = null;
    if (this.#state === "ready") return;
    this.#request = null;
    this.#rest();
  }

  #rest(): void {
    this.#call?.abort();
    this.#picture = null;
    this.#frame.clear();
    this.#become("idle");
  }

  async #draw({ signal }: AbortController): Promise<void> {
    const onProgress = (progress: Progress) => this.#progress(progress, signal);
    try {
      this.#become("loading");
      this.#frame.busy("Loading the model");
      this.#frame.progress(0);
      const generator = await unlessAborted(this.#generator(onProgress), signal);
      this.#become("drawing");
      this.#frame.busy("Drawing");
      this.#frame.progress(0);
      const picture = await generator.generate(this.prompt, { ...this.#settings(), signal, onProgress });
      if (signal.aborted) return;
      this.#picture = picture;
      this.#frame.show(picture.image);
      this.#become("ready");
      this.#tell("load", picture);
    } catch (error) {
      // Another call has taken its place, or the element has gone.
      if (signal.aborted) return;
      this.#fail(error instanceof TintypeError ? error : new TintypeError("internal", String((error as Error)?.message ?? error), { cause: error }));
    }
  }

  /** The generator that was given, or the one of these attributes. */
  #generator(listener: (progress: Progress) => void): Promise<ImageGenerator> {
    const before = this.#lease;
    this.#lease = null;
    if (!this.#given) {
      const [model, weights, device] = ["model", "weights", "device"].map((name) => this.getAttribute(name) || undefined);
      const own = { ...(model && { model }), ...(weights && { weights }), ...(device && { device }) } as CreateOptions;
      this.#lease = take(JSON.stringify(own), { ...TintypeImage.options, ...own }, listener);
    }
    // Not before: it may be the same one.
    before?.release();
    return this.#given ? Promise.resolve(this.#given) : this.#lease!.generator;
  }

  /** What the attributes say of the request; what is wrong with them is said by the generator. */
  #settings(): GenerateOptions {
    const numbers = NUMBERS.map((name) => [name, this[name]]).filter(([, value]) => value !== null);
    const { negativePrompt, preview } = this;
    return { ...Object.fromEntries(numbers), ...(negativePrompt && { negativePrompt }), preview };
  }

  #size(): [width: number, height: number] {
    const model = this.model || TintypeImage.options.model || "builtin";
    const known = model === "builtin" ? BUILTIN_SIDE : models.find(({ name, repo }) => model === name || model === repo)?.size;
    const side = (value: number | null) => (value && value > 0 && value <= MOST_SIDE ? value : (known ?? SIDE));
    return [side(this.width), side(this.height)];
  }

  /** Whether it is near enough; if not, it is watched. */
  #mayDraw(): boolean {
    if (this.#isNear || this.loading !== "lazy" || !globalThis.IntersectionObserver) return true;
    const seen = (entries: IntersectionObserverEntry[]) => {
      if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
      this.#isNear = true;
      this.#observer?.disconnect();
      this.#schedule();
    };
    this.#observer ??= new IntersectionObserver(seen, { rootMargin: AHEAD });
    this.#observer.observe(this);
    return false;
  }

  #progress(progress: Progress, { aborted }: AbortSignal): void {
    const preview = "preview" in progress ? progress.preview : undefined;
    if (!aborted) {
      this.#frame.busy(LABELS[progress.stage] ?? "Drawing");
      this.#frame.progress(progress.fraction);
      if (preview) this.#frame.preview(preview, ...this.#size());
      this.#tell("progress", progress);
    }
    preview?.close();
  }

  #fail(error: TintypeError): void {
    this.#picture = null;
    this.#frame.clear(error.message);
    this.#become("error");
    this.#tell("error", error);
  }

  #become(state: TintypeImageState): void {
    try {
      this.#states?.delete(this.#state);
      this.#states?.add(state);
    } catch {
      // Early ones took only names with two hyphens; the attribute says it as well.
    }
    this.#state = state;
    this.setAttribute("state", state);
  }

  #tell<Type extends keyof TintypeImageEventMap>(type: Type, detail: TintypeImageEventMap[Type]["detail"]): void {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Properties that are attributes. An empty attribute is as good as none, but for `preview`, which is there or not. */
const ACCESSORS: Record<string, { name: string; read: (element: Element) => unknown }> = Object.fromEntries([
  ...[...TEXTS, "alt", "loading"].map((name) => [camel(name), { name, read: (element: Element) => element.getAttribute(name) ?? "" }]),
  ...NUMBERS.map((name) => [name, { name, read: (element: Element) => (element.getAttribute(name)?.trim() ? Number(element.getAttribute(name)) : null) }]),
  ["preview", { name: "preview", read: (element: Element) => element.hasAttribute("preview") }],
]);

for (const [property, { name, read }] of Object.entries(ACCESSORS)) {
  Object.defineProperty(TintypeImage.prototype, property, {
    configurable: true,
    enumerable: true,
    get(this: Element) {
      return read(this);
    },
    set(this: Element, value: unknown) {
      if (value === null || value === undefined || value === false) this.removeAttribute(name);
      else this.setAttribute(name, value === true ? "" : String(value));
    },
  });
}

if (globalThis.customElements && !customElements.get("tintype-image")) customElements.define("tintype-image", TintypeImage);

function camel(name: string): string {
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

export interface TintypeImage {
  addEventListener<Type extends keyof Events>(type: Type, listener: (this: TintypeImage, event: Events[Type]) => unknown, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<Type extends keyof Events>(type: Type, listener: (this: TintypeImage, event: Events[Type]) => unknown, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | EventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "tintype-image": TintypeImage;
  }
}
