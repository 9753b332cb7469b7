// What the figures must satisfy, and how they are shown: a line on the screen, a table in RESULTS.md.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { say } from "../../tools/shell.mjs";

/**
 * By name: what export.py calls it, what it is, how much faster Tintype must be on WebGPU, and what part of its rival's
 * time it may take on the CPU at equal threads: with several, and with one. Where `weights` are quantised, each engine
 * in its own way, outputs do not agree and nothing must hold but that Tintype runs and all outputs are numbers. Only
 * `engines` are measured of a case that has them: on a GPU in software the picture takes minutes, and a rival nine times that.
 */
export const CASES = {
  unet: { folder: "unet", title: "U-Net, SD-Turbo at half width, 32x32 latent, 77 tokens", faster: 8, share: [0.66, 0.66] },
  vae: { folder: "vae", title: "KL decoder, 32x32 latent to 256x256", faster: 8, share: [0.33, 0.33] },
  text: { folder: "text_encoder", title: "CLIP ViT-L, 77 tokens", faster: 5, share: [0.9, 0.92] },
  picture: { folder: "picture", title: "SD-Turbo at full width, weights in q8, one step at 256x256, from tokens to pixels", weights: "q8", engines: ["tintype-cpu", "ort-wasm"] },
};
/** What a first call on the CPU takes at most, in times of later ones: no work hides there. */
const FIRST = 1.15;
/** Of outputs, |a - b| / |b|: from PyTorch's, and from each other's; and of Tintype on the CPU from PyTorch's. */
const AGREE = 1e-4;
const AGREE_CPU = 1e-5;

/** In the order of their turns: Tintype before its rival, whose time may be limited by it. */
export const ENGINES = ["tintype-webgpu", "ort-webgpu", "tintype-cpu", "ort-wasm"];
const RIVALS = ["ort-webgpu", "ort-wasm"];
const NAMES = {
  "tintype-webgpu": "Tintype WebGPU",
  "ort-webgpu": "ORT WebGPU",
  "tintype-cpu": "Tintype CPU",
  "ort-wasm": "ORT wasm",
};

/** A cell's { best, median } in seconds, or { over } or { first }; null if it has none. */
export function figure({ rounds = [], first, over, failed } = {}) {
  if (failed !== undefined) return null;
  if (over !== undefined) return { best: over, median: over, mark: "over" };
  if (rounds.length === 0) return first === undefined ? null : { best: first, median: first, mark: "first" };
  const sorted = [...rounds].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  return { best: sorted[0], median, mark: "" };
}

/** Sentences about what does not hold; without `all`, only about outputs that disagree and engines that failed. */
export function failures({ cases }, all) {
  const faults = [];
  for (const [name, cells] of Object.entries(cases)) {
    const { weights } = CASES[name];
    for (const [engine, cell] of Object.entries(cells)) {
      const say = (sentence) => faults.push(`${name}: ${NAMES[engine]} ${sentence}`);
      if (cell.failed && !(weights && RIVALS.includes(engine))) say(`failed: ${cell.failed}`);
      const agree = weights ? Infinity : engine === "tintype-cpu" ? AGREE_CPU : AGREE;
      if (!(cell.error <= agree)) say(`is off PyTorch by ${cell.error}, the limit is ${agree}`);
      for (const [other, off] of Object.entries(cell.differences)) {
        const limit = weights ? Infinity : AGREE;
        if (!(off <= limit)) say(`is off ${NAMES[other]} by ${off}, the limit is ${limit}`);
      }
    }
    if (all && !weights) faults.push(...slow(name, cells));
  }
  return faults;
}

function slow(name, cells) {
  const faults = [];
  const gpu = ratio(cells["ort-webgpu"], cells["tintype-webgpu"]);
  const { faster } = CASES[name];
  if (gpu !== null && !(gpu.value >= faster)) {
    const known = gpu.mark === "> " ? "only known to be more than " : "";
    faults.push(`${name}: on WebGPU Tintype is ${known}${shown(gpu.value)} times as fast, wanted at least ${faster}`);
  }
  const [ours, theirs] = [cells["tintype-cpu"], cells["ort-wasm"]];
  const cpu = ratio(ours, theirs);
  const share = CASES[name].share[ours?.threads === 1 ? 1 : 0];
  if (cpu !== null && !(cpu.value <= share)) {
    faults.push(`${name}: on the CPU Tintype takes ${shown(cpu.value)} of ONNX Runtime's time, wanted at most ${share}`);
  }
  const later = figure(ours);
  if (later?.mark === "" && !(ours.first <= FIRST * later.median)) {
    faults.push(`${name}: on the CPU Tintype's first run took ${shown(ours.first)} s, later ones ${shown(later.median)} s, wanted at most ${FIRST} times as long`);
  }
  if (cpu !== null && ours.threads !== theirs.threads) {
    faults.push(`${name}: on the CPU Tintype had ${ours.threads} of the ${theirs.threads} threads`);
  }
  return faults;
}

/** How many times as long as `b` the engine `a` takes; null where one has no figure. */
function ratio(a, b) {
  const [long, short] = [figure(a), figure(b)];
  if (!long || !short) return null;
  return { value: long.median / short.median, mark: long.mark === "over" ? "> " : short.mark === "over" ? "< " : "" };
}

