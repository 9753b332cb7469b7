// What does the work for one generator: wasm and the device live here, in a worker or on the page's own thread. Messages
// in: { id, op, body }, and of op "end" nothing else; out: { id, result } or { id, error: { code, message } },
// { id, news } on the way, { fatal } when the module itself broke, and { port }, on which a thread says that it broke.

import { Bundle } from "./bundle.js";
import { loadKept, whetherKept, type Facts, type Loaded, type Stored } from "./cache.js";
import { rest } from "./download.js";
import { type Warning, shown } from "./errors.js";
import { Files } from "./files.js";
import type { ModelFolder, ModelKeeper } from "./folder.js";
import { Hub } from "./hub.js";
import { Net, remoteFetch, type Failure, type HeadersByOrigin } from "./net.js";
import type { FileBeside } from "./options.js";
import type { Asked, Calls, Created, Draw, Drawn, Load, News, Op, Told } from "./protocol.js";
import { gather, internal, knownAdapter, load, release, type Generator } from "./runtime.js";
import { FETCHING } from "./shares.js";
import { Source } from "./source.js";
import type { Availability, Estimate } from "./types.js";
import { vocabulary } from "./vocabulary.js";

/** No browser tells how much memory a GPU has: a quarter of what the device has, as far as that is told. */
const memoryGuess = ((navigator as { deviceMemory?: number }).deviceMemory ?? 4) * 2 ** 28;

type Tell = (stage: string, fraction: number, a: number, b: number) => void;
type Port = Pick<MessagePort, "postMessage" | "addEventListener">;
type Show = (news: News, transfer?: Transferable[]) => void;
type Body = Load & { weights?: string; device?: string };
/** What serves each call. */
type Work = { [Name in Op]: (body: Calls[Name]["body"], news: Show) => Promise<Calls[Name]["answer"]> };

/** Serves what comes through `port`, until its end, of which `ended` hears. */
export function serve(port: Port, ended: () => void = () => {}): void {
  const service = new Service(port, ended);
  port.addEventListener("message", ((event: MessageEvent) => service.receive(event.data)) as unknown as EventListener);
}

class Service {
  #port: Port;
  #ended: () => void;
  #generator: Generator | null = null;
  /** The call that the module is busy with. A page sends one at a time. */
  #current: number | null = null;
  /** Ends the requests of a load. */
  #abort = new AbortController();

