// The modules for the browser, one for all and one with relaxed SIMD: cargo -> wasm-bindgen -> wasm-opt ->
// www/pkg/base and www/pkg/relaxed. Does nothing when no input changed.
//
//   node tools/build.mjs [--force]

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { gzipSync } from "node:zlib";
import * as find from "./find.mjs";
import { BUILD, setup } from "./setup.mjs";
import { Plain, ROOT, main, must, say, step } from "./shell.mjs";

const PKG = join(ROOT, "www/pkg");
const STAMP = join(PKG, ".inputs");
/** What each module needs of a browser: wasm's features beyond the compiler's own choice. */
const THREADS = ["atomics", "bulk-memory", "mutable-globals", "simd128"];
const MODULES = { base: THREADS, relaxed: [...THREADS, "relaxed-simd"] };
/** Memory that comes from outside and can be shared, up to all that there are addresses for; what wasm-bindgen needs. */
const LINK = [
  "--shared-memory",
  "--import-memory",
  "--max-memory=4294967296",
  ...["__wasm_init_tls", "__tls_size", "__tls_align", "__tls_base", "__heap_base"].map((name) => `--export=${name}`),
];
/** Of each module, gzipped: what a visitor loads. */
const MOST_BYTES = 1_000_000;
const INPUTS = ["src", "kernels", "build.rs", "Cargo.toml", "Cargo.lock", "tools/build.mjs", "package-lock.json"];

/** Builds the modules if they are missing or older than what they are made of. `strict`: the compiler's warnings are errors. */
export async function build({ force = false, install = false, strict = false } = {}) {
  const inputs = hash(INPUTS);
  if (!force && existsSync(STAMP) && readFileSync(STAMP, "utf8") === inputs) return;
  await setup(BUILD, { install });
  rmSync(PKG, { recursive: true, force: true });
  for (const [name, features] of Object.entries(MODULES)) {
    const out = join(PKG, name);
    mkdirSync(out, { recursive: true });
    const wasm = await step(`wasm ${name}: cargo`, () => cargo(features, strict));
    await step(`wasm ${name}: wasm-bindgen`, () => bindgen(wasm, out));
    const sizes = await step(`wasm ${name}: wasm-opt`, () => optimise(join(out, "tintype_bg.wasm")));
    say(`wasm ${name}: ${kilobytes(sizes.raw)}, ${kilobytes(sizes.gzip)} gzipped`);
    if (sizes.gzip > MOST_BYTES) throw new Plain(`The module is larger than ${kilobytes(MOST_BYTES)} gzipped.`);
  }
  // Hashed before the build: an edit made while it ran is built the next time.
  writeFileSync(STAMP, inputs);
}

async function cargo(features, strict) {
  const { program, args, env } = await find.wasmCargo();
  const flags = [`-Ctarget-feature=${features.map((name) => `+${name}`)}`, ...LINK.map((arg) => `-Clink-arg=${arg}`)];
  env.CARGO_ENCODED_RUSTFLAGS = flags.join("\x1f");
  const output = await must("The wasm build", program, [...args, "--profile", "wasm"], { env });
  // Nothing else compiles the files for wasm alone; a flag would build all crates anew. The compiler warns of
  // the features too, but not at a place.
  if (strict && /^ *--> (src|build\.rs)/m.test(output)) throw new Plain(`The wasm build has warnings:\n${output}`);
  const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
  return join(target, "wasm32-unknown-unknown/wasm/tintype.wasm");
}

async function bindgen(wasm, out) {
  await must("wasm-bindgen", await find.wasmBindgen(), ["--target", "web", "--no-typescript", "--out-dir", out, wasm]);
}

/** No feature flags: wasm-opt reads those the module uses, and with more it emits what browsers refuse. */
async function optimise(wasm) {
  await must("wasm-opt", process.execPath, [join(ROOT, "node_modules/binaryen/bin/wasm-opt"), "-Oz", wasm, "-o", wasm]);
  const bytes = readFileSync(wasm);
  // Node 20 knows relaxed SIMD, but not without being asked.
  if (parseInt(process.versions.node) < 22) setFlagsFromString("--experimental-wasm-relaxed-simd");
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
