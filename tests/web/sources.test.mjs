// Models from a hub, over a network on which everything goes wrong that may, and packs.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { GOLDEN, SCRIPT, open, script } from "./harness.mjs";
import { COMMIT, begun, cut, hub, random } from "./hub.mjs";
import { ROOT } from "../../tools/shell.mjs";

const FOLDER = join(ROOT, "models/builtin");
const UNET = "unet/diffusion_pytorch_model.fp16.safetensors";
const PACKED = "unet/tintype.safetensors";
const CHUNK = 8 << 20;

/** What `create` and one picture come to, in the page: a digest of the picture's pixels, or the error. */
const draw = (page, options) =>
  page.evaluate(async (options) => {
    const { ImageGenerator } = await import("/index.js");
    try {
      const generator = await ImageGenerator.create({ model: "/models/builtin/", device: "cpu", ...options });
      const picture = await generator.generate("a red circle on blue", { seed: 5, steps: 1 });
      generator.dispose();
      return { pixels: await digest(picture) };
    } catch (error) {
      return { code: error.code ?? error.name, message: error.message };
    }
  }, options);

test("a repository of the hub", { timeout: 300_000 }, async (t) => {
  const { page, served } = await open(t);
  const [kl, tiny] = ["sd-turbo-like", "sdxs-like"].map((name) => join(GOLDEN, "models", name));
  const named = { "stabilityai/sd-turbo": kl, "IDKiro/sdxs-512-dreamshaper": tiny };
  const site = await hub(t, { "house/builtin": FOLDER, "house/kl": kl, ...named });
  const { url, log, faults } = site;
  const model = { model: "house/builtin", hub: url, cache: false };
  const { pixels } = await draw(page, {});
  const files = () => log.filter((entry) => !entry.resolved);
  const bytes = (path) => files().filter((entry) => entry.path === path).reduce((sum, { sent }) => sum + sent, 0);
  const again = () => (log.length = 0, (site.api = []), faults.clear());
  let size;

  await t.test("draws what its folder draws, and fetches what it needs", async () => {
    assert.deepEqual(await draw(page, model), { pixels });
    size = bytes(UNET);
    assert.ok(size > 14e6);
    for (const path of new Set(files().map(({ path }) => path))) {
      assert.equal(bytes(path), statSync(join(FOLDER, path)).size, `of ${path}`);
    }
    assert.ok(files().every(({ begin, end }) => end - begin <= CHUNK));
    // What the revision is called may move.
    assert.deepEqual(site.api, ["main"]);
    assert.ok(log.filter(({ resolved }) => resolved).every(({ revision }) => revision === COMMIT));
    // Nothing was looked for in vain but what a tokenizer may lack.
    const absent = log.filter(({ resolved, path }) => resolved && !files().some((file) => file.path === path));
    assert.deepEqual(absent.map(({ path }) => path), []);
  });
  await t.test("at a revision, and with what the owner knows", async () => {
    again();
    const headers = { Authorization: "Bearer secret" };
    assert.deepEqual(await draw(page, { ...model, model: "house/builtin@refs%2Fpr%2F1", headers }), { pixels });
    assert.ok(log.filter(({ resolved }) => resolved).every(({ authorization }) => authorization === "Bearer secret"));
    assert.ok(files().every(({ authorization }) => authorization === undefined), "a secret went to another origin");
    // Browsers take other headers along when they are redirected.
    again();
    assert.deepEqual(await draw(page, { ...model, headers: { "X-Secret": "mine", ...headers } }), { pixels });
    assert.ok(log.some(({ resolved, secret }) => resolved && secret === "mine"));
    assert.ok(log.every(({ resolved, authorization }) => !resolved || authorization === "Bearer secret"));
    assert.ok(files().every(({ authorization, secret }) => authorization === undefined && secret === undefined));
  });
  await t.test("at a mirror that has nothing but files", async () => {
    again();
    site.api = null;
    assert.deepEqual(await draw(page, { ...model, revision: "v2" }), { pixels });
    assert.ok(log.filter(({ resolved }) => resolved).every(({ revision }) => revision === "v2"));
  });
  await t.test("a named model is at its commit, and its files have the hashes of the list", async () => {
    again();
    site.api = null;
    // The files of a small model of that shape, which are not those of the list.
    assert.ok((await draw(page, { ...model, model: "sdxs" })).pixels);
    assert.ok(log.filter(({ resolved }) => resolved).every(({ revision }) => revision === "76f720262bb051da75666b22c902a78c8e16c763"));
    const { code, message } = await draw(page, { ...model, model: "sd-turbo" });
    assert.ok(code === "integrity" && message.includes("vae/diffusion_pytorch_model.fp16.safetensors"), `${code}: ${message}`);
    // Another revision has other files.
    assert.ok((await draw(page, { ...model, model: "sd-turbo", revision: "main" })).pixels);
  });
  await t.test("what nobody wants is not fetched where no hash asks for it", async () => {
    again();
    served.set("/download.js", script("download.js", (text) => text.replace("RANGE_BYTES = 8 << 20", "RANGE_BYTES = 1 << 14")));
    const base = { model: `${url}house/kl/resolve/main/`, weights: "f32" };
    const drawn = await draw(page, base);
    served.delete("/download.js");
    assert.deepEqual(drawn, await draw(page, { model: "/golden/models/sd-turbo-like/", weights: "f32" }));
    const vae = "vae/diffusion_pytorch_model.fp16.safetensors";
    const whole = statSync(join(GOLDEN, "models/sd-turbo-like", vae)).size;
    assert.ok(bytes(vae) < 0.8 * whole, `${bytes(vae)} bytes of ${whole}`);
    const ranges = files().filter(({ path }) => path.includes("-00001-of-"));
    assert.ok(ranges.length > 50 && ranges.every(({ begin, end }) => end - begin <= 1 << 14));
  });
  await t.test("a flipped bit is refused", async () => {
    again();
    faults.set(UNET, ({ bytes }) => (bytes = Buffer.from(bytes), (bytes[9_000_000] ^= 1), bytes));
    const { code, message } = await draw(page, model);
    assert.ok(code === "integrity" && message.includes(UNET), `${code}: ${message}`);
  });
  await t.test("weights in halves rather than in full", async () => {
    again();
    assert.ok((await draw(page, { ...model, model: "house/kl" })).pixels);
    assert.ok(files().every(({ path }) => !path.endsWith("pytorch_model.safetensors")), files().map((f) => f.path).join());
  });

  const next = random(1);
  await t.test("a connection that is cut goes on where it was", async () => {
    for (let run = 0; run < 3; run++) {
      again();
      const cuts = [next(), next(), next()].map((at) => Math.floor(at * size)).sort((a, b) => a - b);
      const left = [...cuts];
      faults.set(UNET, (how) => {
        const at = left.findIndex((at) => at >= how.begin && at < how.end);
        return at >= 0 && cut(how, left.splice(at, 1)[0]);
      });
      assert.deepEqual(await draw(page, model), { pixels });
      // What is on its way when a connection breaks is lost, and fetched again.
      assert.ok(bytes(UNET) <= size + cuts.length * (2 << 20), `${bytes(UNET)} bytes of ${size}, cut at ${cuts}`);
      assert.equal(files().filter(({ path }) => path === UNET).length, Math.ceil(size / CHUNK) + cuts.length);
    }
  });
  await t.test("one that is always cut at the same place is given up", async () => {
    again();
    faults.set(UNET, (how) => cut(how, 1_000_000));
    const { code, message } = await draw(page, model);
    assert.ok(code === "network" && message.includes(UNET) && message.includes("broke off at byte"), message);
  });
  await t.test("200 instead of 206", async () => {
    again();
    let first = true;
    faults.set(UNET, (how) => {
      if (!first) return how.response.writeHead(200, { "Content-Length": how.bytes.length }).end(how.bytes), true;
      first = false;
      return cut(how, 5_000_000);
    });
    assert.deepEqual(await draw(page, model), { pixels });
    // From the first answer on: then the file comes once.
    again();
    faults.set(UNET, ({ response, bytes }) => {
      response.writeHead(200, { "Content-Length": bytes.length });
      response.write(bytes);
      return response.end(), true;
    });
    assert.deepEqual(await draw(page, model), { pixels });
    assert.equal(bytes(UNET), size);
  });
  await t.test("another file behind a cut", async () => {
    again();
    let first = true;
    faults.set(UNET, (how) => {
      if (!first) return how.bytes.subarray(0, how.bytes.length - 8);
      first = false;
      return cut(how, 5_000_000);
    });
    const { code, message } = await draw(page, model);
    assert.ok(code === "network" && message.includes("another file"), message);
  });
  await t.test("a redirect that has expired, and a server that is busy", async () => {
    for (const [status, head] of [[403, {}], [429, { "Retry-After": "1" }], [503, {}]]) {
      again();
      let first = true;
      faults.set(UNET, ({ response }) => first && ((first = false), response.writeHead(status, head).end(), true));
      assert.deepEqual(await draw(page, model), { pixels }, String(status));
    }
  });
  await t.test("what is refused", async () => {
    const page200 = ({ response }) => (response.writeHead(200, { "Content-Type": "text/html" }).end("<h1>Sign in</h1>"), true);
    const status = (code) => ({ response }) => (response.writeHead(code).end(), true);
    const cases = [
      [UNET, page200, "access", "login"],
      ["unet/config.json", page200, "access", "login"],
      [UNET, status(401), "access", "licence"],
      [UNET, status(403), "access", "licence"],
      ["vae/config.json", status(404), "not-found", "vae/config.json"],
    ];
    for (const [path, fault, wanted, word] of cases) {
      again();
      faults.set(path, fault);
      const { code, message } = await draw(page, model);
      assert.ok(code === wanted && message.includes(word) && message.includes(path), `${code}: ${message}`);
    }
    again();
    const { code, message } = await draw(page, { ...model, model: "house/nobody" });
    assert.ok(code === "not-found" && message.includes("house/nobody"), message);
  });
});

