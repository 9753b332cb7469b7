// Tintype: pictures from words, on the visitor's own GPU or CPU. The module and the device live in a worker
// (worker.js); this side forwards requests, one after another. Importing this file does nothing.

import { gather, isFiles } from "./files.js";
import { repositoryOf } from "./models.js";
import { offer } from "./net.js";
import { openStore } from "./store.js";

export { models } from "./models.js";

const BUILTIN = "../models/builtin/";
const HUB = "https://huggingface.co/";
/** A repository of the hub, and perhaps a revision of it. Addresses that begin with a dot or a slash are none. */
const REPO = /^(\w[\w.-]*\/\w[\w.-]*)(?:@(.+))?$/;
/** Networks beside the model's own, by the option that names their folders. */
const ADDITIONS = ["controls", "adapters", "ipAdapter", "safetyChecker"];
/** Of these there is one. */
const SINGLE = ["ipAdapter", "safetyChecker"];

/** Parts of a model that may come from another folder. */
const COMPONENTS = ["unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"];

/** Files that change the model, by the option that names them. */
const FILES = ["loras", "embeddings", "singleFile"];

/** What went wrong: `code` is stable and listed in index.d.ts, `message` is a sentence for people. */
export class TintypeError extends Error {
  name = "TintypeError";
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** A loaded model on a device. Made by `ImageGenerator.create`. */
export class ImageGenerator {
  #remote;
  /** The caller's fetch, as it is lent to the worker. */
  #lent;
  /** { device, adapter } */
  #where;
  /** Settles when the worker is done with the last call, whatever came of it. */
  #idle = Promise.resolve();

  static async create({ model = "builtin", signal, onProgress, fetch, ...rest } = {}) {
    signal?.throwIfAborted();
    if (typeof Worker === "undefined") {
      throw new TintypeError("no-adapter", "pictures need a browser, and this is not one");
    }
    if (fetch !== undefined && typeof fetch !== "function") {
      throw new TintypeError("invalid-option", `fetch: wanted a function, found ${String(fetch)}`);
    }
    model = repositoryOf(model);
    // A drop can be read only now, before anything is waited for.
    const chosen = isFiles(model) ? gather(model) : null;
    const base = chosen ? null : place(model, rest);
    const generator = new ImageGenerator();
    generator.#remote = new Remote();
    try {
      const options = { ...rest, base: base?.href, repository: repository(model) && at(model, rest), files: await chosen };
      options.headers = headers(rest.headers);
      options.cache = flag("cache", rest.cache, repository(model) !== null) && isPlain(rest) && !chosen;
      options.offline = flag("offline", rest.offline, false);
      options.components = components(rest.components);
      for (const key of ADDITIONS) options[key] = addresses(key, rest[key]);
      for (const key of FILES) options[key] = files(key, rest[key]);
      if (fetch) generator.#lent = offer(fetch);
      options.fetch = generator.#lent?.port;
      generator.#where = await unlessAborted(generator.#remote.call("create", options, onProgress), signal);
    } catch (error) {
      // Ends the download and frees the device at once, wherever the loading was.
      generator.dispose();
      throw error;
    }
    return generator;
  }

  static async estimate({ model = "builtin", ...rest } = {}) {
    model = repositoryOf(model);
    const chosen = isFiles(model) ? gather(model) : null;
    const base = chosen ? undefined : place(model, rest).href;
    const remote = new Remote();
    try {
      return await remote.call("estimate", { ...rest, base, repository: repository(model) && at(model, rest), files: await chosen });
    } finally {
      remote.end(new TintypeError("disposed", "the estimate is done"));
    }
  }

  /** How the networks' weights are stored. */
  get weights() {
    return this.#where.weights;
  }

  /** What draws: "gpu" or "cpu". */
  get device() {
    return this.#where.device;
  }

  /** Its name, for people. */
  get adapter() {
    return this.#where.adapter;
  }

  /** Sentences about the loading, such as why a model is not kept on this device. */
  get warnings() {
    return this.#where.warnings;
  }

  async generate(prompt, { signal, onProgress, seed = randomSeed(), ...options } = {}) {
    signal?.throwIfAborted();
    const before = this.#idle;
    const taken = withPixels(options);
    // What is wrong with them is said when the request's turn has come.
    taken.catch(() => {});
    const work = before.then(async () => {
      const request = { ...(await taken), prompt, seed };
      // Aborted while it waited: it leaves the queue without a trace.
      signal?.throwIfAborted();
      return this.#remote.call("generate", request, onProgress, signal);
    });
    this.#idle = work.then(() => {}, () => {});
    const { width, height, rgba, ...rest } = await unlessAborted(work, signal);
    const { device, adapter } = this.#where;
    return picture(new ImageData(rgba, width, height), { ...rest, device, adapter });
  }

