// Adreno 7xx, as ir3 prints it. `(rptN)` repeats an instruction, `(nopN)` waits after it.

import { assemble, instruction, operation, register } from "./instruction.mjs";

const FLAGS = /^((?:\([^)]*\)\s*)*)(.*)/;
const TRANSCENDENTAL = /^(rcp|rsq|sqrt|exp2|log2|sin|cos|hrsq|hlog2|hexp2)/;

export function parse(text) {
  return assemble(text, (line) => {
    const bare = line.trim();
    if (bare === "" || ";@".includes(bare[0]) || bare.startsWith("Native")) return null;
    const label = bare.match(/^(l\d+):/);
    if (label) return { labels: [label[1]] };
    return /^[a-z(]/.test(bare) ? read(bare) : null;
  });
}

const repeats = (flags) => Number(flags.match(/\(rpt(\d)\)/)?.[1] ?? 0);

function read(text) {
  const [, flags, body] = text.match(FLAGS);
  const op = body.split(/\s+/)[0];
  const cost = 1 + repeats(flags) + Number(flags.match(/\(nop(\d)\)/)?.[1] ?? 0);
  // (sy) waits for memory, (ss) for workgroup memory and the slow functions.
  const wait = { sy: flags.includes("(sy)"), ss: flags.includes("(ss)") };
  const is = (kind, more) => instruction(kind, text, { wait, cost, ...more });
  if (/^mad\.f(32|16)/.test(op)) return is("fma", { fmas: 1 + repeats(flags) });
  if (op.startsWith("nop")) return is("other");
  if (TRANSCENDENTAL.test(op)) return is("trans", { cost: 4 * (1 + repeats(flags)) });
  if (op.startsWith("resinfo") || op.startsWith("ldc")) return is("smem");
  if (op.startsWith("ldib")) return is("vload", { bytes: 4 * Number(op.match(/\.(\d)\./)?.[1] ?? 1) });
  if (/^(isam|sam|ldg|gather)/.test(op)) {
    const bytes = 4 * (body.match(/\((x?y?z?w?)\)r/)?.[1].length || 1);
    return is("vload", { bytes: /\([fusi]16\)/.test(body) ? Math.floor(bytes / 2) : bytes });
  }
  if (/^(stib|stg)/.test(op)) return is("vstore", { bytes: 16 });
  if (op.startsWith("ldl")) return is("lload", { bytes: 4 });
  if (op.startsWith("stl")) return is("lstore", { bytes: 4 });
  if (/^(ldp|stp)/.test(op)) return is("scratch", { bytes: 4 });
  if (op === "bar") return is("barrier");
  const target = body.match(/#(l\d+)/)?.[1];
  return target ? is("branch", { target }) : is("valu");
}

export function operations(text) {
  const [, flags, body] = text.match(FLAGS);
  const [, op, rest] = body.match(/^(\S+)\s+(.*)$/) ?? [];
  if (!op) return [operation(null, [], null)];
  const [to, ...from] = rest.split(",").map((operand) => register(operand.trim()));
  const does = ["mad.f", "mul.f", "add.f"].findIndex((name) => op.startsWith(name));
  return [operation(to, from, ["fma", "mul", "add"][does] ?? null, 1 + repeats(flags))];
}

export const passes = () => 1;
export const alu = (body) => body.reduce((clocks, i) => clocks + i.cost, 0);
export const scalar = () => 0;

export function alone(machine) {
  let memory = 0;
  let local = 0;
  return (i, now) => {
    if (i.wait.sy) now = Math.max(now, memory);
    if (i.wait.ss) now = Math.max(now, local);
    if (i.kind === "vload" || i.kind === "scratch") memory = Math.max(memory, now + machine.memory);
    if (i.kind === "lload") local = Math.max(local, now + machine.local);
    if (i.kind === "smem" || i.kind === "trans") local = Math.max(local, now + 20);
    return now + (i.kind === "barrier" ? 20 : i.cost);
  };
}

export const waves = (machine, told) => Math.max(1, Number(told["Max Waves Per Core"] ?? 1));

/** SIMDs over which a workgroup's waves are spread. */
export const spread = (machine) => machine.simds;
