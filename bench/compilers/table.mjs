// Rows of figures as text.

import { key, ratio } from "./floors.mjs";

const percent = (share) => `${Math.round(100 * share)} %`;

/** Of the table: heading, and a row's cell. */
const COLUMNS = {
  kernel: (row) => row.kernel,
  variant: (row) => row.name,
  GPU: (row) => row.gpu,
  regs: (row) => row.registers,
  spills: (row) => row.spills,
  LDS: (row) => row.lds,
  waves: (row) => row.waves,
  code: (row) => row.code,
  FMAs: (row) => row.fmas,
  other: (row) => row.other,
  "FMA/other": (row) => ratio(row).toFixed(2),
  loads: (row) => row.loads,
  "LDS loads": (row) => row.localLoads,
  share: (row) => percent(row.share),
  limit: (row) => row.limit,
  low: (row) => percent(row.low),
  by: (row) => row.lowLimit,
};

export function table(rows) {
  const cells = rows.map((row) => Object.values(COLUMNS).map((cell) => String(cell(row))));
  return aligned([Object.keys(COLUMNS), ...cells], 3);
}

/** A line for each row that is not as it was: what moved, from what to what. */
export function moved(before, after) {
  const old = new Map(before.map((row) => [key(row), row]));
  const watched = ["share", "low", "spills", "waves", "regs", "FMAs", "other", "LDS", "code"];
  const lines = after.flatMap((row) => {
    const was = old.get(key(row));
    old.delete(key(row));
    if (!was) return [`${key(row)}: new, ${percent(row.share)}`];
    const changes = watched
      .map((column) => [column, String(COLUMNS[column](was)), String(COLUMNS[column](row))])
      .filter(([, from, to]) => from !== to)
      .map(([column, from, to]) => `${column} ${from} -> ${to}`);
    return changes.length > 0 ? [`${key(row)}: ${changes.join(", ")}`] : [];
  });
  return [...lines, ...[...old.keys()].map((gone) => `${gone}: gone`)];
}

/** Columns as wide as their cells, the first `left` to the left. */
export function aligned(rows, left) {
  const widths = rows[0].map((_, at) => Math.max(...rows.map((row) => String(row[at]).length)));
  const line = (row) => row.map((cell, at) => (at < left ? String(cell).padEnd(widths[at]) : String(cell).padStart(widths[at]))).join(" ");
  return rows.map((row) => line(row).trimEnd()).join("\n");
}
