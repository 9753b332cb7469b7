// What networks, hubs and servers of files really do: they fall silent, are busy, compress, change a file in between, send
// what has no end. A load goes on, or ends with a code and a sentence, and never mixes or believes what it cannot know.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { ROOT } from "../../tools/shell.mjs";
import { drawOnce, open, script } from "./harness.mjs";
import { COMMIT, begun, cut, hub } from "./hub.mjs";

const FOLDER = join(ROOT, "models/builtin");
const UNET = "unet/diffusion_pytorch_model.fp16.safetensors";
const CONFIG = "unet/config.json";
const MIB = 1 << 20;

const draw = (page, options) => drawOnce(page, { cache: false, ...options });

const list = (page) => page.evaluate(async () => (await import("/index.js")).ImageGenerator.cache.list());

/** A page, a hub with the built-in model, and what it draws. `quiet` is how long a request is waited for, in milliseconds. */
async function begin(t, { quiet = 700 } = {}) {
  const { page, served } = await open(t);
  served.set("/patience.js", script("patience.js", (text) => text.replace("QUIET = 30_000", `QUIET = ${quiet}`).replace("WAIT = 250", "WAIT = 20")));
  const site = await hub(t, { "house/builtin": FOLDER });
  const again = () => Object.assign(site, { api: [], seen: [], tell: () => false }, site.log.splice(0) && {}, site.faults.clear());
  const files = (path = UNET) => site.log.filter((entry) => entry.path === path && !entry.resolved);
  const { pixels } = await draw(page, {});
  return { page, served, site, again, files, pixels, whole: { pixels, warnings: [] }, model: { model: "house/builtin", hub: site.url } };
}

const refused = ({ code, message }, wanted, ...words) =>
  assert.ok(code === wanted && words.every((word) => message.includes(word)), `wanted ${wanted} and ${words}, found ${code}: ${message}`);

/** Sends `bytes` of what was asked for, and then nothing more. */
const silent = (how, bytes) => {
  begun(how);
  how.response.flushHeaders();
  if (bytes > 0) how.response.write(how.bytes.subarray(how.begin, Math.min(how.end, how.begin + bytes)));
  return true;
};

test("a connection that falls silent", { timeout: 120_000 }, async (t) => {
  const { page, site, again, files, whole, model } = await begin(t);
  await t.test("goes on from its last byte, as often as it brought something", async () => {
    // Of each range several requests in a row, more than are made in vain.
    let left = 12;
    site.faults.set(UNET, (how) => how.begin < 7 * MIB && left-- > 0 && silent(how, MIB / 2));
    assert.deepEqual(await draw(page, model), whole);
    const begins = files().map(({ begin }) => begin).filter((begin) => begin < 7 * MIB);
    assert.deepEqual(begins, Array.from({ length: 13 }, (_, i) => (i * MIB) / 2));
  });
  await t.test("in the middle of a small file, and before an answer", async () => {
    again();
    let left = 2;
    site.faults.set(CONFIG, (how) => left-- > 0 && (left === 1 ? silent(how, 100) : true));
    assert.deepEqual(await draw(page, model), whole);
    assert.deepEqual(files(CONFIG).map(({ begin }) => begin), [0, 100, 100]);
  });
  await t.test("for good", async () => {
    again();
    site.faults.set(UNET, (how) => silent(how, how.begin === 0 ? 1000 : 0));
    refused(await draw(page, model), "network", UNET, "at byte 1000", "nothing came for 0.7 s");
    assert.equal(files().filter(({ begin }) => begin === 1000).length, 4);
  });
});

test("a connection that breaks again and again", { timeout: 120_000 }, async (t) => {
  const { page, site, files, whole, model } = await begin(t);
  // Eight times in the first range.
  site.faults.set(UNET, (how) => how.begin < 7 * MIB && cut(how, how.begin + MIB - (how.begin % 3)));
  assert.deepEqual(await draw(page, model), whole);
  assert.ok(files().filter(({ begin }) => begin > 0 && begin < 8 * MIB).length > 6);
});

