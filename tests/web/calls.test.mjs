// What callers of a generator can ask for: where the work is done, several images, which call goes first, previews, what
// PNGs say, whether a model can be had; and what they are told.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { inflateSync } from "node:zlib";
import { serve } from "../../tools/serve.mjs";
import { ROOT } from "../../tools/shell.mjs";
import { GOLDEN, open, openFirefox, script } from "./harness.mjs";
import { hub } from "./hub.mjs";

const MODEL = "/golden/models/sdxs-like/";
const BUILTIN = join(ROOT, "models/builtin");

/** Gives the page `draw`, which makes a generator and tells what it drew, and `made`, one on the CPU. */
async function opened(t, options) {
  const site = await open(t, undefined, options);
  await prepare(site.page);
  return site;
}

const prepare = (page) =>
  page.evaluate(async (model) => {
    const { ImageGenerator } = await import("/index.js");
    const pixels = (picture) => picture.toImageData().data.join();
    const request = { seed: 1, width: 32, height: 32 };
    const draw = async (options) => {
      const generator = await ImageGenerator.create({ model, device: "cpu", ...options });
      const drawn = pixels(await generator.generate("a boat", request));
      await generator.dispose();
      return drawn;
    };
    Object.assign(window, { pixels, request, draw, made: await ImageGenerator.create({ model, device: "cpu" }) });
  }, MODEL);

test("the work is done where the page wants it", { timeout: 300_000 }, async (t) => {
  const { page, complaints } = await opened(t);
  const other = await serve({ mounts: { "/golden/": GOLDEN }, answer: (_, response) => void response.setHeader("Access-Control-Allow-Origin", "*") });
  t.after(() => other.close());
  const elsewhere = other.url.replace("127.0.0.1", "localhost");
  const found = await page.evaluate(async ([elsewhere]) => {
    const wanted = await draw({});
    const worker = () => new Worker("/worker.js", { type: "module" });
    const own = worker();
    const options = {
      "an address": { worker: "/worker.js" },
      "another origin's": { worker: `${elsewhere}/worker.js` },
      "a function": { worker },
      "a worker": { worker: own },
      "that worker again": { worker: own },
      "the page": { worker: false },
      "the page again": { worker: false },
      "a module elsewhere": { worker, wasmUrl: "/pkg/base/tintype_bg.wasm" },
      "both modules": { wasmUrl: { base: "/pkg/base/tintype_bg.wasm", relaxed: new URL("/pkg/relaxed/tintype_bg.wasm", location.href) } },
      "the page, on the GPU": { worker: false, device: "gpu" },
    };
    const ends = {};
    for (const [name, each] of Object.entries(options)) {
      const drawn = await draw(each).catch((error) => `${error.code}: ${error.message}`);
      const near = (a, b) => a.length === b.length && a.every((value, i) => Math.abs(value - b[i]) <= 1);
      ends[name] = drawn === wanted ? "same" : near(drawn.split(","), wanted.split(",")) ? "near" : drawn.slice(0, 200);
    }
    // The package as a whole, from another origin.
    const { ImageGenerator } = await import(`${elsewhere}/index.js`);
    const generator = await ImageGenerator.create({ device: "cpu", model: "/golden/models/sdxs-like/" });
    ends["the package elsewhere"] = pixels(await generator.generate("a boat", request)) === wanted ? "same" : "different";
    await generator.dispose();
    own.terminate();
    return ends;
  }, [elsewhere]);
  for (const [name, end] of Object.entries(found)) {
    // The module for all browsers rounds otherwise, and so does a GPU.
    assert.ok(end === "same" || (end === "near" && /module elsewhere|GPU/.test(name)), `${name}: ${end}`);
  }
  // The browser itself notes a file that a model may lack.
  assert.deepEqual(complaints.filter((line) => !line.includes("404")), []);
});

