// Loads that are aborted at any moment: what they held is let go, nothing that they have written is half there, and the
// next one draws what it should.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "../../tools/shell.mjs";
import { Gauge } from "./gauge.mjs";
import { ABORTS, open } from "./harness.mjs";
import { hub } from "./hub.mjs";

const BUILTIN = join(ROOT, "models/builtin");
/** What a page may hold more than before, in bytes: its own code is compiled in the meantime. */
const MORE = 1 << 20;

/**
 * Loads the model again and again, each time aborted at a moment of the `took` milliseconds that a load takes, until
 * `times` were. Where one has ended before its moment, loads have become faster: it is not kept, and the next ones are
 * aborted within its time. Resolves to the numbers of both, and what else came of any.
 */
const abortAt = (page, options, times, took) =>
  page.evaluate(async ([options, times, took]) => {
    const { ImageGenerator } = await import("/index.js");
    let state = 11;
    const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    const found = { aborted: 0, loaded: 0, wrong: [] };
    while (found.aborted < times && found.loaded < times) {
      const abort = new AbortController();
      const begin = performance.now();
      const timer = setTimeout(() => abort.abort("now"), random() * took);
      const end = await ImageGenerator.create({ ...options, signal: abort.signal }).catch((reason) => ({ reason }));
      clearTimeout(timer);
      if (end.reason === "now") found.aborted++;
      else if (end.reason) found.wrong.push(end.reason.message ?? end.reason);
      else {
        found.loaded++;
        took = performance.now() - begin;
        end.dispose();
        await ImageGenerator.cache.clear();
      }
    }
    return found;
  }, [options, times, took]);

/** Loads the model and draws: a digest of the picture, and how long the loading took. */
const draw = (page, options) =>
  page.evaluate(async (options) => {
    const { ImageGenerator } = await import("/index.js");
    const begin = performance.now();
    const generator = await ImageGenerator.create(options);
    const took = performance.now() - begin;
    const { warnings } = generator;
    const picture = await generator.generate("a red circle on blue", { seed: 5, steps: 1, width: 64, height: 64 });
    generator.dispose();
    return { pixels: await digest(picture), warnings, took };
  }, options);

/** All files in the origin's private folder, and their bytes. */
const files = (page) =>
  page.evaluate(async () => {
    const all = {};
    const walk = async (folder, path) => {
      for await (const [name, handle] of folder.entries()) {
        if (handle.kind === "directory") await walk(handle, `${path}${name}/`);
        else all[path + name] = (await handle.getFile()).size;
      }
    };
    await walk(await navigator.storage.getDirectory(), "");
    return all;
  });

const cache = (page, name) => page.evaluate(async (name) => (await import("/index.js")).ImageGenerator.cache[name](), name);

/** Waits for what ends soon after a promise was settled. */
async function soon(holds, what) {
  for (let wait = 0; !(await holds()); wait++) {
    assert.ok(wait < 100, what());
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

test("what loads hold and write that are aborted at any moment", { timeout: 600_000 }, async (t) => {
  const pack = mkdtempSync(join(tmpdir(), "tintype-cancel-"));
  t.after(() => rmSync(pack, { recursive: true }));
  execFileSync(join(ROOT, "target/release/tintype"), ["pack", "--model", BUILTIN, "--weights", "q8", "--out", pack], { stdio: "ignore" });
  const { page, complaints } = await open(t);
  const { url } = await hub(t, { "house/builtin": BUILTIN, "house/pack": pack });
  const gauge = await Gauge.attach(page);

  for (const [model, device, times] of [["house/builtin", "cpu", ABORTS], ["house/pack", "cpu", ABORTS], ["house/builtin", "gpu", Math.ceil(ABORTS / 3)]]) {
    await t.test(`${model} on the ${device}`, async () => {
      const options = { model, hub: url, weights: "q8", device };
      const { pixels, took } = await draw(page, options);
      await cache(page, "clear");
      const before = await gauge.page();

      const { aborted, loaded, wrong } = await abortAt(page, options, times, took);
      assert.deepEqual(wrong, []);
      assert.equal(aborted, times, `${loaded} loads ended before they were aborted`);

      await soon(() => gauge.workers === 0, () => `${gauge.workers} workers still run`);
      const after = await gauge.page();
      assert.ok(after < before + MORE, `the page held ${before} bytes, now ${after}`);

      // What is listed is whole, and what is not is never used.
      for (const { key } of await cache(page, "list")) {
        const again = await draw(page, { ...options, offline: true });
        assert.deepEqual([again.pixels, again.warnings], [pixels, []], key);
      }
      const last = await draw(page, options);
      assert.deepEqual([last.pixels, last.warnings], [pixels, []]);
      const [entry, ...others] = await cache(page, "list");
      assert.deepEqual(others, []);
      const kept = await files(page);
      const names = ["data", "entry.json", "parts.json"].map((name) => `tintype/${entry.key}/${name}`);
      assert.deepEqual(Object.keys(kept).sort(), names);
      assert.equal(kept[names[0]], entry.bytes);
      const offline = await draw(page, { ...options, offline: true });
      assert.equal(offline.pixels, pixels);
      await cache(page, "clear");
      assert.deepEqual(await files(page), {});
    });
  }
  // Such as a rejection that nobody has caught; a blank page has no icon.
  assert.deepEqual(complaints.filter((words) => !words.includes("status of 404")), []);
});
