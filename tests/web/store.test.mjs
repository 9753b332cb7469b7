// Models that are kept on the device: loaded without the network, whole or not at all, by one tab at a time.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "../../tools/shell.mjs";
import { drawOnce, open } from "./harness.mjs";
import { cut, hub } from "./hub.mjs";

const UNET = "unet/diffusion_pytorch_model.fp16.safetensors";
const repos = { "house/builtin": join(ROOT, "models/builtin"), "house/copy": join(ROOT, "models/builtin") };

const draw = (page, options) => drawOnce(page, { weights: "q8", ...options });

/** Two pages of one visitor. */
async function tabs(t) {
  const { page, browser } = await open(t);
  const context = await browser.newContext();
  const both = [await context.newPage(), await context.newPage()];
  for (const tab of both) await tab.goto(page.url());
  return both;
}

/** Calls a function of `cache`, in the page. */
const cache = (page, name, ...args) =>
  page.evaluate(async ([name, args]) => (await import("/index.js")).ImageGenerator.cache[name](...args), [name, args]);

/** Changes what is kept: `change` gets the folder of the first model. */
const damage = (page, change) =>
  page.evaluate(async (change) => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("tintype");
    const key = await root.keys().next();
    const folder = await root.getDirectoryHandle(key.value);
    const write = async (name, at, bytes) => {
      const stream = await (await folder.getFileHandle(name)).createWritable({ keepExistingData: true });
      if (at < 0) await stream.truncate(bytes);
      else await stream.write({ type: "write", position: at, data: new Uint8Array(bytes) });
      await stream.close();
    };
    await new Function("folder", "write", `return (${change})(folder, write)`)(folder, write);
  }, String(change));

test("what is kept", { timeout: 300_000 }, async (t) => {
  const { page } = await open(t);
  const { url, log } = await hub(t, repos);
  const model = { model: "house/builtin", hub: url };
  const { pixels } = await draw(page, {});
  const whole = { pixels, warnings: [] };

  await t.test("offline before it is kept", async () => {
    const { code, message } = await draw(page, { ...model, offline: true });
    assert.ok(code === "offline" && message.includes("house/builtin"), message);
    assert.equal(log.length, 0);
  });
  await t.test("is loaded without a request", async () => {
    assert.deepEqual(await draw(page, model), whole);
    const fetched = log.length;
    for (const offline of [false, true]) assert.deepEqual(await draw(page, { ...model, offline }), whole);
    assert.equal(log.length, fetched);
  });
  await t.test("is listed", async () => {
    const [entry, ...others] = await cache(page, "list");
    assert.equal(others.length, 0);
    assert.ok(entry.model.includes("house/builtin") && entry.weights === "q8", JSON.stringify(entry));
    assert.equal(await cache(page, "size"), entry.bytes);
    assert.ok(entry.bytes > 7e6 && entry.bytes < 9e6 && entry.used > entry.created, JSON.stringify(entry));
  });
  await t.test("is another model with other weights, and goes when it is told to", async () => {
    assert.ok((await draw(page, { ...model, weights: "q4" })).pixels);
    const [latest, first] = await cache(page, "list");
    assert.deepEqual([latest.weights, first.weights], ["q4", "q8"]);
    assert.equal(await cache(page, "delete", latest.key), true);
    assert.deepEqual((await cache(page, "list")).map(({ key }) => key), [first.key]);
    await cache(page, "clear");
    assert.equal(await cache(page, "size"), 0);
  });
  await t.test("is not kept where nobody wants it", async () => {
    assert.deepEqual(await draw(page, { ...model, cache: false }), whole);
    assert.deepEqual(await draw(page, { cache: false }), whole);
    assert.deepEqual(await cache(page, "list"), []);
  });
  await t.test("damaged, it is fetched again, or refused offline", async () => {
    const damages = {
      "a bit": (folder, write) => write("data", 3_000_000, [1, 2, 3, 4]),
      "its end": (folder, write) => write("data", -1, 4_000_000),
      "what it says of itself": (folder, write) => write("entry.json", 0, [0]),
      "an older version": async (folder, write) => {
        const text = await (await (await folder.getFileHandle("entry.json")).getFile()).text();
        await write("entry.json", 0, new TextEncoder().encode(text.replace('"format":1', '"format":0')));
      },
    };
    for (const [what, change] of Object.entries(damages)) {
      await cache(page, "clear");
      assert.deepEqual(await draw(page, model), whole);
      await damage(page, change);
      const offline = await draw(page, { ...model, offline: true });
      assert.equal(offline.code, what === "a bit" ? "integrity" : "offline", what);
      // An offline load has removed nothing that is whole but for a bit.
      if (what === "a bit") assert.ok(offline.message.includes("tintype.safetensors: chunk 0"), offline.message);
      const again = await draw(page, model);
      assert.equal(again.pixels, pixels, what);
      assert.equal(again.warnings.length, what === "a bit" ? 1 : 0, what);
      assert.deepEqual(await draw(page, { ...model, offline: true }), whole);
    }
  });
});