test("several images in a call are those of the seeds that follow", { timeout: 120_000 }, async (t) => {
  const { page } = await opened(t);
  const found = await page.evaluate(async () => {
    const fractions = [];
    const all = await made.generate("a boat", { ...request, seed: 7, count: 3, onProgress: ({ fraction }) => fractions.push(fraction) });
    const alone = [];
    for (const seed of [7, 8, 9]) alone.push(pixels(await made.generate("a boat", { ...request, seed })));
    return {
      seeds: all.pictures.map(({ seed }) => seed),
      same: all.pictures.every((picture, i) => pixels(picture) === alone[i]) && pixels(all) === alone[0],
      rises: fractions.every((fraction, i) => i === 0 || fraction >= fractions[i - 1]),
      ends: fractions.at(-1),
      wrong: await made.generate("a boat", { count: 0 }).catch(({ code, message }) => [code, message]),
    };
  });
  assert.deepEqual([found.seeds, found.same, found.rises, found.ends], [[7, 8, 9], true, true, 1]);
  assert.deepEqual(found.wrong, ["invalid-option", "count: wanted a whole number from 1 on, found 0"]);
});

test("a call that comes while another one goes on", { timeout: 120_000 }, async (t) => {
  const { page } = await opened(t);
  const found = await page.evaluate(async () => {
    const wanted = pixels(await made.generate("a boat", request));
    const code = (promise) => promise.then(pixels, (error) => error.code ?? String(error)).then((end) => (end === wanted ? "drawn" : end.slice(0, 20)));
    const long = { ...request, width: 256, height: 256, steps: 50 };
    const running = code(made.generate("a boat", long));
    const waiting = code(made.generate("a boat", long));
    const rejected = code(made.generate("a boat", { ...request, busy: "reject" }));
    const replacing = code(made.generate("a boat", { ...request, busy: "replace" }));
    const queued = code(made.generate("a boat", request));
    const ends = [await rejected, await running, await waiting, await replacing, await queued];
    const free = await code(made.generate("a boat", { ...request, busy: "reject" }));
    const wrong = await code(made.generate("a boat", { busy: "perhaps" }));
    return { ends, free, wrong };
  });
  assert.deepEqual(found, { ends: ["busy", "busy", "busy", "drawn", "drawn"], free: "drawn", wrong: "invalid-option" });
});

test("what is told on the way never goes back and ends with all", { timeout: 300_000 }, async (t) => {
  const { page } = await opened(t);
  const { url } = await hub(t, { "house/builtin": BUILTIN });
  const found = await page.evaluate(async (hub) => {
    const { ImageGenerator } = await import("/index.js");
    const runs = {};
    const follow = (name) => {
      const news = (runs[name] = []);
      return (progress) => news.push({ ...progress, at: performance.now() });
    };
    const options = { model: "house/builtin", hub, weights: "q8" };
    for (const device of ["cpu", "gpu"]) {
      const first = await ImageGenerator.create({ ...options, device, cache: device === "cpu", onProgress: follow(`load ${device}`) });
      await first.generate("a red circle", { ...request, steps: 3, onProgress: follow(`draw ${device}`) });
      await first.dispose();
    }
    await (await ImageGenerator.create({ ...options, device: "cpu", onProgress: follow("kept cpu") })).dispose();
    await (await ImageGenerator.create({ device: "cpu", onProgress: follow("built-in cpu") })).dispose();
    return runs;
  }, url);
  const stages = (name) => found[name].map(({ stage }) => stage).filter((stage, i, all) => stage !== all[i - 1]).join();
  for (const [name, news] of Object.entries(found)) {
    const fractions = news.map(({ fraction }) => fraction);
    assert.ok(fractions.every((fraction, i) => fraction >= (fractions[i - 1] ?? 0) && fraction <= 1), `${name}: ${fractions}`);
    assert.equal(fractions.at(-1), 1, name);
    // Not more than one a frame, but for what is new and for ends.
    const places = new Set(news.map(({ stage, step }) => `${stage} ${step}`)).size;
    const frames = (news.at(-1).at - news[0].at) / 16;
    assert.ok(news.length <= frames + 3 * places + 5, `${name}: ${news.length} reports in ${frames.toFixed(1)} frames`);
    for (const { stage, loaded, total } of news) if (["download", "verify"].includes(stage)) assert.ok(loaded <= total, `${name}: ${loaded} of ${total}`);
  }
  assert.equal(stages("load cpu"), "download");
  assert.equal(stages("load gpu"), "download,compile");
  assert.equal(stages("kept cpu"), "verify");
  assert.equal(stages("built-in cpu"), "download,verify");
  assert.match(stages("draw cpu"), /^text,step,decode$/);
  assert.match(stages("draw gpu"), /^(compile,)?text,step,decode$/);
  const steps = found["draw cpu"].filter(({ stage }) => stage === "step").map(({ step, steps }) => `${step}/${steps}`);
  assert.deepEqual([...new Set(steps)], ["1/3", "2/3", "3/3"]);
});