  constructor(port: Port, ended: () => void) {
    [this.#port, this.#ended] = [port, ended];
  }

  async receive(asked: Asked): Promise<void> {
    if (asked.op === "end") return this.#end();
    if (asked.op === "cancel") {
      if (this.#current === asked.id) this.#generator?.cancel();
      return;
    }
    const { id } = asked;
    this.#current = id;
    const news: Show = (news, transfer = []) => this.#post({ id, news }, transfer);
    try {
      const result = await this.#answer(asked, news);
      this.#post({ id, result }, "rgba" in result ? [result.rgba.buffer] : []);
    } catch (error) {
      const { code, message } = error as Partial<Failure>;
      // A DOMException has a number.
      this.#post({ id, error: { code: typeof code === "string" ? code : "internal", message: message ?? String(error) } });
    }
    this.#current = null;
  }

  #answer<Name extends Op>({ op, body }: { op: Name; body: Calls[Name]["body"] }, news: Show): Promise<Calls[Name]["answer"]> {
    const work: Work = { create: this.#create, estimate: this.#estimate, generate: this.#generate, availability: this.#availability };
    return work[op].call(this, body, news);
  }

  #post(message: Told, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer);
  }

  /** After a panic or a trap the module's memory is not to be trusted: everything pending ends, for good. */
  fatal = (message: string): void => {
    this.#post({ fatal: internal(message) });
  };

  async #create(body: Body, news: Show): Promise<Created> {
    this.#free();
    const { signal } = (this.#abort = new AbortController());
    const net = this.#net(body.headers, body.fetch, signal);
    const tell = paced(news);
    const { weights: asked = "auto", offline } = body;
    const { Ladder } = await load(this.fatal, body.wasmUrl);
    const ladder = new Ladder({ weights: asked, offline });
    let tooLarge: unknown = null;
    const warnings: Warning[] = [];
    for (;;) {
      const [weights, lean] = [ladder.weights(), ladder.lean()];
      try {
        const loaded = await this.#loadAs({ ...body, weights, lean }, net, tell, signal, weights !== asked);
        warnings.push(...loaded.warnings, ...loaded.generator.warnings());
        this.#generator = loaded.generator;
        break;
      } catch (error) {
        const { code, message, stored = weights } = error as Stored;
        if (code === "offline" && tooLarge !== null) {
          // Of smaller weights there may be none on this device.
          if (signal.aborted || !ladder.absent()) throw tooLarge;
          continue;
        }
        const instead = code === "out-of-memory" && !signal.aborted ? ladder.full(stored) : undefined;
        if (instead === undefined) throw error;
        tooLarge = error;
        warnings.push({ code: "memory", message: `the device had too little memory for weights as ${stored}, ${instead}: ${message}` });
      } finally {
        rest();
      }
    }
    signal.throwIfAborted();
    const generator = this.#generator!;
    // The module's own words are of these.
    const [device, weights] = [generator.device() as Created["device"], generator.weights() as Created["weights"]];
    const told = warnings.map(({ code, message }) => ({ code, message: shown(message) }));
    return { device, adapter: generator.adapter(), tuning: generator.tuning() ?? null, weights, warnings: told };
  }

  async #loadAs({ base, single, repository, hashes, files, bundled, components, headers, fetch, cache, offline, wasmUrl, ...options }: Body, net: Net, tell: Tell, signal: AbortSignal, instead: boolean): Promise<Loaded> {
    const additions: Record<string, unknown> = {};
    for (const key of ["controls", "adapters", "ipAdapter", "safetyChecker", "loras", "embeddings", "singleFile"]) {
      // A single file has several networks in it.
      const source = ({ base, ...rest }: FileBeside) => ({ ...rest, source: new Source(base, { keep: key === "singleFile", net }) });
      additions[key] = (options[key] as FileBeside[]).map(source);
    }
    const { Generator } = await load(this.fatal, wasmUrl);
    const known = await knownAdapter();
    const cancelled = () => signal.aborted;
    const given = Object.keys(components);
    const tokenizers = ["tokenizer", "tokenizer_2"].every((name) => given.includes(name));
    const alone = async () => (single === undefined ? {} : { single, given, vocabulary: tokenizers ? undefined : await vocabulary(net) });
    // What is kept of a single file is a folder.
    const make = async (folder: ModelFolder, tell: Tell, keeper?: ModelKeeper, kept = false) =>
      Generator.create(folder, { ...options, ...additions, ...known, ...(kept ? {} : await alone()), memoryGuess, gather, keeper, cancelled }, tell);
    try {
      if (bundled) {
        const bundle = new Bundle(bundled, net);
        await bundle.fetch((loaded, total) => tell("download", (FETCHING * loaded) / total, loaded, total));
        const generator = await make(bundle, (stage, fraction, a, b) => tell(verified(stage), FETCHING + (1 - FETCHING) * fraction, a, b));
        return { generator, warnings: [] };
      }
      // Other scales of LoRAs are merged into the model's own weights; a single file has several networks in it.
      const keep = (options.loras as unknown[]).length > 0 || single !== undefined;
      const hub = repository ? new Hub(repository, net) : null;
      const addresses = files ? new Source("", { components, net }) : new Source(base!, { keep, components, net, hashes, hub, digest: cache });
      const source = files ? new Files(files, addresses) : addresses;
      const doubts = (): Warning[] => {
        const unused = Array.from(addresses.unused, (name): Warning => ({ code: "unused", message: `components.${name} is not used: the model has no such part` }));
        const verified = hashes ? "only what the list of models has hashes of" : "nothing";
        return hub?.silence ? [...unused, { code: "unverified", message: `${verified} could be verified of ${base}: ${hub.silence}` }] : unused;
      };
      if (!cache && !offline) return { generator: await make(source, tell), warnings: doubts() };
      const load = (folder: ModelFolder, keeper: ModelKeeper | undefined, kept: boolean) =>
        make(folder, kept ? (stage, ...rest) => tell(verified(stage), ...rest) : tell, keeper, kept);
      const digests = source instanceof Source ? source.digests : new Map();
      const loaded = await loadKept({ facts: factsOf(base! + (single ?? ""), options), source, hub, digests, offline, instead, load });
      // What is kept has its own.
      const told = loaded.warnings.some(({ code }) => code === "unverified");
      return { ...loaded, warnings: [...loaded.warnings, ...(told ? [] : doubts())] };
    } catch (error) {
      throw (error as Failure).code === "no-adapter" && !known ? noAdapter() : error;
    }
  }