  /** Frees the device and everything else at once. What is still running rejects with code `disposed`. */
  dispose() {
    this.#remote.end(new TintypeError("disposed", "the generator was disposed of"));
    this.#lent?.close();
  }
}

/** What is kept of models on this device. Everything resolves where the browser keeps nothing, too. */
export const cache = {
  /** The models, the one that was used last first. */
  list: async () => (await openStore())?.list() ?? [],
  /** Bytes of all of them. */
  size: async () => (await cache.list()).reduce((sum, { bytes }) => sum + bytes, 0),
  /** Removes one by its `key`; false if it is in use. */
  delete: async (key) => (await openStore())?.delete(key) ?? false,
  /** Removes all that are not in use. */
  clear: async () => (await openStore())?.clear(),
  /** Asks the browser not to remove them when the disk is full; whether it agreed. */
  persist: async () => (await navigator.storage?.persist?.()) ?? false,
};

/** The worker as seen from here: calls with an answer, progress on the way, an end. */
class Remote {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #calls = new Map();
  #next = 1;
  #ended = null;

  constructor() {
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    // Before the first answer this means that worker.js or what it imports could not be loaded.
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.end(new TintypeError("internal", `the worker failed: ${event.message ?? "it could not be loaded"}`));
    };
  }

  call(op, body, onProgress, signal) {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const call = { resolve, reject, onProgress, done: () => signal?.removeEventListener("abort", cancel) };
      const cancel = () => {
        // The caller's promise has ended; the worker's work ends a little later.
        call.onProgress = undefined;
        this.#worker.postMessage({ id, op: "cancel" });
      };
      this.#calls.set(id, call);
      signal?.addEventListener("abort", cancel);
      try {
        this.#worker.postMessage({ id, op, body }, body.fetch ? [body.fetch] : []);
      } catch (error) {
        // A function or a symbol among the options cannot be sent.
        this.#settle(id, { error: { code: "invalid-option", message: error.message } });
      }
    });
  }

  #receive({ id, progress, port, fatal, ...answer }) {
    if (port) return (port.onmessage = ({ data }) => this.#receive(data));
    if (fatal) return this.end(new TintypeError("internal", fatal));
    if (progress) return report(this.#calls.get(id)?.onProgress, progress);
    this.#settle(id, answer);
  }

  #settle(id, { result, error }) {
    const call = this.#calls.get(id);
    if (!call) return;
    this.#calls.delete(id);
    call.done();
    if (error) call.reject(new TintypeError(error.code, error.message));
    else call.resolve(result);
  }

  end(error) {
    this.#ended ??= error;
    this.#worker.terminate();
    for (const id of [...this.#calls.keys()]) this.#settle(id, { error: this.#ended });
  }
}

/** The promise, or the signal's reason as soon as it is aborted. */
function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort);
    promise.then(resolve, (error) => reject(signal.aborted ? signal.reason : error));
    promise.then(() => {}, () => {}).then(() => signal.removeEventListener("abort", abort));
    if (signal.aborted) abort();
  });
}

/** A caller's mistake in a progress callback is reported as one, and does not break the work. */
function report(onProgress, progress) {
  try {
    onProgress?.(progress);
  } catch (error) {
    reportError(error);
  }
}

async function picture(pixels, facts) {
  // As they are: no conversion between colour spaces, and the pictures are opaque.
  const image = await createImageBitmap(pixels, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  return {
    image,
    ...facts,
    toImageData: () => new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height),
    toBlob(type = "image/png", quality) {
      const canvas = new OffscreenCanvas(pixels.width, pixels.height);
      canvas.getContext("2d").putImageData(pixels, 0, 0);
      return canvas.convertToBlob({ type, quality });
    },
  };
}

/** Whether a model is loaded as it is: what is merged or put together is not kept. */
const isPlain = ({ loras, singleFile, components }) =>
  [loras, singleFile].every((files) => [files ?? []].flat().length === 0) && Object.keys(components ?? {}).length === 0;

