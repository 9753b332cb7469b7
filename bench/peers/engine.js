// One engine in a worker of its own. Messages in: { op: "load", ... } once, then { op: "run", inputs };
// out: { result } or { error }. A run is timed here: from inputs to outputs in the CPU's memory.

/** The engines by name. Each resolves `load` to a function from inputs to the output's values. */
const ENGINES = {
  "ort-webgpu": (task) => ort("/ort/ort.webgpu.min.mjs", { name: "webgpu" }, task),
  "ort-wasm": (task) => ort("/ort/ort.wasm.min.mjs", { name: "wasm" }, task),
  "tintype-webgpu": (task) => tintype("gpu", task),
  "tintype-cpu": (task) => tintype("cpu", task),
};

let run = null;

const OPS = {
  async load({ engine, ...task }) {
    const begin = performance.now();
    run = await ENGINES[engine](task);
    return { seconds: (performance.now() - begin) / 1e3 };
  },
  async run({ inputs }) {
    const begin = performance.now();
    const output = await run(inputs);
    return { seconds: (performance.now() - begin) / 1e3, output };
  },
};

onmessage = async ({ data: { op, ...body } }) => {
  try {
    postMessage({ result: await OPS[op](body) });
  } catch (error) {
    postMessage({ error: error?.message ?? String(error) });
  }
};

async function ort(module, provider, { onnx, threads }) {
  const { InferenceSession, Tensor, env } = await import(module);
  env.wasm.wasmPaths = "/ort/";
  env.wasm.numThreads = threads;
  env.webgpu.powerPreference = "high-performance";
  const session = await InferenceSession.create(onnx, { executionProviders: [provider], graphOptimizationLevel: "all" });
  const [output] = session.outputNames;
  return async (inputs) => {
    const feeds = inputs.map(({ name, shape, type, values }) => [name, new Tensor(type, values, shape)]);
    const results = await session.run(Object.fromEntries(feeds));
    return results[output].getData();
  };
}

async function tintype(device, { folder, component }) {
  const [{ default: init, Network }, { Source }] = await Promise.all([import("/pkg/tintype.js"), import("/source.js")]);
  await init();
  const options = { weights: "f32", activations: "f32", device };
  const network = await Network.create(new Source(folder), component, options);
  return (inputs) => network.run(inputs.map(numbers));
}

/** Token ids come as 64-bit integers, which no typed array of numbers takes. */
const numbers = (input) => (input.type === "int64" ? { ...input, values: Uint32Array.from(input.values, Number) } : input);
