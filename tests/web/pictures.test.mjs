// The pictures that the module makes in Chromium, against the reference library's own.

import assert from "node:assert/strict";
import { test } from "node:test";
import { manifest, open } from "./harness.mjs";

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

test("pictures are within one level of the reference", { timeout: 900_000 }, async (t) => {
  const { page, served } = await open(t);
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
        const found = await page.evaluate(compare, { model: `/golden/models/${entry.model}/`, ...request });
        assert.deepEqual(found.size, found.wanted);
        assert.ok(found.within >= entry.limits.image_levels.f32, `${(100 * found.within).toFixed(2)} % within one level, the worst off by ${found.worst}`);
      }
    });
  }
  for (const family of FAMILIES) assert.ok(families.has(family), `no case of ${family}`);
  t.diagnostic(`not for this interface: ${left.join(", ") || "none"}`);
});

/** Runs in the page: a picture and its reference, value by value. */
async function compare({ model, file, prompt, options }) {
  const { ImageGenerator } = await import("/index.js");
  const generator = await ImageGenerator.create({ model, weights: "f32", activations: "f32" });
  const made = (await generator.generate(prompt, options)).toImageData();
  generator.dispose();

  const blob = await (await fetch(file)).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const wanted = context.getImageData(0, 0, bitmap.width, bitmap.height);

  let within = 0;
  let worst = 0;
  for (let i = 0; i < wanted.data.length; i++) {
    const off = Math.abs(wanted.data[i] - made.data[i]);
    worst = Math.max(worst, off);
    // Alpha is 255 in both and would flatter the count.
    if (i % 4 < 3 && off <= 1) within++;
  }
  return {
    size: [made.width, made.height],
    wanted: [wanted.width, wanted.height],
    within: within / ((wanted.data.length / 4) * 3),
    worst,
  };
}
