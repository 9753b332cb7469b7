// The npm package's files, in dist/: the modules for the browser, one for all and one with relaxed SIMD (cargo ->
// wasm-bindgen -> wasm-opt -> dist/pkg/base and dist/pkg/relaxed), the one with the tokenizers of large text encoders
// (dist/pkg/tokenizer), the notices of what is in them, the built-in model as a
// pack in one file, what tsc makes of www/, and what made it all. What no input of has changed is left as it is. Nothing
// of it tells where it was built, and two builds by the same tools are equal to the byte (tools/reproducible.mjs).
//
//   node tools/build.mjs [--force]

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { gzipSync } from "node:zlib";
import { pack } from "./builtin.mjs";
import * as find from "./find.mjs";
import { notices } from "./notices.mjs";
import { BUILD, setup } from "./setup.mjs";
import { UserError, ROOT, main, must, say, step } from "./shell.mjs";

export const DIST = join(ROOT, "dist");
const PKG = join(DIST, "pkg");
const STAMP = join(PKG, ".inputs");
export const NOTICES = join(DIST, "THIRD-PARTY-NOTICES.txt");
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
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
/** Loops stay as fast with this much less inlining (LLVM's own is 225), and the module is a seventeenth smaller. */
export const INLINE = "-Cllvm-args=--inline-threshold=60";
/** The module of tokenizers is for a few texts: nearly nothing inlined, and panics do not tell their places, a sixteenth less. */
const SMALL = ["-Cllvm-args=--inline-threshold=10", "-Zlocation-detail=none"];
/**
 * Without it LLVM makes of a pointer and a number, which an instruction has room for, an addition before every load: the
 * products' innermost loop is a sixth slower.
 */
export const ADDRESSES = "-Cllvm-args=--disable-lsr";
/**
 * A function that is called at one place stays one: the loops that the CPU's device spends its time in have all registers
 * for themselves, and what is left repeats more, so that it packs better.
 */
export const KEEP = "--one-caller-inline-max-function-size=1";
/** Of each module, gzipped: what a visitor loads. */
const MOST_BYTES = 1_000_000;
/** Of the module of tokenizers, which is fetched for models that need it. It has one thread and a memory of its own. */
const MOST_TOKENIZER_BYTES = 650_000;
/** As BundledModel of www/types.ts, which tsc makes later. */
const BUILTIN_TYPES = `/** The built-in model, for \`create({ model })\`. */
declare const builtin: {
  readonly name: string;
  readonly url: URL;
  readonly files: Readonly<Record<string, readonly [begin: number, bytes: number]>>;
};
export default builtin;
`;
const MODEL_INPUTS = ["models/builtin", "crates/weights/src/pack", "crates/quant", "tools/build.mjs", "tools/builtin.mjs"];
const SCRIPT_INPUTS = ["www", "models/clip/merges.bin", "package-lock.json", "tools/build.mjs"];
const INPUTS = ["src", "crates", "kernels", "build.rs", "Cargo.toml", "Cargo.lock", "tools/build.mjs", "tools/find.mjs", "tools/notices.mjs", "LICENSE-MIT", "LICENSE-APACHE", "models/clip/LICENSE"];

/** Builds the modules if they are missing or older than what they are made of. `strict`: the compiler's warnings are errors. */
export async function build({ force = false, install = false, strict = false } = {}) {
  await setup(BUILD, { install });
  await modules({ force, strict });
  await bundle();
  await scripts();
  await about();
}

