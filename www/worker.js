// The worker: wasm and the GPU live here, so that the page never waits. Messages in: { id, op, body };
// out: { id, result } or { id, error: { code, message } }, { id, progress } on the way, and { fatal }
// when the module itself broke.

import init, { Generator, onPanic } from "./pkg/tintype.js";
import { Source } from "./source.js";

const ready = init().then(() => onPanic(fatal));
let generator = null;
/** The call that the module is busy with. index.js sends one at a time. */
let current = null;

const OPS = {
  async create({ base, weights, activations }, progress) {
    await ready.catch((error) => {
      throw { code: "network", message: `the module could not be loaded: ${error.message}` };
    });
    const options = { weights, activations, adapter: await adapterName() };
    generator = await Generator.create(new Source(base), options, progress);
    return { adapter: generator.adapter() };
  },
  async generate(request, progress) {
    return generator.generate(request, progress);
  },
};

onmessage = async ({ data: { id, op, body } }) => {
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
};

function progressOf(stage, fraction, a, b) {
  if (stage === "download") return { stage, fraction, loaded: a };
  if (stage === "denoise") return { stage, fraction, step: a, steps: b };
  return { stage, fraction };
}

/** Browsers tell only in broad words what GPU there is, and whether it is software. */
async function adapterName() {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw { code: "no-adapter", message: noAdapter() };
  const { vendor, architecture, description } = adapter.info;
  return description || [vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter";
}

const noAdapter = () =>
  navigator.gpu
    ? "this browser has WebGPU, but found no GPU that it would use"
    : isSecureContext
      ? "this browser has no WebGPU"
      : "WebGPU is only there on https:// pages and on localhost";

/** After a panic or a trap the module's memory is not to be trusted: everything pending ends, for good. */
function fatal(message) {
  postMessage({ fatal: `an internal error, please report it: ${message}` });
}
onerror = (event) => fatal(event.message ?? event);
onunhandledrejection = (event) => fatal(event.reason?.message ?? String(event.reason));
