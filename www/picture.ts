// Pixels of a page's images on the way in, and images of the generator's pixels on the way out.

import { TintypeError, describe } from "./errors.js";
import { withTexts } from "./png.js";
import type { Pixels } from "./protocol.js";
import type { GenerateOptions, Picture, PictureSource } from "./types.js";

/** The options with the pixels of their images as they are now: they may change while the call waits. */
export async function withPixels({ image, references, mask, control, adapter, imagePrompt, ...rest }: Partial<GenerateOptions>) {
  const one = (key: string, value: PictureSource | undefined) => (value === undefined ? undefined : pixelsOf(key, value));
  const scaled = async (key: string, value: { image: PictureSource }) => ({ ...value, image: await pixelsOf(`${key}.image`, value?.image) });
  const all = <Value extends { image: PictureSource }>(key: string, value: Value | Value[] | undefined) =>
    value === undefined ? undefined : Promise.all([value].flat().map((each) => scaled(key, each as Value)));
  const listed = references === undefined ? undefined : [references].flat().map((image) => ({ image }));
  const [a, b, c, d, e, f] = await Promise.all([
    one("image", image),
    one("mask", mask),
    all("control", control),
    all("adapter", adapter),
    imagePrompt === undefined ? undefined : scaled("imagePrompt", imagePrompt),
    all("references", listed),
  ]);
  return { ...rest, image: a, references: f, mask: b, control: c, adapter: d, imagePrompt: e };
}

/** The pixels of anything that can be drawn, on black; ImageData is taken as it is. */
async function pixelsOf(key: string, source: PictureSource): Promise<Pixels> {
  if (source instanceof ImageData && source.data instanceof Uint8ClampedArray) {
    return { width: source.width, height: source.height, data: source.data.slice() };
  }
  try {
    const bitmap = await createImageBitmap(source);
    // Read once and never shown: no work for a GPU.
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { alpha: false, willReadFrequently: true })!;
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const { width, height, data } = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
    return { width, height, data: data as Pixels["data"] };
  } catch (error) {
    throw new TintypeError("invalid-image", `${key}: wanted an image, found ${describe(source)} (${(error as Error).message})`, { cause: error });
  }
}

/** As it is: no conversion between colour spaces, and the images are opaque. */
export const bitmapOf = ({ width, height, data }: Pixels): Promise<ImageBitmap> =>
  createImageBitmap(new ImageData(data, width, height), { colorSpaceConversion: "none", premultiplyAlpha: "none" });

/** An image of pixels; `texts` are what its PNG says. */
export async function pictureOf(pixels: Pixels, facts: Pick<Picture, "seed" | "unsafe">, texts: Record<string, string>): Promise<Picture> {
  const { width, height, data } = pixels;
  const toImageData = () => new ImageData(data.slice(), width, height);
  return {
    image: await bitmapOf(pixels),
    width,
    height,
    ...facts,
    toImageData,
    async toBlob(type = "image/png", quality) {
      const canvas = new OffscreenCanvas(width, height);
      canvas.getContext("2d")!.putImageData(toImageData(), 0, 0);
      const blob = await canvas.convertToBlob(quality === undefined ? { type } : { type, quality });
      return blob.type === "image/png" ? withTexts(new Uint8Array(await blob.arrayBuffer()), texts) : blob;
    },
  };
}

/**
 * What a PNG says: a line that programs for such images read, and all settings as JSON. `options` are those of the
 * request, `about` tells of the model and the device.
 */
export function textsOf(prompt: string, seed: number, size: [number, number], options: Partial<GenerateOptions>, about: Record<string, unknown>): Record<string, string> {
  const { signal, onProgress, image, references, mask, control, adapter, imagePrompt, metadata, busy, count, preview, ...settings } = options;
  if (metadata === false) return {};
  const { negativePrompt, steps, scheduler, guidance, strength } = settings;
  const facts = { Steps: steps, Sampler: scheduler, "CFG scale": guidance, Seed: seed, Size: size.join("x"), Model: about.model, "Denoising strength": strength };
  const line = Object.entries(facts).filter(([, value]) => value !== undefined).map((fact) => fact.join(": ")).join(", ");
  const parameters = [prompt, ...(negativePrompt ? [`Negative prompt: ${negativePrompt}`] : []), line].join("\n");
  return { Software: "Tintype", parameters, tintype: JSON.stringify({ prompt, ...settings, seed, size, ...about }) };
}
