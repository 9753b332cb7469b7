// Requests and downloads without a browser: what of them is the same wherever there is `fetch`.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Download } from "../../dist/download.js";
import { Hub } from "../../dist/hub.js";
import { Net } from "../../dist/net.js";
import { Source } from "../../dist/source.js";
import { ROOT } from "../../tools/shell.mjs";
import { COMMIT, blobId, cut, hub } from "./hub.mjs";

const FOLDER = join(ROOT, "models/builtin");
const UNET = "unet/diffusion_pytorch_model.fp16.safetensors";
const CONFIG = "unet/config.json";
const MIB = 1 << 20;

/** A hub with a model, and the address of its files. */
async function begin(t) {
  const site = await hub(t, { "house/builtin": FOLDER });
  const address = (path, origin = site.url) => new URL(`house/builtin/resolve/main/${path}`, origin);
  return { site, address, place: { hub: site.url, repo: "house/builtin", revision: "main" } };
}

/** All of a file. */
async function read(file) {
  const parts = [];
  for (let bytes; (bytes = await file.read(MIB)).length > 0; ) parts.push(Buffer.from(bytes));
  return Buffer.concat(parts);
}

// The first: its clock must not be that of real requests.
test("a request of which nothing comes for half a minute is dropped, and goes on from its last byte", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const asked = [];
  /** A thousand bytes of an answer, and then silence; every third request gets no answer at all. */
  const fetch = async (_, { headers, signal }) => {
    const begin = Number(headers.Range.match(/\d+/));
    asked.push({ begin, signal });
    if (asked.length % 3 === 0) return new Promise(() => {});
    const body = new ReadableStream({ start: (stream) => stream.enqueue(new Uint8Array(1000).fill(begin / 1000)) });
    return { status: 206, headers: new Headers({ "Content-Range": `bytes ${begin}-9999/10000` }), body };
  };
  const settle = async () => {
    for (let i = 0; i < 20; i++) await new Promise((done) => setImmediate(done));
  };
  const file = Download.open(new Net({ fetch }), new URL("https://models.example/x.safetensors"));
  const bytes = file.then(read);
  for (let request = 1; ; request++) {
    await settle();
    assert.equal(asked.length, request);
    if (asked.at(-1).begin === 9000) break;
    t.mock.timers.tick(29_999);
    await settle();
    assert.ok(asked.length === request && !asked.at(-1).signal.aborted, "it was dropped too early");
    t.mock.timers.tick(1);
    await settle();
    assert.ok(asked.at(-1).signal.aborted, "it was not dropped");
    // Before another try, longer when the last one brought nothing.
    t.mock.timers.tick(500);
  }
  assert.deepEqual(asked.map(({ begin }) => begin / 1000), [0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9]);
  assert.deepEqual([...(await bytes)], Array.from({ length: 10_000 }, (_, i) => Math.floor(i / 1000)));
});

test("headers are told to the origin that they belong to", async (t) => {
  const { site, address } = await begin(t);
  const [hubs, others] = [site.url, site.url.replace("127.0.0.1", "localhost")].map((url) => new URL(url).origin);
  const net = new Net({ headers: { [hubs]: { authorization: "Bearer secret", "x-secret": "mine" } } });
  const seen = async (origin) => {
    site.seen.length = 0;
    await net.get(address(CONFIG, origin));
    return site.seen.map(({ authorization, secret }) => [authorization, secret].join());
  };
  assert.deepEqual([await seen(others), site.seen.length], [[",", ","], 2]);
  // First with care where a redirect may lead, then there without what would leak.
  assert.deepEqual(await seen(hubs), ["Bearer secret,mine", "Bearer secret,", ","]);
});

test("a connection that breaks eight times in a row, each time a little later", async (t) => {
  const { site, address } = await begin(t);
  site.faults.set(UNET, (how) => how.begin < 7 * MIB && cut(how, how.begin + MIB - (how.begin % 3)));
  assert.ok((await read(await Download.open(new Net(), address(UNET)))).equals(readFileSync(join(FOLDER, UNET))));
  assert.ok(site.log.filter(({ begin, resolved }) => !resolved && begin > 0 && begin < 8 * MIB).length > 6);
});