test("the caller's own fetch", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t);
  const { url } = await hub(t, { "house/builtin": FOLDER });
  const { pixels } = await draw(page, {});
  const { drawn, asked, failed, aborted } = await page.evaluate(async (url) => {
    const { ImageGenerator } = await import("/index.js");
    const asked = [];
    // An address that nobody has: the browser's own fetch would not come far.
    const model = { device: "cpu", model: "house/builtin", hub: "http://mirror.invalid/", cache: false };
    const mirror = (address, init) => (asked.push(address), fetch(address.replace("http://mirror.invalid/", url), init));
    const generator = await ImageGenerator.create({ ...model, fetch: mirror });
    const picture = await generator.generate("a red circle on blue", { seed: 5, steps: 1 });
    generator.dispose();
    const broken = async () => { throw new Error("the mirror is away"); };
    const failed = await ImageGenerator.create({ ...model, fetch: broken }).catch(({ code, message }) => ({ code, message }));
    // What it does ends with the loading.
    const abort = new AbortController();
    const ended = new Promise((resolve) => {
      const slow = (_, { signal }) => new Promise(() => (signal.addEventListener("abort", () => resolve("ended")), abort.abort("mine")));
      ImageGenerator.create({ ...model, fetch: slow, signal: abort.signal }).catch(() => {});
    });
    return { drawn: await digest(picture), asked, failed, aborted: await ended };
  }, url);
  assert.equal(drawn, pixels);
  assert.ok(asked.length > 5 && asked.every((address) => address.startsWith("http://mirror.invalid/")));
  assert.ok(failed.code === "network" && failed.message.includes("the mirror is away"), failed.message);
  assert.equal(aborted, "ended");
});

