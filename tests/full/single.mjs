// One model (BK-SDM tiny's form) as a folder in the diffusers layout and as a single file under the original names, with
// equal weights: at full width, or narrow, with all widths divided and two layers of text. At full width the file alone is
// drawn natively and in Chromium.

import { createReadStream, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT, must } from "../../tools/shell.mjs";
import { open } from "../web/harness.mjs";
import { compare } from "./group.mjs";
import { listed, write } from "./models.mjs";

const TINTYPE = join(ROOT, "target/release/tintype");
const OUT = join(ROOT, "target/full/single");
const PROMPT = "a red fox in the snow";
const SEED = 7;
/** How many of a picture's values are off by one level at most, as in limits.mjs. */
const WITHIN = 0.999;

const CONFIGS = join(ROOT, "tests/plans/configs");
const NETWORKS = {
  unet: { tensors: "bk-sdm-tiny.unet", config: "bk-sdm-tiny/unet", file: "diffusion_pytorch_model.safetensors" },
  vae: { tensors: "kl.vae", config: "sd15/vae", file: "diffusion_pytorch_model.safetensors" },
  text_encoder: { tensors: "clip-l.text_encoder", config: "sd15/text_encoder", file: "model.safetensors" },
};
const SCHEDULER = { _class_name: "PNDMScheduler", num_train_timesteps: 1000, beta_schedule: "scaled_linear", beta_start: 0.00085, beta_end: 0.012, skip_prk_steps: true, set_alpha_to_one: false, steps_offset: 1, prediction_type: "epsilon" };
const INDEX = { _class_name: "StableDiffusionPipeline", unet: ["diffusers", "UNet2DConditionModel"], vae: ["diffusers", "AutoencoderKL"], text_encoder: ["transformers", "CLIPTextModel"], tokenizer: ["transformers", "CLIPTokenizer"] };

/** What the widths of each network are divided by. */
const NARROW = { unet: 10, vae: 4, text_encoder: 12 };
const LAYERS = 2;

/** Writes both into `out`: the folder `folder`, and the file `single.safetensors`. `skip` names components that the file lacks. */
export function make(out, { narrow = false, skip = [], tell = () => {} } = {}) {
  const files = { "model_index.json": json(INDEX), "scheduler/scheduler_config.json": json(SCHEDULER), ...tokenizer() };
  const all = [];
  for (const [component, { tensors, config, file }] of Object.entries(NETWORKS)) {
    const values = JSON.parse(readFileSync(join(CONFIGS, config, "config.json"), "utf8"));
    files[`${component}/config.json`] = json(narrow ? narrowed(component, values) : values);
    const entries = laid(listed(tensors, "F16").entries.filter(({ name }) => !narrow || kept(name)).map(({ name, shape }) => {
      return { name, shape: narrow ? shape.map((side) => divided(component, side)) : shape, list: tensors };
    }));
    write(place(out, `folder/${component}/${file}`), { tensors, entries }, "F16", tell);
    if (!skip.includes(component)) all.push(...entries.map((entry) => ({ ...entry, like: entry.name, ...original(component, entry) })));
  }
  for (const [path, text] of Object.entries(files)) writeFileSync(place(out, `folder/${path}`), text);
  write(place(out, "single.safetensors"), { tensors: "", entries: laid(all) }, "F16", tell);
}

/** One after the other, of halves. */
function laid(entries) {
  let end = 0;
  return entries.map((entry) => ({ ...entry, begin: end, end: (end += 2 * entry.shape.reduce((a, b) => a * b, 1)) }));
}

const kept = (name) => !/layers\.(\d+)/.test(name) || Number(/layers\.(\d+)/.exec(name)[1]) < LAYERS;

/** Sides that are widths; what text the U-Net sees is divided as the text encoder is. */
function divided(component, side) {
  const by = component === "unet" && side === 768 ? NARROW.text_encoder : NARROW[component];
  return side >= 128 && side % by === 0 && side !== 49408 ? side / by : side;
}

function narrowed(component, values) {
  const each = (value) => (Array.isArray(value) ? value.map(each) : typeof value === "number" ? divided(component, value) : value);
  const keys = ["block_out_channels", "cross_attention_dim", "hidden_size", "intermediate_size", "projection_dim"];
  const widths = Object.fromEntries(keys.filter((key) => key in values).map((key) => [key, each(values[key])]));
  return { ...values, ...widths, ...(component === "text_encoder" ? { num_hidden_layers: LAYERS, num_attention_heads: 1 } : {}) };
}

const RESNET = { norm1: "in_layers.0", conv1: "in_layers.2", time_emb_proj: "emb_layers.1", norm2: "out_layers.0", conv2: "out_layers.3", conv_shortcut: "skip_connection" };
const AROUND = { "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", conv_in: "input_blocks.0.0", conv_norm_out: "out.0", conv_out: "out.2" };
const ATTENTION = { group_norm: "norm", to_q: "q", to_k: "k", to_v: "v", "to_out.0": "proj_out", query: "q", key: "k", value: "v", proj_attn: "proj_out" };

