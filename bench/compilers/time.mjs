// How long a model would take: each of its dispatches the longer of its FLOPs at its kernel's share of peak, and its bytes.

import { join } from "node:path";
import { ROOT, must, step } from "../../tools/shell.mjs";
import { GPUS } from "./gpus.mjs";
import { aligned } from "./table.mjs";

/**
 * Every dispatch of an image from words in one step, by the tuning that a GPU takes or that is asked for:
 * { gpu: [{ network, kernel, variant, executed_flops, bytes_moved }] }.
 */
export async function dispatches({ model, size, weights, activations, tuning, devices }) {
  await step("cargo", () => must("The build", "cargo", ["build", "--locked", "--release", "--bin", "tintype"]));
  const args = ["plan", "--model", model, "--size", size, "--weights", weights, "--activations", activations, "--json", "--steps"];
  const plans = {};
  for (const gpu of devices) {
    const plan = JSON.parse(await must("The plan", join(ROOT, "target/release/tintype"), [...args, "--tuning", tuning ?? GPUS[gpu].tuning]));
    const used = Object.entries(plan).filter(([network]) => network !== "encoder");
    plans[gpu] = used.flatMap(([network, { steps = [] }]) => steps.map((dispatch) => ({ network, ...dispatch })));
  }
  return plans;
}

/** Milliseconds by network and by kernel, a column for each GPU. A dispatch whose variant has no row is bytes alone. */
export function times(plans, rows, devices) {
  const shares = new Map(rows.map((row) => [`${row.gpu} ${row.kernel} ${row.name}`, row.share]));
  const milliseconds = (gpu, { kernel, variant, executed_flops, bytes_moved }) => {
    const { teraflops, gigabytes } = GPUS[gpu];
    const share = shares.get(`${gpu} ${kernel} ${variant}`);
    return Math.max(share ? executed_flops / (share * teraflops * 1e9) : 0, bytes_moved / (gigabytes * 1e6));
  };
  const total = (counts) => devices.map((gpu) => plans[gpu].filter(counts).reduce((sum, dispatch) => sum + milliseconds(gpu, dispatch), 0).toFixed(1));
  const names = (key) => [...new Set(Object.values(plans).flat().map((dispatch) => dispatch[key]))];
  const by = (key) => names(key).map((name) => [name, ...total((dispatch) => dispatch[key] === name)]);
  return [[...by("network"), ["all", ...total(() => true)]], by("kernel")].map((lines) => aligned([["ms", ...devices], ...lines], 1)).join("\n\n");
}
