// Tint refuses some WGSL that naga takes (a barrier in non-uniform flow): so Chromium compiles every variant.

import assert from "node:assert/strict";
import { test } from "node:test";
import { open } from "./harness.mjs";

test("Chromium compiles every kernel variant", { timeout: 300_000 }, async (t) => {
  const { page } = await open(t);
  const { total, compiled, f16, faults } = await page.evaluate(async () => {
    const module = await import("/pkg/base/tintype.js");
    await module.default();
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter) throw new Error("no adapter");
    const hasF16 = adapter.features.has("shader-f16");
    const device = await adapter.requestDevice({ requiredFeatures: hasF16 ? ["shader-f16"] : [] });
    const kernels = module.kernels();
    const faults = [];
    let compiled = 0;
    let f16 = 0;
    for (const { name, entryPoint, wgsl, needsF16 } of kernels) {
      if (needsF16 && !hasF16) {
        f16++;
        continue;
      }
      const code = device.createShaderModule({ label: name, code: wgsl });
      const { messages } = await code.getCompilationInfo();
      for (const { type, lineNum, message } of messages) if (type === "error") faults.push(`${name}:${lineNum}: ${message}`);
      await device
        .createComputePipelineAsync({ label: name, layout: "auto", compute: { module: code, entryPoint } })
        .then(() => compiled++, (error) => faults.push(`${name}: ${error.message}`));
    }
    return { total: kernels.length, compiled, f16, faults };
  });
  assert.deepEqual(faults, []);
  assert.ok(compiled > 0, "nothing was compiled");
  assert.equal(compiled + f16, total);
  t.diagnostic(`${compiled} variants compiled by Tint; ${f16} need shader-f16, which this adapter lacks: checked by naga only`);
});
