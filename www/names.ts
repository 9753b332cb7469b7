// The names of all options. One that is not known is refused by its name: a compiler sees that it is misspelt, and plain
// JavaScript does not.

import { describe, invalid } from "./errors.js";
import type { Component, ControlInput, CreateOptions, GenerateOptions, LoraSource, ScaledPicture } from "./types.js";

type Names<Options> = Record<keyof Options, 1>;
type Fields = readonly string[];

const CREATE = Object.keys({
  model: 1,
  revision: 1,
  hub: 1,
  baseUrl: 1,
  wasmUrl: 1,
  worker: 1,
  logLevel: 1,
  cache: 1,
  offline: 1,
  headers: 1,
  fetch: 1,
  device: 1,
  weights: 1,
  memory: 1,
  width: 1,
  height: 1,
  decoderWeights: 1,
  activations: 1,
  tuning: 1,
  singleFile: 1,
  loras: 1,
  embeddings: 1,
  components: 1,
  imageInput: 1,
  controls: 1,
  adapters: 1,
  ipAdapter: 1,
  safetyChecker: 1,
  signal: 1,
  onProgress: 1,
} satisfies Names<CreateOptions>);

const GENERATE = Object.keys({
  seed: 1,
  count: 1,
  busy: 1,
  preview: 1,
  metadata: 1,
  steps: 1,
  width: 1,
  height: 1,
  guidance: 1,
  guidanceRescale: 1,
  negativePrompt: 1,
  prompt2: 1,
  negativePrompt2: 1,
  prompt3: 1,
  negativePrompt3: 1,
  weighted: 1,
  maxSequenceLength: 1,
  instruction: 1,
  resolutionBinning: 1,
  clipSkip: 1,
  scheduler: 1,
  eta: 1,
  originalSize: 1,
  cropTopLeft: 1,
  targetSize: 1,
  loraScales: 1,
  image: 1,
  references: 1,
  mask: 1,
  strength: 1,
  control: 1,
  guessMode: 1,
  adapter: 1,
  imagePrompt: 1,
  safety: 1,
  signal: 1,
  onProgress: 1,
} satisfies Names<GenerateOptions>);

const SCALED = Object.keys({ image: 1, scale: 1 } satisfies Names<ScaledPicture>);
const CONTROL = Object.keys({ image: 1, scale: 1, start: 1, end: 1 } satisfies Names<ControlInput>);
const LORA = Object.keys({ source: 1, scale: 1 } satisfies Names<Extract<LoraSource, { source: unknown }>>);

/** Parts of a model that may come from another folder. */
const COMPONENTS = Object.keys({
  unet: 1,
  transformer: 1,
  vae: 1,
  text_encoder: 1,
  text_encoder_2: 1,
  text_encoder_3: 1,
  tokenizer: 1,
  tokenizer_2: 1,
  tokenizer_3: 1,
  scheduler: 1,
} satisfies Record<Component, 1>);

/** Options that are objects or lists of them, and what those may have. */
const INSIDE: Record<string, Fields> = {
  wasmUrl: ["base", "relaxed", "tokenizer"],
  loras: LORA,
  embeddings: ["source"],
  singleFile: ["source"],
  components: COMPONENTS,
  control: CONTROL,
  adapter: SCALED,
  imagePrompt: SCALED,
};

/** Throws where `create`, or a call that takes its options, gets an option that does not exist. */
export const checkCreate = (call: string, options: object): void => checkOptions(call, options, CREATE, { generate: GENERATE });

/** Throws where `generate` gets an option that does not exist. */
export const checkGenerate = (options: object): void => checkOptions("generate", options, GENERATE, { create: CREATE });

/** Throws where an object has a name that is not known; of those that other calls take, it says so. */
function checkNames(place: string, value: object, known: Fields, elsewhere: Record<string, Fields> = {}): void {
  const unknown = Object.keys(value).find((name) => !known.includes(name) && (value as Record<string, unknown>)[name] !== undefined);
  if (unknown === undefined) return;
  const taker = Object.entries(elsewhere).find(([, names]) => names.includes(unknown))?.[0];
  const near = nearest(unknown, known);
  const hint = taker ? `, it is one of ${taker}` : near ? `, did you mean ${near}?` : `, there are ${known.join(", ")}`;
  throw invalid(`${place}: there is no option ${JSON.stringify(unknown)}${hint}`);
}

function checkOptions(call: string, options: object, known: Fields, elsewhere: Record<string, Fields>): void {
  if (typeof options !== "object" || options === null) throw invalid(`${call}: wanted an object of options, found ${describe(options)}`);
  checkNames(call, options, known, elsewhere);
  for (const [key, value] of Object.entries(options)) {
    const fields = known.includes(key) && INSIDE[key];
    if (!fields) continue;
    for (const one of [value].flat()) if (isPlain(one)) checkNames(key, one, fields);
  }
}

/** Whether it is an object as it is written in braces. Addresses and images are others, and are judged by their kind. */
function isPlain(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const kind = Object.getPrototypeOf(value);
  return kind === null || Object.getPrototypeOf(kind) === null;
}

/** The known name that a misspelt one is most like, unless that is another word. */
function nearest(name: string, known: Fields): string | undefined {
  const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const [best] = known.map((other) => ({ other, edits: edits(plain(name), plain(other)) })).sort((a, b) => a.edits - b.edits);
  return best && best.edits <= Math.max(1, Math.floor(name.length / 3)) ? best.other : undefined;
}

/** How many letters have to be added, left out, replaced, or swapped with the next one. */
function edits(a: string, b: string): number {
  let [before, row]: [number[], number[]] = [[], Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) next[j] = Math.min(next[j]!, before[j - 2]! + 1);
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
}
