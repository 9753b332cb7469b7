// `tintype/ai-sdk` as the AI SDK calls it: its own `generateImage` in the browser, and each word of the interface.

import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, run } from "../../tools/shell.mjs";
import { open } from "./harness.mjs";

const MODEL = "/golden/models/sdxs-like/";
const PROMPT = "a red circle on blue";

/** Where the SDK and what it imports are, as a bundler would find them. That of Vercel's own servers has nothing to do here. */
const IMPORTS = {
  ai: "/node_modules/ai/dist/index.js",
  "@ai-sdk/gateway": "/node_modules/@ai-sdk/gateway/dist/index.js",
  "@ai-sdk/provider": "/node_modules/@ai-sdk/provider/dist/index.js",
  "@ai-sdk/provider-utils": "/node_modules/@ai-sdk/provider-utils/dist/index.js",
  "@vercel/oidc": "data:text/javascript,export const getVercelOidcToken = null, getContext = null;",
  "@workflow/serde": "/node_modules/@workflow/serde/dist/index.js",
  "eventsource-parser/stream": "/node_modules/eventsource-parser/dist/stream.js",
  "zod/v4": "/node_modules/zod/v4/index.js",
  "zod/v4/": "/node_modules/zod/v4/",
  "zod/v4/core": "/node_modules/zod/v4/core/index.js",
  "zod/v4/mini": "/node_modules/zod/v4/mini/index.js",
};

/** A blank page that can import the SDK. */
async function stage(t) {
  const opened = await open(t);
  const { page, served } = opened;
  const html = `<!doctype html><title>test</title><script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>`;
  served.set("/tests/sdk.html", (response) => response.writeHead(200, { "Content-Type": "text/html" }).end(html));
  await page.route("**/node_modules/**", (route) => {
    const file = join(ROOT, new URL(route.request().url()).pathname);
    if (!existsSync(file) || !statSync(file).isFile()) return route.fulfill({ status: 404 });
    return route.fulfill({ contentType: "text/javascript", body: readFileSync(file) });
  });
  await page.goto(new URL("/tests/sdk.html", page.url()).href);
  await page.evaluate(() => {
    /** The pixels of an encoded picture. */
    window.decoded = async (bytes) => {
      const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
      const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
      context.drawImage(bitmap, 0, 0);
      return [bitmap.width, bitmap.height, ...context.getImageData(0, 0, bitmap.width, bitmap.height).data].join();
    };
    window.raw = ({ width, height, ...picture }) => [width, height, ...picture.toImageData().data].join();
    /** A call as the SDK makes it. */
    window.call = (more) => ({ prompt: undefined, n: 1, size: undefined, aspectRatio: undefined, seed: undefined, files: undefined, mask: undefined, providerOptions: {}, headers: { "user-agent": "ai" }, ...more });
    window.fails = (promise) => Promise.resolve(promise).then(() => "it was accepted", (error) => [error.name, error.code, error.message]);
  });
  return opened;
}

test("generateImage draws what a generator draws", { timeout: 120_000 }, async (t) => {
  const { page } = await stage(t);
  const found = await page.evaluate(async ([model, prompt]) => {
    const { generateImage } = await import("ai");
    const { tintype } = await import("/ai-sdk.js");
    const { ImageGenerator } = await import("/index.js");
    const own = tintype({ model, device: "cpu" });
    const options = { prompt, n: 2, size: "64x32", seed: 5, providerOptions: { tintype: { steps: 2, negativePrompt: "fog" } } };
    const { images, warnings, calls, providerMetadata } = await generateImage({ model: own, ...options });
    const generator = await ImageGenerator.create({ model, device: "cpu" });
    const { pictures } = await generator.generate(prompt, { count: 2, width: 64, height: 32, seed: 5, steps: 2, negativePrompt: "fog" });
    const given = await generateImage({ model: tintype(generator), ...options });
    await own.dispose();
    generator.dispose();
    return {
      types: images.map(({ mediaType }) => mediaType),
      pixels: await Promise.all(images.map(({ uint8Array }) => window.decoded(uint8Array))),
      given: await Promise.all(given.images.map(({ uint8Array }) => window.decoded(uint8Array))),
      wanted: pictures.map(window.raw),
      text: new TextDecoder().decode(images[1].uint8Array),
      warnings,
      calls: calls.map(({ response, providerMetadata }) => [response.modelId, providerMetadata.tintype]),
      seeds: providerMetadata.tintype.images.map(({ seed }) => seed),
    };
  }, [MODEL, PROMPT]);
  assert.deepEqual(found.types, ["image/png", "image/png"]);
  assert.deepEqual(found.pixels, found.wanted);
  assert.deepEqual(found.given, found.wanted);
  assert.notEqual(found.wanted[0], found.wanted[1]);
  assert.match(found.text, /Negative prompt: fog/);
  assert.deepEqual([found.warnings, found.seeds], [[], [5, 6]]);
  // One call for all of them: several would draw the same image.
  assert.equal(found.calls.length, 1);
  const [modelId, { images, steps, timings, device, adapter }] = found.calls[0];
  assert.deepEqual([modelId, steps, device], [MODEL, 2, "cpu"]);
  assert.deepEqual(images, [5, 6].map((seed) => ({ seed, width: 64, height: 32, unsafe: false })));
  assert.deepEqual(Object.keys(timings), ["text", "denoise", "decode"]);
  assert.ok(Object.values(timings).every((time) => time >= 0) && adapter !== "");
});

