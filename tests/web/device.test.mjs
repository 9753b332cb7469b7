// Which device draws, as `device` asks or as "auto" finds it, what the result calls it, and what a poor
// browser does to the CPU's threads and memory.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cpuName, open, script } from "./harness.mjs";

const MODEL = "/golden/models/sdxs-like/";

/** Runs in the page: what draws a small picture, as the generator and the result say it. */
async function draw(options) {
  const { ImageGenerator } = await import("/index.js");
  const generator = await ImageGenerator.create(options);
  const made = await generator.generate("a boat", { seed: 1, width: 32, height: 32 });
  const { device, adapter } = generator;
  generator.dispose();
  return { device, adapter, same: made.device === device && made.adapter === adapter, pixels: made.toImageData().data.join() };
}

async function drawn(t, pageOptions, options, prepare = () => {}) {
  const { page, served, complaints } = await open(t, undefined, pageOptions);
  prepare(served);
  const { device, adapter, same, pixels } = await page.evaluate(draw, { model: MODEL, ...options });
  assert.ok(same, "the generator and the image name different devices");
  return { device, adapter, pixels, complaints, cpu: await cpuName(page, pageOptions) };
}

test("auto leaves a GPU in software alone, and names the CPU", async (t) => {
  for (const isolated of [true, false]) {
    const { device, adapter, cpu, complaints } = await drawn(t, { isolated }, {});
    assert.deepEqual([device, adapter], ["cpu", cpu]);
    // The browser itself notes a file that a model may lack.
    assert.deepEqual(complaints.filter((line) => !line.includes("404")), []);
  }
});

test("auto needs no WebGPU", async (t) => {
  const { device, adapter, cpu } = await drawn(t, { webgpu: false, isolated: true }, {});
  assert.deepEqual([device, adapter], ["cpu", cpu]);
});

test("gpu, or what only a GPU has, takes the one in software", async (t) => {
  for (const options of [{ device: "gpu" }, { activations: "pack16" }]) {
    const { device, adapter } = await drawn(t, { isolated: true }, options);
    assert.deepEqual([device, adapter], ["gpu", "google swiftshader"]);
  }
});

test("kernels are those of a table that can be chosen, and the result names it", async (t) => {
  const { page } = await open(t, undefined, { isolated: true });
  const tuned = (options) =>
    page.evaluate(async (options) => {
      const { ImageGenerator } = await import("/index.js");
      const generator = await ImageGenerator.create(options).catch((error) => ({ refused: `${error.code}: ${error.message}` }));
      if (generator.refused) return generator.refused;
      const { tuning } = await generator.generate("a boat", { seed: 1, width: 32, height: 32 });
      const names = [generator.tuning, tuning];
      generator.dispose();
      return names;
    }, { model: MODEL, ...options });
  assert.deepEqual(await tuned({ device: "gpu" }), ["lanes", "lanes"]);
  assert.deepEqual(await tuned({ device: "gpu", tuning: "base" }), ["base", "base"]);
  assert.deepEqual(await tuned({ device: "cpu" }), [null, null]);
  assert.deepEqual(await tuned({ tuning: "base" }), [null, null]);
  assert.match(await tuned({ device: "cpu", tuning: "base" }), /^unsupported: tuning base: the CPU/);
  assert.match(await tuned({ device: "gpu", tuning: "fast" }), /^invalid-option: tuning: wanted auto, measured, base, lanes, wide, thin, narrow or winograd, found "fast"/);
});

test("one thread and several, with and without relaxed SIMD, draw the same but for rounding", async (t) => {
  const pictures = [];
  for (const isolated of [true, false]) for (const relaxed of [true, false]) pictures.push((await drawn(t, { isolated, relaxed }, { device: "cpu" })).pixels.split(","));
  for (const other of pictures.slice(1)) assert.ok(other.every((value, i) => Math.abs(value - pictures[0][i]) <= 1));
});

test("a thread that does not come up is done without", async (t) => {
  let asked = 0;
  const { adapter, cpu } = await drawn(t, { isolated: true }, {}, (served) => {
    const worker = script("worker.js", (text) => `${text}\n`);
    served.set("/worker.js", (response) => (asked++ === 0 ? worker(response) : response.writeHead(404).end()));
  });
  assert.ok(asked > 1 || cpu.includes("1 thread"), "no thread was asked for");
  assert.match(adapter, /^CPU, 1 thread\b/);
});

test("a device that has fewer addresses for memory", async (t) => {
  const small = `const Real = WebAssembly.Memory;
    WebAssembly.Memory = function (limits) {
      if (limits.maximum > 16384) throw new RangeError("could not allocate memory");
      return new Real(limits);
    };`;
  const { device } = await drawn(t, { isolated: true }, {}, (served) => served.set("/runtime.js", script("runtime.js", (text) => text + small)));
  assert.equal(device, "cpu");
});