test("a load that is aborted at any moment", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t);
  const { url, faults } = await hub(t, { "house/builtin": FOLDER });
  const model = { model: "house/builtin", hub: url, cache: false };
  const running = new Set();
  let started = 0;
  // Half of each range comes, and then nothing more.
  faults.set(UNET, (how) => {
    begun(how);
    how.response.write(how.bytes.subarray(how.begin, (how.begin + how.end) / 2));
    started++;
    running.add(how.response);
    how.response.on("close", () => running.delete(how.response));
    return true;
  });
  const next = random(7);
  // A load takes a third of a second here, and several on a busy machine.
  const moments = Array.from({ length: 50 }, () => Math.floor(next() * 1500));
  const reasons = await page.evaluate(async ([model, moments]) => {
    const { ImageGenerator } = await import("/index.js");
    const reasons = [];
    for (const moment of moments) {
      const abort = new AbortController();
      setTimeout(() => abort.abort(`at ${moment}`), moment);
      reasons.push(await ImageGenerator.create({ device: "cpu", ...model, signal: abort.signal }).then(() => "accepted", (reason) => reason));
    }
    return reasons;
  }, [model, moments]);
  assert.deepEqual(reasons, moments.map((moment) => `at ${moment}`));
  for (let wait = 0; running.size > 0 && wait < 50; wait++) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(running.size, 0, "connections are still open");
  assert.ok(started > 10, `only ${started} downloads had begun`);
  faults.clear();
  assert.deepEqual(await draw(page, model), await draw(page, {}));
});

