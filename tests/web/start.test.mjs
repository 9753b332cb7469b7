// `npm start -- --prompt`: the page driven from the command line.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, run } from "../../tools/shell.mjs";
import { GOLDEN } from "./harness.mjs";

const OUT = join(ROOT, "tests/out/start.png");
const start = (...args) => run(process.execPath, ["tools/start.mjs", "--model", join(GOLDEN, "models/sdxs-like"), "--out", OUT, ...args]);

test("writes an image, and says its seed and times", { timeout: 300_000 }, async () => {
  mkdirSync(join(ROOT, "tests/out"), { recursive: true });
  const draw = async (...args) => {
    rmSync(OUT, { force: true });
    const { code, output } = await start("--prompt", "a paper boat", "--size", "64x32", "--steps", "1", ...args);
    assert.equal(code, 0, output);
    return { png: readFileSync(OUT), output };
  };
  const { png, output } = await draw("--seed", "7");
  assert.equal(png.toString("latin1", 1, 4), "PNG");
  assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [64, 32]);
  assert.match(output, /seed 7, size 64x32, .*denoise .* s, .*device CPU, /);
  assert.ok((await draw("--seed", "7")).png.equals(png), "the same seed gave another image");
  assert.ok(!(await draw("--seed", "8")).png.equals(png), "another seed gave the same image");
});

test("a mistake is one sentence and exit 1", { timeout: 300_000 }, async () => {
  rmSync(OUT, { force: true });
  for (const [args, word] of [[["--steps", "0"], /steps/], [["--seed", "x"], /seed/], [["--scheduler", "x"], /scheduler/], [["--size", "60x64"], /width/], [["--sede", "1"], /--sede/]]) {
    const { code, output } = await start("--prompt", "a paper boat", ...args);
    assert.equal(code, 1, output);
    assert.match(output, word);
    assert.doesNotMatch(output, /\n +at /, "a stack");
    assert.ok(!existsSync(OUT), "an image was written all the same");
  }
});
