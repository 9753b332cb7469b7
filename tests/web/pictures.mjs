// A case of the manifest as a request to the module, and its image beside the reference library's own.

/** Models that stand for a family: what is asked of one of them is asked of each. */
export const FAMILIES = [
  "sd-turbo-like",
  "sdxs-like",
  "sd15-like",
  "lcm-like",
  "sdxl-like",
  "dit-like",
  "sd35-like",
  "schnell-like",
  "klein-like",
  "z-image-like",
  "sana-sprint-like",
  "pixart-like",
];

/** What a picture is made from, beside words. */
export const TASKS = ["text", "image", "pictures to edit", "mask", "a hole that the U-Net sees", "ControlNet", "T2I-Adapter", "IP-Adapter", "LoRA"];

const ONE_BY_ONE = "several images of one generator: a page draws them one by one, each with its seed";
/** Cases that this interface has no words for, and why. */
export const LEFT_OUT = {
  "pipe/sd-turbo_batch_one_generator": ONE_BY_ONE,
  "pipe/dit_dpmpp_2images": ONE_BY_ONE,
};

/** What diffusers calls them, and what they are called here. */
const OPTIONS = {
  num_inference_steps: "steps",
  width: "width",
  height: "height",
  guidance_scale: "guidance",
  negative_prompt: "negativePrompt",
  prompt_2: "prompt2",
  negative_prompt_2: "negativePrompt2",
  prompt_3: "prompt3",
  max_sequence_length: "maxSequenceLength",
  eta: "eta",
  clip_skip: "clipSkip",
  original_size: "originalSize",
  crops_coords_top_left: "cropTopLeft",
  target_size: "targetSize",
  strength: "strength",
  guess_mode: "guessMode",
  use_resolution_binning: "resolutionBinning",
  complex_human_instruction: "instruction",
};
/** Arguments that are read by name below, and one of SCM's that is a key of the scheduler's file here. */
const READ = [
  "prompt",
  "class_labels",
  "intermediate_timesteps",
  "image",
  "mask_image",
  "ip_adapter_image",
  "controlnet_conditioning_scale",
  "control_guidance_start",
  "control_guidance_end",
  "adapter_conditioning_scale",
];

/**
 * What a case asks for: { family, task, create, pictures }, of which `create` are options of a generator, and each picture
 * has a prompt, options, the reference's `file` and, where that holds floats, its `tensor`. Pictures among the options
 * are addresses. Or a sentence that says why it cannot be asked for.
 */
export function requests(name, entry) {
  if (LEFT_OUT[name]) return LEFT_OUT[name];
  const { args, model } = entry;
  const unknown = Object.keys(args).find((key) => !(key in OPTIONS) && !READ.includes(key));
  if (unknown) return `the argument ${unknown}`;
  // The number of a label stands for a prompt.
  const prompts = [args.prompt ?? args.class_labels.map(String)].flat();
  const seeds = [entry.seed].flat();
  // One case has its image as floats alone.
  const files = entry.png ?? prompts.map(() => entry.file);
  if (files.length !== seeds.length || prompts.length !== seeds.length) return "images that share a seed";

  // "sd15-like with extras/unet-x", "sd15-like + extras/ip-adapter (scale 0.6)", "sd15-like + extras/ip-adapter/x.safetensors"
  const words = /^(\S+)(?: with (\S+))?(?: \+ (\S+)(?: \(scale (\S+)\))?)?$/.exec(model);
  if (!words) return `the model ${model}`;
  const [, family, unet, addition, scale = "1"] = words;
  const inputs = inputsOf(entry);
  // A folder, or a file in one.
  const [, place, path] = /^(\S+?)(?:\/([^/]+\.safetensors))?$/.exec(addition ?? "none");
  const beside = addition ? ADDITIONS[place](entry, `${folder(place)}${path ?? ""}`, Number(scale)) : { task: null };
  const task = beside.task ?? (inputs.mask ? (unet ? "a hole that the U-Net sees" : "mask") : inputs.references ? "pictures to edit" : inputs.image ? "image" : "text");
  const options = Object.fromEntries(Object.entries(args).flatMap(([key, value]) => (OPTIONS[key] ? [[OPTIONS[key], value ?? ""]] : [])));
  const pictures = beside.task === "ControlNet" ? {} : inputs;
  return {
    family,
    task,
    create: {
      model: folder(family),
      ...(unet && { components: { [unet.includes("transformer") ? "transformer" : "unet"]: folder(unet) } }),
      ...((pictures.image || pictures.references) && { imageInput: true }),
      ...beside.create,
    },
    pictures: files.map((file, i) => ({
      file: `/golden/${file}`,
      tensor: entry.png ? undefined : "image",
      prompt: prompts[i],
      options: { ...options, ...pictures, ...beside.options, seed: seeds[i] },
    })),
  };
}

