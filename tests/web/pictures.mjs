// A case of the manifest as a request to the module, and its picture beside the reference library's own.

/** Of the models in the manifest. */
export const FAMILIES = ["sd-turbo-like", "sdxs-like"];

/** One request a picture: what to ask for, and the reference's file; or why it cannot be asked for. */
export function requests({ model, args, seed, png }) {
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

/** A case may run under another scheduler than its model's own: an entry of `served`. */
export function scheduler({ model, scheduler_class, scheduler_config }) {
  const text = JSON.stringify({ _class_name: scheduler_class, ...scheduler_config });
  return [`/golden/models/${model}/scheduler/scheduler_config.json`, text];
}

/** Eight bits of rounding in both pictures: each value is off by half a level at most. */
export const ROUNDING = 1 / 255;

/** Runs in the page: a picture and its reference, value by value. */
export async function compare({ model, device, file, prompt, options, precision = { weights: "f32", activations: "f32" } }) {
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
