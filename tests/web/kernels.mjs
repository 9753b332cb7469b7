// A browser's own compiler on all kernels.

/**
 * Runs in the page: compiles every variant that the adapter has the features for; `left` counts the others. Its driver, which
 * takes seconds for a tile, gets those of tiles that real GPUs would run first: of halves, with weights of 8 bits.
 */
export async function compileAll() {
  const module = await import("/pkg/base/tintype.js");
  await module.default();
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) throw new Error("no adapter");
  const hasF16 = adapter.features.has("shader-f16");
  const device = await adapter.requestDevice({ requiredFeatures: hasF16 ? ["shader-f16"] : [] });
  const kernels = module.kernels();
  const faults = [];
  let compiled = 0;
  let left = 0;
  for (const { name, entryPoint, wgsl, needsF16 } of kernels) {
    if (needsF16 && !hasF16) {
      left++;
      continue;
    }
    const code = device.createShaderModule({ label: name, code: wgsl });
    const { messages } = await code.getCompilationInfo();
    for (const { type, lineNum, message } of messages) if (type === "error") faults.push(`${name}:${lineNum}: ${message}`);
    if (/_tile/.test(entryPoint) && !/ (f16|pack16)\.(q8\.|\d)/.test(name)) {
      compiled++;
      continue;
    }
    await device
      .createComputePipelineAsync({ label: name, layout: "auto", compute: { module: code, entryPoint } })
      .then(() => compiled++, (error) => faults.push(`${name}: ${error.message}`));
  }
  return { features: [...adapter.features].sort(), total: kernels.length, compiled, left, faults };
}
