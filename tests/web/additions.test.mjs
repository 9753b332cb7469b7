// What changes a model, through the module in Chromium: LoRAs whose scales change without a download, a single file,
// a learned token.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { GOLDEN, golden, open, withHeader } from "./harness.mjs";

const MODEL = "/golden/models/sd15-like/";
const LORA = "/golden/models/extras/lora/pytorch_lora_weights.safetensors";
const UNET = "unet/diffusion_pytorch_model.fp16.safetensors";
const TEXT = "text_encoder/model.fp16.safetensors";

/** Runs in the page: generators are kept there by name. */
async function create({ name, options }) {
  const { ImageGenerator } = await import("/index.js");
  globalThis.generators ??= {};
  try {
    generators[name] = await ImageGenerator.create({ device: "cpu", weights: "f32", ...options });
  } catch ({ code, message }) {
    return { code, message };
  }
}

/** Runs in the page: the bytes of a small picture. */
async function draw({ name, prompt = "a red fox", options }) {
  const stages = [];
  const onProgress = ({ stage }) => stages.at(-1) === stage || stages.push(stage);
  try {
    const made = await generators[name].generate(prompt, { seed: 7, steps: 2, width: 64, height: 64, onProgress, ...options });
    return { pixels: [...made.toImageData().data].join(), stages };
  } catch ({ code, message }) {
    return { code, message };
  }
}

/** A page with generators, and how often each file was asked for. */
async function counting(t) {
  const { page, served } = await open(t);
  const asked = {};
  for (const path of [UNET, TEXT]) {
    const bytes = golden(`sd15-like/${path}`);
    asked[path] = 0;
    served.set(MODEL + path, (response) => {
      asked[path]++;
      response.writeHead(200, { "Content-Length": bytes.length, "Cache-Control": "no-store" }).end(bytes);
    });
  }
  return { served, asked, create: (name, options) => page.evaluate(create, { name, options }), draw: (name, rest) => page.evaluate(draw, { name, ...rest }) };
}

test("scales of LoRAs change without a download", { timeout: 120_000 }, async (t) => {
  const { asked, create, draw } = await counting(t);
  assert.equal(await create("plain", { model: MODEL }), undefined);
  assert.equal(await create("strong", { model: MODEL, loras: LORA }), undefined);
  assert.equal(await create("any", { model: MODEL, loras: [{ source: LORA, scale: 0.25 }] }), undefined);
  const [plain, strong, weak] = [await draw("plain"), await draw("strong"), await draw("any")];
  assert.equal(new Set([plain.pixels, strong.pixels, weak.pixels]).size, 3);

  const before = { ...asked };
  const merged = await draw("any", { options: { loraScales: [1] } });
  assert.equal(merged.pixels, strong.pixels);
  assert.deepEqual(merged.stages, ["merge", "text", "step", "decode"]);
  const again = await draw("any", { options: { loraScales: [1] } });
  assert.deepEqual([again.pixels, again.stages], [strong.pixels, ["text", "step", "decode"]]);
  assert.equal((await draw("any", { options: { loraScales: [0] } })).pixels, plain.pixels);
  assert.deepEqual(asked, before);

  for (const [loraScales, words] of [[[1, 1], "wanted 1"], [[NaN], "NaN"], ["1", "a list of numbers"]]) {
    const { code, message } = await draw("any", { options: { loraScales } });
    assert.equal(code, "invalid-option", message);
    assert.match(message, new RegExp(words));
  }
  assert.equal((await draw("any")).pixels, plain.pixels);
});

test("a single file takes the place of a folder's weights", { timeout: 120_000 }, async (t) => {
  const { served, asked, create, draw } = await counting(t);
  assert.equal(await create("folder", { model: MODEL }), undefined);
  // With transformers' names, as SD 1.x has its text encoder.
  const renamed = (header) => {
    for (const [name, tensor] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      delete header[name];
      header[`cond_stage_model.transformer.${name}`] = tensor;
    }
  };
  served.set("/single.safetensors", withHeader(golden(`sd15-like/${TEXT}`), renamed));
  const before = asked[TEXT];
  assert.equal(await create("single", { model: MODEL, singleFile: "/single.safetensors" }), undefined);
  assert.equal(asked[TEXT], before);
  assert.equal((await draw("single")).pixels, (await draw("folder")).pixels);
});

