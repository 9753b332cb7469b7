// @ts-nocheck
// Requests of the worker: by the browser's fetch or by the caller's, with the caller's headers where they belong.

/** A failure with a code that reaches the caller as it is. */
export const failure = (code, message) => Object.assign(new Error(message), { code });

export class Net {
  #fetch;
  /** The caller's headers, and the only origin that may see them. */
  #headers;
  #origin;
  /** Ends all requests. */
  #signal;

  constructor({ fetch = null, headers = {}, origin = null, signal = undefined }: { fetch?: any; headers?: Record<string, string>; origin?: string | null; signal?: AbortSignal | undefined } = {}) {
    this.#fetch = fetch;
    this.#headers = Object.entries(headers);
    [this.#origin, this.#signal] = [origin, signal];
  }

  /** The answer to a request for a URL, or for a range of it ("bytes=0-99"), whatever its status. */
  get(url, { range, cache = "default", signal = this.#signal } = {}) {
    this.#signal?.throwIfAborted();
    const own = url.origin === this.#origin ? this.#headers : [];
    const request = (headers, redirect) => {
      const all = Object.fromEntries(range ? [...headers, ["Range", range]] : headers);
      return (this.#fetch ?? fetch)(url.href, { headers: all, cache, signal, redirect });
    };
    // A redirect takes all headers along, except this one, which browsers leave out on the way to another origin.
    const safe = own.filter(([name]) => name.toLowerCase() === "authorization");
    return safe.length === own.length ? request(own, "follow") : this.#carefully(request, own, safe);
  }

  /** Where a redirect leads cannot be seen from here, so that it gets none of the headers that would leak. */
  async #carefully(request, own, safe) {
    const answer = await request(own, "manual");
    const redirects = answer.type === "opaqueredirect" || (answer.status >= 300 && answer.status < 400);
    return redirects ? request(safe, "follow") : answer;
  }
}

// The caller's fetch runs in the page. Messages to the page: { id, url, init }, { id, pull } for the next chunk and
// { id, cancel }; to the worker: { id, head }, { id, chunk } (null at the end) and { id, error }.

/** In the page: a port through which a worker calls `fetch`. Closing it ends what goes on. */
export function offer(fetch) {
  const { port1, port2 } = new MessageChannel();
  const running = new Map();
  const serve = {
    async start(id, { url, init }) {
      const abort = new AbortController();
      running.set(id, { abort });
      const answer = await fetch(url, { ...init, signal: abort.signal });
      abort.signal.throwIfAborted();
      const { status, redirected, type } = answer;
      running.set(id, { abort, reader: answer.body?.getReader() });
      return { head: { status, redirected, type, url: answer.url, headers: [...answer.headers] } };
    },
    async pull(id) {
      const { done, value } = (await running.get(id).reader?.read()) ?? { done: true };
      if (done) running.delete(id);
      return { chunk: done ? null : value };
    },
  };
  port1.onmessage = async ({ data: { id, pull, cancel, ...call } }) => {
    if (cancel) {
      running.get(id)?.abort.abort();
      return running.delete(id);
    }
    try {
      port1.postMessage({ id, ...(await (pull ? serve.pull(id) : serve.start(id, call))) });
    } catch (error) {
      port1.postMessage({ id, error: error?.message ?? String(error) });
    }
  };
  const close = () => {
    port1.close();
    for (const { abort } of running.values()) abort.abort();
  };
  return { port: port2, close };
}

/** In the worker: a fetch that runs in the page. Chunks come one by one, as they are asked for. */
export function borrow(port) {
  const waiting = new Map();
  let next = 1;
  port.onmessage = ({ data: { id, error, ...answer } }) => {
    const { resolve, reject } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error === undefined) resolve?.(answer);
    else reject?.(new Error(error));
  };
  const ask = (message) =>
    new Promise((resolve, reject) => {
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
    const { head } = await ask({ id, url, init });
    const body = new ReadableStream({
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
