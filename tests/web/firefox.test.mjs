// The module in Firefox: another WebGPU, another engine for wasm. Its GPU in software is lavapipe, which has the
// shader-f16 that Chromium's lacks.

import assert from "node:assert/strict";
import { test } from "node:test";
import { TUNING, cpuName, manifest, openFirefox } from "./harness.mjs";
import { compileAll } from "./kernels.mjs";
import { ROUNDING, compare, few, requests, scheduler } from "./pictures.mjs";

/** One of each family and of each task. */
const { cases } = manifest();
const CASES = few(cases);
/** Every kind of layer, both decoders. */
const PLAIN = ["pipe/sd-turbo_1step", "pipe/sdxs_1step"].map((name, i) => (name in cases ? name : CASES[i]));

/** Draws a case of the manifest as `options` say, and resolves to { entry, found }. */
async function draw({ page, served }, name, options) {
  const entry = cases[name];
  served.set(...scheduler(entry));
  const [found] = await page.evaluate(compare, { ...requests(name, entry), ...options });
  assert.equal(found.device, options.device);
  assert.deepEqual(found.size, found.wanted);
  return { entry, found };
}

function assertLevels({ entry, found }, name) {
  assert.ok(found.within >= entry.limits.image_levels.f32, `${name}: ${(100 * found.within).toFixed(2)} % within one level, the worst off by ${found.worst}`);
}

test("Firefox with WebGPU", { timeout: 600_000 }, async (t) => {
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
      const { entry, found } = await draw(firefox, name, { device: "gpu", tuning: TUNING, precision });
      t.diagnostic(`${found.adapter}: off by ${found.relative.toExponential(2)}`);
      assert.ok(found.relative <= entry.limits.half + ROUNDING, `off by ${found.relative}`);
    });
  }
  for (const name of PLAIN) {
    await t.test(`${name} in f32 is within one level of the reference`, async () => {
      assertLevels(await draw(firefox, name, { device: "gpu", tuning: TUNING }), name);
    });
  }
});

for (const [isolated, names] of [[true, CASES], [false, PLAIN]]) {
  test(`Firefox on the CPU, with ${isolated ? "threads" : "one thread"}, is within one level of the reference`, { timeout: 300_000 }, async (t) => {
    const firefox = await openFirefox(t, { isolated });
    const adapter = await cpuName(firefox.page, { isolated });
    for (const name of names) {
      const drawn = await draw(firefox, name, { device: "cpu" });
      assert.equal(drawn.found.adapter, adapter);
      assertLevels(drawn, name);
    }
  });
}
