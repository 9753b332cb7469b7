// What happens to a generator in a stranger's page: the GPU goes, the worker goes, memory is short, others are there too.
// The call that goes on fails with a code, and the next one draws the same image as before.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "../../tools/shell.mjs";
import { open, script } from "./harness.mjs";
import { hub } from "./hub.mjs";

const MODEL = "/golden/models/sdxs-like/";
const BUILTIN = join(ROOT, "models/builtin");

/** A page whose workers can be harmed, with `make`, `draw` and `harm` for the tests. */
async function opened(t, options) {
  const { page, served } = await open(t, undefined, options);
  served.set("/worker.js", script("worker.js", (text) => `import "./harm-worker.js";\n${text}`));
  const harm = readFileSync(join(ROOT, "tests/web/harm-worker.js"), "utf8");
  served.set("/harm-worker.js", (response) => response.writeHead(200, { "Content-Type": "text/javascript" }).end(harm));
  await page.evaluate(() => {
    window.unhandled = [];
    addEventListener("unhandledrejection", ({ reason }) => window.unhandled.push(String(reason)));
    const orders = new BroadcastChannel("harm");
    Object.assign(window, {
      make: async (options) => (await import("/index.js")).ImageGenerator.create(options),
      draw: async (generator, options = {}) => digest(await generator.generate("a red circle on blue", { seed: 3, steps: 2, width: 64, height: 64, ...options })),
      code: (promise) => promise.then(() => "done", (error) => error.code ?? String(error)),
      /** Tells the one worker that there is. */
      harm: (order) => new Promise((heard) => {
        orders.onmessage = () => heard();
        orders.postMessage(order);
      }),
    });
  });
  return { page };
}

test("the device is lost while an image is drawn", { timeout: 300_000 }, async (t) => {
  const { page } = await opened(t);
  for (const stage of ["step", "decode"]) {
    await t.test(stage, async () => {
      const found = await page.evaluate(async ([model, stage]) => {
        const generator = await make({ model, device: "gpu" });
        const before = await draw(generator);
        const codes = [];
        const after = [];
        for (let twice = 0; twice < 2; twice++) {
          await harm({ stage });
          codes.push(await code(draw(generator)));
          after.push(await draw(generator));
        }
        generator.dispose();
        return { codes, same: after.every((picture) => picture === before), unhandled };
      }, [MODEL, stage]);
      assert.deepEqual(found, { codes: ["device-lost", "device-lost"], same: true, unhandled: [] });
    });
  }
});

test("the device is lost while a model is loaded", { timeout: 300_000 }, async (t) => {
  const { page } = await opened(t);
  const found = await page.evaluate(async (model) => {
    const codes = [];
    for (let twice = 0; twice < 2; twice++) {
      // The worker is there, and hears of it, before it has a device.
      let begun;
      const first = new Promise((resolve) => (begun = resolve));
      const loading = make({ model, device: "gpu", onProgress: ({ stage }) => stage === "download" && begun() });
      loading.catch(() => {});
      await first;
      await harm({ stage: "download", fraction: 0 });
      const end = await code(loading);
      codes.push(end === "done" ? "compile was first" : end);
    }
    const generator = await make({ model, device: "gpu" });
    const picture = await draw(generator);
    generator.dispose();
    return { codes, drew: picture.length > 0, unhandled };
  }, MODEL);
  assert.deepEqual(found, { codes: ["device-lost", "device-lost"], drew: true, unhandled: [] });
});

test("after a loss the weights come from what is kept", { timeout: 300_000 }, async (t) => {
  const { page } = await opened(t);
  const { url, log } = await hub(t, { "house/builtin": BUILTIN });
  const draw = async (lose) =>
    page.evaluate(async ([hub, lose]) => {
      window.kept ??= await make({ model: "house/builtin", hub, weights: "q8", device: "gpu" });
      if (lose) {
        await harm({ stage: "step" });
        const end = await code(window.draw(window.kept));
        if (end !== "device-lost") throw new Error(end);
      }
      return window.draw(window.kept);
    }, [url, lose]);
  const before = await draw(false);
  const fetched = log.length;
  assert.ok(fetched > 0);
  assert.equal(await draw(true), before);
  assert.equal(log.length, fetched, "what is kept was fetched again");
});

test("a worker that crashes", { timeout: 120_000 }, async (t) => {
  const { page } = await opened(t);
  const found = await page.evaluate(async (model) => {
    const generator = await make({ model, device: "cpu" });
    const before = await draw(generator);
    const running = draw(generator, { steps: 40, width: 256, height: 256 });
    running.catch(() => {});
    await harm({ crash: true });
    const end = await code(running);
    const same = (await draw(generator)) === before;
    generator.dispose();
    return { end, same, unhandled };
  }, MODEL);
  assert.deepEqual(found, { end: "internal", same: true, unhandled: [] });
});

