// floors.txt: what the compilers make of each variant must stay at least as good.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FILE = fileURLToPath(new URL("floors.txt", import.meta.url));

/** Where another version of Mesa may differ. */
const OTHER_VERSION = { share: 3, waves: 1, ratio: 0.1 };

/** { version, rows: { "KERNEL VARIANT GPU": { share, spills, waves, ratio } } }; share in percent. */
export function read() {
  const rows = {};
  let version = null;
  for (const line of existsSync(FILE) ? readFileSync(FILE, "utf8").split("\n") : []) {
    version ??= line.match(/^# Mesa (\S+)/)?.[1];
    if (line === "" || line.startsWith("#")) continue;
    const [kernel, name, gpu, ...numbers] = line.split(/\s+/);
    const [share, spills, waves, ratio] = numbers.map(Number);
    rows[`${kernel} ${name} ${gpu}`] = { share, spills, waves, ratio };
  }
  return { version, rows };
}

export function write(version, rows) {
  const lines = Object.entries(rows)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, { share, spills, waves, ratio }]) => {
      const [kernel, name, gpu] = key.split(" ");
      const numbers = [share.toFixed(1), spills, waves, ratio.toFixed(2)];
      return `${kernel.padEnd(14)} ${name.padEnd(18)} ${gpu.padEnd(6)} ${numbers.map((n) => String(n).padStart(6)).join(" ")}`;
    });
  const head = [`# Mesa ${version}`, "# Floors of `npm run bench:compilers -- --assert`, written by `--write-floors`.", "# kernel, variant, GPU, share in % of FMA peak, spills (at most), waves, FMAs for each other instruction"];
  writeFileSync(FILE, [...head, ...lines, ""].join("\n"));
}

export const key = ({ kernel, name, gpu }) => `${kernel} ${name || "-"} ${gpu}`;
export const ratio = ({ fmas, other }) => (other > 0 ? fmas / other : fmas);

/** What floors hold of a row of the table. Rounded down, so that a row holds its own. */
export function floor(row) {
  const down = (value, digits) => Math.floor(value * 10 ** digits + 1e-9) / 10 ** digits;
  return { share: down(100 * row.share, 1), spills: row.spills, waves: down(row.waves, 0), ratio: down(ratio(row), 2) };
}

/** Sentences about the rows that are below their floors. */
export function below({ version, rows: floors }, now, rows) {
  const { share, waves, ratio: part } = now === version ? { share: 0, waves: 0, ratio: 0 } : OTHER_VERSION;
  return rows.flatMap((row) => {
    const wanted = floors[key(row)];
    if (!wanted) return [];
    const found = floor(row);
    const checks = [
      ["share", found.share >= wanted.share - share, `${found.share} %`, `${wanted.share} %`],
      ["spills", found.spills <= wanted.spills, found.spills, `at most ${wanted.spills}`],
      ["waves", found.waves >= wanted.waves - waves, found.waves, wanted.waves],
      ["FMAs for each other instruction", found.ratio >= wanted.ratio * (1 - part), found.ratio, wanted.ratio],
    ];
    return checks.filter(([, held]) => !held).map(([what, , is, was]) => `${key(row)}: ${what}: ${is}, wanted ${was}`);
  });
}

export const tolerance = (version, now) =>
  version === now
    ? null
    : `The floors are of Mesa ${version}, this is ${now}: a share may be ${OTHER_VERSION.share} points lower, waves ${OTHER_VERSION.waves} fewer, FMAs for each other instruction ${100 * OTHER_VERSION.ratio} % fewer.`;
