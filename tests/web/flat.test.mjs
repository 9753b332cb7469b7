// What a generator holds after many images, and after as many that were aborted at any moment.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ABORTS, open } from "./harness.mjs";
import { Gauge, count } from "./gauge.mjs";

const MODEL = "/golden/models/sdxs-like/";
/** Bytes are compared exactly, so that few images show a leak. */
const PICTURES = 4 * ABORTS;

/** Sets up the page: rejections that nobody has caught. */
const prepare = (page) =>
  page.evaluate(() => {
    window.unhandled = [];
    addEventListener("unhandledrejection", ({ reason }) => window.unhandled.push(String(reason)));
    let state = 7;
    window.random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  });

/** Runs in the page: so many calls, half of them loads, half pictures, each aborted at a moment of the time that one takes. */
async function abortAll([model, device, aborts]) {
  const { ImageGenerator } = await import("/index.js");
  const options = { model, device, worker: device === "gpu" ? false : true };
  const generator = await ImageGenerator.create(options);
  const draw = (signal) => generator.generate("a boat", { seed: 2, steps: 3, width: 64, height: 64, ...(signal ? { signal } : {}) });
  const before = await digest(await draw());
  const held = window.gauge?.gpu;
  const works = [(signal) => ImageGenerator.create({ ...options, signal }), draw];
  const took = [];
  for (const work of works) {
    const begin = performance.now();
    (await work(new AbortController().signal)).dispose?.();
    took.push(performance.now() - begin);
  }
  const counts = { aborted: 0, ended: 0, wrong: [] };
  while (counts.aborted < aborts && counts.ended < aborts) {
    const at = (counts.aborted + counts.ended) % 2;
    const abort = new AbortController();
    const begin = performance.now();
    const timer = setTimeout(() => abort.abort("now"), window.random() * took[at]);
    const end = await works[at](abort.signal).catch((reason) => ({ reason }));
    clearTimeout(timer);
    if (end.reason === "now") counts.aborted++;
    else if (end.reason) counts.wrong.push(end.reason.message ?? String(end.reason));
    else {
      counts.ended++;
      took[at] = performance.now() - begin;
      end.dispose?.();
    }
  }
  const same = (await digest(await draw())) === before;
  // What was aborted ends a little later than its promise.
  for (let wait = 0; window.gauge && window.gauge.gpu > held && wait < 100; wait++) await new Promise((wake) => setTimeout(wake, 50));
  const after = window.gauge?.gpu;
  await generator.dispose();
  for (let wait = 0; window.gauge?.gpu > 0 && wait < 100; wait++) await new Promise((wake) => setTimeout(wake, 50));
  return { ...counts, same, held, after, left: window.gauge?.gpu, unhandled: window.unhandled };
}

test("calls that are aborted at any moment", { timeout: 600_000 }, async (t) => {
  // On the page's own thread all calls share a device, whose buffers can be counted from here.
  for (const device of ["gpu", "cpu"]) {
    await t.test(device, async (t) => {
      const { page, served } = await open(t);
      await prepare(page);
      if (device === "gpu") {
        count(served);
        await page.evaluate(() => import("/gauge-worker.js"));
      }
      const found = await page.evaluate(abortAll, [MODEL, device, 2 * ABORTS]);
      t.diagnostic(JSON.stringify(found));
      assert.deepEqual(found.wrong, []);
      assert.equal(found.aborted, 2 * ABORTS, `${found.ended} calls ended before they were aborted`);
      assert.ok(found.same, "the image afterwards is another one");
      assert.deepEqual(found.unhandled, []);
      if (device === "cpu") return;
      assert.ok(found.held > 0);
      assert.equal(found.after, found.held, "bytes of the GPU's buffers");
      assert.equal(found.left, 0, "bytes of the GPU's buffers after all were disposed of");
    });
  }
});

test("many images in a row", { timeout: 600_000 }, async (t) => {
  for (const device of ["gpu", "cpu"]) {
    await t.test(device, async (t) => {
      const { page, served } = await open(t);
      count(served);
      const gauge = await Gauge.attach(page);
      await page.evaluate(async ([model, device]) => {
        const { ImageGenerator } = await import("/index.js");
        window.generator = await ImageGenerator.create({ model, device });
      }, [MODEL, device]);
      const draw = (count) =>
        page.evaluate((count) => window.generator.generate("a boat", { seed: 1, count, steps: 1, width: 32, height: 32 }).then(() => {}), count);
      const level = async () => {
        gauge.begin();
        return gauge.end();
      };
      await draw(3);
      const third = await level();
      await draw(PICTURES - 3);
      const last = await level();
      t.diagnostic(`after the third ${third.gpu} bytes on the GPU, ${third.wasm} of the module; after ${PICTURES}: ${last.gpu}, ${last.wasm}`);
      assert.ok(third.wasm > 0 && (device === "cpu" || third.gpu > 0), JSON.stringify(third));
      assert.deepEqual([last.gpu, last.wasm], [third.gpu, third.wasm]);
    });
  }
});
