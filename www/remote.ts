// The service that does the work (service.ts) as seen from a page: calls with an answer, news on the way, an end.

import { TintypeError, describe, invalid, type ErrorCode } from "./errors.js";
import { addressOf } from "./options.js";
import type { CreateOptions } from "./types.js";

/** What a service says on the way: a stage, the share of the whole call, and two numbers that the stage has. */
export type News = { stage: string; fraction: number; a: number; b: number } | { preview: Pixels; step: number; steps: number };
export type Listener = (news: News) => void;

export interface Pixels {
  width: number;
  height: number;
  data: Uint8ClampedArray<ArrayBuffer>;
}

interface Call {
  resolve(result: unknown): void;
  reject(error: unknown): void;
  listen?: Listener | undefined;
  done(): void;
}

interface Message {
  id: number;
  news?: News;
  port?: MessagePort;
  fatal?: string;
  result?: unknown;
  error?: { code: ErrorCode; message: string };
}

/** What messages go through; a worker, or a channel to the page's own thread. */
type Channel = Pick<MessagePort, "postMessage" | "addEventListener">;

export class Remote {
  #channel: Channel;
  /** Ends the worker; nothing of one that is not ours, which is told instead. */
  #terminate: (() => void) | null;
  #calls = new Map<number, Call>();
  #next = 1;
  #ended: TintypeError | null = null;

  private constructor(channel: Channel, terminate: (() => void) | null) {
    [this.#channel, this.#terminate] = [channel, terminate];
    channel.addEventListener("message", ((event: MessageEvent<Message>) => this.#receive(event.data)) as unknown as EventListener);
    // Before the first answer this means that the script or what it imports could not be loaded.
    channel.addEventListener("error", (event: Event) => {
      event.preventDefault();
      this.end(new TintypeError("internal", `the worker failed: ${(event as ErrorEvent).message ?? "it could not be loaded"}`));
    });
  }

  /** Where `worker` says. */
  static async start(worker: CreateOptions["worker"] = true): Promise<Remote> {
    if (typeof window === "undefined" && typeof WorkerGlobalScope === "undefined") {
      throw new TintypeError("no-browser", "pictures need a browser, and this is not one");
    }
    if (worker === false) {
      const { serve } = await import("./service.js");
      const { port1, port2 } = new MessageChannel();
      serve(port2);
      port2.start();
      port1.start();
      return new Remote(port1, null);
    }
    if (worker instanceof Worker) return new Remote(worker, null);
    const own = worker === true ? spawn() : typeof worker === "function" ? worker() : spawnAt(addressOf("worker", worker));
    if (!(own instanceof Worker)) throw invalid(`worker: wanted a function that makes a worker, it made ${describe(own)}`);
    return new Remote(own, () => own.terminate());
  }

  call<Result>(op: string, body: object, { listen, signal, transfer = [] }: { listen?: Listener; signal?: AbortSignal | undefined; transfer?: Transferable[] } = {}): Promise<Result> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#next++;
    return new Promise<unknown>((resolve, reject) => {
      const call: Call = { resolve, reject, listen, done: () => signal?.removeEventListener("abort", cancel) };
      const cancel = () => {
        // The caller's promise has ended; the work ends a little later.
        call.listen = undefined;
        this.#channel.postMessage({ id, op: "cancel" });
      };
      this.#calls.set(id, call);
      signal?.addEventListener("abort", cancel);
      try {
        this.#channel.postMessage({ id, op, body }, transfer);
      } catch (error) {
        // A function or a symbol among the options cannot be sent.
        this.#settle(id, { error: { code: "invalid-option", message: (error as Error).message } });
      }
    }) as Promise<Result>;
  }

  /** Frees everything at once. What goes on rejects with `error`, and so does what comes later. */
  end(error: TintypeError): void {
    if (this.#ended) return;
    this.#ended = error;
    if (this.#terminate) this.#terminate();
    else this.#channel.postMessage({ op: "end" });
    for (const call of this.#calls.values()) {
      call.done();
      call.reject(error);
    }
    this.#calls.clear();
  }

  get ended(): boolean {
    return this.#ended !== null;
  }

  #receive({ id, news, port, fatal, ...answer }: Message): void {
    // A thread of the service says there that it broke.
    if (port) port.onmessage = ({ data }) => this.#receive(data);
    else if (fatal) this.end(new TintypeError("internal", fatal));
    else if (news) this.#calls.get(id)?.listen?.(news);
    else this.#settle(id, answer);
  }

  #settle(id: number, { result, error }: Pick<Message, "result" | "error">): void {
    const call = this.#calls.get(id);
    if (!call) return;
    this.#calls.delete(id);
    call.done();
    if (error) call.reject(new TintypeError(error.code, error.message));
    else call.resolve(result);
  }
}

/** The package's own worker. Bundlers look for these very words. */
function spawn(): Worker {
  const here = import.meta.url;
  // A page of another origin, as with a CDN, may not start that script, but one that imports it.
  if (/^https?:/.test(here) && new URL(here).origin !== globalThis.location.origin) return spawnAt(new URL(here.replace(/[^/]*$/, "worker.js")));
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
}

function spawnAt(url: URL): Worker {
  if (url.origin === globalThis.location.origin || url.protocol === "blob:") return new Worker(url, { type: "module" });
  const script = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  // Not revoked: the worker's threads run the same script.
  return new Worker(URL.createObjectURL(script), { type: "module" });
}

declare const WorkerGlobalScope: unknown;