test("previews come after every step but the last, and change nothing", { timeout: 300_000 }, async (t) => {
  const { page } = await opened(t);
  for (const model of [MODEL, "/golden/models/sd-turbo-like/"]) {
    const found = await page.evaluate(async (model) => {
      const { ImageGenerator } = await import("/index.js");
      const generator = await ImageGenerator.create({ model, device: "cpu" });
      const options = { ...request, steps: 4 };
      const plain = pixels(await generator.generate("a boat", options));
      const previews = [];
      let last;
      const onProgress = ({ preview, step, steps }) => {
        if (!preview) return;
        previews.push([step, steps, preview.width > 0 && preview.width === preview.height]);
        last = preview;
      };
      const same = pixels(await generator.generate("a boat", { ...options, preview: true, onProgress })) === plain;
      await generator.dispose();
      return { same, previews, kind: last?.constructor.name };
    }, model);
    assert.deepEqual(found, { same: true, previews: [[1, 4, true], [2, 4, true], [3, 4, true]], kind: "ImageBitmap" });
  }
});

test("a PNG says what it was made of, unless it should not", { timeout: 120_000 }, async (t) => {
  const { page } = await opened(t);
  const [png, silent, pixels] = await page.evaluate(async () => {
    const bytes = async (picture) => Array.from(new Uint8Array(await (await picture.toBlob()).arrayBuffer()));
    const options = { ...request, steps: 2, negativePrompt: "größer" };
    const picture = await made.generate("ein Boot, blau – and \"quoted\"", options);
    return [await bytes(picture), await bytes(await made.generate("a boat", { ...options, metadata: false })), Array.from(picture.toImageData().data)];
  });
  const { texts, rgba } = readPng(Buffer.from(png));
  assert.equal(texts.Software, "Tintype");
  assert.match(texts.parameters, /^ein Boot, blau – and "quoted"\nNegative prompt: größer\nSteps: 2, Seed: 1, Size: 32x32, Model: /);
  const facts = JSON.parse(texts.tintype);
  assert.deepEqual([facts.prompt, facts.seed, facts.steps, facts.size, facts.device], ['ein Boot, blau – and "quoted"', 1, 2, [32, 32], "cpu"]);
  assert.ok(facts.model && facts.weights && facts.adapter, texts.tintype);
  assert.deepEqual(Array.from(rgba), pixels);
  assert.deepEqual(readPng(Buffer.from(silent)).texts, {});
});

