// The module in a worker: the build that the browser can run, memory that threads can share, the threads. A
// thread runs the same file as the worker that starts it, which imports this one.

import init, * as runtime from "./pkg/base/tintype.js";
import { tokenizers } from "./tokenizer.js";
import { trusted } from "./trusted.js";

/** The module's own types are in its folder; those who use it know what they pass. */
export type Module = typeof runtime;
export type { Generator } from "./pkg/base/tintype.js";

const THREAD = "tintype thread";
/** More would wait for one another longer than they compute. */
const MOST_THREADS = 16;
/** A thread that has not come up by then is done without; in milliseconds. */
const PATIENCE = 5000;

/** The smallest module with an instruction of relaxed SIMD. */
const PROBE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11];
const RELAXED = WebAssembly.validate(new Uint8Array(PROBE));

/** The page's own thread may not wait, so that it has no threads beside it. */
const inWorker = typeof document === "undefined";

/** A mistake of Tintype's own, for people. */
export const internal = (message: string) => `an internal error, please report it: ${message}`;

/** Whether this worker is a thread of another one: then it has nothing else to do. */
export const isThread = inWorker && self.name === THREAD;
if (isThread) onmessage = beThread;

/** Where the modules are, if not beside this file. */
interface Urls {
  base: string;
  relaxed?: string;
  tokenizer?: string;
}

/** The module, once for all who want it here, and who is told when it breaks. */
let loaded: Promise<Module> | null = null;
const listeners = new Set<(message: string) => void>();

/**
 * Loads the module, and resolves to what it exports. `fatal` gets the message when it breaks, after which it is not
 * to be used. Its memory can be shared between threads, and is there even where the page has none.
 */
export function load(fatal: (message: string) => void, urls?: Urls): Promise<Module> {
  listeners.add(fatal);
  return (loaded ??= start(urls).catch((error) => {
    loaded = null;
    throw error;
  }));
}

/** Whoever was told when the module breaks is gone. */
export function release(fatal: (message: string) => void): void {
  listeners.delete(fatal);
}

async function start(urls?: Urls): Promise<Module> {
  // Both builds have the same exports, and the same glue.
  const relaxed = RELAXED && (urls ? urls.relaxed : new URL("./pkg/relaxed/tintype_bg.wasm", import.meta.url));
  const memory = reserve();
  await init({ module_or_path: relaxed || urls?.base, memory }).catch((error) => {
    throw { code: "network", message: `the module could not be loaded: ${error.message}` };
  });
  runtime.onPanic(broke);
  runtime.onTokenizer(tokenizers(urls && urls.tokenizer));
  if (inWorker) {
    onerror = (event) => broke((event as unknown as ErrorEvent).message ?? String(event));
    onunhandledrejection = (event) => broke(event.reason?.message ?? String(event.reason));
  }
  return runtime;
}

function broke(message: string): void {
  for (const fatal of listeners) fatal(message);
}

/** Browsers tell only in broad words what GPU there is, and whether it is software. */
export async function knownAdapter(): Promise<{ adapter: string; software: boolean } | null> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return null;
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
  const name = description || [vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter";
  return { adapter: name, software: isFallbackAdapter ?? (adapter as { isFallbackAdapter?: boolean }).isFallbackAdapter ?? false };
}

/** Workers that wait to be threads of `module` on `memory`, one less than `all`: by default as many as there are cores beside this one. */
export async function gather(module: WebAssembly.Module, memory: WebAssembly.Memory, all = navigator.hardwareConcurrency): Promise<Worker[]> {
  // Only there may memory be sent to another worker.
  const count = crossOriginIsolated && inWorker ? Math.min(all, MOST_THREADS) - 1 : 0;
  const threads = await Promise.all(Array.from({ length: count }, () => thread(module, memory)));
  return threads.filter((worker) => worker !== null);
}

/** A worker of this same file, or null if it does not come up. */
function thread(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<Worker | null> {
  const worker = new Worker(trusted(location.href), { type: isModule() ? "module" : "classic", name: THREAD });
  // This worker waits for its threads without listening: that one broke is told to the page itself.
  const { port1, port2 } = new MessageChannel();
  (self as unknown as MessagePort).postMessage({ port: port1 }, [port1]);
  return new Promise((resolve) => {
    const done = (result: Worker | null) => {
      clearTimeout(timer);
      if (!result) worker.terminate();
      resolve(result);
    };
    const timer = setTimeout(done, PATIENCE, null);
    worker.onmessage = () => done(worker);
    worker.onerror = (event) => {
      event.preventDefault();
      done(null);
    };
    worker.postMessage({ module, memory, port: port2 }, [port2]);
  });
}

/** Whether this worker is a module, as it was written, or the classic script that webpack and Next.js make of it. */
function isModule(): boolean {
  try {
    // An empty script. Without an address Firefox refuses it to no worker.
    (self as unknown as { importScripts(url: string): void }).importScripts(trusted("data:text/javascript,"));
    return false;
  } catch (error) {
    // A policy may refuse it as well, in other words.
    return error instanceof TypeError;
  }
}

/** Addresses are reserved up to the maximum, in pages of 64 KiB; a small device refuses 4 GiB of them. */
function reserve(): WebAssembly.Memory {
  for (let maximum = 65536; ; maximum /= 2) {
    try {
      return new WebAssembly.Memory({ initial: 256, maximum, shared: true });
    } catch (error: any) {
      if (maximum <= 4096) throw { code: "out-of-memory", message: `there is no memory for the module: ${error.message}` };
    }
  }
}

/** What a thread does: get ready, say so, then run what the module tells it to, for good. */
function beThread({ data: { module, memory, port } }: MessageEvent) {
  const fatal = (message: string) => port.postMessage({ fatal: internal(message) });
  runtime.initSync({ module, memory });
  runtime.onPanic(fatal);
  onmessage = ({ data: job }) => {
    try {
      runtime.runThread(job);
    } catch (error: any) {
      fatal(error.message);
    }
  };
  postMessage("ready");
}
