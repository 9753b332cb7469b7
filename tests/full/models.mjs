// Checkpoints with the files, names, shapes and types of published ones, at full width; the weights are not theirs.

import { createHash } from "node:crypto";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "../../tools/shell.mjs";
import { tokenizer } from "./tokenizer.mjs";
import { DTYPES, values } from "./values.mjs";

const HERE = join(ROOT, "tests/full");
const CONFIGS = join(ROOT, "tests/plans/configs");
const OUT = join(ROOT, "target/full/models");
/** Another one makes other weights. */
const SEED = 1;
const PIECE = 16 << 20;

const NOISE = { num_train_timesteps: 1000, beta_schedule: "scaled_linear", beta_start: 0.00085, beta_end: 0.012, prediction_type: "epsilon" };
const EULER = { _class_name: "EulerDiscreteScheduler", ...NOISE, interpolation_type: "linear", timestep_spacing: "trailing", steps_offset: 1 };
const LCM = { _class_name: "LCMScheduler", ...NOISE, original_inference_steps: 50, clip_sample: false, set_alpha_to_one: true, steps_offset: 0, timestep_spacing: "leading" };

/**
 * Each has its repository; its networks, by the folder: [configuration, tensors, file, type]; its index, its scheduler,
 * what fills its prompts; and `unused`, files of the repository that nobody wants, by their bytes.
 */
export const MODELS = {
  "sd-turbo": {
    repo: "stabilityai/sd-turbo",
    index: index("StableDiffusionPipeline", "EulerDiscreteScheduler", "AutoencoderKL"),
    scheduler: EULER,
    pad: "!",
    networks: {
      text_encoder: ["sd-turbo/text_encoder", "openclip-h.text_encoder", "model.fp16.safetensors", "F16"],
      unet: ["sd-turbo/unet", "sd-turbo.unet", "diffusion_pytorch_model.fp16.safetensors", "F16"],
      vae: ["sd-turbo/vae", "kl.vae", "diffusion_pytorch_model.fp16.safetensors", "F16"],
    },
    unused: {
      "sd_turbo.safetensors": 5_214_561_364,
      "text_encoder/model.safetensors": 1_361_597_016,
      "unet/diffusion_pytorch_model.safetensors": 3_463_726_498,
      "vae/diffusion_pytorch_model.safetensors": 334_643_268,
    },
  },
  lcm: {
    repo: "SimianLuo/LCM_Dreamshaper_v7",
    index: index("LatentConsistencyModelPipeline", "LCMScheduler", "AutoencoderKL", {
      feature_extractor: ["transformers", "CLIPImageProcessor"],
      safety_checker: ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }),
    scheduler: LCM,
    pad: "<|endoftext|>",
    networks: {
      text_encoder: ["lcm-dreamshaper-v7/text_encoder", "clip-l.text_encoder", "model.safetensors", "F32"],
      unet: ["lcm-dreamshaper-v7/unet", "lcm-dreamshaper-v7.unet", "diffusion_pytorch_model.safetensors", "F32"],
      vae: ["lcm-dreamshaper-v7/vae", "kl.vae", "diffusion_pytorch_model.safetensors", "F32"],
    },
    unused: { "safety_checker/model.safetensors": 1_216_061_799 },
  },
  sdxs: {
    repo: "IDKiro/sdxs-512-dreamshaper",
    index: index("StableDiffusionPipeline", "EulerDiscreteScheduler", "AutoencoderTiny"),
    scheduler: EULER,
    pad: "<|endoftext|>",
    networks: {
      text_encoder: ["lcm-dreamshaper-v7/text_encoder", "clip-l.text_encoder", "model.safetensors", "F32"],
      unet: ["sdxs-512-dreamshaper/unet", "sdxs-512-dreamshaper.unet", "diffusion_pytorch_model.safetensors", "F32"],
      vae: ["sdxs-512-dreamshaper/vae", "tiny.vae", "diffusion_pytorch_model.safetensors", "F32"],
    },
    unused: { "vae_large/diffusion_pytorch_model.safetensors": 334_643_268 },
  },
};

function index(pipeline, scheduler, vae, more = {}) {
  return {
    _class_name: pipeline,
    feature_extractor: [null, null],
    safety_checker: [null, null],
    requires_safety_checker: "safety_checker" in more,
    scheduler: ["diffusers", scheduler],
    text_encoder: ["transformers", "CLIPTextModel"],
    tokenizer: ["transformers", "CLIPTokenizer"],
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", vae],
    ...more,
  };
}