test("files and a mask, as bytes, base64 and addresses", { timeout: 120_000 }, async (t) => {
  const { page } = await stage(t);
  const found = await page.evaluate(async ([model, prompt]) => {
    const { tintype } = await import("/ai-sdk.js");
    const { ImageGenerator } = await import("/index.js");
    const generator = await ImageGenerator.create({ model, device: "cpu", imageInput: true });
    const picture = async (paint) => {
      const canvas = new OffscreenCanvas(64, 64);
      const context = canvas.getContext("2d");
      paint(context);
      return canvas.convertToBlob();
    };
    const [image, mask] = await Promise.all([
      picture((context) => ((context.fillStyle = "teal"), context.fillRect(0, 0, 64, 64))),
      picture((context) => ((context.fillStyle = "white"), context.fillRect(0, 0, 32, 64))),
    ]);
    const bytes = async (blob) => new Uint8Array(await blob.arrayBuffer());
    const forms = {
      bytes: async (blob) => ({ type: "file", mediaType: "image/png", data: await bytes(blob) }),
      base64: async (blob) => ({ type: "file", mediaType: "image/png", data: btoa(String.fromCharCode(...(await bytes(blob)))) }),
      url: async (blob) => ({ type: "url", url: URL.createObjectURL(blob) }),
    };
    const sdk = tintype(generator);
    const draw = async (more) => window.decoded((await sdk.doGenerate(window.call({ prompt, seed: 5, ...more }))).images[0]);
    const drawn = {};
    const providerOptions = { tintype: { strength: 0.5, steps: 4 } };
    for (const [name, form] of Object.entries(forms)) {
      const [file, hole] = await Promise.all([form(image), form(mask)]);
      drawn[name] = [await draw({ files: [file], providerOptions }), await draw({ files: [file], mask: hole, providerOptions })];
    }
    const plain = { seed: 5, strength: 0.5, steps: 4, image };
    const wanted = [window.raw(await generator.generate(prompt, plain)), window.raw(await generator.generate(prompt, { ...plain, mask }))];
    const file = { type: "file", mediaType: "image/png", data: "no base64!" };
    const wrong = [
      await window.fails(sdk.doGenerate(window.call({ files: [file] }))),
      await window.fails(sdk.doGenerate(window.call({ files: [{ type: "url", url: "/nothing.png" }] }))),
    ];
    const more = (await sdk.doGenerate(window.call({ prompt, files: [await forms.bytes(image), file], providerOptions }))).warnings;
    const can = [tintype({ model, imageInput: true }), tintype({ model }), sdk].map(({ supportsFileInputs, supportsMaskInputs }) => [supportsFileInputs, supportsMaskInputs]);
    generator.dispose();
    return { drawn, wanted, wrong, more, can: can.map(String) };
  }, [MODEL, PROMPT]);
  for (const [form, pictures] of Object.entries(found.drawn)) assert.deepEqual(pictures, found.wanted, form);
  assert.notEqual(found.wanted[0], found.wanted[1], "the mask changes nothing");
  assert.deepEqual(found.wrong.map(([name, code]) => [name, code]), [["TintypeError", "invalid-image"], ["TintypeError", "not-found"]]);
  assert.deepEqual(found.more.map(({ type, feature }) => [type, feature]), [["unsupported", "files"]]);
  assert.deepEqual(found.can, ["true,true", "false,false", ","]);
});

test("what is left out is a warning, and what is wrong an error", { timeout: 120_000 }, async (t) => {
  const { page, served } = await stage(t);
  served.set(`${MODEL}model_index.json`, null);
  const absent = await page.evaluate(async (model) => {
    const { tintype } = await import("/ai-sdk.js");
    window.sdk = tintype({ model, device: "cpu" });
    return window.fails(window.sdk.doGenerate(window.call({ prompt: "a" })));
  }, MODEL);
  assert.deepEqual(absent.slice(0, 2), ["TintypeError", "not-found"]);

  // It is asked for again, and once only, however many call.
  served.delete(`${MODEL}model_index.json`);
  const asked = [];
  page.on("worker", (worker) => asked.push(worker.url()));
  const found = await page.evaluate(async () => {
    const { sdk, call, fails } = window;
    const [first, second] = await Promise.all([
      sdk.doGenerate(call({ prompt: "very ".repeat(100), seed: 5, aspectRatio: "16:9", providerOptions: { tintype: { quality: "hd", steps: 1 }, openai: { style: "vivid" } } })),
      sdk.doGenerate(call({ seed: 6 })),
    ]);
    const abort = AbortSignal.abort();
    const later = new AbortController();
    const running = sdk.doGenerate(call({ prompt: "a", size: "512x512", abortSignal: later.signal }));
    setTimeout(() => later.abort(), 50);
    const ends = [
      await fails(sdk.doGenerate(call({ abortSignal: abort }))),
      await fails(running),
      await fails(sdk.doGenerate(call({ prompt: "a", size: "big" }))),
      await fails(sdk.doGenerate(call({ prompt: "a", seed: -1 }))),
      await fails(sdk.doGenerate(call({ prompt: "a", providerOptions: { tintype: { steps: "many" } } }))),
    ];
    await sdk.dispose();
    return { warnings: first.warnings, plain: second.warnings, ends };
  });
  assert.equal(asked.length, 1);
  assert.deepEqual(found.warnings.map(({ type, feature }) => [type, feature]), [
    ["unsupported", "aspectRatio"],
    ["unsupported", "providerOptions.tintype.quality"],
    ["other", undefined],
  ]);
  assert.deepEqual(found.plain, []);
  assert.deepEqual(found.ends.map(([name, code]) => (name === "TintypeError" ? code : name)), ["AbortError", "AbortError", "invalid-option", "invalid-option", "invalid-option"]);
});

test("its types are those of the SDK", { timeout: 120_000 }, async () => {
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  const { code, output } = await run(process.execPath, [tsc, "-p", join(ROOT, "tests/web/entries.tsconfig.json")]);
  assert.equal(code, 0, output);
});
