// The machine without a GPU: the built-in model's image on the CPU, timed beside the GPU in software.

import assert from "node:assert/strict";
import { test } from "node:test";
import { open } from "./harness.mjs";

const STEPS = 4;
/** Of the CPU, on two cores. */
const MOST_SECONDS = 2;

test("the CPU draws the built-in model's image in under two seconds, and sooner than SwiftShader", { timeout: 300_000 }, async (t) => {
  const { page } = await open(t, undefined, { isolated: true });
  const times = await page.evaluate(async (steps) => {
    const { ImageGenerator } = await import("/index.js");
    const generators = { cpu: await ImageGenerator.create({ device: "cpu" }), gpu: await ImageGenerator.create({ device: "gpu" }) };
    const times = { cpu: [], gpu: [], names: { cpu: generators.cpu.adapter, gpu: generators.gpu.adapter } };
    // In turns. The first image of each is the first after loading; on the GPU it compiles kernels.
    for (let round = 0; round < 3; round++) {
      for (const device of ["cpu", "gpu"]) {
        const begin = performance.now();
        await generators[device].generate("a red circle on a blue background", { seed: round, steps });
        times[device].push((performance.now() - begin) / 1000);
      }
    }
    return times;
  }, STEPS);
  const show = (device) => `${times.names[device]}: ${times[device].map((s) => s.toFixed(2)).join(", ")} s`;
  const [first, second, third] = times.gpu.map((gpu, i) => (gpu / times.cpu[i]).toFixed(1));
  t.diagnostic(`${STEPS} steps, first image and next ones. ${show("cpu")}; ${show("gpu")}; ratio ${first}, ${second}, ${third}`);
  assert.ok(times.cpu[0] < MOST_SECONDS, `the first image took ${times.cpu[0]} s`);
  times.cpu.forEach((cpu, i) => assert.ok(cpu < times.gpu[i], `${cpu} s on the CPU, ${times.gpu[i]} s on SwiftShader`));
});