test("a hub", { timeout: 300_000 }, async (t) => {
  const { page, site, again, files, pixels, whole, model } = await begin(t);
  const damage = (path = UNET) => site.faults.set(path, ({ bytes }) => (bytes = Buffer.from(bytes), (bytes[bytes.length - 9] ^= 1), bytes));
  /** The first `count` questions get this answer. */
  const answers = (count, status, head = {}) => (site.tell = (response) => count-- > 0 && (response.writeHead(status, head).end("busy"), true));

  await t.test("that is busy for a while is asked again", async () => {
    for (const [status, head] of [[429, { "Retry-After": "1" }], [500, {}], [503, {}], [408, {}]]) {
      again();
      answers(2, status, head);
      const before = Date.now();
      assert.deepEqual(await draw(page, model), whole, String(status));
      assert.equal(site.api.length, 3);
      if (status === 429) assert.ok(Date.now() - before > 2000, "it was not left alone");
    }
    again();
    let left = 1;
    site.tell = () => left-- > 0;
    assert.deepEqual(await draw(page, model), whole);
    assert.equal(site.api.length, 2);
  });
  await t.test("that does not answer is no mirror, and its files are not believed", async () => {
    for (const status of [429, 500, 502, 400, 200]) {
      again();
      answers(100, status);
      damage();
      refused(await draw(page, model), "network", site.url, "house/builtin", status === 200 ? "wanted JSON" : String(status));
      assert.equal(site.api.length, [400, 200].includes(status) ? 1 : 5);
      assert.equal(files().length, 0);
    }
    again();
    answers(100, 401);
    refused(await draw(page, model), "access", "api/models/house/builtin", "licence");
  });
  await t.test("that has files alone is believed, with a warning", async () => {
    for (const status of [404, 405]) {
      again();
      answers(100, status);
      const drawn = await draw(page, model);
      assert.equal(drawn.pixels, pixels);
      assert.deepEqual(drawn.warnings.map(({ code }) => code), ["unverified"]);
      const [{ message }] = drawn.warnings;
      assert.ok(message.includes("nothing could be verified") && message.includes("house/builtin") && message.includes(String(status)), message);
      assert.equal(site.api.length, 1);
    }
    again();
    answers(100, 200);
    site.tell = (response) => (response.end(JSON.stringify({ sha: COMMIT })), true);
    assert.deepEqual((await draw(page, model)).warnings.map(({ code }) => code), ["unverified"]);
  });
  await t.test("tells hashes of small files too", async () => {
    for (const path of [CONFIG, "tokenizer/merges.txt"]) {
      again();
      damage(path);
      refused(await draw(page, model), "integrity", path, "damaged");
    }
  });
});

test("what could not be verified", { timeout: 300_000 }, async (t) => {
  const { page, site, again, files, pixels, whole, model } = await begin(t);
  const kept = { ...model, cache: true, weights: "q8" };
  const mute = () => (site.tell = (response) => (response.writeHead(404).end(), true));
  const facts = async () => (await list(page)).map(({ verified, commit }) => ({ verified, commit }));
  const clear = () => page.evaluate(async () => (await import("/index.js")).ImageGenerator.cache.clear());
  const codes = ({ warnings }) => warnings.map(({ code }) => code);
  const drawn = (await draw(page, { weights: "q8" })).pixels;

  await t.test("is listed as that, and what was is listed with its commit", async () => {
    assert.deepEqual(await draw(page, kept), { pixels: drawn, warnings: [] });
    assert.deepEqual(await facts(), [{ verified: true, commit: COMMIT }]);
    await clear();
    again();
    mute();
    assert.deepEqual(codes(await draw(page, kept)), ["unverified"]);
    assert.deepEqual(await facts(), [{ verified: false, commit: null }]);
  });
  await t.test("is drawn while the hub is silent, and offline", async () => {
    for (const status of [404, 500]) {
      again();
      site.tell = (response) => (response.writeHead(status).end(), true);
      const found = await draw(page, kept);
      assert.ok(found.pixels === drawn && codes(found).join() === "unverified", JSON.stringify(found));
      assert.ok(site.api.length === 1 && site.log.length === 0, "a kept model waited for a hub, or was fetched");
    }
    again();
    const found = await draw(page, { ...kept, offline: true });
    assert.ok(found.pixels === drawn && codes(found).join() === "unverified", JSON.stringify(found));
    assert.equal(site.api.length, 0);
  });
  await t.test("is verified when the hub answers again, and not fetched", async () => {
    again();
    assert.deepEqual(await draw(page, kept), { pixels: drawn, warnings: [] });
    assert.deepEqual([site.api.length, site.log.length], [1, 0]);
    assert.deepEqual(await facts(), [{ verified: true, commit: COMMIT }]);
    again();
    assert.deepEqual(await draw(page, kept), { pixels: drawn, warnings: [] });
    assert.equal(site.api.length, 0);
  });
  await t.test("is fetched again where the hub has other files", async () => {
    for (const path of [UNET, "scheduler/scheduler_config.json"]) {
      await clear();
      again();
      mute();
      // White space for JSON, another weight for the U-Net.
      const other = (bytes) => (path === UNET ? (bytes = Buffer.from(bytes), (bytes[bytes.length - 9] ^= 1), bytes) : Buffer.from(String(bytes).replace("\n", " ")));
      site.faults.set(path, ({ bytes }) => other(bytes));
      assert.deepEqual(codes(await draw(page, kept)), ["unverified"]);
      again();
      const found = await draw(page, kept);
      assert.ok(found.pixels === drawn && codes(found).join() === "cache" && found.warnings[0].message.includes(path), JSON.stringify(found));
      assert.ok(files().length > 0);
      assert.deepEqual(await facts(), [{ verified: true, commit: COMMIT }]);
    }
  });
  assert.ok(whole.pixels === pixels);
});