/** The name and the shape in the original code. */
function original(component, { name, shape }) {
  if (component === "text_encoder") return { name: `cond_stage_model.transformer.${name}`, shape };
  const path = name.split(".");
  const end = path.pop();
  const [first, , kind, i, ...inner] = path;
  const at = Number(path[1]);
  if (component === "unet") {
    const named = () => {
      if (path.join(".") in AROUND) return AROUND[path.join(".")];
      const block = first === "down_blocks" ? `input_blocks.${2 * at + Number(i) + 1}` : `output_blocks.${2 * at + Number(i)}`;
      if (kind === "resnets") return `${block}.0.${RESNET[inner[0]]}`;
      if (kind === "attentions") return `${block}.1.${inner.join(".")}`;
      return kind === "downsamplers" ? `input_blocks.${2 * (at + 1)}.0.op` : `output_blocks.${2 * at + 1}.2.conv`;
    };
    return { name: `model.diffusion_model.${named()}.${end}`, shape };
  }
  const [, block, index, part, number, ...rest] = path;
  const shortcut = (words) => words.join(".").replace("conv_shortcut", "nin_shortcut");
  const vae = () => {
    if (first.endsWith("quant_conv")) return first;
    const level = block === "up_blocks" ? 3 - Number(index) : index;
    const way = block === "up_blocks" ? "up" : "down";
    if (block === "mid_block") return index === "resnets" ? `${first}.mid.block_${Number(part) + 1}.${shortcut(path.slice(4))}` : `${first}.mid.attn_1.${ATTENTION[path.slice(4).join(".")]}`;
    if (part === "resnets") return `${first}.${way}.${level}.block.${number}.${shortcut(rest)}`;
    if (part) return `${first}.${way}.${level}.${way}sample.conv`;
    return block === "conv_norm_out" ? `${first}.norm_out` : `${first}.${block}`;
  };
  const named = vae();
  // Projections were convolutions.
  const turned = named.includes(".attn_1.") && shape.length === 2 ? [...shape, 1, 1] : shape;
  return { name: `first_stage_model.${named}.${end}`, shape: turned };
}

/** CLIP's, as files of a folder have it. */
function tokenizer() {
  const merges = readFileSync(join(ROOT, "models/clip/merges.bin"));
  const printed = [[0x21, 0x7e], [0xa1, 0xac], [0xae, 0xff]].flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
  const letters = [...printed, ...Array.from({ length: 256 - printed.length }, (_, i) => 0x100 + i)].map((code) => String.fromCharCode(code));
  const tokens = [...letters, ...letters.map((letter) => `${letter}</w>`)];
  const lines = ["#version: 0.2"];
  for (let at = 0; at < merges.length; at += 4) {
    const pair = [0, 2].map((half) => tokens[merges.readUInt16LE(at + half)]);
    lines.push(pair.join(" "));
    tokens.push(pair.join(""));
  }
  tokens.push("<|startoftext|>", "<|endoftext|>");
  return {
    "tokenizer/vocab.json": JSON.stringify(Object.fromEntries(tokens.map((token, id) => [token, id]))),
    "tokenizer/merges.txt": [...lines, ""].join("\n"),
    "tokenizer/tokenizer_config.json": json({ model_max_length: 77, pad_token: "<|endoftext|>" }),
  };
}

function place(out, path) {
  const full = join(out, path);
  mkdirSync(dirname(full), { recursive: true });
  return full;
}

const json = (value) => `${JSON.stringify(value, null, 2)}\n`;

/** What is wrong with the pictures of the full width, as sentences. `tell` gets sentences about what is done. */
export async function judge({ weights, device, size, steps }, tell) {
  tell("making the checkpoint");
  rmSync(OUT, { recursive: true, force: true });
  make(OUT);
  const faults = [];
  const pictures = [];
  for (const model of ["folder", "single.safetensors"]) {
    tell(`the native image of ${model}`);
    const out = join(OUT, `${model}.png`);
    const how = ["--model", join(OUT, model), "--weights", weights, "--seed", SEED, "--steps", steps, "--size", `${size}x${size}`];
    await must("The native command", TINTYPE, ["generate", PROMPT, ...how.map(String), "--device", device, "--out", out]);
    pictures.push(readFileSync(out));
  }
  if (!pictures[0].equals(pictures[1])) faults.push("natively the file draws another image than its folder");
  const ends = [];
  try {
    const { page, served } = await open({ after: (end) => ends.push(end) }, undefined, { isolated: true });
    const file = join(OUT, "single.safetensors");
    served.set("/tests/native.png", pictures[1]);
    served.set("/single.safetensors", (response) => {
      response.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Length": statSync(file).size });
      createReadStream(file).on("error", () => response.destroy()).pipe(response);
    });
    tell("loading in Chromium");
    const warnings = await page.evaluate(async (options) => {
      const { ImageGenerator } = await import("/index.js");
      window.generator = await ImageGenerator.create(options);
      return window.generator.warnings;
    }, { model: "/single.safetensors", weights, device, activations: "f32" });
    if (warnings.length > 0) faults.push(`the load warns: ${JSON.stringify(warnings)}`);
    tell("drawing in Chromium");
    const { within, worst } = await page.evaluate(compare, { prompt: PROMPT, seed: SEED, steps, size });
    if (within < WITHIN) faults.push(`${(100 * within).toFixed(2)} % within one level of the native image, the worst off by ${worst}`);
  } finally {
    for (const end of ends.reverse()) await end();
  }
  return faults;
}