/** Networks beside a model's own: the task, and what they add to the options of `create` and of `generate`. */
const ADDITIONS = {
  "extras/controlnet": ({ args, image_inputs }, address) => ({
    task: "ControlNet",
    create: { controls: address },
    options: {
      control: {
        image: file(image_inputs.image),
        scale: args.controlnet_conditioning_scale,
        start: args.control_guidance_start,
        end: args.control_guidance_end,
      },
    },
  }),
  "extras/t2i-adapter": ({ args, image_input }, address) => ({
    task: "T2I-Adapter",
    create: { adapters: [address] },
    options: { adapter: [{ image: file(image_input), scale: args.adapter_conditioning_scale }] },
  }),
  "extras/ip-adapter": ({ image_inputs }, address, scale) => ({
    task: "IP-Adapter",
    create: { ipAdapter: address },
    options: { imagePrompt: { image: file(image_inputs.ip_adapter_image), scale } },
  }),
  "extras/lora": (_, address, scale) => ({
    task: "LoRA",
    create: { loras: { source: `${address}pytorch_lora_weights.safetensors`, scale } },
  }),
};

/**
 * The image and the mask of a case. One names its image in the note alone, with the size that the reference resized it
 * to: "input ref/inputs/init_80x100.png resized with PIL Lanczos to width 64, height 96 first".
 */
function inputsOf({ image_inputs, note }) {
  const resized = /^input (\S+) resized .* width (\d+), height (\d+)/.exec(note);
  if (resized) return { image: file(resized[1]), width: Number(resized[2]), height: Number(resized[3]) };
  const { image, mask_image: mask } = image_inputs ?? {};
  if (Array.isArray(image)) return { references: image.map(file) };
  return { ...(image && { image: file(image) }), ...(mask && { mask: file(mask) }) };
}

const folder = (model) => `/golden/models/${model}/`;
const file = (path) => `/golden/${path}`;

/** Of all cases the first of each family and of each task. */
export function few(cases) {
  const seen = new Set();
  const isNew = (key) => !seen.has(key) && seen.add(key);
  return Object.keys(cases).filter((name) => {
    const wanted = name.startsWith("pipe/") ? requests(name, cases[name]) : "";
    if (typeof wanted === "string") return false;
    const found = [isNew(wanted.family), isNew(wanted.task)];
    return found.some(Boolean);
  });
}

/** A case may run under another scheduler than its model's own: an entry of `served`. */
export function scheduler({ model, scheduler_class, scheduler_config, args }) {
  const { intermediate_timesteps } = args;
  const text = JSON.stringify({ _class_name: scheduler_class, ...scheduler_config, ...(intermediate_timesteps && { intermediate_timesteps }) });
  return [`${folder(model.split(" ")[0])}scheduler/scheduler_config.json`, text];
}

/** Eight bits of rounding in both pictures: each value is off by half a level at most. */
export const ROUNDING = 1 / 255;

/** Runs in the page: the pictures of a case and their references, value by value. */
export async function compare({ create, pictures, device, tuning, precision = { weights: "f32", activations: "f32" } }) {
  const { ImageGenerator } = await import("/index.js");
  const blob = async (address) => (await fetch(address)).blob();
  /** Every picture as a file, as a visitor would choose it. */
  const opened = async ([key, value]) => {
    if (key === "image" || key === "mask") return [key, await blob(value)];
    if (key === "references") return [key, await Promise.all(value.map(blob))];
    if (Array.isArray(value)) return [key, (await Promise.all(Object.entries(value).map(opened))).map(([, each]) => each)];
    if (value && typeof value === "object") return [key, Object.fromEntries(await Promise.all(Object.entries(value).map(opened)))];
    return [key, value];
  };
  const png = async (file) => {
    const bitmap = await createImageBitmap(await blob(file), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  };
  /** A tensor [1, H, W, 3] of numbers from 0 to 1 in a safetensors file. */
  const floats = async (file, name) => {
    const bytes = await (await blob(file)).arrayBuffer();
    const data = 8 + Number(new DataView(bytes).getBigUint64(0, true));
    const { shape, data_offsets } = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, data - 8)))[name];
    const values = new Float32Array(bytes.slice(data + data_offsets[0], data + data_offsets[1]));
    const image = new ImageData(shape[2], shape[1]);
    values.forEach((value, i) => (image.data[Math.floor(i / 3) * 4 + (i % 3)] = Math.round(value * 255)));
    return image;
  };

  const generator = await ImageGenerator.create({ ...create, device, tuning, ...precision });
  const results = [];
  for (const { prompt, options, file, tensor } of pictures) {
    const [, given] = await opened(["options", options]);
    const generated = await generator.generate(prompt, given);
    const made = generated.toImageData();
    const wanted = tensor ? await floats(file, tensor) : await png(file);
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
    results.push({
      device: generated.device,
      adapter: generated.adapter,
      size: [made.width, made.height],
      wanted: [wanted.width, wanted.height],
      within: within / ((wanted.data.length / 4) * 3),
      worst,
      relative: Math.sqrt(square / all),
    });
  }
  generator.dispose();
  return results;
}
