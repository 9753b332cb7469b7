// Packs on the device: kept as they are, gone on with where a load was interrupted, and never used unverified.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "../../tools/shell.mjs";
import { drawOnce as draw, open, openFirefox } from "./harness.mjs";
import { cut, hub, random } from "./hub.mjs";

const PACKED = "unet/tintype.safetensors";
const CHUNK = 8 << 20;

/** A pack of the built-in model. As f32 its U-Net has several chunks. */
function pack(t, weights = "f32") {
  const folder = mkdtempSync(join(tmpdir(), "tintype-kept-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const out = join(folder, "pack");
  const command = ["pack", "--model", join(ROOT, "models/builtin"), "--weights", weights, "--out", out];
  execFileSync(join(ROOT, "target/release/tintype"), command, { stdio: "ignore" });
  const chunks = JSON.parse(readFileSync(join(out, "tintype.json"))).files[PACKED].sha256.length;
  assert.ok(chunks >= 3 || weights !== "f32", `${chunks} chunks are too few to tell anything`);
  return { out, bytes: readFileSync(join(out, PACKED)) };
}

/** Calls a function of `cache`, in the page. */
const cache = (page, name, ...args) =>
  page.evaluate(async ([name, args]) => (await import("/index.js")).ImageGenerator.cache[name](...args), [name, args]);

/** Calls `work(folder, write)` with the folder of what is kept or was left; `write(name, at, bytes)` changes a file. */
const change = (page, work) =>
  page.evaluate(async (work) => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("tintype");
    const { value: key } = await root.keys().next();
    const folder = await root.getDirectoryHandle(key);
    const write = async (name, at, bytes) => {
      const stream = await (await folder.getFileHandle(name)).createWritable({ keepExistingData: true });
      await stream.write({ type: "write", position: at, data: new Uint8Array(bytes) });
      await stream.close();
    };
    return new Function("folder", "write", `return (${work})(folder, write)`)(folder, write);
  }, String(work));

/** How much of the U-Net's file has been written, in bytes. */
const written = (page) =>
  change(page, async (folder) => {
    const read = async (name) => (await folder.getFileHandle(name)).getFile();
    const parts = JSON.parse(await (await read("parts.json")).text());
    return (await read("data")).size - parts.files["unet/tintype.safetensors"][0];
  }).catch(() => 0);

/** How many folders there are, of models that are kept and of rests. */
const folders = (page) =>
  page.evaluate(async () => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("tintype");
    let count = 0;
    for await (const key of root.keys()) count += key.length > 0;
    return count;
  });

