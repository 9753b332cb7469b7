// Apple G13, as Mesa's disassembler prints it. Shifts, bit fields, conversions and integer products take four clocks.

import { instruction, operation, register } from "./instruction.mjs";

const QUARTER =
  /^(s8_to_f|u8_to_f|s16_to_f|u16_to_f|s32_to_f|u32_to_f|f_to_|convert|bfi|bfeil|shl|shr|asr|extr|imul|imadd|bitrev|popcount|ffs)/;
const TRANSCENDENTAL = /^(exp2|log2|rcp|rsqrt|sin)/;
const ACCESS = [
  [/^load$/, "vload"],
  [/^store$/, "vstore"],
  [/^(lload|local_load)/, "lload"],
  [/^(lstore|local_store)/, "lstore"],
];

/** The longest of the programs that were printed: beside the kernel there are small ones of the driver's own. */
export function parse(text) {
  const programs = [[]];
  let last = -1;
  for (const line of text.split("\n")) {
    const found = line.match(/^\s*([0-9a-f]+): ([0-9a-f]{4,})\s+(\S.*)/);
    if (!found) continue;
    const at = parseInt(found[1], 16);
    if (at <= last) programs.push([]);
    last = at;
    programs.at(-1).push([at, found[3].trim().replace(/\s+/g, " ")]);
  }
  const longest = programs.reduce((best, program) => (program.length > best.length ? program : best));
  // Jumps say how many bytes.
  const labels = Object.fromEntries(longest.map(([at], index) => [at, index]));
  const code = longest.map(([at, line]) => {
    const read = instructionOf(line);
    return read.target === null ? read : { ...read, target: at + read.target };
  });
  return { code, labels };
}

function instructionOf(text) {
  const op = text.split(" ")[0];
  const is = (kind, more) => instruction(kind, text, more);
  if (/^(ffma|hffma|fmadd)/.test(op)) return is("fma", { fmas: 1 });
  if (TRANSCENDENTAL.test(op)) return is("trans", { cost: op === "rcp" ? 6 : op.startsWith("rs") ? 8 : 4 });
  if (QUARTER.test(op)) return is("quarter", { cost: 4 });
  const [, access] = ACCESS.find(([name]) => name.test(op)) ?? [];
  if (access) return is(access, { bytes: width(text) });
  if (op.includes("stack")) return is("scratch", { bytes: 16 });
  if (op === "wait") return is("wait", { wait: text.split(" ").at(-1) });
  if (op === "barrier" || op === "threadgroup_barrier") return is("barrier");
  const jump = text.match(/^jmp_\w+\s+(-?\d+)/);
  if (jump) return is("branch", { target: Number(jump[1]) });
  return is(["stop", "trap", "nop"].includes(op) ? "other" : "valu");
}

/** Bytes a lane: the type, and which of four components. */
function width(text) {
  const [, type, components] = text.match(/, (\w+), (x?y?z?w?)(?:, |$)/) ?? [];
  const bytes = 4 * (components?.length || 1);
  return type === "i16" ? Math.floor(bytes / 2) : bytes;
}

export function operations(text) {
  const [, op, rest] = text.match(/^(\S+)\s+(.*)$/) ?? [];
  if (!op) return [operation(null, [], null)];
  const [to, ...from] = rest.split(",").map((operand) => register(operand.trim()));
  let does = null;
  if (/fma/.test(op)) does = "fma";
  else if (op.includes("fmul")) does = "mul";
  else if (op.includes("fadd")) does = "add";
  return [operation(to, from, does)];
}

export const passes = () => 1;
export const alu = (body) => body.reduce((clocks, i) => clocks + (i.kind === "wait" ? 0 : i.cost), 0);
export const scalar = () => 0;

/** A SIMD group alone: a load fills one of two slots, and `wait` names the slot. */
export function alone(machine) {
  const slots = {};
  return (i, now) => {
    if (i.kind === "wait") return Math.max(now, slots[i.wait] ?? 0);
    if (["vload", "scratch", "lload"].includes(i.kind)) {
      const slot = i.text.match(/, ([ab])$/)?.[1] ?? "a";
      slots[slot] = Math.max(slots[slot] ?? 0, now + (i.kind === "lload" ? machine.local : machine.memory));
    }
    return now + (i.kind === "barrier" ? 20 : i.cost);
  };
}

/** Resident SIMD groups of a quarter of a core, by the threads that the driver says fit. */
export function waves(machine, told, wave, lds, groupWaves) {
  const most = Math.floor(Math.floor(Number(told.Threads ?? 1024) / 32) / 4);
  const fit = lds ? Math.max(1, Math.floor((Math.floor(65536 / lds) * groupWaves) / 4)) : most;
  return Math.max(1, Math.min(most, fit));
}

/** SIMDs over which a workgroup's waves are spread. */
export const spread = (machine) => machine.simds;
