// Requests of the worker: by the browser's fetch or by the caller's, with the caller's headers for the origins that they
// belong to.

import type { ErrorCode } from "./errors.js";

/** A failure with a code that reaches the caller as it is. */
export interface Failure extends Error {
  code: ErrorCode;
}

export const failure = (code: ErrorCode, message: string): Failure => Object.assign(new Error(message), { code });

/** What is looked at of an answer: that of the caller's fetch comes from the page without the rest. */
export type Answer = Pick<Response, "status" | "ok" | "redirected" | "type" | "url" | "headers" | "body">;
type Fetch = (url: string, init: RequestInit) => Promise<Answer>;
type HeaderList = [name: string, value: string][];

/** The caller's headers, by the origins that may see them. */
export type HeadersByOrigin = Record<string, Record<string, string>>;

interface NetOptions {
  fetch?: Fetch | null;
  headers?: HeadersByOrigin;
  signal?: AbortSignal;
}

interface GetOptions {
  range?: string | undefined;
  cache?: RequestCache;
  signal?: AbortSignal | undefined;
}

export class Net {
  #fetch: Fetch | null;
  #headers: Map<string, HeaderList>;
  /** Ends all requests, and what else comes of them. */
  readonly signal: AbortSignal | undefined;

  constructor({ fetch = null, headers = {}, signal = undefined }: NetOptions = {}) {
    [this.#fetch, this.signal] = [fetch, signal];
    this.#headers = new Map(Object.entries(headers).map(([origin, own]) => [origin, Object.entries(own)]));
  }

  /** The answer to a request for a URL, or for a range of it ("bytes=0-99"), whatever its status. */
  get(url: URL, { range, cache = "default", signal = this.signal }: GetOptions = {}): Promise<Answer> {
    this.signal?.throwIfAborted();
    const own = this.#headers.get(url.origin) ?? [];
    const request = (headers: HeaderList, redirect: RequestRedirect) => {
      const all = Object.fromEntries(range ? [...headers, ["Range", range]] : headers);
      return (this.#fetch ?? fetch)(url.href, { headers: all, cache, signal, redirect });
    };
    // A redirect takes all headers along, except this one, which browsers leave out on the way to another origin.
    const safe = own.filter(([name]) => name.toLowerCase() === "authorization");
    return safe.length === own.length ? request(own, "follow") : this.#carefully(request, own, safe);
  }

  /** Where a redirect leads cannot be seen from here, so that it gets none of the headers that would leak. */
  async #carefully(request: (headers: HeaderList, redirect: RequestRedirect) => Promise<Answer>, own: HeaderList, safe: HeaderList): Promise<Answer> {
    const answer = await request(own, "manual");
    const redirects = answer.type === "opaqueredirect" || (answer.status >= 300 && answer.status < 400);
    return redirects ? request(safe, "follow") : answer;
  }
}

// The caller's fetch runs in the page. Messages to the page: { id, url, init }, { id, pull } for the next chunk and
// { id, cancel }; to the worker: { id, head }, { id, chunk } (null at the end) and { id, error }.

interface Question {
  id: number;
  url?: string;
  init?: RequestInit;
  pull?: true;
  cancel?: true;
}

/** What an answer begins with, before its body. */
type Head = Pick<Response, "status" | "redirected" | "type" | "url"> & { headers: HeaderList };
interface Reply {
  head?: Head;
  chunk?: Uint8Array<ArrayBuffer> | null | undefined;
}

/** A request that goes on in the page; its reader is there once the answer has begun. */
interface Running {
  abort: AbortController;
  reader?: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;
}

/** In the page: a port through which a worker calls `fetch`. Closing it ends what goes on. */
export function exposeFetch(fetch: typeof globalThis.fetch): { port: MessagePort; close(): void } {
  const { port1, port2 } = new MessageChannel();
  const running = new Map<number, Running>();
  const serve = {
    async start(id: number, { url, init }: Pick<Question, "url" | "init">): Promise<Reply> {
      const abort = new AbortController();
      running.set(id, { abort });
      const answer = await fetch(url!, { ...init, signal: abort.signal });
      abort.signal.throwIfAborted();
      const { status, redirected, type } = answer;
      running.set(id, { abort, reader: answer.body?.getReader() });
      return { head: { status, redirected, type, url: answer.url, headers: [...answer.headers] } };
    },
    async pull(id: number): Promise<Reply> {
      const { done, value }: { done: boolean; value?: Uint8Array<ArrayBuffer> | undefined } = (await running.get(id)!.reader?.read()) ?? { done: true };
      if (done) running.delete(id);
      return { chunk: done ? null : value };
    },
  };
  port1.onmessage = async ({ data: { id, pull, cancel, ...call } }: MessageEvent<Question>) => {
    if (cancel) {
      running.get(id)?.abort.abort();
      return running.delete(id);
    }
    try {
      port1.postMessage({ id, ...(await (pull ? serve.pull(id) : serve.start(id, call))) });
    } catch (error) {
      port1.postMessage({ id, error: (error as Error | undefined)?.message ?? String(error) });
    }
  };
  const close = () => {
    port1.close();
    for (const { abort } of running.values()) abort.abort();
  };
  return { port: port2, close };
}

/** In the worker: a fetch that runs in the page. Chunks come one by one, as they are asked for. */
export function remoteFetch(port: MessagePort): Fetch {
  const waiting = new Map<number, { resolve(reply: Reply): void; reject(error: unknown): void }>();
  let next = 1;
  port.onmessage = ({ data: { id, error, ...answer } }: MessageEvent<Reply & { id: number; error?: string }>) => {
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error === undefined) resolve?.(answer);
    else reject?.(new Error(error));
  };
  const ask = (message: Question) =>
    new Promise<Reply>((resolve, reject) => {
      waiting.set(message.id, { resolve, reject });
      port.postMessage(message);
    });
  return async (url, { signal, ...init }) => {
    const id = next++;
    const cancel = () => {
      port.postMessage({ id, cancel: true });
      waiting.get(id)?.reject(signal?.reason ?? new Error("cancelled"));
      waiting.delete(id);
    };
    signal?.addEventListener("abort", cancel);
    const { head } = (await ask({ id, url, init })) as { head: Head };
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      async pull(stream) {
        const { chunk } = await ask({ id, pull: true });
        if (chunk) stream.enqueue(chunk);
        else stream.close();
      },
      cancel,
    }, { highWaterMark: 0 });
    return { ...head, ok: head.status >= 200 && head.status < 300, headers: new Headers(head.headers), body };
  };
}