test("what a newer version keeps is left alone", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t);
  const { url, log } = await hub(t, repos);
  const model = { model: "house/builtin", hub: url };
  /** The text of every small file there is, and how long the others are. */
  const all = () =>
    page.evaluate(async () => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("tintype");
      const found = {};
      for await (const [key, folder] of root.entries()) {
        for await (const [name, handle] of folder.entries()) {
          const file = await handle.getFile();
          found[`${key}/${name}`] = file.size < 100_000 ? await file.text() : file.size;
        }
      }
      return found;
    });
  const age = (name) => ({
    "entry.json": async (folder, write) => {
      const text = await (await (await folder.getFileHandle("entry.json")).getFile()).text();
      await write("entry.json", 0, new TextEncoder().encode(text.replace('"format":1', '"format":2')));
    },
    // A write of its that was interrupted.
    "parts.json": async (folder, write) => {
      await folder.removeEntry("entry.json");
      const text = new TextEncoder().encode('{"format":2,"pieces":[]}');
      await write("parts.json", 0, text);
      await write("parts.json", -1, text.length);
    },
  })[name];
  const { pixels } = await draw(page, model);
  for (const name of ["entry.json", "parts.json"]) {
    await damage(page, age(name));
    const before = await all();
    assert.ok(Object.keys(before).length > 1);
    assert.deepEqual(await cache(page, "list"), []);
    assert.equal((await draw(page, { ...model, offline: true })).code, "offline");
    log.length = 0;
    const again = await draw(page, model);
    assert.equal(again.pixels, pixels);
    assert.deepEqual(again.warnings.map(({ code, message }) => [code, message.includes("newer version")]), [["cache", true]]);
    assert.ok(log.length > 0);
    await page.evaluate(async () => (await (await import("/store.js")).openStore()).makeRoom(2 ** 40, ""));
    assert.deepEqual(await all(), before, name);
  }
  // Another model is kept beside it, and all goes when everything has to.
  assert.deepEqual(await draw(page, { ...model, weights: "q4" }).then(({ warnings }) => warnings), []);
  assert.equal((await cache(page, "list")).length, 1);
  await cache(page, "clear");
  assert.deepEqual(await all(), {});
});

test("a tab that is closed during the write", { timeout: 120_000 }, async (t) => {
  const [page, other] = await tabs(t);
  const { url, log, faults } = await hub(t, repos);
  const model = { model: "house/builtin", hub: url };
  let arrived;
  const half = new Promise((done) => (arrived = done));
  faults.set(UNET, ({ response, bytes }) => {
    // Half of it comes, and no more.
    response.writeHead(200, { "Content-Length": bytes.length });
    response.write(bytes.subarray(0, bytes.length / 2), () => setTimeout(arrived, 500));
    return true;
  });
  draw(page, model).catch(() => {});
  await half;
  assert.deepEqual(await cache(other, "list"), []);
  await page.close();
  faults.clear();
  assert.equal((await draw(other, { ...model, offline: true })).code, "offline");
  const { pixels, warnings } = await draw(other, model);
  assert.ok(pixels && warnings.length === 0, JSON.stringify(warnings));
  log.length = 0;
  assert.equal((await draw(other, { ...model, offline: true })).pixels, pixels);
  assert.equal(log.length, 0);
});