test("a pack that is kept", { timeout: 300_000 }, async (t) => {
  const { out, bytes } = pack(t);
  const { page, browser } = await open(t);
  const { url, log, faults } = await hub(t, { "house/pack": out });
  const model = { model: "house/pack", hub: url };
  const { pixels } = await draw(page, { weights: "f32" });
  const whole = { pixels, warnings: [] };
  /** From which byte on the U-Net was fetched. */
  const begin = () => Math.min(...log.filter(({ path, resolved }) => path === PACKED && !resolved).map(({ begin }) => begin));
  const again = () => (log.length = 0, faults.clear());
  /** The connection ends at byte `end`, and is not taken up again. */
  const endAt = (end) => faults.set(PACKED, (how) => (how.begin < end ? cut(how, end) : (how.response.writeHead(400).end(), true)));

  await t.test("is loaded without a request, and says how it is stored", async () => {
    assert.deepEqual(await draw(page, model), whole);
    again();
    assert.deepEqual(await draw(page, { ...model, offline: true }), whole);
    assert.deepEqual(await draw(page, model), whole);
    assert.equal(log.length, 0);
    const [entry] = await cache(page, "list");
    assert.equal(entry.weights, "f32");
    assert.ok(entry.bytes > bytes.length);
  });

  const next = random(3);
  for (const run of [1, 2, 3]) {
    const end = Math.floor(next() * bytes.length);
    await t.test(`goes on after a connection that ended at byte ${end}`, async () => {
      await cache(page, "clear");
      again();
      endAt(end);
      const { code, message } = await draw(page, model);
      assert.ok(code === "network" && message.includes(PACKED), `${code}: ${message}`);
      assert.deepEqual(await cache(page, "list"), []);
      assert.equal((await draw(page, { ...model, offline: true })).code, "offline");
      again();
      // In another page: nothing is left but what is on the disk.
      await page.reload();
      assert.deepEqual(await draw(page, model), whole, `run ${run}`);
      assert.equal(begin(), end - (end % CHUNK));
      again();
      assert.deepEqual(await draw(page, { ...model, offline: true }), whole);
    });
  }

  await t.test("goes on after a tab that was closed", async () => {
    const context = await browser.newContext();
    const [closed, other] = [await context.newPage(), await context.newPage()];
    for (const tab of [closed, other]) await tab.goto(page.url());
    again();
    const end = CHUNK + Math.floor(next() * (bytes.length - CHUNK));
    faults.set(PACKED, ({ response, bytes }) => {
      // So much of it comes, and no more.
      response.writeHead(200, { "Content-Length": bytes.length });
      response.write(bytes.subarray(0, end));
      return true;
    });
    draw(closed, model).catch(() => {});
    while ((await written(other)) < end - (end % CHUNK)) await new Promise((done) => setTimeout(done, 100));
    await closed.close();
    assert.deepEqual(await cache(other, "list"), []);
    again();
    assert.deepEqual(await draw(other, model), whole);
    assert.equal(begin(), end - (end % CHUNK));
    await context.close();
  });

  await t.test("a damaged rest is fetched again, from the damage on", async () => {
    await cache(page, "clear");
    again();
    endAt(2 * CHUNK + 5);
    await draw(page, model);
    // A byte that the second chunk of the U-Net has, wherever that begins.
    await change(page, async (folder, write) => {
      const parts = JSON.parse(await (await (await folder.getFileHandle("parts.json")).getFile()).text());
      const [begin] = parts.files["unet/tintype.safetensors"];
      await write("data", begin + (8 << 20) + 1000, [1, 2, 3, 4, 5, 6, 7, 8]);
    });
    again();
    assert.deepEqual(await draw(page, model), whole);
    assert.equal(begin(), CHUNK);
    assert.deepEqual(await draw(page, { ...model, offline: true }), whole);
  });

  await t.test("a damaged model is fetched again, from the damage on", async () => {
    await change(page, async (folder, write) => {
      const entry = JSON.parse(await (await (await folder.getFileHandle("entry.json")).getFile()).text());
      const [begin] = entry.files["unet/tintype.safetensors"];
      await write("data", begin + (8 << 20) + 1000, [1, 2, 3, 4, 5, 6, 7, 8]);
    });
    const offline = await draw(page, { ...model, offline: true });
    assert.ok(offline.code === "integrity" && offline.message.includes(`${PACKED}: chunk 1 of`), offline.message);
    again();
    const repaired = await draw(page, model);
    assert.ok(repaired.pixels === pixels && repaired.warnings[0].message.includes("damaged"), JSON.stringify(repaired));
    assert.equal(begin(), CHUNK);
    assert.deepEqual(await draw(page, { ...model, offline: true }), whole);
  });

  await t.test("a rest that nobody can read, or an old one, is removed", async () => {
    const rest = async () => {
      await cache(page, "clear");
      again();
      endAt(2 * CHUNK + 5);
      await draw(page, model);
      again();
      assert.equal(await folders(page), 1);
    };
    await rest();
    await change(page, (folder, write) => write("parts.json", 0, [0]));
    assert.equal((await draw(page, { ...model, offline: true })).code, "offline");
    assert.equal(await folders(page), 0);
    await rest();
    await page.evaluate(async () => {
      const { openStore } = await import("/store.js");
      await (await openStore()).sweep();
    });
    assert.equal(await folders(page), 1);
    await page.evaluate(async () => {
      const { now } = Date;
      Date.now = () => now() + 25 * 3600 * 1000;
      const { openStore } = await import("/store.js");
      await (await openStore()).sweep();
      Date.now = now;
    });
    assert.equal(await folders(page), 0);
    assert.deepEqual(await draw(page, model), whole);
  });
});

