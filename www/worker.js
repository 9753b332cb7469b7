// The worker: wasm and the device live here, so that the page never waits. Messages in: { id, op, body };
// out: { id, result } or { id, error: { code, message } }, { id, progress } on the way, { fatal } when the
// module itself broke, and { port }, on which a thread says that it broke.
//
// The same file is what a thread runs: a worker that this one starts, on the same memory.

import initBase, * as base from "./pkg/base/tintype.js";
import initRelaxed, * as relaxed from "./pkg/relaxed/tintype.js";
import { Source } from "./source.js";

const THREAD = "tintype thread";
/** More would wait for one another longer than they compute. */
const MOST_THREADS = 16;
/** A thread that has not come up by then is done without; in milliseconds. */
const PATIENCE = 5000;

/** The smallest module with an instruction of relaxed SIMD. */
const PROBE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11];
const [init, { Generator, initSync, onPanic, runThread }] = WebAssembly.validate(new Uint8Array(PROBE))
  ? [initRelaxed, relaxed]
  : [initBase, base];

if (navigator.gpu) {
  // The module's memory is shared, and not every browser has taken views of such memory here: it gets a copy.
  const { writeBuffer } = GPUQueue.prototype;
  GPUQueue.prototype.writeBuffer = function (buffer, offset, data, ...range) {
    return writeBuffer.call(this, buffer, offset, data.slice(), ...range);
  };
}

let ready = null;
let generator = null;
/** The call that the module is busy with. index.js sends one at a time. */
let current = null;

const OPS = {
  async create({ base, ...options }, progress) {
    ready ??= start();
    await ready;
    const known = await knownAdapter();
    try {
      generator = await Generator.create(new Source(base), { ...options, ...known, gather }, progress);
    } catch (error) {
      throw error.code === "no-adapter" && !known ? { code: error.code, message: noAdapter() } : error;
    }
    return { device: generator.device(), adapter: generator.adapter() };
  },
  async generate(request, progress) {
    return generator.generate(request, progress);
  },
};

async function serve({ data: { id, op, body } }) {
  if (op === "cancel") {
    if (current === id) generator.cancel();
    return;
  }
  current = id;
  try {
    const result = await OPS[op](body, (...news) => postMessage({ id, progress: progressOf(...news) }));
    postMessage({ id, result }, result.rgba ? [result.rgba.buffer] : []);
  } catch (error) {
    postMessage({ id, error: { code: error.code ?? "internal", message: error.message ?? String(error) } });
  }
  current = null;
}

function progressOf(stage, fraction, a, b) {
  if (stage === "download") return { stage, fraction, loaded: a };
  if (stage === "denoise") return { stage, fraction, step: a, steps: b };
  return { stage, fraction };
}

/** Loads the module. Its memory can be shared between threads, and is there even where the page has none. */
async function start() {
  const memory = reserve();
  await init({ memory }).catch((error) => {
    throw { code: "network", message: `the module could not be loaded: ${error.message}` };
  });
  onPanic(fatal);
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

/** Workers that wait to be threads of `module` on `memory`: as many as there are cores beside this one. */
async function gather(module, memory) {
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

/** What a thread does: get ready, say so, then run what the module tells it to, for good. */
function beThread({ data: { module, memory, port } }) {
  const fatal = (message) => port.postMessage({ fatal: internal(message) });
  initSync({ module, memory });
  onPanic(fatal);
  onmessage = ({ data: job }) => {
    try {
      runThread(job);
    } catch (error) {
      fatal(error.message);
    }
  };
  postMessage("ready");
}

/** Browsers tell only in broad words what GPU there is, and whether it is software. */
async function knownAdapter() {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return null;
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
  const name = description || [vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter";
  return { adapter: name, software: isFallbackAdapter ?? adapter.isFallbackAdapter };
}

const noAdapter = () =>
  navigator.gpu
    ? "this browser has WebGPU, but found no GPU that it would use"
    : isSecureContext
      ? "this browser has no WebGPU"
      : "WebGPU is only there on https:// pages and on localhost";

const internal = (message) => `an internal error, please report it: ${message}`;

/** After a panic or a trap the module's memory is not to be trusted: everything pending ends, for good. */
function fatal(message) {
  postMessage({ fatal: internal(message) });
}

if (self.name === THREAD) {
  onmessage = beThread;
} else {
  onmessage = serve;
  onerror = (event) => fatal(event.message ?? event);
  onunhandledrejection = (event) => fatal(event.reason?.message ?? String(event.reason));
}