function flag(key, value, otherwise) {
  if (value === undefined) return otherwise;
  if (typeof value !== "boolean") throw new TintypeError("invalid-option", `${key}: wanted true or false, found ${String(value)}`);
  return value;
}

const repository = (model) => (typeof model === "string" ? model.match(REPO) : null);

/** The URL of a model's folder. */
function place(model, options) {
  if (model === "builtin") return new URL(BUILTIN, import.meta.url);
  if (!repository(model)) return folder("model", model, 'a name of the list `models`, "organisation/name", the URL of a folder, or files');
  const { hub, repo, revision } = at(model, options);
  return new URL(`${repo}/resolve/${encodeURIComponent(revision)}/`, hub);
}

/** Where a repository is: the address of the hub, the name and the revision. */
function at(model, { hub = HUB, revision }) {
  const [, repo, pinned] = repository(model);
  return { hub: folder("hub", hub, "a URL").href, repo, revision: String(revision ?? pinned ?? "main") };
}

/** Headers as an object, which can be sent to the worker. */
function headers(value = {}) {
  try {
    return Object.fromEntries(new Headers(value));
  } catch (error) {
    throw new TintypeError("invalid-option", `headers: wanted names and values, found ${describe(value)} (${error.message})`);
  }
}

/** The URL of a folder, which ends with a slash. */
function folder(key, value, wanted = "the URL of a folder") {
  const url = address(key, value, wanted);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

/** The URL that an option names; relative ones belong to the page. */
function address(key, value, wanted) {
  try {
    // Anything becomes a text, which is a relative URL.
    if (!(value instanceof URL || typeof value === "string")) throw new TypeError();
    return new URL(value, globalThis.location?.href);
  } catch {
    throw new TintypeError("invalid-option", `${key}: wanted ${wanted}, found ${String(value)}`);
  }
}

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The folders of an option that takes one address or a list of them. */
function addresses(key, value) {
  const all = [value ?? []].flat().map((address) => folder(key, address).href);
  if (SINGLE.includes(key) && all.length > 1) throw new TintypeError("invalid-option", `${key}: wanted one, found ${all.length}`);
  return all;
}

/** The folders of components, by name. */
function components(value = {}) {
  const unknown = Object.keys(value).find((name) => !COMPONENTS.includes(name));
  if (unknown) throw new TintypeError("invalid-option", `components: wanted ${COMPONENTS.join(", ")}, found ${unknown}`);
  return Object.fromEntries(Object.entries(value).map(([name, address]) => [name, folder(`components.${name}`, address).href]));
}

/** The files of an option that takes an address, an object with a `source`, or a list of them. */
const files = (key, value) =>
  [value ?? []].flat().map((one) => {
    const { source, ...rest } = typeof one === "string" || one instanceof URL ? { source: one } : Object(one);
    const url = address(key, source, "the URL of a file");
    const base = new URL(".", url).href;
    return { ...rest, base, path: url.href.slice(base.length) };
  });

/** The request with the pixels of its pictures as they are now: they may change while it waits. */
async function withPixels({ image, mask, control, adapter, imagePrompt, ...rest }) {
  const one = (key, value) => value === undefined ? undefined : pixels(key, value);
  const scaled = async (key, value) => ({ ...value, image: await pixels(`${key}.image`, value?.image) });
  const all = (key, value) => value === undefined ? undefined : Promise.all([value].flat().map((each) => scaled(key, each)));
  const [a, b, c, d, e] = await Promise.all([
    one("image", image),
    one("mask", mask),
    all("control", control),
    all("adapter", adapter),
    imagePrompt === undefined ? undefined : scaled("imagePrompt", imagePrompt),
  ]);
  return { ...rest, image: a, mask: b, control: c, adapter: d, imagePrompt: e };
}

/** The pixels of anything that can be drawn, on black; ImageData is taken as it is. */
async function pixels(key, source) {
  if (source instanceof ImageData && source.data instanceof Uint8ClampedArray) {
    return { width: source.width, height: source.height, data: source.data.slice() };
  }
  try {
    const bitmap = await createImageBitmap(source);
    // Read once and never shown: no work for a GPU.
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { alpha: false, willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const { width, height, data } = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
    return { width, height, data };
  } catch (error) {
    throw new TintypeError("invalid-option", `${key}: wanted a picture, found ${describe(source)} (${error.message})`);
  }
}

/** What kind of thing a value is, for people. */
const describe = (value) => (typeof value === "object" && value !== null ? value.constructor?.name ?? "an object" : String(value));