test("two tabs at once", { timeout: 120_000 }, async (t) => {
  const [page, other] = await tabs(t);
  const { url } = await hub(t, repos);
  const model = { model: "house/builtin", hub: url };
  const [one, two] = await Promise.all([draw(page, model), draw(other, model)]);
  assert.ok(one.pixels && one.pixels === two.pixels);
  assert.equal((await cache(page, "list")).length, 1);
  const [again, too] = await Promise.all([page, other].map((tab) => draw(tab, { ...model, offline: true })));
  assert.deepEqual([again.pixels, too.pixels], [one.pixels, one.pixels]);
  // Each find writes when the model was used last, and the other tab may be reading that just then.
  const finds = (tab) =>
    tab.evaluate(async () => {
      const store = await (await import("/store.js")).openStore();
      const [{ key }] = await store.list();
      let found = 0;
      for (let i = 0; i < 200; i++) {
        const kept = await store.find(key);
        if (kept) found++;
        kept?.release();
      }
      return found;
    });
  assert.deepEqual(await Promise.all([page, other].map(finds)), [200, 200]);
});

test("where nothing can be kept", { timeout: 300_000 }, async (t) => {
  const { page } = await open(t);
  const { url, log, faults } = await hub(t, repos);
  const model = { model: "house/builtin", hub: url };
  const { pixels } = await draw(page, {});
  const session = await page.context().newCDPSession(page);
  const quota = (bytes) => session.send("Storage.overrideQuotaForOrigin", { origin: new URL(page.url()).origin, ...(bytes ? { quotaSize: bytes } : {}) });

  await t.test("a full disk", async () => {
    await quota(3_000_000);
    const full = await draw(page, model);
    assert.equal(full.pixels, pixels);
    assert.ok(full.warnings.length === 1 && full.warnings[0].message.includes("not kept"), JSON.stringify(full.warnings));
    assert.deepEqual(await cache(page, "list"), []);
    await quota();
    assert.deepEqual(await draw(page, model), { pixels, warnings: [] });
  });
  await t.test("a disk that another model fills", async () => {
    await cache(page, "clear");
    assert.ok((await draw(page, { ...model, model: "house/copy" })).pixels);
    await quota(12_000_000);
    // The other one makes room.
    assert.deepEqual(await draw(page, model), { pixels, warnings: [] });
    const [kept, ...others] = await cache(page, "list");
    assert.ok(kept.model.includes("house/builtin") && others.length === 0);
    await quota();
  });
  await t.test("no private files", async () => {
    await cache(page, "clear");
    const worker = "navigator.storage.getDirectory = () => Promise.reject(new DOMException(\"no\", \"SecurityError\"));";
    const { page: other, served } = await open(t);
    const { readFileSync } = await import("node:fs");
    const text = readFileSync(join(ROOT, "dist/store.js"), "utf8");
    served.set("/store.js", (response) => response.writeHead(200, { "Content-Type": "text/javascript" }).end(worker + text));
    assert.deepEqual(await draw(other, model), { pixels, warnings: [] });
    assert.equal((await draw(other, { ...model, offline: true })).code, "offline");
    assert.deepEqual(await cache(other, "list"), []);
  });
  await t.test("a load that fails leaves nothing", async () => {
    log.length = 0;
    faults.set(UNET, (how) => cut(how, 1_000_000));
    assert.equal((await draw(page, model)).code, "network");
    assert.deepEqual(await cache(page, "list"), []);
    faults.clear();
    assert.deepEqual(await draw(page, model), { pixels, warnings: [] });
  });
});

