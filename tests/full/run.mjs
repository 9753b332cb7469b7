// `npm run test:full`: models of the published sizes with weights of our own, from a server like the hub, in headless
// Chromium: what they fetch, hold and take, and that their images are the native ones. Takes the most of an hour.
//
//   npm run test:full                    everything
//   npm run test:full -- sd-turbo q4     the groups whose names have all of these words
//   npm run test:full -- --rest          those that have not passed with what is built now

import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { build } from "../../tools/build.mjs";
import { TEST, setup } from "../../tools/setup.mjs";
import { UserError, ROOT, main, must, say, seconds } from "../../tools/shell.mjs";
import { measure } from "./group.mjs";
import { megabytes, wrong } from "./limits.mjs";
import { judge } from "./single.mjs";

const OUT = join(ROOT, "target/full");
/** A line of JSON for each group that was run, whatever came of it. */
const RESULTS = join(OUT, "results.jsonl");

/** Without a size there is no picture: a GPU in software would take too long. */
const GROUPS = [
  { model: "sdxs", weights: "q8", device: "cpu", size: 256, steps: 1 },
  { model: "sdxs", weights: "q4", device: "cpu", size: 256, steps: 1 },
  { model: "sdxs", weights: "q8", device: "gpu", size: 128, steps: 1 },
  { model: "sd-turbo", weights: "q8", device: "cpu", size: 256, steps: 1 },
  { model: "sd-turbo", weights: "q4", device: "cpu", size: 256, steps: 1 },
  { model: "sd-turbo", weights: "q8", device: "gpu" },
  { model: "sd-turbo", weights: "q4", decoderWeights: "f16", device: "gpu" },
  { model: "lcm", weights: "q8", device: "cpu", size: 256, steps: 2 },
  { model: "lcm", weights: "q4", device: "cpu", size: 256, steps: 2 },
  { model: "single", weights: "q8", device: "cpu", size: 256, steps: 1 },
];

const nameOf = ({ model, weights, device }) => `${model} ${weights} ${device}`;

main(async () => {
  const begin = Date.now();
  const args = process.argv.slice(2);
  const words = args.filter((arg) => !arg.startsWith("--"));
  const named = GROUPS.filter((group) => words.every((word) => nameOf(group).split(" ").includes(word)));
  if (named.length === 0) throw new UserError(`No group has all of "${words.join(" ")}". Groups: ${GROUPS.map(nameOf).join(", ")}.`);
  await setup(TEST, { install: args.includes("--install") });
  await must("The native build", "cargo", ["build", "-q", "--locked", "--release"]);
  await build();
  mkdirSync(OUT, { recursive: true });
  const stamp = built();
  const passed = results().filter((result) => result.stamp === stamp && result.faults.length === 0).map(({ name }) => name);
  const groups = args.includes("--rest") ? named.filter((group) => !passed.includes(nameOf(group))) : named;
  for (const [at, group] of groups.entries()) {
    const started = Date.now();
    say(`[${at + 1}/${groups.length}] ${nameOf(group)}`);
    const result = await judged(group);
    appendFileSync(RESULTS, `${JSON.stringify({ name: nameOf(group), stamp, at: new Date().toISOString(), ...result })}\n`);
    say(`  ${result.faults.length === 0 ? "ok" : `FAILED\n  ${result.faults.join("\n  ")}`} (${seconds(started)})`);
    if (result.faults.length > 0) process.exitCode = 1;
  }
  // With what an earlier run has found of the same build.
  const latest = new Map(results().filter((result) => result.stamp === stamp).map((result) => [result.name, result]));
  say(`\n${table(named.flatMap((group) => latest.get(nameOf(group)) ?? []))}\n\nin ${seconds(begin)}; ${RESULTS} has all figures`);
});

/** The figures of a group and what is wrong with them; an error is one of these. */
async function judged(group) {
  let shown = "";
  const tell = (line) => {
    if (line !== shown && process.stdout.isTTY) process.stdout.write(`\r\x1b[K  ${line}`);
    else if (line.replace(/\d+/, "") !== shown.replace(/\d+/, "")) say(`  ${line}`);
    shown = line;
  };
  try {
    if (group.model === "single") return { faults: await judge(group, tell) };
    const found = await measure(group, tell);
    return { faults: wrong(group, found), found };
  } catch (error) {
    return { faults: [error.stack] };
  } finally {
    if (process.stdout.isTTY) process.stdout.write("\r\x1b[K");
  }
}

const results = () => (existsSync(RESULTS) ? readFileSync(RESULTS, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line)) : []);

/** A digest of all that a result depends on beside the machine. */
function built() {
  const scripts = ["dist", "tests/full"].flatMap((dir) => readdirSync(join(ROOT, dir)).filter((name) => /\.m?js$/.test(name)).map((name) => join(dir, name)));
  const sum = createHash("sha256");
  for (const path of ["dist/pkg/.inputs", ...scripts.sort()]) sum.update(readFileSync(join(ROOT, path)));
  return sum.digest("hex");
}

/** The figures of runs, as Markdown. */
function table(all) {
  const head = ["", "fetched", "kept", "worker's heap", "module's memory", "GPU: weights, most", "load: start + text + U-Net + decoder", "kept load", "picture", "within one level"];
  const rows = all.filter(({ found }) => found).map(({ name, found: { fetched, kept, load, again, picture } }) => [
    name,
    megabytes(fetched.reduce((sum, { sent }) => sum + sent, 0)),
    megabytes(kept),
    [load, again, picture].map((when) => (when ? megabytes(when.heap) : "")).filter(Boolean).join(", "),
    [load, again, picture].map((when) => (when ? megabytes(when.wasm) : "")).filter(Boolean).join(", "),
    load.gpuPeak ? `${Object.values(load.weights).map(megabytes).join(" + ")}, ${megabytes((picture ?? load).gpuPeak)}` : "",
    `${Object.values(load.stages).map((each) => each.toFixed(1)).join(" + ")} s`,
    `${again.seconds.toFixed(1)} s`,
    picture ? `${picture.sizes[0]}x${picture.sizes[1]}, ${picture.seconds.toFixed(0)} s` : "",
    picture ? `${(100 * picture.within).toFixed(2)} %` : "",
  ]);
  return [head, head.map((_, i) => (i === 0 ? "---" : "--:")), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}