/**
 * { folder, hashes } of a model, which is made unless it is there: `hashes` has those of its files of weights by their paths.
 * `tell` gets the bytes that were written, and all.
 */
export function model(name, tell = () => {}) {
  const folder = join(OUT, name);
  const stamp = join(OUT, `${name}.json`);
  const made = maker(name);
  const before = existsSync(stamp) && JSON.parse(readFileSync(stamp, "utf8"));
  if (before && before.made === made) return { folder, hashes: before.hashes };
  rmSync(stamp, { force: true });
  rmSync(folder, { recursive: true, force: true });
  const { index, scheduler, pad, networks, unused } = MODELS[name];
  const texts = { "model_index.json": json(index), "scheduler/scheduler_config.json": json(scheduler), ...tokenizer(pad) };
  for (const [part, [config]] of Object.entries(networks)) texts[`${part}/config.json`] = readFileSync(join(CONFIGS, config, "config.json"));
  for (const [path, text] of Object.entries(texts)) writeFileSync(place(folder, path), text);
  const sizes = Object.values(networks).map(([, tensors, , dtype]) => listed(tensors, dtype).bytes);
  const all = sizes.reduce((a, b) => a + b);
  const hashes = {};
  let written = 0;
  for (const [part, [, tensors, file, dtype]] of Object.entries(networks)) {
    const path = `${part}/${file}`;
    const contents = listed(tensors, dtype);
    hashes[path] = write(place(folder, path), contents, dtype, (bytes) => tell(written + bytes, all));
    written += contents.bytes;
  }
  // Files without content, which take no room on the disk: nobody asks for them.
  for (const [path, bytes] of Object.entries(unused)) {
    writeFileSync(place(folder, path), "");
    truncateSync(join(folder, path), bytes);
    hashes[path] = "0".repeat(64);
  }
  writeFileSync(stamp, json({ made, hashes }));
  return { folder, hashes };
}

/** What a model is made of, as a digest: what changes it makes it anew. */
function maker(name) {
  const sum = createHash("sha256").update(`${SEED} ${name} ${JSON.stringify(MODELS[name])}`);
  const scripts = readdirSync(HERE).filter((file) => /^(models|tokenizer|values)\.mjs$/.test(file)).sort();
  for (const file of scripts) sum.update(readFileSync(join(HERE, file)));
  for (const [, tensors] of Object.values(MODELS[name].networks)) sum.update(list(tensors));
  return sum.digest("hex");
}

const list = (tensors) => readFileSync(join(HERE, "tensors", `${tensors}.txt`), "utf8");

/** The tensors of a file in the order of their names, as the library that writes such files has them. */
export function listed(tensors, dtype) {
  const width = DTYPES[dtype].Array.BYTES_PER_ELEMENT;
  let bytes = 0;
  const entries = list(tensors).trimEnd().split("\n").map((line) => {
    const [name, ...shape] = line.split(" ");
    const begin = bytes;
    bytes += width * shape.reduce((a, b) => a * b, 1);
    return { name, shape: shape.map(Number), begin, end: bytes };
  });
  return { tensors, entries, bytes };
}

/** Writes a .safetensors file, and returns its hash. An entry has the values of its name in its list, whatever the file calls it. */
export function write(path, { tensors, entries }, dtype, tell) {
  const { Array } = DTYPES[dtype];
  const header = { __metadata__: { format: "pt" } };
  for (const { name, shape, begin, end } of entries) header[name] = { dtype, shape, data_offsets: [begin, end] };
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.alloc(Math.ceil(text.length / 8) * 8, " ");
  text.copy(padded);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  const sum = createHash("sha256");
  const file = openSync(path, "w");
  const put = (bytes) => {
    sum.update(bytes);
    writeSync(file, bytes);
  };
  put(Buffer.concat([size, padded]));
  // Even, so that a tensor is the same whatever pieces it is written in.
  const buffer = new Array(PIECE / Array.BYTES_PER_ELEMENT);
  for (const { name, shape, begin, end, like = name, list = tensors } of entries) {
    const next = values(`${SEED} ${list}`, like, shape, dtype);
    for (let at = begin; at < end; ) {
      const piece = buffer.subarray(0, Math.min(PIECE, end - at) / Array.BYTES_PER_ELEMENT);
      next(piece);
      put(piece);
      at += piece.byteLength;
    }
    tell(end);
  }
  closeSync(file);
  return sum.digest("hex");
}

function place(folder, path) {
  const full = join(folder, path);
  mkdirSync(dirname(full), { recursive: true });
  return full;
}

const json = (value) => `${JSON.stringify(value, null, 2)}\n`;