test("all of an answer is read, whatever its length is said to be", async () => {
  /** What a browser makes of an answer whose compression it does not show. */
  const answer = (type, length, bytes, headers = {}) => {
    const fetch = async () => {
      const body = new ReadableStream({ start: (stream) => (stream.enqueue(new Uint8Array(bytes).fill(7)), stream.close()) });
      return { status: 200, type, url: "", redirected: false, headers: new Headers({ "Content-Length": length, ...headers }), body };
    };
    return Download.open(new Net({ fetch }), new URL("https://models.example/config.json")).then(read);
  };
  for (const [length, bytes] of [[60, 2000], [60, 40]]) {
    for (const type of ["cors", "default"]) assert.equal((await answer(type, length, bytes)).length, bytes);
    assert.equal((await answer("basic", length, bytes, { "Content-Encoding": "gzip" })).length, bytes);
  }
  assert.equal((await answer("basic", 60, 2000)).length, 2000);
  // What is neither compressed nor of another origin has broken off.
  await assert.rejects(answer("basic", 60, 40), ({ message }) => message.includes("at byte 40") && message.includes("20 bytes too early"));
});

test("a file that changes between two answers", async (t) => {
  const { site, address } = await begin(t);
  const dates = ["Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:29:00 GMT"];
  const cases = {
    "its ETag": [{ ETag: '"a"' }, { ETag: '"b"' }],
    "its date": [{ "Last-Modified": dates[0] }, { "Last-Modified": dates[1] }],
    "its length": [{}, {}],
    nothing: [{ ETag: 'W/"a"', "Last-Modified": dates[0] }, { ETag: '"a"', "Last-Modified": dates[0] }],
    "what is told at first alone": [{ ETag: '"a"', "Last-Modified": dates[0] }, {}],
  };
  for (const [what, heads] of Object.entries(cases)) {
    await t.test(`by ${what}`, async () => {
      let answers = 0;
      site.faults.set(UNET, (how) => {
        how.response.removeHeader("ETag");
        for (const [name, value] of Object.entries(heads[Math.min(answers, 1)])) how.response.setHeader(name, value);
        if (answers++ === 0) return cut(how, MIB);
        return what === "its length" ? how.bytes.subarray(0, how.bytes.length - 8) : how.bytes;
      });
      const done = Download.open(new Net(), address(UNET)).then(read);
      if (what.startsWith("its")) await assert.rejects(done, ({ code, message }) => code === "network" && message.includes("another file"));
      else assert.ok((await done).equals(readFileSync(join(FOLDER, UNET))));
    });
  }
});

test("a hub is asked for its commit and hashes", async (t) => {
  const { site, place } = await begin(t);
  await t.test("and tells them", async () => {
    const known = new Hub(place, new Net());
    assert.deepEqual([await known.commit(), known.verifies, known.silence], [COMMIT, true, null]);
    const bytes = readFileSync(join(FOLDER, UNET));
    const digests = { "SHA-256": createHash("sha256").update(bytes).digest("hex") };
    assert.equal(known.sha256(UNET), digests["SHA-256"]);
    assert.equal(known.sha256(CONFIG), null);
    const config = { "SHA-256": "0".repeat(64), "SHA-1": blobId(readFileSync(join(FOLDER, CONFIG))) };
    assert.deepEqual(known.compare([[UNET, digests], [CONFIG, config], ["nowhere", digests]]), { differs: null, compared: 2 });
    assert.equal(known.compare([[CONFIG, { ...config, "SHA-1": "0".repeat(40) }]]).differs, CONFIG);
  });
  for (const status of [404, 405]) {
    await t.test(`and has none: ${status}`, async () => {
      site.tell = (response) => (response.writeHead(status).end(), true);
      const mute = new Hub(place, new Net());
      assert.deepEqual([await mute.commit(), mute.verifies], [null, false]);
      assert.ok(mute.silence.includes(String(status)) && mute.silence.includes("house/builtin"), mute.silence);
    });
  }
  for (const [status, code] of [[500, "network"], [403, "access"], [400, "network"]]) {
    await t.test(`and fails: ${status}`, async () => {
      site.tell = (response) => (response.writeHead(status).end(), true);
      const broken = new Hub(place, new Net());
      await assert.rejects(broken.commit(0), (error) => error.code === code && error.message.includes(String(status)));
      // The next time it may answer.
      site.tell = () => false;
      assert.equal(await broken.commit(), COMMIT);
    });
  }
});

test("a small file has the hash that the hub tells of it", async (t) => {
  const { site, place } = await begin(t);
  const source = () => {
    const net = new Net();
    return new Source(`${site.url}house/builtin/`, { net, hub: new Hub(place, net) });
  };
  const bytes = readFileSync(join(FOLDER, CONFIG));
  assert.ok((await read(await source().open(CONFIG))).equals(bytes));
  site.faults.set(CONFIG, () => Buffer.from(String(bytes).replace("\n", " ")));
  await assert.rejects(source().open(CONFIG).then(read), ({ code, message }) => code === "integrity" && message.includes(CONFIG));
});
