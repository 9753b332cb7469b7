// Masks and images as plain numbers. A mask has a value a pixel: 0 keeps the image, 255 makes it anew, and what
// lies between mixes the two.

/** A mask whose edges are about `feather` pixels wide: the mean of a square, twice. */
export function soften(mask, width, height, feather) {
  const radius = Math.ceil(feather / 4);
  let values = mask;
  for (let pass = 0; radius > 0 && pass < 2; pass++) {
    values = box(values, height, width, width, 1, radius);
    values = box(values, width, height, 1, width, radius);
  }
  return Uint8ClampedArray.from(values);
}

/** The mean of `2 * radius + 1` values along each line; a line's ends go on beyond it. */
function box(values, lines, length, across, along, radius) {
  const means = new Float32Array(values.length);
  for (let line = 0; line < lines; line++) {
    const at = (i) => values[line * across + Math.min(Math.max(i, 0), length - 1) * along];
    let sum = 0;
    for (let i = -radius; i <= radius; i++) sum += at(i);
    for (let i = 0; i < length; i++) {
      means[line * across + i * along] = sum / (2 * radius + 1);
      sum += at(i + radius + 1) - at(i - radius);
    }
  }
  return means;
}

/** ImageData of a mask: grey, or white of that opacity. */
export function maskImage(mask, width, height, { opacity = false } = {}) {
  const image = new ImageData(width, height);
  for (let i = 0; i < image.data.length; i++) {
    const value = mask[i >> 2];
    image.data[i] = i % 4 === 3 ? (opacity ? value : 255) : opacity ? 255 : value;
  }
  return image;
}

/** Everything that the mask touches, as the model wants it: black or white. */
export const hole = (mask) => mask.map((value) => (value > 0 ? 255 : 0));

/** `made` over `kept`, as far as the mask says. All are ImageData of one size; of the mask red counts. */
export function blend(kept, made, mask) {
  const image = new ImageData(kept.width, kept.height);
  for (let i = 0; i < image.data.length; i++) {
    const share = mask.data[i - (i % 4)] / 255;
    image.data[i] = i % 4 === 3 ? 255 : kept.data[i] * (1 - share) + made.data[i] * share;
  }
  return image;
}

/** Width and height of a picture whose longer side is at most `side`; in steps of `step`. */
export function fit(width, height, side, step = 1) {
  const scale = Math.min(1, side / Math.max(width, height));
  return [width, height].map((length) => Math.max(Math.round((length * scale) / step), 1) * step);
}

/** The pixels of anything that can be drawn, at another size. */
export function scaled(source, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { alpha: false, willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
