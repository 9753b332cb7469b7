// Milliseconds of the CPU's loops in V8, at shapes of networks, one thread: `node crates/cpu/examples/shapes.mjs [shape,...]`.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import * as find from "../../../tools/find.mjs";
import { ROOT, main, must, say } from "../../../tools/shell.mjs";

const WAYS = ["gathered", "F2 a call", "F4 a call", "F2 kept", "F4 kept", "chosen", "q8", "q4", "f16"];

main(async () => {
  const { program, args, env } = await find.wasmCargo();
  const target = join(ROOT, "target/shapes");
  const flags = ["-Ctarget-feature=+simd128,+relaxed-simd", "-Clink-arg=--export=measure"].join("\x1f");
  const own = [...args.filter((arg) => arg !== "--lib"), "-p", "tintype-cpu", "--example", "shapes"];
  await must("The build", program, own, { env: { ...env, CARGO_ENCODED_RUSTFLAGS: flags, CARGO_TARGET_DIR: target } });
  if (parseInt(process.versions.node) < 22) setFlagsFromString("--experimental-wasm-relaxed-simd");
  const wasm = readFileSync(join(target, "wasm32-unknown-unknown/wasm/examples/shapes.wasm"));
  const { instance } = await WebAssembly.instantiate(wasm, { env: { now: () => performance.now() } });
  const wanted = process.argv[2]?.split(",").map(Number);
  for (let shape = 0; instance.exports.measure(shape, 0, 0) !== -2; shape++) {
    if (wanted && !wanted.includes(shape)) continue;
    const times = WAYS.map((name, way) => [name, instance.exports.measure(shape, way, 7)]).filter(([, ms]) => ms >= 0);
    say(`${String(shape).padStart(2)}: ${times.map(([name, ms]) => `${name} ${ms.toFixed(2)}`).join("  ")}`);
  }
});