  async #generate({ preview, ...request }: Draw, news: Show): Promise<Drawn> {
    const show = (data: Uint8ClampedArray<ArrayBuffer>, width: number, height: number, step: number, steps: number) =>
      news({ preview: { width, height, data }, step, steps }, [data.buffer]);
    const tell = paced(news);
    return this.#generator!.generate({ ...request, preview: preview ? show : undefined }, tell);
  }

  async #estimate({ base, single, repository, hashes, files, bundled, headers, fetch, wasmUrl, ...options }: Calls["estimate"]["body"]): Promise<Estimate> {
    const net = this.#net(headers, fetch, this.#abort.signal);
    const { estimate } = await load(this.fatal, wasmUrl);
    const source = bundled ? new Bundle(bundled, net) : files ? new Files(files) : new Source(base!, { net, hashes, hub: repository ? new Hub(repository, net) : null });
    if (source instanceof Bundle) await source.fetch(() => {});
    return estimate(source, { ...options, single, memoryGuess });
  }

  async #availability({ base, single, cache, offline, bundled, files, device = "auto", activations = "auto", ...options }: Body): Promise<Availability> {
    const known = await knownAdapter();
    const wantsGpu = device === "gpu" || (device === "auto" && ["f16", "pack16"].includes(activations as string));
    if (wantsGpu && !known) throw noAdapter();
    const where = wantsGpu || (device === "auto" && known && !known.software) ? ({ device: "gpu", adapter: known!.adapter } as const) : ({ device: "cpu", adapter: "CPU" } as const);
    if (bundled || files) return { state: bundled ? "downloadable" : "available", ...where };
    const kept = cache || offline ? await whetherKept(factsOf(base! + (single ?? ""), { device, activations, ...options })) : "no";
    if (kept !== "yes" && offline) throw { code: "offline", message: `${base} is not kept on this device with these options, and offline is set` };
    return { state: kept === "yes" ? "available" : kept === "written" ? "downloading" : "downloadable", ...where };
  }

  #net(headers: HeadersByOrigin, fetch: MessagePort | undefined, signal: AbortSignal): Net {
    return new Net({ headers, fetch: fetch ? remoteFetch(fetch) : null, signal });
  }

  #end(): void {
    this.#abort.abort({ code: "disposed", message: "the generator was disposed of" });
    this.#generator?.cancel();
    // What it is busy with needs it to its end.
    const free = () => {
      if (this.#current !== null) return void setTimeout(free, 10);
      this.#free();
      release(this.fatal);
      this.#ended();
    };
    free();
  }

  #free(): void {
    this.#generator?.free();
    this.#generator = null;
  }
}

/** Reports progress, within a stage and a step at most once a frame: a page can show no more. The last report always comes. */
function paced(news: Show): Tell {
  const frame = 16;
  let [last, at] = ["", 0];
  let late: ReturnType<typeof setTimeout> | undefined;
  return (stage, fraction, a, b) => {
    clearTimeout(late);
    const step = stage === "step";
    const place = step ? `step ${a}` : stage;
    const send = () => {
      [last, at] = [place, performance.now()];
      news({ stage, fraction, a, b });
    };
    // The last bytes of a download are reported, however soon they come.
    const ends = fraction === 1 || (!step && a > 0 && a === b);
    const wait = at + frame - performance.now();
    if (place !== last || ends || wait <= 0) send();
    else late = setTimeout(send, wait);
  };
}

/** What tells the kept model of a load from others. */
function factsOf(model: string, { weights = "auto", decoderWeights, imageInput, memory, width, height }: Record<string, unknown>): Facts {
  return { model, weights: weights as string, decoderWeights, imageInput, memory, width, height };
}

/** What is here already is not downloaded, but looked at. */
const verified = (stage: string) => (stage === "download" ? "verify" : stage);

function noAdapter(): { code: string; message: string } {
  if ((navigator as { gpu?: unknown }).gpu) return { code: "no-adapter", message: "this browser has WebGPU, but found no GPU that it would use" };
  const message = isSecureContext ? "this browser has no WebGPU" : "WebGPU is only there on https:// pages and on localhost";
  return { code: "no-webgpu", message };
}