test("what another origin hides", { timeout: 120_000 }, async (t) => {
  const { page, site, again, files, whole, model } = await begin(t);
  await t.test("that an answer is compressed", async () => {
    for (const exposed of ["", "Content-Range, Content-Encoding, ETag"]) {
      again();
      site.exposed = exposed;
      for (const path of ["model_index.json", CONFIG, "tokenizer/vocab.json"]) {
        site.faults.set(path, ({ response, bytes }) => {
          const packed = gzipSync(bytes);
          assert.ok(packed.length < bytes.length);
          return response.writeHead(200, { "Content-Type": "application/json", "Content-Encoding": "gzip", "Content-Length": packed.length }).end(packed), true;
        });
      }
      assert.deepEqual(await draw(page, model), whole);
      assert.equal(files(CONFIG).length, 1);
    }
  });
  await t.test("how long a file is", async () => {
    again();
    site.exposed = "";
    // All of it as a whole, whatever was asked for.
    site.faults.set(UNET, ({ response, bytes }) => (response.writeHead(200, { "Content-Length": bytes.length }).end(bytes), true));
    assert.deepEqual(await draw(page, model), whole);
    assert.equal(files().length, 1);
  });
});

test("a file that changes while it is fetched", { timeout: 300_000 }, async (t) => {
  const { page, site, again, model } = await begin(t);
  const plain = { model: `${site.url}house/builtin/resolve/main/` };
  const size = statSync(join(FOLDER, UNET)).size;
  const changed = (bytes) => (bytes = Buffer.from(bytes), (bytes[bytes.length - 9] ^= 1), bytes);
  /** The first answer breaks off; later ones have other bytes, and these headers. */
  const changes = (exposed, [first, then], edit = changed) => {
    again();
    site.exposed = exposed;
    let broken = false;
    site.faults.set(UNET, (how) => {
      const head = broken ? then : first;
      for (const [name, value] of Object.entries({ ETag: null, ...head })) value === null ? how.response.removeHeader(name) : how.response.setHeader(name, value);
      if (broken) return edit(how.bytes);
      broken = true;
      return cut(how, MIB);
    });
  };
  await t.test("is seen by its ETag", async () => {
    changes("Content-Range, ETag", [{ ETag: '"a"' }, { ETag: '"b"' }]);
    refused(await draw(page, plain), "network", UNET, "another file");
  });
  await t.test("is seen by its date, which no server can hide", async () => {
    changes("", [{ "Last-Modified": "Wed, 21 Oct 2026 07:28:00 GMT" }, { "Last-Modified": "Wed, 21 Oct 2026 07:29:00 GMT" }]);
    refused(await draw(page, plain), "network", UNET, "another file");
  });
  await t.test("is seen by its length", async () => {
    changes("Content-Range", [{}, {}], (bytes) => bytes.subarray(0, size - 8));
    refused(await draw(page, plain), "network", UNET, "another file");
  });
  await t.test("is seen by the hub's hash where all else is hidden", async () => {
    changes("", [{}, {}]);
    refused(await draw(page, model), "integrity", UNET, "sha256");
  });
  await t.test("is the same file where only a compressing server calls it weak", async () => {
    changes("Content-Range, ETag", [{ ETag: 'W/"a"' }, { ETag: '"a"' }], (bytes) => bytes);
    assert.ok((await draw(page, plain)).pixels);
  });
});