async function modules({ force, strict }) {
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const how = await find.wasmCargo();
  const inputs = `${hash(INPUTS)} binaryen ${devDependencies.binaryen} ${await compiler(how)}`;
  if (!force && existsSync(NOTICES) && existsSync(STAMP) && readFileSync(STAMP, "utf8") === inputs) return;
  rmSync(PKG, { recursive: true, force: true });
  const names = await renamed(how);
  // Side by side: linking, which takes longest, keeps one core busy.
  const each = (what, work) => step(`wasm modules: ${what}`, () => Promise.all(Object.entries(MODULES).map(([name, features]) => work(name, features))));
  // Where places have other names, cargo does not tell what other flags have made, and would make it anew each time.
  const environment = (name, features) => ({ ...how.env, CARGO_ENCODED_RUSTFLAGS: flags(features, names), CARGO_TARGET_DIR: join(TARGET, "module", name) });
  const made = await each("cargo and wasm-bindgen", async (name, features) => {
    const own = { ...how, env: environment(name, features) };
    const out = join(PKG, name);
    mkdirSync(out, { recursive: true });
    await bindgen(await cargo(own, "tintype", strict), out);
    return own;
  });
  oneGlue();
  const tokenizer = await step("wasm module of tokenizers", () => tokenizers(names, strict));
  const sizes = await each("wasm-opt", (name) => optimise(join(PKG, name, "tintype_bg.wasm")));
  for (const [at, name] of Object.keys(MODULES).entries()) {
    const { raw, gzip } = sizes[at];
    say(`wasm ${name}: ${kilobytes(raw)}, ${kilobytes(gzip)} gzipped`);
    if (gzip > MOST_BYTES) throw new UserError(`The module is larger than ${kilobytes(MOST_BYTES)} gzipped.`);
  }
  // Of the first: the second differs in instructions alone.
  writeFileSync(NOTICES, await step("notices", () => notices([made[0], tokenizer])));
  // Hashed before the build: an edit made while it ran is built the next time.
  writeFileSync(STAMP, inputs);
}

async function tokenizers(names, strict) {
  const how = await find.wasmCargo("tintype-tokenizer");
  const own = { ...how, env: { ...how.env, CARGO_ENCODED_RUSTFLAGS: [...SMALL, ...renames(names)].join("\x1f"), CARGO_TARGET_DIR: join(TARGET, "module", "tokenizer") } };
  const out = join(PKG, "tokenizer");
  mkdirSync(out, { recursive: true });
  await bindgen(await cargo(own, "tintype_tokenizer", strict), out);
  const { raw, gzip } = await optimise(join(out, "tintype_tokenizer_bg.wasm"));
  say(`wasm tokenizer: ${kilobytes(raw)}, ${kilobytes(gzip)} gzipped`);
  if (gzip > MOST_TOKENIZER_BYTES) throw new UserError(`The module of tokenizers is larger than ${kilobytes(MOST_TOKENIZER_BYTES)} gzipped.`);
  return own;
}

/** What wasm-bindgen writes beside a module is the same for both, and stays once: www/runtime.ts says which module it loads. */
function oneGlue() {
  for (const name of ["tintype.js", "tintype.d.ts"]) {
    const [base, other] = Object.keys(MODULES).map((module) => join(PKG, module, name));
    if (!readFileSync(base).equals(readFileSync(other))) throw new UserError(`The modules differ in more than instructions: ${name} is not the same for both.`);
    rmSync(other);
  }
}

async function cargo({ program, args, env }, name, strict) {
  const output = await must("The wasm build", program, args, { env });
  // Nothing else compiles the files for wasm alone; a flag would build all crates anew. The compiler warns of
  // the features too, but not at a place.
  if (strict && /^ *--> (src|crates\/tokenizer|build\.rs)/m.test(output)) throw new UserError(`The wasm build has warnings:\n${output}`);
  return join(env.CARGO_TARGET_DIR, `wasm32-unknown-unknown/wasm/${name}.wasm`);
}

const flags = (features, names) =>
  [`-Ctarget-feature=${features.map((name) => `+${name}`)}`, INLINE, ADDRESSES, ...LINK.map((arg) => `-Clink-arg=${arg}`), ...renames(names)].join("\x1f");

const renames = (names) => names.map((name) => `--remap-path-prefix=${name}`);

/**
 * Other names for the places of this machine, [from=to], which messages of panics would tell: of what fits, the last one
 * counts. Crates lie where cargo has put them, and the standard library's own where the compiler lies.
 */
