// `npm run bench:peers`: the same networks by Tintype and by ONNX Runtime Web in the same page, in turns.
// report.mjs has what must hold and the table.

import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "../../tools/build.mjs";
import { DRIVE, setup } from "../../tools/setup.mjs";
import { UserError, ROOT, main, run as start, say } from "../../tools/shell.mjs";
import { Browser } from "./browser.mjs";
import { machine } from "./machine.mjs";
import { CASES, ENGINES, failures, figure, shown, table, write } from "./report.mjs";

const HELP = `npm run bench:peers -- [options]

  --assert           fail unless the ratios hold
  --case A,B         of ${Object.keys(CASES).join(", ")} (all)
  --engine A,B       of ${ENGINES.join(", ")} (all)
  --rounds N         timed runs of each engine, after the first (3)
  --budget S         an engine that has used so many seconds in a case has no more runs; if its first
                     run alone took longer, that is its figure (300)
  --cap X            stop an engine that has taken X times as long as Tintype on the same device
  --runs N           do all of it N times (1)
  --threads N        of each engine on the CPU (all)
  --python PATH      of a Python with onnxruntime: the picture by native ONNX Runtime too, in f32
  --browser NAME     chromium, or firefox, where WebGPU is lavapipe (chromium)
  --gpu              let Chromium use this machine's GPU, not its software one
  --models DIR       what export.py made (target/peers)
  --out FILE         where the tables go when nothing was left out (bench/RESULTS.md)`;

main(async () => {
  const options = read(process.argv.slice(2));
  if (options.help) return say(HELP);
  await setup(options.browser === "firefox" ? [...DRIVE, "firefox", "lavapipe"] : DRIVE);
  // bench/on-a-gpu.sh has built it, maybe elsewhere.
  if (process.env.TINTYPE_PREBUILT === undefined) await build();
  const browser = new Browser(options);
  const results = { ...(await machine(browser, options)), runs: [] };
  const file = join(options.models, "results.json");
  const save = () => writeFileSync(file, JSON.stringify(results, null, 1));
  mkdirSync(options.models, { recursive: true });
  const { cpu, cores, adapter } = results.machine;
  say(`${cpu}, ${cores} cores; ${results.machine.browser}, adapter ${adapter}`);
  try {
    for (let at = 0; at < options.runs; at++) {
      const run = { begun: new Date().toISOString(), cases: {}, native: {} };
      results.runs.push(run);
      if (options.runs > 1) say(`run ${at + 1} of ${options.runs}`);
      for (const name of options.case) {
        // What a GPU in software would take minutes for, a real one can do.
        const engines = (!options.gpu && CASES[name].engines) || ENGINES;
        const measured = options.engine.filter((engine) => engines.includes(engine));
        run.cases[name] = Object.fromEntries(measured.map((engine) => [engine, { rounds: [], error: 0, differences: {} }]));
        await measure(browser, name, run.cases[name], options, save);
        if (options.python && CASES[name].weights) {
          await browser.close();
          run.native[name] = await native(CASES[name].folder, options);
          say(`${name}, native: ${run.native[name].failed ?? `${shown(figure(run.native[name]).median)} s`}`);
        }
      }
      run.ended = new Date().toISOString();
      save();
      say(`\n${table(run)}\n`);
    }
  } finally {
    await browser.close();
  }
  const whole = options.browser === "chromium" && options.case.length === Object.keys(CASES).length && options.engine.length === ENGINES.length;
  if (whole) write(options.out, results);
  else say(`something was left out, so ${options.out} is as it was`);
  const faults = results.runs.flatMap((run) => failures(run, options.assert));
  if (faults.length > 0) throw new UserError(faults.join("\n"));
});

