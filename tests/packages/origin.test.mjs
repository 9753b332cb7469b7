// Where the package comes from: whose code is in it and by what licence, what made it, and nothing of the machine that did.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as find from "../../tools/find.mjs";
import { TARBALL, pack } from "../../tools/pack.mjs";
import { ROOT } from "../../tools/shell.mjs";

/** The tarball's files. */
const FOLDER = mkdtempSync(join(tmpdir(), "tintype-tarball-"));
const PACKAGE = join(FOLDER, "package");
const MODULE = (build) => join(PACKAGE, `dist/pkg/${build}/tintype_bg.wasm`);

before(async () => {
  await pack();
  execFileSync("tar", ["-xzf", TARBALL, "-C", FOLDER]);
});
after(() => rmSync(FOLDER, { recursive: true }));

const notices = () => readFileSync(join(PACKAGE, "dist/THIRD-PARTY-NOTICES.txt"), "utf8");
const files = () => readdirSync(PACKAGE, { recursive: true }).filter((path) => statSync(join(PACKAGE, path)).isFile());

test("the notices have every crate that cargo names for the modules, and a text of each", () => {
  const text = notices();
  const [list, ...texts] = text.split(`\n${"-".repeat(80)}\n\n`);
  // The standard library's own crates are not in this tree, and this repository's have its licence.
  const tree = execFileSync("cargo", ["tree", "--locked", "-p", "tintype", "-p", "tintype-tokenizer", "--target", "wasm32-unknown-unknown", "-e", "normal,no-proc-macro", "--prefix", "none", "-f", "{p}"], { cwd: ROOT, encoding: "utf8" });
  const crates = [...new Set(tree.split("\n").filter((line) => line !== "").map((line) => line.split(" ").slice(0, 2).join(" ").replace(" v", " ")))].filter((crate) => !/^tintype(-\w+)? /.test(crate));
  assert.ok(crates.length > 40, crates.join());
  for (const crate of [...crates, "std 0.0.0", "core 0.0.0", "alloc 0.0.0"]) {
    assert.ok(list.includes(`\n${crate}, `), `${crate} is not listed`);
    const own = texts.filter((each) => each.split(":\n\n")[0].split(", ").includes(crate));
    assert.ok(own.join("").length > 500, `${crate} has no text`);
  }
  // A licence wants its copyright to be told.
  for (const holder of ["Copyright (c) 2014 Alex Crichton", "The gfx-rs developers", "Copyright (c) 2021 OpenAI"]) assert.ok(text.includes(holder), holder);
  assert.ok(!/licence below/.test(list));
});

test("the notices have every crate whose code a message of the module tells of", () => {
  const listed = notices();
  for (const build of ["base", "relaxed"]) {
    const module = readFileSync(MODULE(build), "latin1");
    const crates = new Set([...module.matchAll(/crates[\\/]([\w-]+?)-(\d+\.\d+\.\d+[\w.+-]*)[\\/]/g)].map(([, name, version]) => `${name} ${version}`));
    assert.ok(crates.size > 5, `${build}: ${[...crates]}`);
    for (const crate of crates) assert.ok(listed.includes(`\n${crate}, `), `${build}: ${crate} is not listed`);
  }
});

test("no file of it tells of the machine that built it", async () => {
  const { sysroot } = await find.wasmCargo();
  const cargo = process.env.CARGO_HOME ?? join(homedir(), ".cargo");
  const places = [ROOT.replace(/[/\\]$/, ""), `${homedir()}/`, join(cargo, "registry"), "index.crates", join(sysroot, "lib/rustlib"), "/rustlib/src", process.env.CARGO_TARGET_DIR].filter(Boolean);
  const found = [];
  for (const path of files()) {
    const bytes = readFileSync(join(PACKAGE, path));
    for (const place of places) if (bytes.includes(place)) found.push(`${path}: ${place}`);
  }
  assert.deepEqual(found, []);
  // That they are looked for where they would be: the same messages have other names instead.
  const module = readFileSync(MODULE("relaxed"), "latin1");
  for (const name of ["rust/library/core/src", "crates/wgpu-"]) assert.ok(module.includes(name), name);
  assert.ok(readFileSync(join(PACKAGE, "dist/builtin.bin"), "latin1").includes('"source": "models/builtin"'));
});

test("it says who made it, by which licence, and with what", () => {
  const { license, author, description, version } = JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8"));
  assert.equal(license, "MIT OR Apache-2.0");
  assert.ok(author.length > 0 && description.length > 20);
  const made = JSON.parse(readFileSync(join(PACKAGE, "dist/build.json"), "utf8"));
  assert.deepEqual(Object.keys(made), ["tintype", "rustc", "wasm-bindgen", "binaryen", "typescript"]);
  assert.equal(made.tintype, version);
  assert.match(made.rustc, /^rustc \d+\.\d+\.\d+/);
  assert.equal(made["wasm-bindgen"], find.locked("wasm-bindgen"));
});

test("what cargo is told to do, it does with the versions of Cargo.lock", () => {
  const scripts = ["tools", "bench", "tests/full"].flatMap((folder) => readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(".mjs")).map((name) => `${folder}/${name}`));
  const calls = scripts.flatMap((path) => {
    const lines = readFileSync(join(ROOT, path), "utf8").split("\n");
    return lines.filter((line) => /\["(build|test|clippy|run|metadata|check)", /.test(line) && !/"(rustup|npm|apt-get|verify)"/.test(line)).map((line) => `${path}: ${line.trim()}`);
  });
  assert.ok(calls.length >= 10, calls.join("\n"));
  assert.deepEqual(calls.filter((call) => !call.includes('"--locked"')), []);
});