/** Three digits, and no more precision than that. */
export const shown = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** The table of a run, with notes on what its marks mean. `native`: by case, what native.py says or { failed }. */
export function table({ cases, native = {} }) {
  const marks = new Set();
  const time = (cell) => {
    if (!cell) return "not run";
    const found = figure(cell);
    if (!found) return cell.failed ? `failed: ${few(cell.failed)}` : "";
    marks.add(found.mark);
    if (found.mark === "over") return `> ${shown(found.median)} ²`;
    if (found.mark === "first") return `${shown(found.median)} ¹`;
    return `${shown(found.median)} (${shown(found.best)})`;
  };
  const times = (a, b) => {
    const found = ratio(a, b);
    return found ? `${found.mark}${shown(found.value)}` : "";
  };
  const rows = Object.entries(cases).map(([name, cells]) => {
    const [gpu, theirs, cpu, wasm] = ENGINES.map((engine) => cells[engine]);
    const off = Math.max(...Object.values(cells).flatMap(({ error, differences }) => [error, ...Object.values(differences)]));
    const cellsOf = [time(theirs), time(gpu), times(theirs, gpu), time(wasm), time(cpu), times(cpu, wasm), digit(off) + (CASES[name].weights ? " ³" : "")];
    return `| ${CASES[name].title} | ${cellsOf.join(" | ")} |`;
  });
  const notes = [];
  if (marks.has("first")) notes.push("¹ One run, the first, which includes compiling: there was no time for another.");
  if (marks.has("over")) notes.push("² Stopped after so long: how long it would have taken is not known, and its output was not compared.");
  for (const [name, cells] of Object.entries(cases).filter(([name]) => CASES[name].weights)) notes.push(`³ ${quantised(cells, native[name])}`);
  return [
    "| | ORT WebGPU, s | Tintype WebGPU, s | ORT / Tintype | ORT wasm, s | Tintype CPU, s | Tintype / ORT | off by |",
    "|---|--:|--:|--:|--:|--:|--:|--:|",
    ...rows,
    ...notes.map((note) => `\n${note}`),
  ].join("\n");
}

/** The error in a few words, for a cell. */
const few = (error) => (error.length > 120 ? `${error.slice(0, 119)}…` : error).replaceAll("|", "/");

const digit = (off) => off.toExponential(0);

/** What a row with quantised weights is beside: each engine's distance from PyTorch in f32, and ONNX Runtime outside a browser. */
function quantised(cells, native) {
  const offs = ENGINES.filter((engine) => cells[engine]?.first !== undefined).map((engine) => `${NAMES[engine]} ${digit(cells[engine].error)}`);
  const what = "native ONNX Runtime in f32";
  const { median, best } = figure(native) ?? {};
  const beside = !native
    ? `${what} was not run`
    : native.failed
      ? `${what} failed: ${few(native.failed)}`
      : `${what} (${native.version}, ${native.threads} threads): ${shown(median)} s (${shown(best)}), off by ${digit(native.error)}`;
  return `From PyTorch in f32, which weights of 8 bits do not agree with: ${offs.join(", ") || "no engine"}. Not in a browser, ${beside}.`;
}

/** Puts the tables into their section of `file`, in place of the last ones of the same kind. */
export function write(file, results) {
  const kind = results.gpu ? "On a GPU" : "On Chromium's software GPU";
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  const begin = text.indexOf(`## ${kind}\n`);
  if (begin < 0) return say(`${file} has no section "${kind}", so it is as it was`);
  const end = text.indexOf("\n## ", begin);
  const section = `## ${kind}\n\n${about(results)}\n\n${results.runs.map((run, at) => one(run, at, results)).join("\n\n")}\n`;
  writeFileSync(file, text.slice(0, begin) + section + (end < 0 ? "" : text.slice(end)));
  say(`wrote the section "${kind}" of ${file}`);
}

function about({ machine: m, command, date }) {
  return [
    `\`${command}\`, ${date}, at commit ${m.commit}. ${m.cpu}, ${m.cores} cores, ${m.memory} GiB; ${m.browser},`,
    `adapter ${m.adapter}; ONNX Runtime Web ${m.ort}. The machine's load before it began was ${m.load.toFixed(1)}.`,
  ].join("\n");
}

function one(run, at, { runs }) {
  const [cells] = Object.values(run.cases);
  const threads = `${NAMES["ort-wasm"]} had ${cells["ort-wasm"].threads} threads, ${NAMES["tintype-cpu"]} ${cells["tintype-cpu"].threads}.`;
  const firsts = Object.entries(run.cases).map(([name, cells]) => {
    const each = ENGINES.filter((engine) => cells[engine]?.first !== undefined);
    return `${name}: ${each.map((engine) => `${NAMES[engine]} ${shown(cells[engine].first)}`).join(", ")}`;
  });
  const loads = Object.entries(run.cases).flatMap(([name, { "tintype-cpu": cell }]) =>
    cell?.most ? [`${name}: ${shown(cell.load)} s, ${Math.round(cell.most / 1e6)} MB`] : [],
  );
  const memory = loads.length > 0 ? `\n\nTintype CPU loads in, and its module has of memory after all runs: ${loads.join("; ")}.` : "";
  const title = runs.length > 1 ? `Run ${at + 1}: ` : "";
  return `${title}${threads}\n\n${table(run)}\n\nThe first runs, which include compiling, in seconds. ${firsts.join("; ")}.${memory}`;
}