test("files without an end", { timeout: 120_000 }, async (t) => {
  const { page, site, again, files, model } = await begin(t, { quiet: 30_000 });
  const endless = (response, text) => {
    response.writeHead(200, { "Content-Type": "application/json" });
    const block = Buffer.alloc(MIB / 4, text);
    const go = () => {
      while (!response.destroyed && response.write(block));
      if (!response.destroyed) response.once("drain", go);
    };
    go();
    return true;
  };
  for (const [path, most, what] of [["model_index.json", 1, "configuration"], [CONFIG, 1, "configuration"], ["tokenizer/vocab.json", 64, "vocabulary"], ["tokenizer/merges.txt", 64, "vocabulary"]]) {
    await t.test(path, async () => {
      again();
      let closed = null;
      site.faults.set(path, ({ response }) => ((closed = new Promise((done) => response.on("close", done))), endless(response, " ")));
      refused(await draw(page, model), "invalid-model", path, what, `${most * MIB} bytes`);
      // What is on its way when it is refused is lost in buffers of the system.
      await closed;
      const { sent } = files(path).at(-1);
      assert.ok(sent < (most + 24) * MIB, `${sent} bytes were sent`);
    });
  }
  await t.test("a vocabulary of 100 MB", async () => {
    again();
    const bytes = Buffer.alloc(100 * MIB, " ");
    site.faults.set("tokenizer/vocab.json", ({ response }) => (response.writeHead(200, { "Content-Length": bytes.length }).end(bytes), true));
    refused(await draw(page, model), "invalid-model", "tokenizer/vocab.json", "vocabulary");
  });
  await t.test("a hub's list", async () => {
    again();
    site.tell = (response) => endless(response, " ");
    refused(await draw(page, model), "network", "house/builtin", `${64 * MIB} bytes`);
  });
});

test("headers", { timeout: 120_000 }, async (t) => {
  const { page, site, again, pixels, model } = await begin(t);
  const other = site.url.replace("127.0.0.1", "localhost");
  const headers = { Authorization: "Bearer secret", "X-Secret": "mine" };
  /** What was told at addresses of files, by one of the two origins that the server has. */
  const told = () => site.log.filter(({ resolved }) => resolved).map(({ authorization, secret }) => [authorization, secret].join());
  const all = (value) => assert.ok(told().length > 5 && told().every((one) => one === value || (value !== "," && one === "Bearer secret,")), told().join(" "));

  await t.test("are the hub's", async () => {
    assert.equal((await draw(page, { ...model, headers })).pixels, pixels);
    all("Bearer secret,mine");
  });
  await t.test("go to no other origin, such as that of a model's address", async () => {
    for (const options of [
      { model: `${other}house/builtin/resolve/main/`, hub: site.url },
      { model: `${site.url}house/builtin/resolve/main/` },
      { model: `${site.url}house/builtin/resolve/main/`, loras: `${other}a.safetensors` },
      { ...model, baseUrl: other },
      { ...model, headers: { "https://models.example.org": headers } },
    ]) {
      again();
      await draw(page, { headers, ...options });
      assert.ok(site.seen.length > 0 && site.seen.every(({ authorization, secret }) => authorization === undefined && secret === undefined), JSON.stringify(options));
    }
  });
  await t.test("go to an origin that is named", async () => {
    again();
    assert.equal((await draw(page, { model: `${other}house/builtin/resolve/main/`, headers: { [other.slice(0, -1)]: headers } })).pixels, pixels);
    all("Bearer secret,mine");
  });
  await t.test("of an element's options go nowhere that its attributes name", async () => {
    again();
    const code = await page.evaluate(async ([url, hub, headers]) => {
      const { TintypeImage } = await import("/element.js");
      TintypeImage.options = { hub, headers, device: "cpu" };
      const image = document.createElement("tintype-image");
      Object.entries({ model: url, prompt: "a red circle", steps: "1", seed: "1" }).forEach((entry) => image.setAttribute(...entry));
      const ended = new Promise((done) => ["load", "error"].forEach((type) => image.addEventListener(type, ({ detail }) => done(detail.code ?? "drawn"))));
      document.body.append(image);
      return ended;
    }, [`${other}house/builtin/resolve/main/`, site.url, headers]);
    assert.equal(code, "drawn");
    all(",");
  });
  await t.test("that belong nowhere are refused", async () => {
    for (const [headers, word] of [
      [{ "https://a.example/models/": { A: "b" } }, "an origin"],
      [{ "https://a.example": { A: "b" }, Authorization: "c" }, "Authorization"],
      [{ "https://a.example": { "a b": "c" } }, "https://a.example"],
      [{ "a b": "c" }, "headers"],
      [{ "models.example.org": { A: "b" } }, "an origin"],
    ]) refused(await draw(page, { ...model, headers }), "invalid-option", "headers", word);
  });
});
