// How long a request is waited for, and how often one that failed is made again.

/** A request that brings nothing for so long is dropped; in milliseconds. */
const QUIET = 30_000;
/** Further tries, one after another, none of which brought a byte; the waits before them double. */
const TRIES = 4;
const WAIT = 250;
/** A server may ask for longer waits, up to this; in milliseconds. */
const LONGEST_WAIT = 60_000;

/** What may be known of a failed request. */
export interface Fault extends Error {
  /** Another try would be in vain. */
  final?: boolean;
  /** There is no such file. */
  absent?: boolean;
  /** How long to wait before another try, in milliseconds. */
  wait?: number | undefined;
}

/** One request, which is given up when nothing comes of it. It ends with the signal that it was made with, too. */
export class Patience {
  #abort = new AbortController();

  constructor(signal: AbortSignal | undefined) {
    const end = () => this.#abort.abort(signal!.reason);
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end, { signal: this.#abort.signal });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** What comes next of the request. Only while this is waited for does its time run. */
  of<Next>(next: Promise<Next>): Promise<Next> {
    return new Promise((resolve, reject) => {
      const drop = () => reject(new Error(`nothing came for ${QUIET / 1000} s`));
      const timer = setTimeout(drop, QUIET);
      next.then(resolve, reject).finally(() => clearTimeout(timer));
    });
  }

  /** Nothing more is wanted of it: to be called whatever came. */
  end(): void {
    this.#abort.abort();
  }
}

/** The tries of one thing. */
export class Tries {
  #most: number;
  #failed = 0;

  constructor(most = TRIES) {
    this.#most = most;
  }

  /** Whether to try again, once it is time to. They are counted from the last try that has `brought` something. */
  async again({ final, wait }: Partial<Fault>, brought: boolean, signal: AbortSignal | undefined): Promise<boolean> {
    this.#failed = brought ? 1 : this.#failed + 1;
    if (final || this.#failed > this.#most) return false;
    await pause(wait ?? WAIT * 2 ** (this.#failed - 1), signal);
    return !signal?.aborted;
  }
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<unknown> {
  return new Promise((resolve) => {
    setTimeout(resolve, Math.min(milliseconds, LONGEST_WAIT));
    signal?.addEventListener("abort", resolve, { once: true });
  });
}

/** Whether a server that answers so may answer otherwise a little later. */
export const passes = (status: number) => status === 408 || status === 429 || status >= 500;

/** How long a server wants to be left alone, in milliseconds: it says seconds, or a date. Others may hide it from scripts. */
export function waitOf(headers: Headers): number | undefined {
  const text = headers.get("retry-after");
  if (!text) return undefined;
  const wait = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}
