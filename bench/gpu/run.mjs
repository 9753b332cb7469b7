// bench/on-a-gpu.sh: a real GPU in ten minutes. Each part has its time, and writes what it found as it ends.

import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { build } from "../../tools/build.mjs";
import { BUILD, DRIVE, setup } from "../../tools/setup.mjs";
import { ROOT, UserError, main, must, run, say, seconds } from "../../tools/shell.mjs";
import { section, write } from "./report.mjs";

const HELP = `bash bench/on-a-gpu.sh [options]

  --prepare           build and fetch what the parts need, measure nothing: the command, the module, node. PyTorch and the
                      models of bench:peers are yours to bring: target/on-a-gpu/python/bin is looked into for the one,
                      target/peers for the others
  --offline           fetch and build nothing: on a copy of a prepared folder
  --part A,B          of native, chromium, peers, torch (all)
  --minutes N         for all parts together (10)
  --model A,B         of sd-turbo, sdxl, taesd (sd-turbo,sdxl)
  --size WxH          of the image (512x512)
  --tuning A,B        tables of kernels (base,wide,thin,narrow)
  --software          let Chromium use its own software GPU: to try this command out
  --device D          of PyTorch (cuda)
  --out FILE          where the table goes (bench/RESULTS.md)`;

const DIR = join(ROOT, "target/on-a-gpu");
/** What is built is built before; a copy of a prepared folder has no compiler. */
const PREBUILT = { TINTYPE_PREBUILT: "1" };
/** Published configurations that PyTorch builds its networks from. */
const CONFIGS = { "sd-turbo": "sd-turbo", sdxl: "sdxl-turbo" };
/** What part of the time each may take: what comes later has what is left. */
const SHARES = { native: 0.4, chromium: 0.5, peers: 0.6, torch: 1 };

function save(results, { out }) {
  writeFileSync(join(DIR, "results.json"), JSON.stringify(results, null, 1));
  write(out, results);
}

async function prepare({ parts }) {
  await setup([...BUILD, ...DRIVE]);
  await must("The build", "cargo", ["build", "--locked", "--release", "--bin", "tintype"], { show: true });
  if (parts.includes("chromium") || parts.includes("peers")) await build();
  // A copy has no compiler: it takes this node.
  if (!existsSync(join(DIR, "node"))) {
    mkdirSync(join(DIR, "node/bin"), { recursive: true });
    cpSync(process.execPath, join(DIR, "node/bin/node"));
  }
}

async function facts() {
  const [commit, gpu] = await Promise.all([
    run("git", ["describe", "--always", "--dirty", "--exclude=*"]),
    run("nvidia-smi", ["--query-gpu=name,driver_version", "--format=csv,noheader"]).catch(() => ({ code: 1 })),
  ]);
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0].model.trim(),
    cores: cpus().length,
    commit: commit.code === 0 ? commit.output.trim() : "not in a repository",
    driver: gpu.code === 0 ? gpu.output.trim() : null,
  };
}

/** Each resolves to { rows: [{ model, network, how, ms }], left: [sentence] }. */
const PARTS = {
  async native(options, limit) {
    const found = { rows: [], left: [], peaks: null, adapter: null };
    const end = Date.now() + limit;
    for (const tuning of options.tunings) {
      const file = join(DIR, `native-${tuning}.json`);
      const args = ["bench", "--device", "gpu", "--size", options.size, "--weights", "q8", "--tuning", tuning, "--rounds", "3", "--limit", "0.5", "--json", file];
      args.push(...options.models.flatMap((model) => ["--model", model]));
      if (!(await within(end, `tintype bench --tuning ${tuning}`, found, join(ROOT, "target/release/tintype"), args)).ended) continue;
      take(found, JSON.parse(readFileSync(file, "utf8")), [`Tintype, native, ${tuning}`]);
    }
    return found;
  },
  async chromium(options, limit) {
    const found = { rows: [], left: [] };
    const end = Date.now() + limit;
    const beside = options.tunings.filter((name) => name !== "base");
    if (beside.length === 0) found.left.push("there is no table beside base");
    for (const tuning of beside) {
      const args = ["bench/run.mjs", "--only", "browser", "--tuning", tuning, "--size", options.size, "--model", options.models.join(","), "--limit", "0.5", ...(options.software ? ["--software"] : [])];
      if (!(await within(end, `bench --only browser --tuning ${tuning}`, found, process.execPath, args)).ended) continue;
      const report = JSON.parse(readFileSync(join(ROOT, "target/bench", `browser, ${tuning} beside base.json`), "utf8"));
      // A browser that has no driver for the GPU takes one in software without a word.
      if (!options.software && /swiftshader|llvmpipe|basic render/i.test(JSON.stringify(report.devices))) {
        found.left.push(`Chromium found no GPU here, only: ${JSON.stringify(report.devices[0])}`);
        break;
      }
      take(found, report, ["Tintype, Chromium, base", `Tintype, Chromium, ${tuning}`]);
    }
    return found;
  },
  async peers(options, limit) {
    const found = { rows: [], left: [] };
    const models = join(ROOT, "target/peers");
    if (!existsSync(join(models, "unet"))) return { ...found, left: ["target/peers is not there: python bench/peers/export.py makes it"] };
    const args = ["bench/peers/run.mjs", "--engine", "tintype-webgpu,ort-webgpu", "--rounds", "3", "--budget", "30", ...(options.software ? ["--case", "text", "--cap", "2"] : ["--gpu"])];
    // What is there is of another time, or of another machine.
    const file = join(models, "results.json");
    rmSync(file, { force: true });
    await within(Date.now() + limit, "bench:peers", found, process.execPath, args);
    if (!existsSync(file)) return found;
    const { runs } = JSON.parse(readFileSync(file, "utf8"));
    for (const [name, engines] of Object.entries(runs[0]?.cases ?? {})) {
      for (const [engine, { rounds = [], failed }] of Object.entries(engines)) {
        if (failed) found.left.push(`${name} by ${engine}: ${failed}`);
        if (rounds.length > 0) found.rows.push({ model: "of bench:peers, f32", network: name, how: engine, ms: 1000 * Math.min(...rounds) });
      }
    }
    return found;
  },
  async torch(options, limit) {
    const found = { rows: [], left: [] };
    const end = Date.now() + limit;
    for (const model of options.models.filter((name) => CONFIGS[name])) {
      const args = ["bench/gpu/torch_gpu.py", "--configs", join("tests/plans/configs", CONFIGS[model]), "--size", options.size, "--device", options.device, "--budget", String(Math.floor((end - Date.now()) / 2000))];
      // What it printed before its time was over counts.
      const { output } = await within(end, `torch_gpu.py, ${model}`, found, "python3", args);
      for (const line of output.split("\n").filter((line) => line.startsWith("{"))) {
        const { how, network, ms, left_out: left } = JSON.parse(line);
        if (left) found.left.push(`${model} ${network} in ${how}: ${left}`);
        if (ms) found.rows.push({ model, network, how: `PyTorch, ${how}`, ms });
      }
    }
    return found;
  },
};

