// The table of bench/on-a-gpu.sh: whole networks, a column for each way to compute them, and what was left out.

import { existsSync, readFileSync, writeFileSync } from "node:fs";

const TITLE = "## On a GPU";

/** Puts the section in place of the one that a file has. */
export function write(file, results) {
  const before = existsSync(file) ? readFileSync(file, "utf8") : "";
  const at = before.indexOf(`${TITLE}\n`);
  const kept = at < 0 ? `${before.trimEnd()}\n\n` : before.slice(0, at);
  const rest = at < 0 ? "" : before.slice(at + TITLE.length).match(/\n## [\s\S]*$/)?.[0] ?? "";
  writeFileSync(file, `${kept}${section(results)}${rest.slice(1) && `\n${rest.slice(1)}`}`);
}

export function section({ date, cpu, cores, commit, driver, options, parts }) {
  const adapter = parts.native?.adapter;
  const peaks = parts.native?.peaks;
  const all = Object.values(parts).flatMap(({ rows }) => rows);
  const left = Object.entries(parts).flatMap(([part, { left }]) => left.map((reason) => `- ${part}: ${reason}`));
  const lines = [
    TITLE,
    "",
    `\`bash bench/on-a-gpu.sh\`, ${date}, at commit ${commit}. ${[adapter && JSON.stringify(adapter), driver, `${cpu}, ${cores} cores`].filter(Boolean).join("; ")}.`,
    `Images of ${options.size}, weights in q8, activations in f16 where the device has it; the best of the runs, in milliseconds.`,
  ];
  if (peaks) lines.push(`Peaks by kernels of ours: ${(peaks.f32_flops / 1e12).toFixed(2)} TFLOP/s in f32, ${(peaks.bytes / 1e9).toFixed(0)} GB/s.`);
  for (const model of new Set(all.map((row) => row.model))) lines.push("", ...table(model, all.filter((row) => row.model === model)));
  if (left.length > 0) lines.push("", "Left out:", "", ...left);
  return `${lines.join("\n")}\n`;
}

function table(model, rows) {
  const hows = [...new Set(rows.map(({ how }) => how))];
  const networks = [...new Set(rows.map(({ network }) => network))];
  const cell = (network, how) => rows.find((row) => row.network === network && row.how === how)?.ms;
  const shown = (ms) => (ms === undefined ? "" : ms.toPrecision(3));
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const parts = networks.filter((network) => network !== "encoder");
  const sum = (how) => (parts.every((network) => cell(network, how) !== undefined) ? parts.reduce((ms, network) => ms + cell(network, how), 0) : undefined);
  return [
    line([model, ...hows]),
    line(["---", ...hows.map(() => "--:")]),
    ...networks.map((network) => line([network, ...hows.map((how) => shown(cell(network, how)))])),
    ...(networks.length > 1 && rows.some(({ how }) => sum(how)) ? [line(["together", ...hows.map((how) => shown(sum(how)))])] : []),
  ];
}
