// The module in a worker: the build that the browser can run, memory that threads can share, the threads. A
// thread runs the same file as the worker that starts it, which imports this one.

import initBase, * as base from "./pkg/base/tintype.js";
import initRelaxed, * as relaxed from "./pkg/relaxed/tintype.js";

const THREAD = "tintype thread";
/** More would wait for one another longer than they compute. */
const MOST_THREADS = 16;
/** A thread that has not come up by then is done without; in milliseconds. */
const PATIENCE = 5000;

/** The smallest module with an instruction of relaxed SIMD. */
const PROBE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11];
const [init, runtime] = WebAssembly.validate(new Uint8Array(PROBE))
  ? [initRelaxed, relaxed]
  : [initBase, base];

/** A mistake of Tintype's own, for people. */
export const internal = (message) => `an internal error, please report it: ${message}`;

/** Whether this worker is a thread of another one: then it has nothing else to do. */
export const isThread = self.name === THREAD;
if (isThread) onmessage = beThread;

if (navigator.gpu) {
  // The module's memory is shared, and not every browser has taken views of such memory here: it gets a copy, always in
  // the same place, because garbage of such a size is not collected in time.
  const { writeBuffer } = GPUQueue.prototype;
  let copy = new Uint8Array();
  GPUQueue.prototype.writeBuffer = function (buffer, offset, data, ...range) {
    if (copy.length < data.length) copy = new Uint8Array(data.length);
    copy.set(data);
    return writeBuffer.call(this, buffer, offset, copy.subarray(0, data.length), ...range);
  };
}

/**
 * Loads the module, and resolves to what it exports. `fatal` gets the message when it breaks, after which it is not
 * to be used. Its memory can be shared between threads, and is there even where the page has none.
 */
export async function load(fatal) {
  const memory = reserve();
  await init({ memory }).catch((error) => {
    throw { code: "network", message: `the module could not be loaded: ${error.message}` };
  });
  runtime.onPanic(fatal);
  return runtime;
}

/** Browsers tell only in broad words what GPU there is, and whether it is software. */
export async function knownAdapter() {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return null;
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
  const name = description || [vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter";
  return { adapter: name, software: isFallbackAdapter ?? adapter.isFallbackAdapter };
}

/** Workers that wait to be threads of `module` on `memory`: as many as there are cores beside this one. */
export async function gather(module, memory) {
  // Only there may memory be sent to another worker.
  const count = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) - 1 : 0;
  const threads = await Promise.all(Array.from({ length: count }, () => thread(module, memory)));
  return threads.filter(Boolean);
}

/** A worker of this same file, or null if it does not come up. */
function thread(module, memory) {
  const worker = new Worker(location.href, { type: "module", name: THREAD });
  // This worker waits for its threads without listening: that one broke is told to the page itself.
  const { port1, port2 } = new MessageChannel();
  postMessage({ port: port1 }, [port1]);
  return new Promise((resolve) => {
    const done = (result) => {
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

/** Addresses are reserved up to the maximum, in pages of 64 KiB; a small device refuses 4 GiB of them. */
function reserve() {
  for (let maximum = 65536; ; maximum /= 2) {
    try {
      return new WebAssembly.Memory({ initial: 256, maximum, shared: true });
    } catch (error) {
      if (maximum <= 4096) throw { code: "out-of-memory", message: `there is no memory for the module: ${error.message}` };
    }
  }
}

/** What a thread does: get ready, say so, then run what the module tells it to, for good. */
function beThread({ data: { module, memory, port } }) {
  const fatal = (message) => port.postMessage({ fatal: internal(message) });
  runtime.initSync({ module, memory });
  runtime.onPanic(fatal);
  onmessage = ({ data: job }) => {
    try {
      runtime.runThread(job);
    } catch (error) {
      fatal(error.message);
    }
  };
  postMessage("ready");
}
