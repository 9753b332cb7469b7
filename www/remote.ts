// The service that does the work (service.ts) as seen from a page: calls with an answer, news on the way, an end.

import { TintypeError, describe, invalid } from "./errors.js";
import { addressOf } from "./options.js";
import type { Asked, Calls, Fault, News, Op, Told } from "./protocol.js";
import { trusted, withTrust } from "./trusted.js";
import type { CreateOptions } from "./types.js";

export type Listener = (news: News) => void;

interface Call {
  resolve(result: unknown): void;
  reject(error: unknown): void;
  listen?: Listener | undefined;
  done(): void;
}

/** What messages go through; a worker, or a channel to the page's own thread. */
type Channel = Pick<MessagePort, "postMessage" | "addEventListener" | "removeEventListener">;

/** Of all calls of this page: a service may answer to a Remote that has ended. */
let next = 1;

/** By worker, what hears of it when the page ends it; null of one that it has ended. */
const watched = new WeakMap<Worker, Set<() => void> | null>();

export class Remote {
  #channel: Channel;
  /** Frees the service: ends a worker of our own, and tells one that is not. */
  #free: () => void;
  #calls = new Map<number, Call>();
  #ended: TintypeError | null = null;
  #heard: Record<string, EventListener> = {
    message: ((event: MessageEvent<Told>) => this.#receive(event.data)) as unknown as EventListener,
    // Before the first answer this means that the script or what it imports could not be loaded.
    error: (event: Event) => {
      event.preventDefault();
      this.end(new TintypeError("internal", `the worker failed: ${(event as ErrorEvent).message ?? "it could not be loaded"}`));
    },
  };
  #lost = () => this.end(new TintypeError("disposed", "the page has ended the worker"));

  private constructor(channel: Channel, free: () => void) {
    [this.#channel, this.#free] = [channel, free];
    if (channel instanceof Worker) watch(channel).add(this.#lost);
    for (const [type, listener] of Object.entries(this.#heard)) channel.addEventListener(type, listener);
  }

  /** Where `worker` says. */
  static async start(worker: CreateOptions["worker"] = true): Promise<Remote> {
    if (typeof window === "undefined" && typeof WorkerGlobalScope === "undefined") {
      throw new TintypeError("no-browser", "images need a browser, and this is not one");
    }
    if (worker === false) {
      const { serve } = await import("./service.js");
      const { port1, port2 } = new MessageChannel();
      serve(port2, () => port2.close());
      port2.start();
      port1.start();
      return new Remote(port1, () => {
        port1.postMessage({ op: "end" });
        // What was sent arrives all the same.
        port1.close();
      });
    }
    if (worker instanceof Worker) return new Remote(worker, () => worker.postMessage({ op: "end" }));
    const own = worker === true ? spawn() : typeof worker === "function" ? worker() : spawnAt(addressOf("worker", worker));
    if (!(own instanceof Worker)) throw invalid(`worker: wanted a function that makes a worker, it made ${describe(own)}`);
    return new Remote(own, () => own.terminate());
  }

  call<Name extends Op>(op: Name, body: Calls[Name]["body"], { listen, signal, transfer = [] }: { listen?: Listener; signal?: AbortSignal | undefined; transfer?: Transferable[] } = {}): Promise<Calls[Name]["answer"]> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = next++;
    return new Promise<unknown>((resolve, reject) => {
      const call: Call = { resolve, reject, listen, done: () => signal?.removeEventListener("abort", cancel) };
      const cancel = () => {
        // The caller's promise has ended; the work ends a little later.
        call.listen = undefined;
        this.#post({ id, op: "cancel" });
      };
      this.#calls.set(id, call);
      signal?.addEventListener("abort", cancel);
      try {
        this.#post({ id, op, body } as Asked, transfer);
      } catch (error) {
        // A function or a symbol among the options cannot be sent.
        this.#settle(id, { error: { code: "invalid-option", message: (error as Error).message } });
      }
    }) as Promise<Calls[Name]["answer"]>;
  }

  /** Frees everything at once. What goes on rejects with `error`, and so does what comes later. */
  end(error: TintypeError): void {
    if (this.#ended) return;
    this.#ended = error;
    for (const [type, listener] of Object.entries(this.#heard)) this.#channel.removeEventListener(type, listener);
    if (this.#channel instanceof Worker) watched.get(this.#channel)?.delete(this.#lost);
    this.#free();
    for (const call of this.#calls.values()) {
      call.done();
      call.reject(error);
    }
    this.#calls.clear();
  }

  get ended(): boolean {
    return this.#ended !== null;
  }

  #post(message: Asked, transfer: Transferable[] = []): void {
    this.#channel.postMessage(message, transfer);
  }

  #receive(message: Told): void {
    // A thread of the service says there that it broke.
    if ("port" in message) message.port.onmessage = ({ data }) => this.#receive(data);
    else if ("fatal" in message) this.end(new TintypeError("internal", message.fatal));
    else if ("news" in message) this.#calls.get(message.id)?.listen?.(message.news);
    else this.#settle(message.id, message);
  }

  #settle(id: number, { result, error }: { result?: unknown; error?: Fault }): void {
    const call = this.#calls.get(id);
    if (!call) return;
    this.#calls.delete(id);
    call.done();
    if (error) call.reject(new TintypeError(error.code, error.message));
    else call.resolve(result);
  }
}

/** From here on it is known whether the page ends the worker that it passes. */
export function attend(worker: CreateOptions["worker"]): void {
  if (globalThis.Worker && worker instanceof Worker) watch(worker);
}

/** Who hears of it when the page ends this worker, of which browsers tell nobody. */
function watch(worker: Worker): Set<() => void> {
  const known = watched.get(worker);
  if (known === null) throw new TintypeError("disposed", "worker: wanted one that runs, found one that the page has ended");
  if (known) return known;
  const all = new Set<() => void>();
  const { terminate } = worker;
  worker.terminate = () => {
    watched.set(worker, null);
    terminate.call(worker);
    for (const lost of all) lost();
  };
  watched.set(worker, all);
  return all;
}

/** The package's own worker. Bundlers look for these very words. */
function spawn(): Worker {
  const here = import.meta.url;
  // A page of another origin, as with a CDN, may not start that script, but one that imports it.
  if (/^https?:/.test(here) && new URL(here).origin !== globalThis.location.origin) return spawnAt(new URL(here.replace(/[^/]*$/, "worker.js")));
  return withTrust(() => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
}

function spawnAt(url: URL): Worker {
  if (url.origin === globalThis.location.origin || url.protocol === "blob:") return new Worker(trusted(url), { type: "module" });
  const script = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  // Not revoked: the worker's threads run the same script.
  return new Worker(trusted(URL.createObjectURL(script)), { type: "module" });
}

declare const WorkerGlobalScope: unknown;