async function renamed({ program, sysroot, env }) {
  const output = await must("cargo metadata", program, ["metadata", "-q", "--locked", "--format-version=1"], { env });
  const crates = JSON.parse(output).packages.filter(({ source }) => source !== null).map(({ manifest_path }) => dirname(dirname(manifest_path)));
  const places = [
    [homedir(), "home"],
    [process.env.CARGO_HOME ?? join(homedir(), ".cargo"), "cargo"],
    [join(sysroot, "lib/rustlib/src/rust"), "rust"],
    [ROOT.replace(/[/\\]$/, ""), "tintype"],
    [TARGET, "target"],
    ...[...new Set(crates)].map((folder) => [folder, "crates"]),
  ];
  return places.map((place) => place.join("="));
}

async function bindgen(wasm, out) {
  await must("wasm-bindgen", await find.wasmBindgen(), ["--target", "web", "--out-dir", out, wasm]);
}

/** The built-in model as a pack: all files one after the other, and a module that says where. */
async function bundle() {
  const stamp = join(DIST, "builtin.inputs");
  const inputs = hash(MODEL_INPUTS);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === inputs) return;
  const files = await step("built-in model", () => pack(join(PKG, "base")));
  let end = 0;
  const places = files.map(([path, { length }]) => `  ${JSON.stringify(path)}: [${[end, (end += length) && length]}],\n`);
  writeFileSync(join(DIST, "builtin.bin"), Buffer.concat(files.map(([, bytes]) => bytes)));
  writeFileSync(join(DIST, "builtin.js"), `// Made by tools/build.mjs: the built-in model, of which nothing is fetched before it is loaded.\n\nexport default { name: "builtin", url: new URL("./builtin.bin", import.meta.url), files: {\n${places.join("")}} };\n`);
  writeFileSync(join(DIST, "builtin.d.ts"), BUILTIN_TYPES);
  writeFileSync(stamp, inputs);
}

/** www/ for browsers, its types, and the vocabulary that single files want. What was made before is read by none, and of files that are gone nothing stays. */
async function scripts() {
  const stamp = join(DIST, "scripts.inputs");
  // Types of the modules count too.
  const inputs = `${hash(SCRIPT_INPUTS)} ${readFileSync(STAMP, "utf8")}`;
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === inputs) return;
  for (const name of readdirSync(DIST)) if (/\.(js|d\.ts)$/.test(name) && !name.startsWith("builtin.")) rmSync(join(DIST, name));
  copyFileSync(join(ROOT, "models/clip/merges.bin"), join(DIST, "clip.bin"));
  await must("tsc", process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "-p", join(ROOT, "www")]);
  writeFileSync(stamp, inputs);
}

const compiler = async ({ env }) => (await must("rustc", env.RUSTC, ["--version"])).trim();

/** What made it: who has these and the sources can make the same bytes. */
async function about() {
  const { version, devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const rustc = await compiler(await find.wasmCargo());
  const { binaryen, typescript } = devDependencies;
  const made = { tintype: version, rustc, "wasm-bindgen": find.locked("wasm-bindgen"), binaryen, typescript };
  writeFileSync(join(DIST, "build.json"), `${JSON.stringify(made, null, 2)}\n`);
}

/** No feature flags: wasm-opt reads those the module uses, and with more it emits what browsers refuse. */
async function optimise(wasm) {
  await must("wasm-opt", process.execPath, [join(ROOT, "node_modules/binaryen/bin/wasm-opt"), "-Oz", KEEP, wasm, "-o", wasm]);
  const bytes = readFileSync(wasm);
  // Node 20 knows relaxed SIMD, but not without being asked.
  if (parseInt(process.versions.node) < 22) setFlagsFromString("--experimental-wasm-relaxed-simd");
  await WebAssembly.compile(bytes).catch((error) => {
    throw new UserError(`The optimised module does not compile: ${error.message}`);
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
    say("dist/ is up to date.");
  });
}