test("a damaged pack in whose place is another one now", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t);
  const repos = { "house/pack": pack(t, "q4").out };
  const { url } = await hub(t, repos);
  const model = { model: "house/pack", hub: url };
  assert.ok((await draw(page, model)).pixels);
  await change(page, async (folder, write) => {
    const entry = JSON.parse(await (await (await folder.getFileHandle("entry.json")).getFile()).text());
    await write("data", entry.files["unet/tintype.safetensors"][0] + 1000, [1, 2, 3, 4, 5, 6, 7, 8]);
  });
  // All of its networks are longer.
  repos["house/pack"] = pack(t).out;
  const { pixels, warnings } = await draw(page, model);
  assert.ok(pixels === (await draw(page, { weights: "f32" })).pixels && warnings[0].message.includes("damaged"), JSON.stringify(warnings));
  assert.deepEqual(await draw(page, { ...model, offline: true }), { pixels, warnings: [] });
});

test("two tabs at odds", { timeout: 120_000 }, async (t) => {
  const { page, browser } = await open(t);
  const context = await browser.newContext();
  const [one, two] = [await context.newPage(), await context.newPage()];
  for (const tab of [one, two]) await tab.goto(page.url());
  /** Runs in a page with its store; what it returns comes back. */
  const inStore = (tab, work, ...args) =>
    tab.evaluate(async ([work, args]) => {
      const { openStore } = await import("/store.js");
      globalThis.store ??= await openStore();
      return new Function("store", "args", `return (${work})(store, ...args)`)(globalThis.store, args);
    }, [String(work), args]);
  for (const weights of ["q8", "q4"]) assert.ok((await draw(one, { cache: true, weights })).pixels);
  const [latest, first] = await cache(one, "list");

  await t.test("are not removed while they are read", async () => {
    await inStore(one, async (store, key) => void (globalThis.kept = await store.find(key)), first.key);
    assert.equal(await cache(two, "delete", first.key), false);
    await cache(two, "clear");
    assert.deepEqual((await cache(two, "list")).map(({ key }) => key), [first.key]);
    await one.evaluate(() => globalThis.kept.release());
    assert.equal(await cache(two, "delete", first.key), true);
    assert.deepEqual(await cache(one, "list"), []);
  });
  await t.test("are not removed while they are written, and not by a sweep that came too early", async () => {
    // The sweep of one tab looks at the model, then waits until another one has kept it.
    const swept = inStore(one, async (store) => {
      const { request } = navigator.locks;
      navigator.locks.request = async (...args) => {
        await new Promise((done) => (globalThis.go = done));
        return request.apply(navigator.locks, args);
      };
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("tintype");
      await root.getDirectoryHandle(await (await import("/store.js")).keyOf("a rest"), { create: true });
      await store.sweep(0).finally(() => (navigator.locks.request = request));
    });
    await one.waitForFunction(() => globalThis.go);
    const key = await inStore(two, async () => {
      const { keyOf } = await import("/store.js");
      const key = await keyOf("a rest");
      const folder = await (await (await navigator.storage.getDirectory()).getDirectoryHandle("tintype")).getDirectoryHandle(key);
      const entry = { format: 1, model: "a model", used: new Date().toISOString(), bytes: 0, files: {} };
      const stream = await (await folder.getFileHandle("entry.json", { create: true })).createWritable();
      await stream.write(JSON.stringify(entry));
      await stream.close();
      return key;
    });
    await one.evaluate(() => globalThis.go());
    await swept;
    assert.deepEqual((await cache(two, "list")).map((entry) => entry.key), [key]);
  });
  await t.test("make room in the order of their last use, those in use excepted", async () => {
    await cache(one, "clear");
    // The newest of them is written when the others are there.
    const made = await inStore(one, async (store) => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("tintype");
      for (let i = 0; i < 4; i++) {
        const folder = await root.getDirectoryHandle(`model${i}`, { create: true });
        for (const [name, text] of [["data", "x".repeat(1000)], ["entry.json", JSON.stringify({ format: 1, model: `${i}`, used: `2026-01-0${4 - i}`, bytes: 1000, files: { a: [0, 1000] } })]]) {
          const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
          await stream.write(text);
          await stream.close();
        }
      }
      return (await store.list()).map(({ key }) => key);
    });
    assert.deepEqual(made, ["model0", "model1", "model2", "model3"]);
    const left = (bytes, key) => inStore(two, async (store, bytes, key) => {
      await store.makeRoom(bytes, key);
      return (await store.list()).map(({ key }) => key);
    }, bytes, key);
    // Nothing is removed where that would not be enough.
    assert.deepEqual(await left(4500, "new"), made);
    assert.deepEqual(await left(1, "model3"), ["model0", "model1", "model3"]);
    await one.evaluate(async () => (globalThis.kept = await globalThis.store.find("model1")));
    assert.deepEqual(await left(1500, "new"), ["model1"]);
    await one.evaluate(() => globalThis.kept.release());
  });
  assert.notEqual(latest.key, first.key);
});

