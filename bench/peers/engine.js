// One engine in a worker of its own. Messages in: { op: "load", engine, ... } once, then { op: "run", inputs };
// out: { result } or { error }. A run is timed here: from inputs to the output in the CPU's memory.

import { gather, isThread, knownAdapter, load } from "/runtime.js";
import { PARTS, draw } from "./picture.js";

/** Each resolves to { run, threads, device }; `run` goes from inputs to the output's values. */
const ENGINES = {
  "tintype-webgpu": (task) => tintype("gpu", task),
  "ort-webgpu": (task) => ort("/ort/ort.webgpu.min.mjs", "webgpu", task),
  "tintype-cpu": (task) => tintype("cpu", task),
  "ort-wasm": (task) => ort("/ort/ort.wasm.min.mjs", "wasm", task),
};

let run = null;
/** The memory of Tintype's module where it has threads. */
let shared = null;
const bytes = () => shared?.buffer.byteLength ?? null;

const OPS = {
  async load({ engine, ...task }) {
    const begin = performance.now();
    const { run: loaded, threads, device } = await ENGINES[engine](task);
    run = loaded;
    return { seconds: since(begin), threads, device, bytes: bytes() };
  },
  async run({ inputs }) {
    const begin = performance.now();
    const output = await run(inputs);
    return { seconds: since(begin), output, bytes: bytes() };
  },
};

async function serve({ data: { op, ...body } }) {
  try {
    postMessage({ result: await OPS[op](body) });
  } catch (error) {
    postMessage({ error: error?.message ?? String(error) });
  }
}

const broken = (message) => postMessage({ error: message });

// A thread of Tintype's is a worker of this file too.
if (!isThread) onmessage = serve;

const since = (begin) => (performance.now() - begin) / 1e3;

/** A network of `folder`, or the picture of the networks in a folder of its own. */
async function tintype(device, { folder, component, components, weights = "f32", threads, levels, ...half }) {
  const [{ Network }, { Source }] = await Promise.all([load(broken), import("/source.js")]);
  const known = await knownAdapter();
  const start = (module, memory) => gather(module, (shared = memory), threads || undefined);
  const options = { weights, activations: "f32", device, ...known, ...half, gather: start };
  const whole = component === "picture";
  const source = () => new Source(whole ? `${folder}picture/` : folder, { components });
  const networks = [];
  // The first one starts the threads, which serve all.
  for (const part of whole ? PARTS : [component]) networks.push(await Network.create(source(), part, options));
  const [network] = networks;
  const name = network.device();
  const run = (inputs) => (whole ? draw(networks, inputs) : network.run(inputs));
  // As images have them, from 0 to 1.
  const shown = (values) => values.map((v) => Math.min(1, Math.max(0, v / 2 + 0.5)));
  return {
    run: async (inputs) => (levels ? shown(await run(inputs.map(numbers))) : run(inputs.map(numbers))),
    threads: Number(name.match(/(\d+) threads?/)?.[1] ?? 1),
    device: name,
  };
}

/** Token ids come as 64-bit integers, which no typed array of numbers takes. */
const numbers = (input) => (input.type === "int64" ? { ...input, values: Uint32Array.from(input.values, Number) } : input);

/** `data`: the address of a graph's weights where they lie beside it, under the same name. */
async function ort(module, provider, { onnx, data, threads }) {
  const { InferenceSession, Tensor, env } = await import(module);
  env.wasm.wasmPaths = "/ort/";
  env.wasm.numThreads = threads;
  env.webgpu.powerPreference = "high-performance";
  const externalData = data && [{ path: data.split("/").at(-1), data }];
  const session = await InferenceSession.create(onnx, { executionProviders: [provider], graphOptimizationLevel: "all", externalData });
  const [output] = session.outputNames;
  const run = async (inputs) => {
    const feeds = inputs.map(({ name, shape, type, values }) => [name, new Tensor(type, values, shape)]);
    const results = await session.run(Object.fromEntries(feeds));
    return results[output].getData();
  };
  return { run, threads: env.wasm.numThreads, device: provider };
}