/** First every engine's first run, then the rounds, in which each has its turn. */
async function measure(browser, name, cells, options, save) {
  await browser.close();
  for (let round = 0; round <= options.rounds; round++) {
    for (const [engine, cell] of Object.entries(cells)) {
      if (cell.over || cell.failed || spent(cell) > options.budget) continue;
      await turn(browser, name, engine, cells, limit(engine, cells, options.cap));
      save();
      const latest = cell.failed ?? (cell.over ? `stopped after ${shown(cell.over)} s` : `${shown(cell.rounds.at(-1) ?? cell.first)} s`);
      const what = round === 0 ? "first run" : `round ${round}`;
      say(`${new Date().toISOString().slice(11, 19)}  ${name}, ${engine}, ${what}: ${latest}`);
    }
  }
}

/** What native.py says of a case, or { failed }. */
async function native(folder, { python, models, threads }) {
  const { code, output } = await start(python, ["bench/peers/native.py", "--models", models, "--threads", `${threads}`, folder]);
  const last = output.trim().split("\n").at(-1);
  return code === 0 ? JSON.parse(last) : { failed: last || `it ended with ${code ?? "a signal"}` };
}

const spent = ({ first = 0, rounds }) => rounds.reduce((sum, seconds) => sum + seconds, first);

/** How long Tintype's rival may take: `cap` times Tintype's best on the same device. */
function limit(engine, cells, cap) {
  const ours = { "ort-webgpu": "tintype-webgpu", "ort-wasm": "tintype-cpu" }[engine];
  const best = ours && cells[ours] && figure(cells[ours])?.best;
  return cap && best ? cap * best : Infinity;
}

/** One run of one engine, noted in its cell. */
async function turn(browser, name, engine, cells, limit) {
  const cell = cells[engine];
  try {
    const { loaded, seconds, error, differences, bytes, stopped } = await browser.run(name, engine, cell.first !== undefined, limit);
    Object.assign(cell, loaded);
    if (bytes) cell.most = bytes;
    if (stopped) {
      cell.over = stopped;
      return;
    }
    if (cell.first === undefined) cell.first = seconds;
    else cell.rounds.push(seconds);
    cell.error = Math.max(cell.error, error);
    for (const [other, difference] of Object.entries(differences)) {
      cell.differences[other] = Math.max(cell.differences[other] ?? 0, difference);
    }
  } catch (error) {
    cell.failed = error.message.split("\n")[0].replace(/^page\.evaluate: (Error: )?/, "");
    await browser.close();
  }
}

function read(args) {
  const text = { type: "string" };
  const flag = { type: "boolean" };
  const names = ["case", "engine", "rounds", "budget", "cap", "runs", "threads", "python", "browser", "models", "out"];
  const known = { ...Object.fromEntries(names.map((name) => [name, text])), assert: flag, gpu: flag, help: flag };
  let values;
  try {
    ({ values } = parseArgs({ args, options: known, strict: true }));
  } catch (error) {
    throw new UserError(`${error.message}\n\n${HELP}`);
  }
  const number = (name, otherwise) => {
    const value = Number(values[name] ?? otherwise);
    if (!(value >= 0)) throw new UserError(`--${name} must be a number, not "${values[name]}".`);
    return value;
  };
  const list = (name, all) => {
    const wanted = values[name]?.split(",") ?? all;
    const unknown = wanted.find((word) => !all.includes(word));
    if (unknown !== undefined) throw new UserError(`--${name}: there is no "${unknown}", only ${all.join(", ")}.`);
    return all.filter((word) => wanted.includes(word));
  };
  const { browser = "chromium" } = values;
  if (!["chromium", "firefox"].includes(browser)) throw new UserError(`--browser must be chromium or firefox, not "${browser}".`);
  return {
    ...values,
    browser,
    command: ["npm run bench:peers --", ...args].join(" "),
    case: list("case", Object.keys(CASES)),
    engine: list("engine", ENGINES),
    rounds: number("rounds", 3),
    budget: number("budget", 300),
    cap: number("cap", 0),
    runs: number("runs", 1),
    threads: number("threads", 0),
    models: resolve(values.models ?? join(ROOT, "target/peers")),
    out: values.out ?? fileURLToPath(new URL("../RESULTS.md", import.meta.url)),
  };
}
