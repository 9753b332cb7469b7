// The module in Firefox: another WebGPU, another engine for wasm. Its GPU in software is lavapipe, which has the
// shader-f16 that Chromium's lacks.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cpuName, manifest, openFirefox } from "./harness.mjs";
import { compileAll } from "./kernels.mjs";
import { ROUNDING, compare, requests, scheduler } from "./pictures.mjs";

/** One of each family: every kind of layer, both decoders. */
const CASES = ["pipe/sd-turbo_1step", "pipe/sdxs_1step"];

/** Draws a case of the manifest as `options` say, and resolves to { entry, found }. */
async function draw({ page, served }, name, options) {
  const entry = manifest().cases[name];
  const [request] = requests(entry);
  served.set(...scheduler(entry));
  const found = await page.evaluate(compare, { model: `/golden/models/${entry.model}/`, ...request, ...options });
  assert.equal(found.device, options.device);
  assert.deepEqual(found.size, found.wanted);
  return { entry, found };
}

test("Firefox with WebGPU", { timeout: 240_000 }, async (t) => {
  const firefox = await openFirefox(t);
  await t.test("compiles every kernel variant, f16 too", async (t) => {
    const { features, total, compiled, faults } = await firefox.page.evaluate(compileAll);
    t.diagnostic(`features: ${features.join(", ")}`);
    assert.ok(features.includes("shader-f16"), "no shader-f16");
    assert.deepEqual(faults, []);
    assert.ok(total > 0, "nothing was compiled");
    assert.equal(compiled, total);
  });
  for (const name of CASES) {
    await t.test(`${name} with f16 activations stays near the reference`, async (t) => {
      // Without shader-f16 this is refused, and never drawn with something else.
      const precision = { weights: "f16", activations: "f16" };
      const { entry, found } = await draw(firefox, name, { device: "gpu", precision });
      t.diagnostic(`${found.adapter}: off by ${found.relative.toExponential(2)}`);
      assert.ok(found.relative <= entry.limits.half + ROUNDING, `off by ${found.relative}`);
    });
    await t.test(`${name} in f32 is within one level of the reference`, async () => {
      const { entry, found } = await draw(firefox, name, { device: "gpu" });
      assert.ok(found.within >= entry.limits.image_levels.f32, `${(100 * found.within).toFixed(2)} % within one level, the worst off by ${found.worst}`);
    });
  }
});

for (const isolated of [true, false]) {
  test(`Firefox on the CPU, with ${isolated ? "threads" : "one thread"}, is within one level of the reference`, { timeout: 120_000 }, async (t) => {
    const firefox = await openFirefox(t, { isolated });
    const adapter = await cpuName(firefox.page, { isolated });
    for (const name of CASES) {
      const { entry, found } = await draw(firefox, name, { device: "cpu" });
      assert.equal(found.adapter, adapter);
      assert.ok(found.within >= entry.limits.image_levels.f32, `${name}: ${(100 * found.within).toFixed(2)} % within one level, the worst off by ${found.worst}`);
    }
  });
}