test("files that are chosen", { timeout: 120_000 }, async (t) => {
  const { page, served } = await open(t);
  const input = '<!doctype html><input type="file" webkitdirectory><p id="place">drop here</p>' + SCRIPT;
  served.set("/input.html", (response) => response.writeHead(200, { "Content-Type": "text/html" }).end(input));
  await page.goto(new URL("/input.html", page.url()).href);
  const { pixels } = await draw(page, {});
  const drawn = (options) => page.evaluate(`(async () => {
    const { ImageGenerator } = await import("/index.js");
    const generator = await ImageGenerator.create({ device: "cpu", model: ${options} });
    const picture = await generator.generate("a red circle on blue", { seed: 5, steps: 1 });
    generator.dispose();
    return await digest(picture);
  })().catch((error) => error.code + ": " + error.message)`);

  await page.setInputFiles("input", FOLDER);
  assert.equal(await drawn("document.querySelector('input').files"), pixels);
  assert.equal(await drawn("[...document.querySelector('input').files]"), pixels);
  await page.evaluate(async () => {
    // The same folder as a handle, inside another one.
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("picked", { create: true });
    for (const file of document.querySelector("input").files) {
      const parts = file.webkitRelativePath.split("/");
      let folder = root;
      for (const name of parts.slice(0, -1)) folder = await folder.getDirectoryHandle(name, { create: true });
      const stream = await (await folder.getFileHandle(parts.at(-1), { create: true })).createWritable();
      await stream.write(file);
      await stream.close();
    }
  });
  assert.equal(await drawn("await (await navigator.storage.getDirectory()).getDirectoryHandle('picked')"), pixels);
  assert.match(await drawn("[new File(['{}'], 'config.json')]"), /^not-found: .*model_index.json/);
  // A drop, as the browser makes it of a folder on the disk.
  await page.evaluate(() => {
    const place = document.getElementById("place");
    place.ondragover = (event) => event.preventDefault();
    place.ondrop = (event) => {
      event.preventDefault();
      window.dropped(event.dataTransfer);
    };
  });
  await page.evaluate(async () => {
    const { ImageGenerator } = await import("/index.js");
    window.dropped = (model) => (window.result = ImageGenerator.create({ device: "cpu", model }));
  });
  const session = await page.context().newCDPSession(page);
  const { x, y, height } = await page.locator("#place").boundingBox();
  const data = { items: [], files: [FOLDER], dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await session.send("Input.dispatchDragEvent", { type, x: x + 5, y: y + height / 2, data });
  }
  const name = await page.evaluate(async () => {
    const generator = await window.result;
    const picture = await generator.generate("a red circle on blue", { seed: 5, steps: 1 });
    return await digest(picture);
  });
  assert.equal(name, pixels);
});

test("a pack", { timeout: 300_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "tintype-pack-"));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const weights of ["q4", "f32"]) {
    execFileSync(join(ROOT, "target/release/tintype"), ["pack", "--model", FOLDER, "--weights", weights, "--out", join(folder, weights)], { stdio: "ignore" });
  }
  const { page } = await open(t);
  const { url, log, faults } = await hub(t, { "house/q4": join(folder, "q4"), "house/f32": join(folder, "f32") });
  const packed = (name) => draw(page, { model: `house/${name}`, hub: url, cache: false });

  await t.test("draws what its model draws", async () => {
    for (const weights of ["q4", "f32"]) assert.deepEqual(await packed(weights), await draw(page, { weights }));
  });
  await t.test("a damaged chunk is fetched once more, and refused then", async () => {
    const { pixels } = await draw(page, { weights: "f32" });
    const flipped = (bytes) => (bytes = Buffer.from(bytes), (bytes[CHUNK + 5] ^= 1), bytes);
    let first = true;
    faults.set(PACKED, ({ bytes, begin }) => begin === CHUNK && first && ((first = false), flipped(bytes)));
    log.length = 0;
    assert.deepEqual(await packed("f32"), { pixels });
    const begins = log.filter(({ path, resolved }) => path === PACKED && !resolved).map(({ begin }) => begin);
    assert.ok(begins.filter((begin) => begin === CHUNK).length === 2 && begins.filter((begin) => begin === 0).length === 1, begins.join());
    faults.set(PACKED, ({ bytes }) => flipped(bytes));
    const { code, message } = await packed("f32");
    assert.ok(code === "integrity" && message.includes(`${PACKED}: chunk 1 of`), `${code}: ${message}`);
  });
});
