// The packed tarball itself: what is in it, how large it is, whether tools for packages have something against it, and
// what comes of importing it where there is no browser.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { join } from "node:path";
import { TARBALL, entries, faultsOf, pack } from "../../tools/pack.mjs";
import { ROOT, run } from "../../tools/shell.mjs";
import { MOST_BYTES, pulled, sizes } from "../../tools/size.mjs";
import { SITES, install } from "./consumers.mjs";

/** Above this somebody has put in what does not belong there; most are the built-in model's weights. */
const MOST_PACKED = 16_000_000;

const tool = (path, args) => run(process.execPath, [join(ROOT, "node_modules", path), ...args]);

before(install);

test("nothing is missing in it, and nothing else is in it", async () => {
  const files = await pack();
  const paths = files.map(({ path }) => path);
  assert.ok(files.reduce((sum, { size }) => sum + size, 0) < MOST_PACKED);
  assert.deepEqual(faultsOf(paths), []);
  assert.deepEqual(faultsOf([...paths, "dist/builtin.inputs"]), ["dist/builtin.inputs does not belong there"]);
  assert.deepEqual(faultsOf(paths.filter((path) => path !== "LICENSE-MIT")), ["LICENSE-MIT is missing"]);
});

test("what a visitor loads without weights is small", () => {
  const dist = join(SITES, "node_modules/tintype/dist");
  const limited = sizes(dist).filter(({ most }) => most);
  assert.deepEqual(limited.map(({ most }) => most), [MOST_BYTES, MOST_BYTES]);
  for (const { name, bytes } of limited) assert.ok(bytes > 100_000 && bytes <= MOST_BYTES, `${name}: ${bytes} bytes`);
  // What a page asks for later is not counted as its own.
  const page = pulled(dist, "index.js");
  assert.ok(page.includes("remote.js") && !page.includes("builtin.js") && !page.includes("runtime.js"), page.join(" "));
  assert.ok(pulled(dist, "worker.js").includes("pkg/base/tintype.js"));
});

test("the relaxed module multiplies and adds in one instruction, the other one has none of its kind", () => {
  // f32x4.relaxed_madd, and local.get before it, so that no constant is taken for one.
  const fused = (name) => [...readFileSync(join(SITES, `node_modules/tintype/dist/pkg/${name}/tintype_bg.wasm`), "latin1").matchAll(/\x20[\x00-\x7f]\xfd\x85\x02/g)].length;
  assert.ok(fused("relaxed") > 100, `relaxed: ${fused("relaxed")}`);
  assert.equal(fused("base"), 0);
});

test("publint has nothing against it", { timeout: 60_000 }, async () => {
  const { code, output } = await tool("publint/src/cli.js", ["run", TARBALL, "--strict"]);
  assert.ok(code === 0 && output.includes("All good!"), output);
});

test("are the types wrong? They are not", { timeout: 60_000 }, async () => {
  const wasm = entries().map(({ name }) => name).filter((name) => name.endsWith(".wasm"));
  const args = [TARBALL, "--profile", "esm-only", "--no-emoji", "--no-color", "--exclude-entrypoints", ...wasm];
  const { code, output } = await tool("@arethetypeswrong/cli/dist/index.js", args);
  assert.equal(code, 0, output);
});

test("its entries can be imported where there is no browser, and do nothing there", { timeout: 60_000 }, async () => {
  const names = entries().filter(({ name, files }) => name !== "./worker" && files.at(-1).endsWith(".js")).map(({ name }) => `tintype${name.slice(1)}`);
  const script = `
    const before = Object.getOwnPropertyNames(globalThis).join();
    for (const name of ${JSON.stringify(names)}) if (Object.keys(await import(name)).length === 0) throw new Error(name + " exports nothing");
    if (Object.getOwnPropertyNames(globalThis).join() !== before) throw new Error("there is a new global");
    const { ImageGenerator } = await import("tintype");
    const wrong = [await ImageGenerator.create().catch(({ code }) => code), (await ImageGenerator.availability()).state, await ImageGenerator.cache.list()];
    console.log(JSON.stringify(wrong));
  `;
  // It ends by itself: nothing is waited for.
  const { code, output } = await run(process.execPath, ["--input-type=module", "--eval", script], { cwd: SITES, limit: 30 });
  assert.equal(output.trim(), '["no-browser","unavailable",[]]');
  assert.equal(code, 0);
});
