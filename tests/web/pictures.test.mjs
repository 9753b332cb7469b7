// The pictures that the module makes in Chromium, against the reference library's own.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cpuName, manifest, open } from "./harness.mjs";

const FAMILIES = ["sd-turbo-like", "sdxs-like"];

/** One request a picture: what to ask for, and the reference's file; or why it cannot be asked for. */
function requests({ model, args, seed, png }) {
  if (!FAMILIES.includes(model)) return "another family";
  const prompts = [args.prompt].flat();
  const seeds = [seed].flat();
  if (args.image) return "starts from a picture";
  if (png.length !== seeds.length || prompts.length !== seeds.length) return "several pictures of one generator";
  return png.map((file, i) => ({
    file: `/golden/${file}`,
    prompt: prompts[i],
    options: {
      seed: seeds[i],
      steps: args.num_inference_steps,
      width: args.width,
      height: args.height,
      guidance: args.guidance_scale,
      negativePrompt: args.negative_prompt,
    },
  }));
}

/** Where pictures are drawn: how the page is opened, and the device. */
const PLACES = {
  "on the GPU": [{}, "gpu"],
  "on the CPU, with threads": [{ isolated: true }, "cpu"],
  "on the CPU, with one thread": [{}, "cpu"],
  "on the CPU, without relaxed SIMD": [{ isolated: true, relaxed: false }, "cpu"],
};

for (const place of Object.keys(PLACES)) {
  test(`pictures ${place} are within one level of the reference`, { timeout: 900_000 }, (t) => pictures(t, ...PLACES[place]));
}

async function pictures(t, options, device) {
  const { page, served } = await open(t, undefined, options);
  const adapter = device === "gpu" ? "google swiftshader" : await cpuName(page, options);
  const families = new Set();
  const left = [];
  for (const [name, entry] of Object.entries(manifest().cases)) {
    if (!name.startsWith("pipe/")) continue;
    const wanted = requests(entry);
    if (typeof wanted === "string") {
      left.push(`${name} (${wanted})`);
      continue;
    }
    families.add(entry.model);
    await t.test(name, async () => {
      // A case may run under another scheduler than its model's own.
      const scheduler = { _class_name: entry.scheduler_class, ...entry.scheduler_config };
      served.set(`/golden/models/${entry.model}/scheduler/scheduler_config.json`, JSON.stringify(scheduler));
      for (const request of wanted) {
        const found = await page.evaluate(compare, { model: `/golden/models/${entry.model}/`, device, ...request });
        assert.equal(found.device, device);
        assert.equal(found.adapter, adapter);
        assert.deepEqual(found.size, found.wanted);
        assert.ok(found.within >= entry.limits.image_levels.f32, `${(100 * found.within).toFixed(2)} % within one level, the worst off by ${found.worst}`);
      }
    });
  }
  for (const family of FAMILIES) assert.ok(families.has(family), `no case of ${family}`);
  t.diagnostic(`not for this interface: ${left.join(", ") || "none"}`);
}

// Eight bits of rounding in both pictures: each value is off by half a level at most.
const ROUNDING = 1 / 255;

test("pictures with other precisions stay near the reference", { timeout: 300_000 }, async (t) => {
  const { page } = await open(t);
  const entry = manifest().cases["pipe/sdxs_1step"];
  const [request] = requests(entry);
  const draw = (precision) => page.evaluate(compare, { model: `/golden/models/${entry.model}/`, device: "gpu", ...request, precision });
  await t.test("pack16", async () => {
    const { relative } = await draw({ weights: "f16", activations: "pack16" });
    assert.ok(relative <= entry.limits.half + ROUNDING, `off by ${relative}`);
  });
  await t.test("q8", async () => {
    // No reference has these weights; the kernels' exact values are tested natively. Int8 in blocks moves each
    // layer of these random models by about 1e-2, which adds up to 0.03 here; a wrong scale leaves nothing.
    const { relative } = await draw({ weights: "q8", activations: "f32" });
    assert.ok(relative > 0 && relative <= 0.05, `off by ${relative}`);
  });
});

/** Runs in the page: a picture and its reference, value by value. */
async function compare({ model, device, file, prompt, options, precision = { weights: "f32", activations: "f32" } }) {
  const { ImageGenerator } = await import("/index.js");
  const generator = await ImageGenerator.create({ model, device, ...precision });
  const generated = await generator.generate(prompt, options);
  const made = generated.toImageData();
  generator.dispose();

  const blob = await (await fetch(file)).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const wanted = context.getImageData(0, 0, bitmap.width, bitmap.height);

  let within = 0;
  let worst = 0;
  let square = 0;
  let all = 0;
  for (let i = 0; i < wanted.data.length; i++) {
    // Alpha is 255 in both and would flatter the count.
    if (i % 4 === 3) continue;
    const off = Math.abs(wanted.data[i] - made.data[i]);
    worst = Math.max(worst, off);
    square += off * off;
    all += wanted.data[i] ** 2;
    if (off <= 1) within++;
  }
  return {
    device: generated.device,
    adapter: generated.adapter,
    size: [made.width, made.height],
    wanted: [wanted.width, wanted.height],
    within: within / ((wanted.data.length / 4) * 3),
    worst,
    relative: Math.sqrt(square / all),
  };
}
