// An image model for the AI SDK: `generateImage({ model: tintype(), prompt })`. The SDK's types are all that is used of it.

import type { ImageModelV4, ImageModelV4CallOptions, ImageModelV4File, ImageModelV4Result, SharedV4Warning } from "@ai-sdk/provider";
import { unlessAborted } from "./abort.js";
import { TintypeError, invalid } from "./errors.js";
import { ImageGenerator } from "./generator.js";
import { nameOf } from "./options.js";
import type { CreateOptions, GenerateOptions, Generated, Picture } from "./types.js";

/** What `providerOptions.tintype` may have: options of `generate` that JSON can say and that the SDK has no word for. */
const OPTIONS = [
  "steps",
  "guidance",
  "guidanceRescale",
  "negativePrompt",
  "prompt2",
  "negativePrompt2",
  "prompt3",
  "negativePrompt3",
  "weighted",
  "maxSequenceLength",
  "clipSkip",
  "scheduler",
  "eta",
  "originalSize",
  "cropTopLeft",
  "targetSize",
  "loraScales",
  "strength",
  "safety",
  "metadata",
  "busy",
] as const satisfies (keyof GenerateOptions)[];

export type TintypeProviderOptions = Pick<GenerateOptions, (typeof OPTIONS)[number]>;

/** An image model, and the end of the generator that it has made, if it was not given one. */
export type TintypeImageModel = ImageModelV4 & AsyncDisposable & { dispose(): Promise<void> };

/**
 * Draws with a generator, or with one that is created with these options for the first image. `files`: the first one is
 * what the image is made from; of `mask`, what is white is made anew. They need a generator with `imageInput`.
 * Results say each image's seed in `providerMetadata.tintype.images`, and in `calls[0].providerMetadata.tintype` the
 * times and the device too.
 */
export function tintype(source: CreateOptions | ImageGenerator | Promise<ImageGenerator> = {}): TintypeImageModel {
  const given = source instanceof ImageGenerator || "then" in source;
  let own: Promise<ImageGenerator> | null = null;
  const load = (options: CreateOptions) => {
    own ??= ImageGenerator.create(options);
    // The next call tries again.
    own.catch(() => (own = null));
    return own;
  };
  const generator = async () => (given ? source : load(source));
  const modelId = given ? "generator" : nameOf(source.model ?? "builtin");
  const dispose = async () => {
    await (await own?.catch(() => null))?.dispose();
    own = null;
  };
  const takesImages = given ? {} : { supportsFileInputs: source.imageInput === true, supportsMaskInputs: source.imageInput === true };
  return {
    specificationVersion: "v4",
    provider: "tintype",
    modelId,
    // All images of one call: the SDK gives the same seed to each of several calls, which would draw the same image.
    maxImagesPerCall: Number.MAX_SAFE_INTEGER,
    ...takesImages,
    async doGenerate(options) {
      const timestamp = new Date();
      const { prompt = "", abortSignal: signal } = options;
      signal?.throwIfAborted();
      const { request, warnings } = await requestOf(options);
      const generated = await (await unlessAborted(generator(), signal)).generate(prompt, request);
      return resultOf(generated, { warnings, response: { timestamp, modelId, headers: undefined } });
    },
    dispose,
    [Symbol.asyncDispose]: dispose,
  };
}

/** The SDK's options as those of `generate`, and what of them is left out. */
async function requestOf({ n, size, aspectRatio, seed, files = [], mask, providerOptions, abortSignal: signal }: ImageModelV4CallOptions) {
  const warnings: SharedV4Warning[] = [];
  const unsupported = (feature: string, details: string) => warnings.push({ type: "unsupported", feature, details });
  if (aspectRatio !== undefined) unsupported("aspectRatio", "The size decides: say `size`.");
  if (files.length > 1) unsupported("files", "Only the first image is used.");
  const request: GenerateOptions = { count: n, ...(seed !== undefined && { seed }), ...(signal && { signal }), ...sizeOf(size) };
  for (const [key, value] of Object.entries(providerOptions.tintype ?? {})) {
    if ((OPTIONS as readonly string[]).includes(key)) Object.assign(request, { [key]: value });
    else unsupported(`providerOptions.tintype.${key}`, "There is no such option.");
  }
  const [image] = files;
  if (image) request.image = await blobOf(image, signal);
  if (mask) request.mask = await blobOf(mask, signal);
  return { request, warnings };
}

function sizeOf(size: string | undefined): Pick<GenerateOptions, "width" | "height"> {
  if (size === undefined) return {};
  const [, width, height] = /^(\d+)x(\d+)$/.exec(size) ?? [];
  if (!width) throw invalid(`size: wanted such as "512x512", found ${size}`);
  return { width: Number(width), height: Number(height) };
}

async function blobOf(file: ImageModelV4File, signal: AbortSignal | undefined): Promise<Blob> {
  if (file.type === "url") return fetched(file.url, signal);
  const { data, mediaType } = file;
  const bytes = typeof data === "string" ? bytesOf(data) : new Uint8Array(data);
  return new Blob([bytes], { type: mediaType });
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  } catch (error) {
    throw new TintypeError("invalid-image", "files: wanted base64 or bytes, found another text", { cause: error });
  }
}

async function fetched(url: string, signal: AbortSignal | undefined): Promise<Blob> {
  try {
    const response = await fetch(url, signal ? { signal } : {});
    if (!response.ok) throw new TintypeError(response.status === 404 ? "not-found" : "network", `${url}: the server answered ${response.status}`);
    return await response.blob();
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof TintypeError ? error : new TintypeError("network", `${url}: ${(error as Error).message}`, { cause: error });
  }
}

async function resultOf(generated: Generated, { warnings, response }: Pick<ImageModelV4Result, "warnings" | "response">): Promise<ImageModelV4Result> {
  const { pictures, timings, steps, device, adapter, tuning } = generated;
  const images = await Promise.all(pictures.map(encoded));
  const about = pictures.map(({ seed, width, height, unsafe }) => ({ seed, width, height, unsafe }));
  return {
    images,
    warnings: [...warnings, ...generated.warnings.map(({ message }) => ({ type: "other" as const, message }))],
    providerMetadata: { tintype: { images: about, steps, timings: { ...timings }, device, adapter, tuning } },
    response,
  };
}

/** As PNG. Nobody else has the bitmap, which is closed. */
async function encoded(picture: Picture): Promise<Uint8Array> {
  const blob = await picture.toBlob();
  picture.image.close();
  return new Uint8Array(await blob.arrayBuffer());
}
