// Milliseconds of the CPU's loops in V8, at shapes of networks, one thread:
//
//   node crates/cpu/examples/shapes.mjs [--browser] [shape,...]
//
// In Node, or in Chromium, whose compiler is newer. What V8 makes of the innermost loop depends on what stands around it,
// so that every change of src/tile.rs is to be measured here.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { ADDRESSES, INLINE, KEEP } from "../../../tools/build.mjs";
import { launch } from "../../../tools/browser.mjs";
import * as find from "../../../tools/find.mjs";
import { UserError, ROOT, main, must, say } from "../../../tools/shell.mjs";

const WAYS = ["gathered", "F2 a call", "F4 a call", "F2 kept", "F4 kept", "chosen", "q8", "q4", "f16"];
const CALLS = 9;

main(async () => {
  const args = process.argv.slice(2);
  const inBrowser = args.includes("--browser");
  const wanted = args.find((arg) => !arg.startsWith("-"))?.split(",").map(Number) ?? null;
  if (wanted?.some((shape) => !Number.isInteger(shape))) throw new UserError("shapes are numbers, such as 0,3,16");
  const wasm = await built();
  const rows = inBrowser ? await browser(wasm, wanted) : await node(wasm, wanted);
  for (const { shape, times } of rows) {
    const ways = times.map((ms, way) => [WAYS[way], ms]).filter(([, ms]) => ms >= 0);
    say(`${String(shape).padStart(2)}: ${ways.map(([name, ms]) => `${name} ${ms.toFixed(2)}`).join("  ")}`);
  }
});

/** The example as a module, by the tools and flags of the package's. */
async function built() {
  const { program, args, env } = await find.wasmCargo();
  const target = join(ROOT, "target/shapes");
  const flags = ["-Ctarget-feature=+simd128,+relaxed-simd", INLINE, ADDRESSES, "-Clink-arg=--export=measure"].join("\x1f");
  const own = [...args.filter((arg) => arg !== "--lib"), "-p", "tintype-cpu", "--example", "shapes"];
  await must("The build", program, own, { env: { ...env, CARGO_ENCODED_RUSTFLAGS: flags, CARGO_TARGET_DIR: target } });
  const made = join(target, "wasm32-unknown-unknown/wasm/examples/shapes.wasm");
  const out = join(target, "shapes.wasm");
  const shrink = ["-Oz", KEEP, made, "-o", out];
  await must("wasm-opt", process.execPath, [join(ROOT, "node_modules/binaryen/bin/wasm-opt"), ...shrink]);
  return readFileSync(out);
}

/** [{ shape, times }] of an instance: milliseconds by way. */
async function measure(bytes, wanted, ways, calls) {
  const { instance } = await WebAssembly.instantiate(bytes, { env: { now: () => performance.now() } });
  const rows = [];
  for (let shape = 0; instance.exports.measure(shape, 0, 0) !== -2; shape++) {
    if (wanted && !wanted.includes(shape)) continue;
    rows.push({ shape, times: Array.from({ length: ways }, (_, way) => instance.exports.measure(shape, way, calls)) });
  }
  return rows;
}

async function node(wasm, wanted) {
  if (parseInt(process.versions.node) < 22) setFlagsFromString("--experimental-wasm-relaxed-simd");
  return measure(wasm, wanted, WAYS.length, CALLS);
}

async function browser(wasm, wanted) {
  const running = await launch({ software: true });
  try {
    const page = await running.newPage();
    const script = `(async ([text, wanted, ways, calls]) => {
      ${measure}
      return measure(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), wanted, ways, calls);
    })(${JSON.stringify([wasm.toString("base64"), wanted, WAYS.length, CALLS])})`;
    return await page.evaluate(script);
  } finally {
    await running.close();
  }
}