test("whether a model can be had", { timeout: 300_000 }, async (t) => {
  const { page, served } = await opened(t);
  const { url } = await hub(t, { "house/builtin": BUILTIN });
  const ask = (options) => page.evaluate(async (options) => (await import("/index.js")).ImageGenerator.availability(options), options);
  const model = { model: "house/builtin", hub: url, weights: "q8", device: "cpu" };
  assert.deepEqual(await ask(model), { state: "downloadable", device: "cpu", adapter: "CPU" });
  await page.evaluate(async (options) => (await (await import("/index.js")).ImageGenerator.create(options)).dispose(), model);
  assert.equal((await ask(model)).state, "available");
  assert.equal((await ask({ ...model, weights: "q4" })).state, "downloadable");
  assert.equal((await ask({ ...model, weights: "q4", offline: true })).code, "offline");
  assert.deepEqual(await ask({ device: "gpu" }), { state: "downloadable", device: "gpu", adapter: "google swiftshader" });
  assert.equal((await ask({ model: "http://[" })).code, "invalid-option");
  served.set("/builtin.js", script("builtin.js", (text) => `${text}\n`));
  const { page: without } = await open(t, undefined, { webgpu: false });
  const none = await without.evaluate(async () => (await import("/index.js")).ImageGenerator.availability({ device: "gpu" }));
  assert.equal(none.state, "unavailable");
  assert.match(none.code, /^no-(webgpu|adapter)$/);
});

test("the console is told what the page wants it to be", { timeout: 120_000 }, async (t) => {
  const { page } = await opened(t);
  const lines = [];
  page.on("console", (message) => lines.push(`${message.type()} ${message.text()}`));
  const long = Array(200).fill("boat").join(" ");
  for (const logLevel of ["silent", "warn", "debug"]) {
    await page.evaluate(async ([model, logLevel, prompt]) => {
      const { ImageGenerator } = await import("/index.js");
      const generator = await ImageGenerator.create({ model, device: "cpu", logLevel });
      await generator.generate(prompt, request);
      await generator.dispose();
      console.log(`end of ${logLevel}`);
    }, [MODEL, logLevel, long]);
  }
  const kinds = lines.map((line) => line.replace(/ tintype: .*/, "")).join();
  assert.equal(kinds, "log end of silent,warning,log end of warn,info,warning,debug,log end of debug");
});

test("Firefox: the built-in model, in a worker and on the page", { timeout: 300_000 }, async (t) => {
  const { page } = await openFirefox(t);
  const drawn = await page.evaluate(async () => {
    const { ImageGenerator } = await import("/index.js");
    const draw = async (worker) => {
      const generator = await ImageGenerator.create({ device: "cpu", worker });
      const picture = await generator.generate("a red circle on a blue background", { seed: 1, steps: 1 });
      await generator.dispose();
      return picture.toImageData().data.join();
    };
    return (await draw(true)) === (await draw(false));
  });
  assert.ok(drawn);
});

/** The international texts of a PNG, and its pixels; 8 bits a channel, not interlaced. */
function readPng(png) {
  const texts = {};
  const data = [];
  let [width, height, channels] = [0, 0, 0];
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const type = png.toString("latin1", at + 4, at + 8);
    const body = png.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") [width, height, channels] = [body.readUInt32BE(0), body.readUInt32BE(4), { 2: 3, 6: 4 }[body[9]]];
    if (type === "IDAT") data.push(body);
    if (type === "iTXt") {
      const end = body.indexOf(0);
      texts[body.toString("latin1", 0, end)] = body.toString("utf8", end + 5);
    }
    at += length + 12;
  }
  const rows = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  const rgba = new Uint8Array(width * height * 4).fill(255);
  const before = (row, x) => (x < channels ? 0 : row[x - channels]);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (stride + 1)];
    const row = Uint8Array.from(rows.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1)));
    for (let x = 0; x < stride; x++) {
      const [a, b, c] = [before(row, x), above[x], before(above, x)];
      const p = a + b - c;
      const nearest = Math.abs(p - a) <= Math.abs(p - b) && Math.abs(p - a) <= Math.abs(p - c) ? a : Math.abs(p - b) <= Math.abs(p - c) ? b : c;
      row[x] += [0, a, b, (a + b) >> 1, nearest][filter];
    }
    for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) rgba[4 * (y * width + x) + c] = row[x * channels + c];
    above = row;
  }
  return { texts, rgba };
}
