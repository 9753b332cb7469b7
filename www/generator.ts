// A loaded model: what callers hold. The work is done by a service (service.ts) on the other side of a Remote; when
// that is lost, because the GPU or the worker is, the next call makes another one from the same settings.

/// <reference lib="esnext.disposable" preserve="true" />

import { unlessAborted } from "./abort.js";
import { TintypeError, invalid, type Warning } from "./errors.js";
import { openCache } from "./kept.js";
import { Log } from "./log.js";
import { checkCreate, checkGenerate } from "./names.js";
import { exposeFetch } from "./net.js";
import { headersOf, nameOf, placeOf, settingsOf, type Settings } from "./options.js";
import { pictureOf, textsOf, withPixels } from "./picture.js";
import { Reporter, within } from "./progress.js";
import type { Calls, Created, Draw, Drawn, Op } from "./protocol.js";
import { Remote, attend, type Listener } from "./remote.js";
import { LOADING } from "./shares.js";
import type { Availability, Cache, CreateOptions, Estimate, EstimateOptions, GenerateOptions, Generated, Picture } from "./types.js";

/** After these nothing more comes of a service. */
const LOST = ["device-lost", "internal"];

/** A loaded model on a device. Made by `ImageGenerator.create`. */
export class ImageGenerator implements AsyncDisposable {
  /** What is kept of models on this device. */
  static readonly cache: Cache = openCache();

  readonly #options: CreateOptions;
  readonly #settings: Settings;
  readonly #log: Log;
  /** Null when the service was lost. */
  #remote: Remote | null = null;
  #facts!: Created;
  /** Closes the port on which the service uses the caller's fetch. */
  #closeFetch: () => void = () => {};
  /** Settles when the service is done with the last call, whatever came of it. */
  #idle: Promise<unknown> = Promise.resolve();
  /** The calls that go on or wait, to be ended by one that replaces them. */
  #calls = new Set<AbortController>();
  #disposed: TintypeError | null = null;

