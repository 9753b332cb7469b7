// What must hold of a group's figures: sentences about what does not.

import { statSync } from "node:fs";
import { join } from "node:path";
import { MODELS, model } from "./models.mjs";

const MIB = 2 ** 20;
/** Of a connection that breaks, at most a range. */
const LOST = 8 * MIB;
/** Of a worker's heap with its array buffers; the module's memory is not in it. */
const HEAP = 128 * MIB;
/** Of the module's memory: on the GPU all of it, on the CPU what there is beside the weights. */
const WASM = 256 * MIB;
/** Bytes of weights on the GPU: of the U-Net, or of all parts. */
const GPU = {
  "sd-turbo q8": { unet: 0.93e9 },
  "sd-turbo q4": { unet: 0.56e9, all: 0.82e9 },
};
/** How many of a picture's values are off by one level at most, as in the browser's tests on small models. */
const WITHIN = 0.999;
/** Of a picture's values, in levels: less is nearly flat. */
const DEVIATION = 20;

/** All that does not hold of `found`, which `measure` has found of `group`. */
export function wrong(group, found) {
  const faults = [];
  const must = (holds, fault) => holds || faults.push(fault);
  const { load, picture, again, fetched, kept, asked } = found;

  for (const [when, { heap, device, warnings }] of Object.entries({ "the load": load, "the load of what was kept": again })) {
    must(heap < HEAP, `the worker's heap in ${when}: ${megabytes(heap)}, wanted less than ${megabytes(HEAP)}`);
    must(device === group.device, `${when}: it drew on ${device}`);
    must(warnings.length === 0, `${when}: ${JSON.stringify(warnings)}`);
  }
  const most = WASM + (group.device === "cpu" ? kept : 0);
  for (const { wasm } of [load, again]) must(wasm < most, `the module's memory: ${megabytes(wasm)}, wanted less than ${megabytes(most)}`);
  must(asked === 0, `loading what was kept made ${asked} requests`);
  files(group, fetched, must);

  const { unet = Infinity, all = Infinity } = GPU[`${group.model} ${group.weights}`] ?? {};
  if (group.device === "gpu") {
    const { weights } = load;
    const sum = Object.values(weights).reduce((a, b) => a + b);
    must(weights.unet > 0 && weights.unet <= unet, `the U-Net on the GPU: ${megabytes(weights.unet)}, wanted at most ${megabytes(unet)}`);
    must(sum <= all, `all weights on the GPU: ${megabytes(sum)}, wanted at most ${megabytes(all)}`);
  }
  if (!group.size) return faults;
  const { sizes, within, worst, deviation, heap } = picture;
  must(sizes.every((side) => side === group.size), `the images' sides: ${sizes}`);
  must(within >= WITHIN, `${(100 * within).toFixed(2)} % within one level of the native image, the worst off by ${worst}`);
  must(deviation >= DEVIATION, `the native image is nearly flat: its values differ by ${deviation.toFixed(1)} levels`);
  must(heap < HEAP, `the worker's heap while it drew: ${megabytes(heap)}, wanted less than ${megabytes(HEAP)}`);
  must(found.small === found.smallAgain, "what was kept draws another image");
  return faults;
}

/** Every file that is wanted came once, whole, but for what a broken connection has lost; no other. */
function files(group, fetched, must) {
  const { networks, unused } = MODELS[group.model];
  const { folder } = model(group.model);
  for (const [part, [, , file]] of Object.entries(networks)) {
    const path = `${part}/${file}`;
    const { size } = statSync(join(folder, path));
    const sent = fetched.filter((entry) => entry.path === path).reduce((sum, entry) => sum + entry.sent, 0);
    must(sent >= size && sent <= size + LOST, `${path} of ${size} bytes: ${sent} were fetched`);
  }
  for (const path of Object.keys(unused)) must(!fetched.some((entry) => entry.path === path), `${path} was fetched`);
}

export const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;
