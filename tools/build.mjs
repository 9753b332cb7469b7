// The module for the browser: cargo -> wasm-bindgen -> wasm-opt -> www/pkg. Does nothing when no input changed.
//
//   node tools/build.mjs [--force]

import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import * as find from "./find.mjs";
import { BUILD, setup } from "./setup.mjs";
import { Plain, ROOT, main, must, say, step } from "./shell.mjs";

const PKG = join(ROOT, "www/pkg");
const STAMP = join(PKG, ".inputs");
const INPUTS = ["src", "kernels", "build.rs", "Cargo.toml", "Cargo.lock", "tools/build.mjs", "package-lock.json"];

/** Builds www/pkg if it is missing or older than what it is made of. `strict`: the compiler's warnings are errors. */
export async function build({ force = false, install = false, strict = false } = {}) {
  const inputs = hash(INPUTS);
  if (!force && existsSync(STAMP) && readFileSync(STAMP, "utf8") === inputs) return;
  await setup(BUILD, { install });
  const built = await step("wasm: cargo", () => cargo(strict));
  await step("wasm: wasm-bindgen", () => bindgen(built.path));
  const sizes = await step("wasm: wasm-opt", optimise);
  say(`wasm: ${kilobytes(sizes.raw)}, ${kilobytes(sizes.gzip)} gzipped`);
  // Hashed before the build: an edit made while it ran is built the next time.
  writeFileSync(STAMP, inputs);
}

async function cargo(strict) {
  const { program, args, env } = await find.wasmCargo();
  const output = await must("The wasm build", program, [...args, "--profile", "wasm"], { env });
  // Nothing else compiles the files for wasm alone; a flag would build all crates anew.
  if (strict && output.includes("warning: `tintype`")) throw new Plain(`The wasm build has warnings:\n${output}`);
  const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
  return { path: join(target, "wasm32-unknown-unknown/wasm/tintype.wasm") };
}

async function bindgen(wasm) {
  rmSync(PKG, { recursive: true, force: true });
  const args = ["--target", "web", "--no-typescript", "--out-dir", PKG, wasm];
  await must("wasm-bindgen", await find.wasmBindgen(), args);
}

/** No feature flags: wasm-opt reads those the module uses, and with more it emits what browsers refuse. */
async function optimise() {
  const wasm = join(PKG, "tintype_bg.wasm");
  await must("wasm-opt", process.execPath, [join(ROOT, "node_modules/binaryen/bin/wasm-opt"), "-Os", wasm, "-o", wasm]);
  const bytes = readFileSync(wasm);
  await WebAssembly.compile(bytes).catch((error) => {
    throw new Plain(`The optimised module does not compile: ${error.message}`);
  });
  return { raw: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length };
}

function hash(paths) {
  const sum = createHash("sha256");
  const add = (path) => {
    const full = join(ROOT, path);
    if (!existsSync(full)) return;
    if (statSync(full).isDirectory()) return readdirSync(full).sort().forEach((name) => add(join(path, name)));
    sum.update(`${path}\0`).update(readFileSync(full));
  };
  paths.forEach(add);
  return sum.digest("hex");
}

const kilobytes = (bytes) => `${(bytes / 1000).toFixed(0)} kB`;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(async () => {
    await build({ force: process.argv.includes("--force"), install: process.argv.includes("--install") });
    say("www/pkg is up to date.");
  });
}