  private constructor(options: CreateOptions, settings: Settings) {
    [this.#options, this.#settings, this.#log] = [options, settings, new Log(options.logLevel)];
  }

  /** Loads a model. Rejects with a TintypeError, or with the signal's reason. */
  static async create(options: CreateOptions = {}): Promise<ImageGenerator> {
    checkCreate("create", options);
    attend(options.worker);
    const { signal, onProgress } = options;
    signal?.throwIfAborted();
    const generator = new ImageGenerator(options, await settingsOf(options));
    try {
      await unlessAborted(generator.#load(new Reporter(onProgress).listen), signal);
    } catch (error) {
      // Ends the download and frees the device at once, wherever the loading was.
      await generator.dispose();
      throw error;
    }
    return generator;
  }

  /** Whether a model can be had here, and whether it is kept. Nothing of it is fetched. */
  static async availability(options: CreateOptions = {}): Promise<Availability> {
    try {
      checkCreate("availability", options);
      attend(options.worker);
      const settings = await settingsOf(options);
      return await ask(options, "availability", settings);
    } catch (error) {
      if (!(error instanceof TintypeError)) throw error;
      return { state: "unavailable", code: error.code, reason: error.message };
    }
  }

  /** What a model needs, before any of its weights are fetched: of its files, the configurations are read. */
  static async estimate(options: EstimateOptions = {}): Promise<Estimate> {
    checkCreate("estimate", options);
    attend(options.worker);
    const { fetch, worker, ...rest } = options;
    const { hub, baseUrl, model, ...plain } = rest;
    const { wasmUrl, ...place } = await placeOf(options);
    const headers = headersOf(options);
    const exposed = fetch && exposeFetch(fetch);
    try {
      return await ask(options, "estimate", { ...plain, ...place, headers, wasmUrl, fetch: exposed?.port }, exposed ? [exposed.port] : []);
    } finally {
      exposed?.close();
    }
  }

  /** What `create` was asked for: a name, a repository or an address; "files" of files. */
  get model(): string {
    return nameOf(this.#options.model ?? "builtin");
  }

  /** How the networks' weights are stored. */
  get weights(): Created["weights"] {
    return this.#facts.weights;
  }

  /** What draws. */
  get device(): Created["device"] {
    return this.#facts.device;
  }

  /** Its name, for people: of the GPU, or such as "CPU, 4 threads, relaxed SIMD". */
  get adapter(): string {
    return this.#facts.adapter;
  }

  /** The table by which a GPU's kernels are chosen; null on a CPU. */
  get tuning(): string | null {
    return this.#facts.tuning;
  }

  /** What a caller should know of the loading, such as why the model is not kept on this device. */
  get warnings(): readonly Warning[] {
    return this.#facts.warnings;
  }

  /** Draws. Calls wait for one another, or as `busy` says. Rejects with a TintypeError, or with the signal's reason. */
  async generate(prompt: string, options: GenerateOptions = {}): Promise<Generated> {
    checkGenerate(options);
    const { signal, busy = "queue", count = 1 } = options;
    signal?.throwIfAborted();
    if (this.#disposed) throw this.#disposed;
    if (!["queue", "replace", "reject"].includes(busy)) throw invalid(`busy: wanted queue, replace or reject, found ${String(busy)}`);
    if (!Number.isSafeInteger(count) || count < 1) throw invalid(`count: wanted a whole number from 1 on, found ${String(count)}`);
    if (busy === "reject" && this.#calls.size > 0) throw new TintypeError("busy", "another call goes on");
    if (busy === "replace") for (const other of this.#calls) other.abort(new TintypeError("busy", "a later call has taken its place"));

    const call = new AbortController();
    const abort = () => call.abort(signal?.reason);
    signal?.addEventListener("abort", abort);
    this.#calls.add(call);
    const taken = withPixels(options);
    // What is wrong with them is said when the call's turn has come.
    taken.catch(() => {});
    const reporter = new Reporter(options.onProgress);
    const work = this.#idle.then(async () => {
      const { signal, onProgress, count, busy, metadata, preview, ...request } = await taken;
      // Ended while it waited: it leaves the queue without a trace.
      call.signal.throwIfAborted();
      return this.#draw({ ...request, prompt, preview: preview === true }, options, call.signal, reporter.listen);
    });
    this.#idle = work.catch(() => {});
    try {
      return await unlessAborted(work, call.signal);
    } finally {
      reporter.end();
      this.#calls.delete(call);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Frees the device and everything else at once. What still goes on rejects with code "disposed". */
  async dispose(): Promise<void> {
    this.#disposed ??= new TintypeError("disposed", "the generator was disposed of");
    this.#lose(this.#disposed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #load(listen: Listener): Promise<void> {
    const begin = performance.now();
    const { fetch, worker } = this.#options;
    const remote = await Remote.start(worker);
    if (this.#disposed) {
      remote.end(this.#disposed);
      throw this.#disposed;
    }
    const exposed = fetch && exposeFetch(fetch);
    [this.#remote, this.#closeFetch] = [remote, () => exposed?.close()];
    const body = { ...this.#settings, fetch: exposed?.port };
    this.#facts = await remote.call("create", body, { listen, transfer: exposed ? [exposed.port] : [] }).catch((error) => this.#failed(error));
    const { weights, device, adapter, warnings } = this.#facts;
    this.#log.info(`loaded ${nameOf(this.#options.model)} as ${weights} on ${device} (${adapter}) in ${Math.round(performance.now() - begin)} ms`);
    for (const { message } of warnings) this.#log.warn(message);
  }

  /** Draws the images of a request, after loading the model if it was lost. */
  async #draw(request: Draw, options: GenerateOptions, signal: AbortSignal, listen: Listener): Promise<Generated> {
    const lost = !this.#remote || this.#remote.ended;
    if (lost) {
      this.#log.info("loading the model again");
      await unlessAborted(this.#load(within(listen, 0, LOADING)), signal).catch((error) => {
        this.#lose(error);
        throw error;
      });
    }
    const { count = 1, seed = crypto.getRandomValues(new Uint32Array(1))[0]! } = options;
    const all: Drawn[] = [];
    const pictures: Picture[] = [];
    const share = (1 - (lost ? LOADING : 0)) / count;
    for (let k = 0; k < count; k++) {
      const begin = 1 - (count - k) * share;
      // What is wrong with a seed is said on the other side.
      const each = { ...request, seed: k === 0 ? seed : seed + k };
      const remote = this.#remote!;
      const drawn = await remote.call("generate", each, { listen: within(listen, begin, share), signal }).catch((error) => this.#failed(error));
      // One that was cancelled when it had ended.
      signal.throwIfAborted();
      all.push(drawn);
      pictures.push(await this.#picture(String(request.prompt), drawn, options));
    }
    const [{ steps }] = all as [Drawn];
    // Most images of a call have the same ones.
    const warnings = [...new Map(all.flatMap(({ warnings }) => warnings).map((warning) => [warning.message, warning])).values()];
    for (const { message } of warnings) this.#log.warn(message);
    const sum = (stage: keyof Generated["timings"]) => all.reduce((sum, { timings }) => sum + timings[stage], 0);
    const timings = { text: sum("text"), denoise: sum("denoise"), decode: sum("decode") };
    this.#log.debug(`drew ${count} in ${JSON.stringify(timings)} ms`);
    const { device, adapter, tuning } = this.#facts;
    return { ...pictures[0]!, pictures, steps, warnings, timings, device, adapter, tuning };
  }

  #picture(prompt: string, { width, height, rgba, seed, steps, unsafe }: Drawn, options: GenerateOptions): Promise<Picture> {
    const { revision } = this.#options;
    const { weights, device, adapter, tuning } = this.#facts;
    const { activations } = this.#settings;
    const about = { model: this.model, revision, weights, activations, device, adapter, tuning };
    return pictureOf({ width, height, data: rgba }, { seed, unsafe }, textsOf(prompt, seed, [width, height], { steps, ...options }, about));
  }

  /** Rethrows what a service has answered; after some answers it is lost. */
  #failed(error: unknown): never {
    if (error instanceof TintypeError && LOST.includes(error.code)) {
      this.#log.error(error.message);
      this.#lose(error);
    }
    throw error;
  }

  #lose(error: TintypeError): void {
    this.#remote?.end(error);
    this.#closeFetch();
    [this.#remote, this.#closeFetch] = [null, () => {}];
  }
}

/** One question to a service of its own. */
async function ask<Name extends Op>({ worker }: EstimateOptions, op: Name, body: Calls[Name]["body"], transfer: Transferable[] = []): Promise<Calls[Name]["answer"]> {
  const remote = await Remote.start(worker);
  try {
    return await remote.call(op, body, { transfer });
  } finally {
    remote.end(new TintypeError("disposed", "the question was answered"));
  }
}