test("memory", { timeout: 120_000 }, async (t) => {
  const { page, served } = await open(t);
  const { url, log } = await hub(t, repos);
  const model = { model: "house/builtin", hub: url };
  const estimate = (options) =>
    page.evaluate(async (options) => {
      const { ImageGenerator } = await import("/index.js");
      return ImageGenerator.estimate(options).catch(({ code, message }) => ({ code, message }));
    }, options);
  const create = (options) =>
    page.evaluate(async (options) => {
      const { ImageGenerator } = await import("/index.js");
      try {
        const generator = await ImageGenerator.create({ model: "/models/builtin/", device: "cpu", ...options });
        generator.dispose();
        return generator.weights;
      } catch ({ code, message }) {
        return `${code}: ${message}`;
      }
    }, options);

  await t.test("is told before anything is fetched", async () => {
    const needs = await estimate(model);
    assert.ok(log.every(({ path }) => path.endsWith(".json")), log.map(({ path }) => path).join());
    assert.equal(needs.fitting, "f16");
    const { f32, f16, q8, q4 } = needs;
    assert.ok(f32.weights > 1.9 * f16.weights && f16.weights > 1.8 * q8.weights && q8.weights > 1.3 * q4.weights, JSON.stringify(needs));
    assert.ok(f16.activations > 1e5 && f16.rows > 1e5);
    const large = await estimate({ ...model, width: 256, height: 256 });
    assert.ok(large.q8.activations > 3 * q8.activations && large.q8.weights === q8.weights);
    assert.equal((await estimate({ ...model, memory: Math.ceil(q8.weights + q8.activations) })).fitting, "q8");
    assert.equal((await estimate({ ...model, memory: 1000 })).code, "limit-too-low");
  });
  await t.test("is saved where the smallest weights are too large, and an image is drawn all the same", async () => {
    const { q4 } = await estimate({ ...model, device: "gpu" });
    const memory = q4.weights + q4.activations - 100_000;
    const { fitting, savings } = await estimate({ ...model, device: "gpu", memory });
    assert.deepEqual([fitting, savings], ["q4", ["text"]]);
    assert.deepEqual((await estimate({ ...model, device: "gpu" })).savings, []);
    const drawn = await page.evaluate(async (options) => {
      const { ImageGenerator } = await import("/index.js");
      const draw = async (options) => {
        const generator = await ImageGenerator.create({ model: "/models/builtin/", device: "gpu", ...options });
        const picture = await generator.generate("a red circle on blue", { seed: 5, steps: 1 });
        await generator.dispose();
        return { warnings: generator.warnings, data: Array.from(picture.toImageData().data) };
      };
      return [await draw({ weights: "q4" }), await draw(options)];
      // What has no shader-f16 keeps activations in twice as many bytes.
    }, { weights: "q4", memory: memory + q4.activations - 200_000 });
    assert.deepEqual(drawn[0].warnings, []);
    assert.match(drawn[1].warnings.map(({ message }) => message).join(), /^the text encoder runs on the CPU/);
    const far = drawn[0].data.filter((level, i) => Math.abs(level - drawn[1].data[i]) > 1).length;
    assert.ok(far < 0.001 * drawn[0].data.length, `${far} levels differ`);
  });
  await t.test("chooses the weights", async () => {
    const { q8, q4 } = await estimate({ ...model, device: "cpu" });
    assert.equal(await create({}), "f16");
    assert.equal(await create({ memory: q8.weights + q8.activations }), "q8");
    assert.equal(await create({ memory: q4.weights + q4.activations }), "q4");
    assert.match(await create({ memory: q4.weights }), /^limit-too-low: .*memory allows/);
    // A device that tells of little gets less, and is refused nothing.
    const { readFileSync } = await import("node:fs");
    const text = readFileSync(join(ROOT, "dist/service.js"), "utf8");
    const small = text.replace("navigator.deviceMemory ?? 4", "1 / 2 ** 12");
    assert.notEqual(small, text);
    served.set("/service.js", (response) => response.writeHead(200, { "Content-Type": "text/javascript" }).end(small));
    assert.equal(await create({}), "q4");
  });
});