main(async () => {
  const options = read(process.argv.slice(2));
  if (options.help) return say(HELP);
  mkdirSync(DIR, { recursive: true });
  if (!options.offline) await prepare(options);
  if (options.prepare) return say(`Prepared. Copy this folder, target/ included, and there: bash bench/on-a-gpu.sh --offline`);
  const results = { ...(await facts()), options, parts: {} };
  const end = Date.now() + options.minutes * 60_000;
  for (const part of options.parts) {
    const begin = Date.now();
    // Milliseconds.
    const limit = (end - begin) * SHARES[part];
    results.parts[part] = await PARTS[part](options, limit).catch((error) => ({ rows: [], left: [error.message.split("\n")[0]] }));
    for (const reason of results.parts[part].left) say(`${part}: left out: ${reason}`);
    save(results, options);
    say(`${part}: ${results.parts[part].rows.length} figures in ${seconds(begin)}`);
  }
  say(`\n${section(results)}`);
});

/** Whether a command succeeds before `end`, and what it prints; if not, the reason is among those of `found`. */
async function within(end, what, found, program, args) {
  if (end - Date.now() < 5000) {
    found.left.push(`${what}: no time was left`);
    return { ended: false, output: "" };
  }
  const { code, output } = await run(program, args, { limit: (end - Date.now()) / 1000, env: PREBUILT });
  const last = output.trim().split("\n").at(-1);
  if (code !== 0) found.left.push(`${what}: ${Date.now() >= end ? "stopped, its time was over" : last}`);
  return { ended: code === 0, output };
}

/** The whole networks of a report of `tintype bench`, whose settings are called `names`; of one in software too. */
function take(found, { rows, peaks, devices }, names) {
  found.peaks ??= peaks[0];
  found.adapter ??= devices[0];
  for (const { name, best } of rows.filter(({ name }) => name.split("/").length === 2)) {
    const [model, network] = name.split("/");
    names.forEach((how, i) => {
      const known = found.rows.some((row) => row.model === model && row.network === network && row.how === how);
      if (best[i] && !known) found.rows.push({ model, network, how, ms: 1000 * best[i] });
    });
  }
}

function read(args) {
  const string = (value) => ({ type: "string", ...(value && { default: value }) });
  const boolean = { type: "boolean", default: false };
  const known = {
    help: boolean, prepare: boolean, offline: boolean, software: boolean,
    part: string("native,chromium,peers,torch"), minutes: string("10"), model: string("sd-turbo,sdxl"), size: string("512x512"),
    tuning: string("base,wide,thin,narrow"), device: string("cuda"), out: string(join(ROOT, "bench/RESULTS.md")),
  };
  let values;
  try {
    ({ values } = parseArgs({ args, options: known, strict: true }));
  } catch (error) {
    throw new UserError(`${error.message}\n\n${HELP}`);
  }
  const { part, model, tuning, minutes, ...rest } = values;
  const parts = part.split(",");
  const unknown = parts.find((name) => !PARTS[name]);
  if (unknown) throw new UserError(`--part: wanted some of ${Object.keys(PARTS).join(", ")}, found ${unknown}.`);
  if (!(Number(minutes) > 0)) throw new UserError(`--minutes: wanted a number above 0, found ${minutes}.`);
  return { ...rest, parts, models: model.split(","), tunings: tuning.split(","), minutes: Number(minutes) };
}
