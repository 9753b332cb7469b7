// Numbers that stand in for trained weights: seeded, and spread so that what a network computes stays in range.

/** Branches that are added to what they came from: each adds a little, so that the sum of all stays in range. */
const ADDED =
  /(conv2|to_out\.0|ff\.net\.2|proj_out|fc2|out_proj|decoder\.layers\.\d+\.conv\.4|encoder\.layers\.\d+\.conv\.4)\.weight$/;
/** The last layer of an AutoencoderTiny, whose pixels are from 0 to 1. */
const PIXELS = /^decoder\.layers\.18\./;
const QUANTILES = 1 << 16;

/** The mean and the standard deviation of a tensor's values. */
function spread(name, shape) {
  if (PIXELS.test(name)) return name.endsWith("bias") ? [0.5, 0] : [0, 0.004];
  if (name.endsWith("bias")) return [0, 0.02];
  if (/token_embedding|position_embedding/.test(name)) return [0, name.includes("token") ? 1 : 0.3];
  // Of a norm.
  if (shape.length === 1) return [1, 0.1];
  const inputs = shape.slice(1).reduce((a, b) => a * b);
  // About half of the variance is lost in the activation before.
  return [0, Math.sqrt((ADDED.test(name) ? 0.1 : 1.5) / inputs)];
}

/**
 * A function that writes the values of a tensor one after another: it fills an array of the type `Array`, whose numbers
 * are `encode`d. Values are drawn from a table of a normal distribution, two for a random number: there are billions.
 */
export function values(seed, name, shape, dtype) {
  const table = tableOf(dtype, ...spread(name, shape));
  let state = hash(`${seed} ${name}`) || 1;
  return (array) => {
    for (let i = 0; i < array.length; i += 2) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      array[i] = table[state & 0xffff];
      // Written beyond the end of an odd one, which is no error.
      array[i + 1] = table[state >>> 16];
    }
  };
}

export const DTYPES = {
  F16: { Array: Uint16Array, encode: half },
  F32: { Array: Float32Array, encode: (value) => value },
};

const tables = new Map();

function tableOf(dtype, mean, deviation) {
  const key = `${dtype} ${mean} ${deviation}`;
  if (!tables.has(key)) {
    const { Array, encode } = DTYPES[dtype];
    const table = new Array(QUANTILES);
    normal().forEach((value, i) => (table[i] = encode(mean + deviation * value)));
    tables.set(key, table);
  }
  return tables.get(key);
}

let drawn;

/** Values of a normal distribution, in no order; each has its opposite, so that their mean is 0. */
function normal() {
  if (drawn) return drawn;
  drawn = new Float64Array(QUANTILES);
  for (let i = 0; i < QUANTILES / 2; i++) {
    // Two coordinates of Box and Muller, the second of which goes evenly round and round.
    const radius = Math.sqrt(-2 * Math.log((i + 0.5) / (QUANTILES / 2)));
    const value = radius * Math.cos(2 * Math.PI * ((i * 0.6180339887498949) % 1));
    drawn[2 * i] = value;
    drawn[2 * i + 1] = -value;
  }
  return drawn;
}

/** The bits of the nearest half; none here is as large as infinity. */
function half(value) {
  const sign = value < 0 ? 0x8000 : 0;
  const size = Math.abs(value);
  // Below this, halves are multiples of the smallest one.
  if (size < 2 ** -14) return sign | Math.round(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  // A carry goes into the exponent, where it belongs.
  return sign | (((exponent + 15) << 10) + Math.round((size / 2 ** exponent - 1) * 1024));
}

/** FNV-1a. */
export function hash(text) {
  let sum = 0x811c9dc5;
  for (const byte of Buffer.from(text)) sum = Math.imul(sum ^ byte, 0x01000193);
  return sum >>> 0;
}
