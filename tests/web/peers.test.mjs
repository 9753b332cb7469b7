// What bench/peers says of a run, and the arithmetic of its whole image, without engines.

import assert from "node:assert/strict";
import { test } from "node:test";
import { draw } from "../../bench/peers/picture.js";
import { ENGINES, failures, table } from "../../bench/peers/report.mjs";

/** Cells of engines that all ran and agree, but for what `changes` has of an engine. */
const cells = (changes = {}) =>
  Object.fromEntries(ENGINES.map((engine) => [engine, { first: 2, rounds: [2, 1, 3], threads: 2, error: 1e-6, differences: {}, ...changes[engine] }]));
const broken = { first: undefined, rounds: [], failed: `no memory | ${"x".repeat(200)}` };

test("a cell says in a few words why its engine could not run", () => {
  const row = (changes) => table({ cases: { picture: cells(changes) } }).split("\n")[2].split(" | ");
  assert.deepEqual(row().slice(1, 3), ["2.00 (1.00)", "2.00 (1.00)"]);
  const [, gpu, , , wasm, , ratio] = row({ "ort-wasm": broken });
  assert.equal(gpu, "2.00 (1.00)");
  assert.match(wasm, /^failed: no memory \/ x{90,120}…$/);
  assert.equal(ratio, "", "of no figure there is no ratio");
});

test("rows with quantised weights need not agree, others must", () => {
  const off = { "tintype-cpu": { error: 0.02 }, "ort-wasm": { error: 0.3, differences: { "tintype-cpu": 0.3 } } };
  const found = (name, changes, all = true) => failures({ cases: { [name]: cells(changes) } }, all);
  assert.deepEqual(found("picture", off), []);
  assert.equal(found("text", off, false).length, 3);
  assert.match(table({ cases: { picture: cells(off) } }), /3e-1 ³ \|[^]*Tintype CPU 2e-2, ORT wasm 3e-1/);
  // What is not a number is no image.
  assert.match(found("picture", { "ort-wasm": { error: NaN } })[0], /ORT wasm is off PyTorch by NaN/);
});

test("a rival may fail on quantised weights, Tintype may not", () => {
  const found = (name, engine) => failures({ cases: { [name]: cells({ [engine]: broken }) } }, false);
  assert.deepEqual(found("picture", "ort-wasm"), []);
  assert.equal(found("unet", "ort-wasm").length, 1);
  assert.match(found("picture", "tintype-cpu")[0], /Tintype CPU failed: no memory/);
});

test("the note says what native ONNX Runtime did", () => {
  const note = (native) => table({ cases: { picture: cells() }, native: native && { picture: native } });
  assert.match(note(), /native ONNX Runtime in f32 was not run/);
  assert.match(note({ failed: "killed" }), /native ONNX Runtime in f32 failed: killed/);
  assert.match(note({ rounds: [4, 5, 6], version: "1.2", threads: 2, error: 1e-6 }), /\(1\.2, 2 threads\): 5\.00 s \(4\.00\), off by 1e-6/);
  assert.doesNotMatch(table({ cases: { unet: cells() } }), /³/);
});

test("the image is one Euler step between three networks", async () => {
  const seen = [];
  const network = (output) => ({ run: async (inputs) => (seen.push(Object.fromEntries(inputs.map((input) => [input.name, input]))), Float32Array.from(output)) });
  const networks = [network([1, 2, 3, 4, 5, 6]), network([0.5, -1]), network([7])];
  const sample = { name: "sample", shape: [1, 2, 1, 1], values: Float32Array.of(10, -20) };
  const ids = { name: "input_ids", shape: [1, 3], values: Uint32Array.of(8, 9, 9) };
  assert.deepEqual([...(await draw(networks, [sample, ids]))], [7]);
  const [text, unet, vae] = seen;
  assert.equal(text.input_ids, ids);
  assert.deepEqual(unet.encoder_hidden_states.shape, [1, 3, 2]);
  assert.deepEqual([...unet.timestep.values], [999]);
  // Of the scheduler's betas: sigma of its last timestep.
  let kept = 1;
  for (let at = 0; at < 1000; at++) kept *= 1 - (Math.sqrt(0.00085) + ((Math.sqrt(0.012) - Math.sqrt(0.00085)) * at) / 999) ** 2;
  const sigma = Math.sqrt((1 - kept) / kept);
  const near = (found, wanted) => found.forEach((value, at) => assert.ok(Math.abs(value - wanted[at]) < 1e-5 * Math.abs(wanted[at]), `${value}, wanted ${wanted[at]}`));
  near(unet.sample.values, [10, -20].map((x) => x / Math.sqrt(sigma ** 2 + 1)));
  near(vae.z.values, [(10 - sigma * 0.5) / 0.18215, (-20 + sigma) / 0.18215]);
  assert.deepEqual(vae.z.shape, sample.shape);
});
