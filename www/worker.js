// The worker: wasm and the device live here, so that the page never waits. Messages in: { id, op, body };
// out: { id, result } or { id, error: { code, message } }, { id, progress } on the way, { fatal } when the
// module itself broke, and { port }, on which a thread says that it broke.

import { loadKept } from "./cache.js";
import { rest } from "./download.js";
import { Files } from "./files.js";
import { Hub } from "./hub.js";
import { Net, borrow } from "./net.js";
import { gather, internal, isThread, knownAdapter, load } from "./runtime.js";
import { Source } from "./source.js";

/** No browser tells how much memory a GPU has: a quarter of what the device has, as far as that is told. */
const memoryGuess = (navigator.deviceMemory ?? 4) * 2 ** 28;

let runtime = null;
let generator = null;
/** The call that the module is busy with. index.js sends one at a time. */
let current = null;

const OPS = {
  async create({ base, repository, files, components, headers, fetch, cache, offline, ...options }, progress) {
    const net = network({ base }, headers, fetch);
    for (const key of ["controls", "adapters", "ipAdapter", "safetyChecker"]) {
      options[key] = options[key].map((address) => new Source(address, { net }));
    }
    // Other scales of LoRAs are merged into the model's own weights, and several networks lie in a single file.
    const keep = options.loras.length > 0;
    for (const file of [...options.loras, ...options.embeddings]) file.source = new Source(file.base, { net });
    for (const file of options.singleFile) file.source = new Source(file.base, { keep: true, net });
    runtime ??= load(fatal);
    const { Generator } = await runtime;
    const known = await knownAdapter();
    let warnings = [];
    try {
      const source = folder({ base, repository, files }, { keep, components, net });
      const load = (folder, keeper) => Generator.create(folder, { ...options, ...known, memoryGuess, gather, keeper }, progress);
      if (cache || offline) {
        const { weights = "auto", decoderWeights, imageInput, memory, width, height } = options;
        const facts = { model: base, weights, decoderWeights, imageInput, memory, width, height };
        ({ generator, warnings } = await loadKept({ facts, source, offline, load }));
      } else generator = await load(source);
    } catch (error) {
      throw error.code === "no-adapter" && !known ? { code: error.code, message: noAdapter() } : error;
    } finally {
      rest();
    }
    return { device: generator.device(), adapter: generator.adapter(), weights: generator.weights(), warnings };
  },
  async estimate({ headers, fetch, ...options }) {
    const { estimate } = await (runtime ??= load(fatal));
    return estimate(folder(options, { net: network(options, headers, fetch) }), { ...options, memoryGuess });
  },
  async generate(request, progress) {
    return generator.generate(request, progress);
  },
};

const network = ({ base }, headers, fetch) =>
  new Net({ headers, origin: base && new URL(base).origin, fetch: fetch && borrow(fetch) });

/** The model's own folder. */
const folder = ({ base, repository, files }, { net, ...options }) =>
  files ? new Files(files) : new Source(base, { ...options, net, hub: repository && new Hub(repository, net) });

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

const noAdapter = () =>
  navigator.gpu
    ? "this browser has WebGPU, but found no GPU that it would use"
    : isSecureContext
      ? "this browser has no WebGPU"
      : "WebGPU is only there on https:// pages and on localhost";

/** After a panic or a trap the module's memory is not to be trusted: everything pending ends, for good. */
function fatal(message) {
  postMessage({ fatal: internal(message) });
}

if (!isThread) {
  onmessage = serve;
  onerror = (event) => fatal(event.message ?? event);
  onunhandledrejection = (event) => fatal(event.reason?.message ?? String(event.reason));
}