test("a full disk in the middle", { timeout: 120_000 }, async (t) => {
  const { page, served } = await open(t);
  const text = readFileSync(join(ROOT, "dist/keeper.js"), "utf8");
  /** Writes fail as `how` says, with the sum of the bytes so far as `sum`. */
  const fails = (how) => {
    const wrap = `
      const { write } = FileSystemSyncAccessHandle.prototype;
      let sum = 0;
      FileSystemSyncAccessHandle.prototype.write = function (bytes, options) {
        sum += bytes.length;
        ${how}
        return write.call(this, bytes, options);
      };`;
    served.set("/keeper.js", (response) => response.writeHead(200, { "Content-Type": "text/javascript" }).end(text + wrap));
  };
  const { pixels } = await draw(page, { weights: "q8" });
  const errors = [
    ['if (sum > 3e6) throw new DOMException("full", "QuotaExceededError");', "the disk is full"],
    ["if (sum > 3e6) return bytes.length - 1;", "the disk is full"],
    ['if (sum > 3e6) throw new DOMException("gone", "InvalidStateError");', "gone"],
    // The manifest is the last that is written.
    ['if (new TextDecoder().decode(bytes).includes(\'"recipe"\')) throw new DOMException("full", "QuotaExceededError");', "the disk is full"],
  ];
  for (const [how, why] of errors) {
    fails(how);
    const drawn = await draw(page, { cache: true, weights: "q8" });
    assert.equal(drawn.pixels, pixels, how);
    assert.ok(drawn.warnings.length === 1 && drawn.warnings[0].message.includes(why), `${how}: ${JSON.stringify(drawn.warnings)}`);
    assert.equal(await folders(page), 0);
  }
  // Once full, and then no more: what could not be written is written later.
  fails('if (sum > 3e6 && !globalThis.once) { globalThis.once = true; throw new DOMException("full", "QuotaExceededError"); }');
  assert.deepEqual(await draw(page, { cache: true, weights: "q8" }), { pixels, warnings: [] });
  assert.deepEqual(await draw(page, { offline: true, weights: "q8" }), { pixels, warnings: [] });
});

test("Firefox keeps models too", { timeout: 120_000 }, async (t) => {
  const { page } = await openFirefox(t);
  const { pixels } = await draw(page, { weights: "q8" });
  assert.equal((await draw(page, { offline: true, weights: "q8" })).code, "offline");
  assert.deepEqual(await draw(page, { cache: true, weights: "q8" }), { pixels, warnings: [] });
  assert.deepEqual(await draw(page, { offline: true, weights: "q8" }), { pixels, warnings: [] });
  const both = await page.evaluate(async () => {
    const { cache } = (await import("/index.js")).ImageGenerator;
    const before = await cache.list();
    await cache.clear();
    return [before.length, (await cache.list()).length];
  });
  assert.deepEqual(both, [1, 0]);
});