test("networks beside a model may be files", { timeout: 120_000 }, async (t) => {
  const { page, served } = await open(t);
  const weights = "diffusion_pytorch_model.fp16.safetensors";
  // The original T2I-Adapter counts the resnets of all levels through.
  const originals = (header) => {
    for (const [name, tensor] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      delete header[name];
      const [, i, j, rest] = /^adapter\.body\.(\d+)\.(?:resnets\.(\d+)\.)?(.*)$/.exec(name) ?? [];
      header[rest ? `body.${2 * i + Number(j ?? 0)}.${rest}` : name.replace("adapter.", "")] = tensor;
    }
  };
  served.set("/t2i.safetensors", withHeader(golden(`extras/t2i-adapter/${weights}`), originals));
  const drawn = (options) =>
    page.evaluate(async ({ key, ...options }) => {
      const { ImageGenerator } = await import("/index.js");
      const generator = await ImageGenerator.create({ device: "cpu", weights: "f32", ...options });
      const image = new ImageData(Uint8ClampedArray.from({ length: 64 * 64 * 4 }, (_, i) => (i * 37) % 251), 64, 64);
      const made = await generator.generate("a red fox", { seed: 7, steps: 1, width: 64, height: 64, [key]: { image } });
      return made.toImageData().data.join();
    }, { model: MODEL, ...options });
  const extras = "/golden/models/extras";
  const [control, adapter, image] = ["controlnet", "t2i-adapter", "ip-adapter"].map((name) => `${extras}/${name}`);
  for (const [key, option, folder, file] of [
    ["control", "controls", control, `${control}/${weights}`],
    ["adapter", "adapters", adapter, "/t2i.safetensors?download=true"],
    ["imagePrompt", "ipAdapter", image, `${image}/ip-adapter.safetensors`],
  ]) {
    assert.equal(await drawn({ key, [option]: file }), await drawn({ key, [option]: folder }), option);
  }
});

test("a learned token is written in prompts", { timeout: 120_000 }, async (t) => {
  const { served, create, draw } = await counting(t);
  const { hidden_size: width } = JSON.parse(readFileSync(join(GOLDEN, "models/sd15-like/text_encoder/config.json")));
  const header = Buffer.from(JSON.stringify({ emb_params: { dtype: "F32", shape: [2, width], data_offsets: [0, 8 * width] } }));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(header.length));
  const values = Buffer.from(new Float32Array(2 * width).map((_, i) => Math.sin(i)).buffer);
  served.set("/reynard.safetensors", Buffer.concat([size, header, values]));
  assert.equal(await create("plain", { model: MODEL }), undefined);
  assert.equal(await create("taught", { model: MODEL, embeddings: "/reynard.safetensors" }), undefined);
  const prompt = "a reynard";
  assert.notEqual((await draw("taught", { prompt })).pixels, (await draw("plain", { prompt })).pixels);
  assert.equal((await draw("taught")).pixels, (await draw("plain")).pixels);
});

test("what is no such file is refused with words", { timeout: 120_000 }, async (t) => {
  const { create } = await counting(t);
  for (const [options, wanted, words] of [
    [{ loras: "/nowhere/style.safetensors" }, "not-found", "style.safetensors"],
    [{ loras: [{ scale: 1 }] }, "invalid-option", "loras: wanted the URL of a file"],
    [{ loras: [{ source: LORA, scale: "1" }] }, "invalid-option", "scale: wanted a number"],
    [{ embeddings: LORA }, "invalid-model", "one tensor"],
    [{ singleFile: LORA }, "invalid-model", "original code"],
  ]) {
    const { code, message } = await create("none", { model: MODEL, ...options });
    assert.equal(code, wanted, message);
    assert.ok(message.includes(words), message);
  }
});
