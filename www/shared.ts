// Generators that the elements of a page share: one for all that ask for the same, loaded for the first of them and
// disposed of a little after the last one has gone.

import { ImageGenerator } from "./generator.js";
import type { CreateOptions, Progress } from "./types.js";

/** Milliseconds that a generator outlives its last user: pages replace elements by others like them. */
const GRACE = 5000;

type Listener = (progress: Progress) => void;

interface Shared {
  generator: Promise<ImageGenerator>;
  /** Hear of the loading: one of each user. */
  listeners: Set<Listener>;
  /** The last news, for those who come later. */
  last: Progress | null;
  timer: ReturnType<typeof setTimeout> | undefined;
  end(): void;
}

/** By what they were asked for with. */
const all = new Map<string, Shared>();

export interface Lease {
  generator: Promise<ImageGenerator>;
  release(): void;
}

/** The generator of `key`; `options` are what it is made with where there is none yet. Each lease is released once. */
export function take(key: string, options: CreateOptions, listener: Listener): Lease {
  let shared = all.get(key);
  if (!shared) all.set(key, (shared = start(key, options)));
  const { generator, listeners, last } = shared;
  clearTimeout(shared.timer);
  // An object of its own: the same function may come twice.
  const own: Listener = (progress) => listener(progress);
  listeners.add(own);
  if (last) own(last);
  const release = () => {
    listeners.delete(own);
    if (listeners.size === 0) shared.timer = setTimeout(() => shared.end(), GRACE);
  };
  return { generator, release };
}

function start(key: string, options: CreateOptions): Shared {
  const abort = new AbortController();
  const listeners = new Set<Listener>();
  const onProgress = (progress: Progress) => {
    shared.last = progress;
    for (const listener of listeners) listener(progress);
  };
  const forget = () => all.get(key) === shared && all.delete(key);
  const generator = ImageGenerator.create({ ...options, signal: abort.signal, onProgress });
  const end = () => {
    forget();
    abort.abort();
    generator.then((generator) => generator.dispose(), () => {});
  };
  const shared: Shared = { generator, listeners, last: null, timer: undefined, end };
  // The next one who asks tries again. Those who wait hear of it themselves.
  generator.then(() => (shared.last = null), forget);
  return shared;
}
