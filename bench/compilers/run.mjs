// `npm run bench:compilers`: what real compilers of GPUs make of the kernels, without a GPU. README.md has the estimate.

import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { UserError, main, say, step } from "../../tools/shell.mjs";
import * as floors from "./floors.mjs";
import { GPUS } from "./gpus.mjs";
import { compile, setUp, variant, variants } from "./mesa.mjs";
import { figures } from "./model.mjs";
import { moved, table } from "./table.mjs";
import { dispatches, times } from "./time.mjs";

const HELP = `npm run bench:compilers -- [options]

  --devices A,B      of ${Object.keys(GPUS).join(", ")} (all)
  --only REGEX       variants whose KERNEL.NAME matches, such as "^conv\\.f16\\.q8" (all)
  --kernels DIR      another folder of kernels, with its variants.txt (kernels)
  --wgsl FILE        this file, KERNEL.NAME.wgsl, instead of the variants; may be given several times
  --subgroup N       so many lanes, where the driver lets one choose
  --assert           fail unless every row holds its floor in bench/compilers/floors.txt
  --write-floors     make the rows of this run the floors
  --versus COMMIT    also compile the kernels of that commit, and print what moved
  --model DIR        also how long that model would take, from its configuration (tests/plans/configs has published ones);
                     with --size (512x512), --weights (q8), --activations (f16), --tuning (the one for each GPU); only
                     variants that it uses
  --json FILE        the table, for machines
  --loop             print the loop that each row is about, instruction by instruction`;

main(async () => {
  const options = read(process.argv.slice(2));
  if (options.help) return say(HELP);
  const mesa = await setUp(options.devices);
  const { version } = mesa;
  say(`Mesa ${version}`);
  const chosen = (all) => all.filter(({ id }) => options.only.test(id));
  const now = options.wgsl ? options.wgsl.map(variant) : await variants({ folder: options.kernels });
  const plan = options.model ? await dispatches(options) : null;
  const used = plan && new Set(Object.values(plan).flat().map(({ kernel, variant }) => `${kernel} ${variant}`));
  const wanted = chosen(now).filter(({ kernel, name }) => !used || used.has(`${kernel} ${name}`));
  const { rows, failed } = await measure(wanted, mesa, options);
  if (options.loop) rows.forEach(loop);
  say(`\n${table(rows)}\n`);
  if (plan) say(`${times(plan, rows, options.devices)}\n`);
  if (options.json) writeFileSync(options.json, JSON.stringify({ mesa: version, rows: rows.map(plain) }, null, 1));
  if (options.versus) {
    const before = await measure(chosen(await variants({ commit: options.versus })), mesa, options);
    before.failed.forEach((sentence) => say(`before: ${sentence.split("\n")[0]}`));
    const lines = moved(before.rows, rows);
    say(lines.length > 0 ? `\nSince ${options.versus}:\n${lines.join("\n")}` : `\nNothing moved since ${options.versus}.`);
  }
  if (options["write-floors"]) writeFloors(rows, version, options);
  if (options.assert) hold(rows, version, options);
  if (failed.length > 0) throw new UserError(failed.join("\n"));
});

/** Compiles the variants for every GPU; those without a loop are no rows. */
async function measure(all, mesa, { devices, subgroup }) {
  if (all.length === 0) throw new UserError("No variant matches.");
  const [rows, failed] = [[], []];
  for (const gpu of devices) {
    const compiled = await step(`${all.length} variants for ${GPUS[gpu].what}`, () => compile(gpu, mesa, all, { subgroup }));
    for (const one of compiled) {
      if (one.error) failed.push(`${one.id} on ${gpu}: ${one.error}`);
      const found = one.error ? null : figures(GPUS[gpu], one);
      if (found) rows.push({ kernel: one.kernel, name: one.name, gpu, ...found });
    }
  }
  return { rows, failed };
}

const plain = ({ body, ...row }) => row;

function loop(row) {
  say(`\n${floors.key(row)}`);
  for (const { kind, text } of row.body) say(`  ${kind.padEnd(8)} ${text}`);
}

/** Whether every row was asked for, so that floors of others are missed. */
const whole = ({ only, devices, wgsl, kernels, subgroup, model }) =>
  only.source === "(?:)" && devices.length === Object.keys(GPUS).length && !wgsl && !kernels && !subgroup && !model;

function writeFloors(rows, version, options) {
  const kept = whole(options) ? {} : floors.read();
  if (kept.version && kept.version !== version) throw new UserError(`The floors are of Mesa ${kept.version}: write all of them anew, without options.`);
  const written = Object.fromEntries(rows.map((row) => [floors.key(row), floors.floor(row)]));
  floors.write(version, { ...kept.rows, ...written });
  say(`wrote ${rows.length} floors`);
}

function hold(rows, version, options) {
  const wanted = floors.read();
  const notice = floors.tolerance(wanted.version, version);
  if (notice) say(notice);
  const keys = new Set(rows.map(floors.key));
  const missing = whole(options) ? Object.keys(wanted.rows).filter((key) => !keys.has(key)) : [];
  const faults = [...floors.below(wanted, version, rows), ...missing.map((key) => `${key}: has a floor, but is not compiled`)];
  if (faults.length > 0) throw new UserError(`${faults.join("\n")}\n${faults.length} below their floors.`);
  const held = [...keys].filter((key) => key in wanted.rows).length;
  say(`${held} rows hold their floors; ${keys.size - held} have none.`);
}

function read(args) {
  const text = { type: "string" };
  const flag = { type: "boolean" };
  const known = {
    ...Object.fromEntries(["devices", "only", "kernels", "subgroup", "versus", "json", "model", "size", "weights", "activations", "tuning"].map((name) => [name, text])),
    ...Object.fromEntries(["assert", "write-floors", "loop", "help"].map((name) => [name, flag])),
    wgsl: { type: "string", multiple: true },
  };
  let values;
  try {
    ({ values } = parseArgs({ args, options: known, strict: true }));
    values.only = new RegExp(values.only ?? "");
  } catch (error) {
    throw new UserError(`${error.message}\n\n${HELP}`);
  }
  const all = Object.keys(GPUS);
  const devices = values.devices?.split(",") ?? all;
  const unknown = devices.find((gpu) => !all.includes(gpu));
  if (unknown !== undefined) throw new UserError(`--devices: there is no "${unknown}", only ${all.join(", ")}.`);
  const subgroup = Number(values.subgroup ?? 0);
  if (!Number.isInteger(subgroup)) throw new UserError(`--subgroup must be a number, not "${values.subgroup}".`);
  const { size = "512x512", weights = "q8", activations = "f16" } = values;
  return { ...values, size, weights, activations, devices, subgroup, kernels: values.kernels && resolve(values.kernels) };
}