test("memory that is short ends in smaller weights or in an error", { timeout: 300_000 }, async (t) => {
  const { page } = await opened(t);
  const found = await page.evaluate(async () => {
    // Of the built-in model, whose largest weights take half as much in q8.
    const limited = async (options, most) => {
      let begun;
      const first = new Promise((resolve) => (begun = resolve));
      const loading = make({ model: "/models/builtin/", device: "gpu", onProgress: begun, ...options });
      loading.catch(() => {});
      await first;
      await harm({ most });
      return loading;
    };
    const sizes = await limited({ weights: "q8" }, 2 ** 30).then((generator) => generator.dispose() ?? null);
    const refused = await code(limited({ weights: "f32" }, 100_000));
    const smaller = await limited({}, 500_000);
    const { weights, warnings } = smaller;
    await smaller.dispose();
    // An image that is too large, in a generator that goes on.
    const generator = await limited({ weights: "q8" }, 2 ** 30);
    const before = await draw(generator);
    await harm({ most: 1_000_000 });
    const end = await code(draw(generator, { width: 512, height: 512 }));
    await harm({ most: 2 ** 30 });
    const same = (await draw(generator)) === before;
    generator.dispose();
    return { refused, weights, warned: warnings.length > 0, end, same, unhandled };
  });
  assert.equal(found.refused, "out-of-memory");
  assert.ok(["q8", "q4"].includes(found.weights) && found.warned, JSON.stringify(found));
  assert.deepEqual([found.end, found.same, found.unhandled], ["out-of-memory", true, []]);
});

test("what took the place of weights that were too large is kept, and found by the next load and offline", { timeout: 300_000 }, async (t) => {
  const { page } = await opened(t);
  const { url, log } = await hub(t, { "house/builtin": BUILTIN });
  const load = (options, most) =>
    page.evaluate(async ([options, most]) => {
      let begun;
      const first = new Promise((resolve) => (begun = resolve));
      const loading = make({ device: "gpu", onProgress: begun, ...options });
      loading.catch(() => begun());
      await first;
      // Of one that has failed there is no worker any more.
      await Promise.race([harm({ most }), loading.catch(() => {})]);
      const generator = await loading.catch(({ code }) => ({ code }));
      if (generator.code) return generator.code;
      const { weights, warnings } = generator;
      // An image needs more in one piece.
      await harm({ most: 2 ** 30 });
      const picture = await draw(generator);
      await generator.dispose();
      return { weights, warned: warnings.map(({ code }) => code), picture };
    }, [{ model: "house/builtin", hub: url, ...options }, most]);
  const kept = () => page.evaluate(async () => (await import("/index.js")).ImageGenerator.cache.list());
  const state = (options) => page.evaluate(async (options) => (await (await import("/index.js")).ImageGenerator.availability(options)).state, { model: "house/builtin", hub: url, device: "gpu", ...options });

  const first = await load({}, 500_000);
  assert.deepEqual([first.weights, first.warned], ["q8", ["memory"]]);
  assert.ok(log.length > 0);
  log.length = 0;
  // Nothing is fetched, and nothing is too large any more.
  assert.deepEqual(await load({}, 500_000), { ...first, warned: [] });
  assert.deepEqual(await load({ offline: true }, 500_000), { ...first, warned: [] });
  assert.deepEqual(await load({ weights: "q8", offline: true }, 500_000), { ...first, warned: [] });
  assert.equal(log.length, 0);
  assert.deepEqual([await state({}), await state({ offline: true }), await state({ weights: "f16" })], ["available", "available", "downloadable"]);
  assert.deepEqual((await kept()).map(({ weights }) => weights), ["q8"]);

  // Where even that is too large: offline there is nothing smaller, else it is fetched.
  assert.equal(await load({ offline: true }, 100_000), "out-of-memory");
  const { weights: smaller, warned } = await load({}, 290_000);
  assert.deepEqual([smaller, warned.every((code) => code === "memory")], ["q4", true]);

  // What was asked for by name is not what "auto" would take.
  await page.evaluate(async () => (await import("/index.js")).ImageGenerator.cache.clear());
  assert.equal((await load({ weights: "q8" }, 2 ** 30)).weights, "q8");
  assert.equal(await load({ offline: true }, 2 ** 30), "offline");
});

