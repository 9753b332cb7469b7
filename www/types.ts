// What callers say and get: the options, the results, the news on the way.

import type { ErrorCode, Warning } from "./errors.js";

/**
 * News of a call. `fraction` is the share of the whole call that is done, from 0 to 1, and never goes back. Loading comes
 * in the stages "download", "verify" (of a model that is kept on this device) and "compile"; drawing in "merge" (new
 * scales of LoRAs), "text", "step" and "decode". A call that has to load a model again, or to compile for another size,
 * has these stages as well.
 */
export type Progress =
  /** Bytes that were fetched, or read and verified, and stored on the device; of how many. */
  | { stage: "download" | "verify"; fraction: number; loaded: number; total: number }
  | { stage: "compile" | "merge" | "text" | "decode"; fraction: number }
  /** The step that is being computed, from 1. `preview`, where it was asked for, comes after a step: close it, or draw it. */
  | { stage: "step"; fraction: number; step: number; steps: number; preview?: ImageBitmap };

export type Address = string | URL;

/**
 * ImageData, exactly, without its alpha; or anything else that can be drawn, such as a file or a canvas, where what is
 * transparent is black. It is taken as it is when `generate` is called.
 */
export type PictureSource = ImageData | ImageBitmapSource;

export interface CreateOptions {
  /**
   * "builtin" (the default); a name of the list `models`; a repository of the hub, such as "stabilityai/sd-turbo" or, at a revision,
   * "stabilityai/sd-turbo@b261bac"; the URL of a folder, in diffusers layout or a pack that `tintype pack` made; or the URL of a
   * single `.safetensors` file under the names of the original code (SD 1.x, 2.x, SDXL), whose family and configurations
   * follow from its header.
   * Relative URLs begin with "./" or "/". Or the files of such a folder, or such a single file: from an input, of a
   * directory handle, or the `dataTransfer` of a drop, which has to be passed on while the event lasts. Or a model that
   * comes as a module, such as that of `tintype/builtin`.
   */
  model?: "builtin" | (string & {}) | URL | FileList | readonly File[] | FileSystemDirectoryHandle | DataTransfer | BundledModel;
  /** A branch, a tag or a commit of the repository; by default "main", or the commit that the list `models` names. */
  revision?: string;
  /** The address of the hub, or of a mirror that answers as it does; by default that of Hugging Face. */
  hub?: Address;
  /**
   * Where repositories are instead of on the hub: on a server of files, which has a folder "organisation/name/" for each,
   * in diffusers layout or as a pack.
   */
  baseUrl?: Address;
  /**
   * Where Tintype's module is, for pages whose bundler does not copy it: the address of `tintype/runtime.wasm`, which every
   * browser takes, and perhaps of `tintype/runtime-relaxed.wasm`, which draws faster on the CPU of those that take it. `tokenizer` is the
   * address of `tintype/tokenizer.wasm`, which models with another text encoder than CLIP need.
   */
  wasmUrl?: Address | { base: Address; relaxed?: Address; tokenizer?: Address };
  /**
   * Where the work is done. True (the default): in a worker that is made for it. An address: in a worker of that script,
   * a copy of `tintype/worker`, for pages whose bundler does not copy it. A worker of that script, or a function that
   * makes one: in that one; one that is passed as it is serves one generator and is not ended. A page that ends it itself
   * ends its calls with code "disposed". False: on the page's own thread, which then stands still at times; nothing is kept
   * on the device, and nothing is left of it after `dispose`.
   *
   * Under the policy `require-trusted-types-for 'script'` workers are started through a Trusted Types policy that is called
   * `tintype`: such a page allows it with `trusted-types tintype`.
   */
  worker?: boolean | Address | Worker | (() => Worker);
  /** What is written to the console; by default nothing. */
  logLevel?: "silent" | "error" | "warn" | "info" | "debug";
  /**
   * Whether the model is kept on this device once it was loaded, as a pack in the origin's private files, and loaded from
   * there: by default repositories. The files behind other addresses may change, and what is kept does not
   * follow them. What is changed by LoRAs, a single file or `components` is not kept.
   * Failing to keep it is never an error: see `warnings`. Where the device had too little memory for weights as "auto", the
   * smaller ones that took their place are kept, and found the next time. Where there is no room, models that were not used for longest
   * are removed. A pack whose loading was interrupted goes on where it was, for a day.
   */
  cache?: boolean;
  /** Loads only what is kept, without any request for the model. */
  offline?: boolean;
  /**
   * Sent with every request to the hub, such as `Authorization` for a repository that is gated. No other origin gets them,
   * nor what the hub redirects to. For others, headers are named by their origins:
   * `{ "https://models.example.org": { Authorization: "Bearer ..." } }`, and then the hub has none but its own.
   */
  headers?: HeadersInit | Record<string, HeadersInit>;
  /** Fetches all files of the model and of its additions instead of the browser's fetch. It runs in the page. */
  fetch?: typeof fetch;
  /**
   * What draws. "auto" (the default) takes the GPU, or the CPU where there is none or only one in software.
   * The CPU uses all cores where the page is cross-origin isolated (the headers COOP and COEP), else one.
   */
  device?: "auto" | "gpu" | "cpu";
  /**
   * How weights are stored. "q8" takes a byte a weight; "q4" takes 4.5 bits where layers bear it, and a byte elsewhere.
   * Convolutions are stored so too, and computed on as they are. "auto" (the default) takes the first of "f16", "q8" and
   * "q4" with which weights and activations fit in `memory`.
   */
  weights?: "auto" | "f32" | "f16" | "q8" | "q4";
  /**
   * Bytes that weights and activations may take on the device. Where the smallest `weights` need more, text encoders run
   * on the CPU, and if that is not enough, images are decoded in tiles, whose seams may show, and at last in 16-bit floats
   * by an autoencoder whose configuration wants f32; warnings say so. What needs more still is refused with code "limit-too-low". By default it is guessed from what the browser tells of the device,
   * only weights are chosen by it, and nothing is refused.
   */
  memory?: number;
  /** The size of the images that `memory` is for; by default what the model was trained for. */
  width?: number;
  height?: number;
  /** Weight format of the autoencoder. Defaults to `weights`, or "q8" for "q4". */
  decoderWeights?: "f32" | "f16" | "q8";
  /**
   * How activations are stored: "auto" (the default) takes what the device does best. The CPU has f32 alone:
   * "f16" and "pack16" choose the GPU, even one in software.
   */
  activations?: "auto" | "f32" | "f16" | "pack16";
  /**
   * Which kernels a GPU runs, by the name of a table, as `tuning` of the generator and of its results says. "auto" (the
   * default) tries those that may fit the GPU before a large model is loaded, and takes the fastest that computes the same; in
   * software, and for a small model, it takes what fits without a trial. "measured" tries on any GPU. Another name fixes
   * the table, so that the same seed gives the same bits: "base", what every GPU runs well, "lanes", for software that loads
   * lane by lane, "wide", "thin" or "narrow", for GPUs with many registers or with few, in tiles that threads share,
   * "winograd", "thin" with Winograd's convolutions at every size. Where `device` is "auto" and a CPU takes the place of a
   * GPU, there is nothing to choose.
   */
  tuning?: "auto" | "measured" | "base" | "lanes" | "wide" | "thin" | "narrow" | "winograd";
  /**
   * A `.safetensors` file under the names of the original code (SD 1.x, 2.x, SDXL), whose weights take the place of
   * those in the model's folder; configurations, tokenizers and what the file lacks come from the folder.
   */
  singleFile?: Address;
  /**
   * LoRAs, merged into the weights. The model's files are kept then (as blobs, which browsers may put on the disk), so
   * that `loraScales` of a request can merge them anew without another download.
   */
  loras?: LoraSource | LoraSource[];
  /** Textual inversion: `.safetensors` files of learned tokens, which prompts write like the file or its tensor. */
  embeddings?: Address | Address[];
  /**
   * Folders of single components that take the place of the model's own, such as a tiny autoencoder or another U-Net. One that
   * the model has no such part for is a warning.
   */
  components?: Partial<Record<Component, Address>>;
  /** Whether requests may have an `image`: its encoder is loaded too. */
  imageInput?: boolean;
  /** ControlNets: folders in diffusers layout, or `.safetensors` files under the original names or diffusers'. */
  controls?: Address | Address[];
  /** T2I-Adapters, in the same forms. */
  adapters?: Address | Address[];
  /**
   * An IP-Adapter (plain, plus, plus face or full face): a folder with `ip-adapter.safetensors`, or a `.safetensors` file;
   * beside either lies the folder `image_encoder`.
   */
  ipAdapter?: Address;
  /** A safety checker, which is asked only where a request says so. */
  safetyChecker?: Address;
  /** Ends the loading; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

export type Component =
  | "unet"
  | "transformer"
  | "vae"
  | "text_encoder"
  | "text_encoder_2"
  | "text_encoder_3"
  | "tokenizer"
  | "tokenizer_2"
  | "tokenizer_3"
  | "scheduler";

/**
 * The address of a LoRA's `.safetensors`, also of a LoHa, a LoKr or a DoRA, in the naming of kohya, LyCORIS, diffusers or
 * peft.
 */
export type LoraSource = Address | { source: Address; /** By default 1. */ scale?: number };

export interface GenerateOptions {
  /**
   * A whole number from 0 to 2^53 - 1; random if left out. The same seed on the same device gives the same image: it draws
   * what torch's CPU generator draws in float32, which every version of torch does alike.
   */
  seed?: number;
  /** How many images are drawn, one after another: of `seed`, `seed + 1` and so on. By default 1. */
  count?: number;
  /**
   * What to do while another call of this generator goes on: "queue" (the default) waits for it, "replace" ends it and all
   * that wait, which reject with code "busy", and "reject" fails with that code itself.
   */
  busy?: "queue" | "replace" | "reject";
  /**
   * Whether `onProgress` gets a small image of what is to be seen after every step but the last. It takes a little time,
   * and does not change the image.
   */
  preview?: boolean;
  /** Whether PNGs say what they were made of: prompt, seed, model, settings and device. By default they do. */
  metadata?: boolean;
  steps?: number;
  /** In pixels, multiples of 8 (transformers: of 16). */
  width?: number;
  height?: number;
  /** Classifier-free guidance; above 1 (Z-Image: above 0) each step costs twice. By default off for distilled models. */
  guidance?: number;
  /**
   * How much of the guided prediction is given the spread of the prompt's own, 0 to 1 (`guidance_rescale` of diffusers): for
   * models that were trained down to noise alone. By default what the model's `model_index.json` says, else 0.
   */
  guidanceRescale?: number;
  negativePrompt?: string;
  /** For the second text encoder (SDXL, SD 3), instead of the prompt. */
  prompt2?: string;
  negativePrompt2?: string;
  /** For the third text encoder (SD 3), instead of the prompt. */
  prompt3?: string;
  negativePrompt3?: string;
  /**
   * Reads (word:1.2) and [word] as weights, and gives long prompts several chunks. Syntax of other tools that is not run is a
   * warning.
   */
  weighted?: boolean;
  /**
   * Tokens of a prompt for a text encoder that takes any number of them (T5): by default what suits the model. What pads a
   * prompt is seen by some models, and so changes an image.
   */
  maxSequenceLength?: number;
  /**
   * Whether an image is drawn in the nearest shape that the model was trained for, and then made as large as it is asked for: by
   * default for SANA and PixArt, as in diffusers.
   */
  resolutionBinning?: boolean;
  /** What SANA's text encoder reads in front of the prompt, instead of diffusers' `complex_human_instruction`; "" for nothing. */
  instruction?: string;
  /** Layers that are left out at the end of the text encoders. */
  clipSkip?: number;
  /** A short name, such as "euler", "lcm" or "dpm++", or a class of diffusers; the error for any other name lists them all. */
  scheduler?: string;
  /** How much fresh noise DDIM and TCD add, 0 to 1; by default 0, as in diffusers' pipelines. */
  eta?: number;
  /** What SDXL is told of sizes: height and width, top and left. */
  originalSize?: [number, number];
  cropTopLeft?: [number, number];
  targetSize?: [number, number];
  /** How strongly each LoRA counts from now on; merging them anew takes a part of the loading time. */
  loraScales?: number[];
  /** Image to image: what the image is made from, or the first of `references`. The generator was created with `imageInput`. */
  image?: PictureSource;
  /**
   * Pictures to edit, at most 4 with `image`, which is the first of them: for models that know how, such as FLUX.2. Each has at
   * least 64 pixels along a side, and is at most 8 times as long as wide. Without `width` and `height` the image is as large
   * as the first one, in at most 1024 x 1024 pixels.
   */
  references?: PictureSource | PictureSource[];
  /** Inpainting: what is white in it is made anew. As large as the image. */
  mask?: PictureSource;
  /** How much noise the image gets, above 0 to 1: by default 0.8, with a mask 1. */
  strength?: number;
  /** One for each ControlNet. `start` and `end` are shares of the steps. */
  control?: ControlInput | ControlInput[];
  /** The ControlNets guess what the image is, even without a prompt. */
  guessMode?: boolean;
  /** One for each T2I-Adapter. */
  adapter?: ScaledPicture | ScaledPicture[];
  /** For the IP-Adapter. */
  imagePrompt?: ScaledPicture;
  /** Off by default. "flag" says whether the image is `unsafe`, "block" makes it black too. */
  safety?: "off" | "flag" | "block";
  /** Ends the work; the promise rejects with the signal's reason and the generator stays usable. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

export interface ScaledPicture {
  image: PictureSource;
  /** By default 1. */
  scale?: number;
}

export interface ControlInput extends ScaledPicture {
  /** By default 0. */
  start?: number;
  /** By default 1. */
  end?: number;
}

/** One image that was drawn. */
export interface Picture {
  readonly image: ImageBitmap;
  readonly width: number;
  readonly height: number;
  readonly seed: number;
  /** What the safety checker said; false if it was not asked. */
  readonly unsafe: boolean;
  /** The exact pixels. */
  toImageData(): ImageData;
  /** An encoded image. PNGs are exact and say what they were made of, unless `metadata` was false; `quality` is from 0 to 1. */
  toBlob(type?: "image/png" | "image/webp" | "image/jpeg", quality?: number): Promise<Blob>;
}

/** What `generate` has drawn: the first image, and all of them. */
export interface Generated extends Picture {
  readonly pictures: readonly Picture[];
  /** How often the U-Net was asked for an image. */
  readonly steps: number;
  /** What was left out, such as the end of an overlong prompt. */
  readonly warnings: readonly Warning[];
  /** Milliseconds, of all images together. */
  readonly timings: Readonly<Record<"text" | "denoise" | "decode", number>>;
  readonly device: "gpu" | "cpu";
  /** The name of what drew it. */
  readonly adapter: string;
  /** The table by which its kernels were chosen; null on a CPU. */
  readonly tuning: string | null;
}

/** Whether a model can be had here, and how. */
export type Availability =
  /** It cannot: why, as the error of `create` would say it. */
  | { readonly state: "unavailable"; readonly code: ErrorCode; readonly reason: string }
  /** It is fetched first; another tab may be doing so. */
  | { readonly state: "downloadable" | "downloading"; readonly device: "gpu" | "cpu"; readonly adapter: string }
  /** It comes from this device. */
  | { readonly state: "available"; readonly device: "gpu" | "cpu"; readonly adapter: string };

/** A model that comes as a module of a page: a pack in one file, and where its files begin and how long they are in it. */
export interface BundledModel {
  readonly name: string;
  readonly url: URL;
  readonly files: Readonly<Record<string, readonly [begin: number, bytes: number]>>;
}

export type EstimateOptions = Pick<
  CreateOptions,
  "model" | "revision" | "hub" | "baseUrl" | "headers" | "fetch" | "wasmUrl" | "worker" | "device" | "decoderWeights" | "imageInput" | "memory" | "width" | "height"
>;

/** Bytes, for one image without guidance. */
export interface Need {
  /** On the device. */
  weights: number;
  /** On the device, for the networks of one image. */
  activations: number;
  /** Rows of tokens, in the page's own memory. */
  rows: number;
}

/**
 * By how weights are stored; which of them "auto" takes; and what else is given up for `memory`: "text", that the text
 * encoders are on the device, "tiles", that an image is decoded in one piece, "halves", that an autoencoder whose
 * configuration wants f32 has it.
 */
export type Estimate = Record<"f32" | "f16" | "q8" | "q4", Need> & { fitting: "f16" | "q8" | "q4"; savings: ("text" | "tiles" | "halves")[] };

/** A model that is kept on this device. */
export interface KeptModel {
  /** What `delete` takes. */
  key: string;
  /** The address that it was loaded from. */
  model: string;
  /** How its weights are stored. */
  weights: string;
  bytes: number;
  /** Whether its files were compared with the hashes that the hub has published. */
  verified: boolean;
  /** The commit of its repository; null where nobody told it. */
  commit: string | null;
  /** Dates as ISO 8601 has them. */
  created: string;
  used: string;
}

/** A model that `model` takes by its name. */
export interface NamedModel {
  readonly name: string;
  /** Its repository of the hub. */
  readonly repo: string;
  /** The commit that is taken where no `revision` is named. */
  readonly revision: string;
  /** SHA-256 of files of that commit, by path, in hexadecimal digits: what differs is refused with code "integrity". */
  readonly sha256?: Readonly<Record<string, string>>;
  readonly license: string;
  /** Whether the licence lets it be used for money, under its conditions. */
  readonly commercial: boolean;
  /** What is fetched, about. */
  readonly bytes: number;
  /** What it was made for: steps, guidance, and the side of an image in pixels. */
  readonly steps: number;
  readonly guidance: number;
  readonly size: number;
}

/**
 * What is kept of models on this device. Where the browser keeps nothing, there is nothing. What a newer version of Tintype
 * keeps, on a page that has several, is left alone and not listed.
 */
export interface Cache {
  /** The one that was used last first. */
  list(): Promise<KeptModel[]>;
  /** Bytes of all of them. */
  size(): Promise<number>;
  /** Removes one by its `key`; resolves to false if it is being loaded or written. */
  delete(key: string): Promise<boolean>;
  /** Removes all that are not being loaded or written, those of other versions of Tintype too. */
  clear(): Promise<void>;
  /** Asks the browser not to remove them when the disk is full; whether it agreed. */
  persist(): Promise<boolean>;
}
