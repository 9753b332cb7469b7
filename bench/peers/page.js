// The page's side: starts engines in workers, hands them their inputs, and compares what they return. The
// functions that are exported are what run.mjs and tests call.

/** The inputs of the case, and what PyTorch makes of them. */
let reference = null;
const engines = new Map();

/** Takes up a case: a safetensors file with tensors "in.NAME" and an output. */
export async function open(file) {
  const all = await tensors(file);
  const inputs = all.filter(({ name }) => name.startsWith("in."));
  const output = all.find(({ name }) => OUTPUTS.includes(name));
  reference = { inputs: inputs.map((input) => ({ ...input, name: input.name.slice(3) })), output: output.values };
}

/**
 * Resolves to { seconds, threads, device }. `task`: onnx, data and threads, or folder, weights and component, whose own folder
 * may be among components.
 */
export async function load(name, task) {
  const engine = new Engine();
  engines.set(name, engine);
  return engine.call({ op: "load", engine: name, ...task });
}

/** One run: its seconds, how far the output is from PyTorch's, and how far from each other engine's last one. */
export async function run(name) {
  const engine = engines.get(name);
  const { seconds, output, bytes } = await engine.call({ op: "run", inputs: reference.inputs });
  engine.output = output;
  const others = [...engines].filter(([, other]) => other !== engine && other.output);
  const differences = Object.fromEntries(others.map(([other, { output: wanted }]) => [other, relative(output, wanted)]));
  return { seconds, error: relative(output, reference.output), differences, bytes };
}

export function end(name) {
  engines.get(name)?.end();
  engines.delete(name);
}

/** What the browser says of itself. */
export async function facts() {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  const { vendor, architecture, description } = adapter?.info ?? {};
  const name = [vendor, architecture, description].filter(Boolean).join(" ") || (adapter ? "unnamed" : "none");
  return { agent: navigator.userAgent, adapter: name, threads: navigator.hardwareConcurrency, isolated: crossOriginIsolated };
}

class Engine {
  #worker = new Worker(new URL("./engine.js", import.meta.url), { type: "module" });
  output = null;

  call(message) {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data: { port, result, error } }) => {
        // On the port a thread says that it broke.
        if (port) port.onmessage = ({ data: { fatal } }) => reject(new Error(fatal));
        else if (error) reject(new Error(error));
        else resolve(result);
      };
      this.#worker.onerror = (event) => reject(new Error(event.message ?? "the worker could not be loaded"));
      this.#worker.postMessage(message);
    });
  }

  end() {
    this.#worker.terminate();
  }
}

const OUTPUTS = ["out.sample", "out.last_hidden_state", "out.image"];
const ARRAYS = { F32: ["float32", Float32Array], I64: ["int64", BigInt64Array] };

/** The tensors of a safetensors file: { name, shape, type, values }. */
async function tensors(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server answered ${response.status}`);
  const bytes = await response.arrayBuffer();
  const data = 8 + Number(new DataView(bytes).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, data - 8)));
  delete header.__metadata__;
  return Object.entries(header).map(([name, { dtype, shape, data_offsets: [begin, end] }]) => {
    const [type, Values] = ARRAYS[dtype];
    return { name, shape, type, values: new Values(bytes.slice(data + begin, data + end)) };
  });
}

/** |found - wanted| / |wanted|, and not a number where the lengths differ. */
function relative(found, wanted) {
  if (found.length !== wanted.length) return NaN;
  let off = 0;
  let all = 0;
  for (let i = 0; i < wanted.length; i++) {
    off += (found[i] - wanted[i]) ** 2;
    all += wanted[i] ** 2;
  }
  return Math.sqrt(off / all);
}