test("a page that ends its own worker", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t);
  const found = await page.evaluate(async (model) => {
    const { ImageGenerator } = await import("/index.js");
    const code = (promise) => promise.then(() => "done", (error) => error.code ?? String(error));
    const worker = () => new Worker("/worker.js", { type: "module" });
    const drawing = { seed: 3, steps: 200, width: 64, height: 64 };
    const all = {};
    // While it loads, before its script has come, and while it draws; calls that wait, and calls that come later.
    const one = worker();
    const loading = code(ImageGenerator.create({ model, device: "cpu", worker: one, onProgress: () => one.terminate() }));
    all.loading = await loading;
    const two = worker();
    const early = code(ImageGenerator.create({ model, device: "cpu", worker: two }));
    await Promise.resolve();
    two.terminate();
    all.early = await early;
    all.ended = await code(ImageGenerator.create({ model, device: "cpu", worker: two }));
    all.estimate = await code(ImageGenerator.estimate({ model, worker: two }));
    const three = worker();
    const generator = await ImageGenerator.create({ model, device: "cpu", worker: three });
    const running = generator.generate("a boat", { ...drawing, onProgress: ({ stage }) => stage === "step" && three.terminate() });
    all.calls = await Promise.all([code(running), code(generator.generate("a boat"))]);
    all.later = await code(generator.generate("a boat"));
    // A function makes another one.
    let latest;
    const again = await ImageGenerator.create({ model, device: "cpu", worker: () => (latest = worker()) });
    const before = await digest(await again.generate("a boat", { ...drawing, steps: 1 }));
    all.broken = await code(again.generate("a boat", { ...drawing, onProgress: ({ stage }) => stage === "step" && latest.terminate() }));
    all.same = (await digest(await again.generate("a boat", { ...drawing, steps: 1 }))) === before;
    await again.dispose();
    return all;
  }, MODEL);
  const ended = "disposed";
  assert.deepEqual(found, { loading: ended, early: ended, ended, estimate: ended, calls: [ended, ended], later: ended, broken: ended, same: true });
});

test("on the page's own thread nothing is left of a generator that was disposed of", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t);
  const found = await page.evaluate(async (model) => {
    const { ImageGenerator } = await import("/index.js");
    /** What listens: [target, type, listener], without what was removed. */
    const heard = [];
    const { addEventListener, removeEventListener } = EventTarget.prototype;
    EventTarget.prototype.addEventListener = function (type, listener, ...rest) {
      heard.push([this, type, listener]);
      return addEventListener.call(this, type, listener, ...rest);
    };
    EventTarget.prototype.removeEventListener = function (type, listener, ...rest) {
      const at = heard.findIndex((all) => all.every((each, i) => each === [this, type, listener][i]));
      if (at >= 0) heard.splice(at, 1);
      return removeEventListener.call(this, type, listener, ...rest);
    };
    const closed = new Set();
    const { close } = MessagePort.prototype;
    MessagePort.prototype.close = function () {
      closed.add(this);
      return close.call(this);
    };
    const listening = () => {
      // Signals of its own go with it.
      const all = heard.filter(([target]) => !closed.has(target) && (!(target instanceof AbortSignal) || target === abort.signal));
      return all.map(([target, type]) => `${target.constructor.name} ${type}`);
    };
    /** What it is busy with may take a moment to end. */
    const left = async () => {
      for (let i = 0; i < 100 && listening().length > 0; i++) await new Promise((wake) => setTimeout(wake, 100));
      return listening();
    };
    const abort = new AbortController();
    const generator = await ImageGenerator.create({ model, device: "cpu", worker: false, signal: abort.signal });
    await generator.generate("a boat", { seed: 1, steps: 1, width: 32, height: 32, signal: abort.signal });
    const during = listening();
    const running = generator.generate("a boat", { seed: 1, steps: 5, width: 32, height: 32 }).catch(({ code }) => code);
    await generator.dispose();
    const code = await running;
    const drawn = await left();
    await ImageGenerator.estimate({ model, worker: false });
    const asked = await left();
    const failed = await ImageGenerator.create({ model: "/nowhere/", device: "cpu", worker: false }).catch(({ code }) => code);
    return { during, code, drawn, asked, failed, after: await left() };
  }, MODEL);
  const during = ["MessagePort message", "MessagePort message", "MessagePort error"];
  assert.deepEqual(found, { during, code: "disposed", drawn: [], asked: [], failed: "not-found", after: [] });
});

test("two generators in a page draw at the same time, and one outlives the other", { timeout: 120_000 }, async (t) => {
  const { page } = await opened(t);
  const found = await page.evaluate(async (model) => {
    const [one, other] = await Promise.all([make({ model, device: "cpu" }), make({ model: "builtin", device: "gpu" })]);
    const alone = [await draw(one), await draw(other)];
    const together = await Promise.all([draw(one), draw(other)]);
    await one.dispose();
    const after = await draw(other);
    const disposed = await code(draw(one));
    await other.dispose();
    return { same: together.join() === alone.join() && after === alone[1], disposed, unhandled };
  }, MODEL);
  assert.deepEqual(found, { same: true, disposed: "disposed", unhandled: [] });
});

test("a tab that browsers put to sleep in the background draws on when it is woken", { timeout: 120_000 }, async (t) => {
  const { page } = await opened(t);
  const before = await page.evaluate(async (model) => {
    window.generator = await make({ model, device: "gpu" });
    return draw(window.generator);
  }, MODEL);
  // Hidden tabs have no frames and few timers: nothing here may wait for them.
  await page.evaluate(() => {
    window.requestAnimationFrame = () => 0;
    window.setTimeout = () => 0;
    window.drawn = draw(window.generator);
  });
  const session = await page.context().newCDPSession(page);
  await session.send("Page.setWebLifecycleState", { state: "frozen" });
  await new Promise((wake) => setTimeout(wake, 500));
  await session.send("Page.setWebLifecycleState", { state: "active" });
  assert.equal(await page.evaluate(() => window.drawn), before);
});
