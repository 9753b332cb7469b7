// AMD RDNA 2 and 3, as ACO disassembles them. A wave of 64 lanes takes an instruction in two passes.

import { assemble, count, instruction, operation, register, sum } from "./instruction.mjs";

const FMA = /^v_(fma_mix|fma_f|fmac_f|mad_f|mac_f|fmaak|fmamk|madak|madmk|mad_mix)/;
const TWO_FMAS = /^v_(dot2|pk_fma)/;
const QUARTER = /^v_(mul_(lo|hi)_[ui]32|mad_u64_u32|mad_i64_i32|mad_co_)/;
const TRANSCENDENTAL = /^v_(s_)?(rcp|rsq|sqrt|exp|log|sin|cos)_/;
const FREE = /^s_(delay_alu|clause|nop|inst_prefetch|set_inst|endpgm|sleep|code_end|version)/;

export function parse(text) {
  return assemble(text, (line) => {
    const bare = line.split(" ; ")[0].split("\t;")[0].trim();
    const label = bare.match(/^(BB\d+):/);
    if (label) return { labels: [label[1]] };
    return /^[a-z]/.test(bare) ? read(bare) : null;
  });
}

function read(text) {
  const op = text.split(/\s+/)[0];
  const is = (kind, more) => instruction(kind, text, more);
  if (op.startsWith("v_dual_")) {
    const fmas = halves(text).reduce((n, half) => n + read(half.replace("v_dual_", "v_")).fmas, 0);
    return is(fmas > 0 ? "fma" : "valu", { fmas });
  }
  if (TWO_FMAS.test(op)) return is("fma", { fmas: 2 });
  if (FMA.test(op)) return is("fma", { fmas: 1 });
  if (QUARTER.test(op)) return is("quarter", { cost: 4 });
  if (TRANSCENDENTAL.test(op)) return is("trans");
  if (/^v_\w+_[bfiu]64/.test(op)) return is("valu", { cost: 2 });
  if (op.startsWith("v_")) return is("valu");
  if (op.startsWith("scratch_") || (op.startsWith("buffer_") && text.includes("scratch"))) return is("scratch", { bytes: width(op) });
  if (/^(buffer|global|image|flat|tbuffer)_/.test(op)) return is(/store|atomic/.test(op) ? "vstore" : "vload", { bytes: width(op) });
  if (op.startsWith("ds_")) {
    const bytes = width(op) * (op.split("_")[1].includes("2") ? 2 : 1);
    if (/^ds_(read|load)/.test(op)) return is("lload", { bytes });
    return /^ds_(write|store)/.test(op) ? is("lstore", { bytes }) : is("valu");
  }
  if (/^s_(buffer_)?load/.test(op)) return is("smem");
  if (op.startsWith("s_waitcnt")) {
    const most = [...text.matchAll(/(vmcnt|lgkmcnt|vscnt)\((\d+)\)/g)].map(([, queue, n]) => [queue, Number(n)]);
    return is("wait", { wait: Object.fromEntries(most) });
  }
  if (op.startsWith("s_barrier")) return is("barrier");
  const branch = text.match(/^s_c?branch\S*\s+(BB\d+)/);
  if (branch) return is("branch", { target: branch[1] });
  return FREE.test(op) ? is("other", { cost: 0 }) : is("salu");
}

const WIDTHS = { 1: /^([bui]8|[us]?byte)$/, 2: /^([bui]16|d16|[us]?short)$/, 4: /^(b32|dword)$/, 8: /^(b64|dwordx2)$/, 12: /^(b96|dwordx3)$/, 16: /^(b128|dwordx4)$/ };

/** Bytes a lane, by the last part of the name that says it. */
function width(op) {
  for (const part of op.split("_").reverse()) {
    const found = Object.keys(WIDTHS).find((bytes) => WIDTHS[bytes].test(part));
    if (found) return Number(found);
  }
  return 4;
}

const halves = (text) => text.split("::").map((half) => half.trim());

export const operations = (text) => halves(text).map(operate);

function operate(text) {
  const [, op, rest] = text.match(/^(\S+)\s+(.*)$/) ?? [];
  if (!op) return operation(null, [], null);
  const all = rest.split(",").map((operand) => operand.trim());
  all[all.length - 1] = all.at(-1).split(/\s+/)[0];
  let from = all.slice(1).map(register);
  // What is added to is the last one; it may be the target itself, or a constant.
  if (/^v_(dual_)?(fmac|mac|dot2c|dot2acc)/.test(op)) from.push(register(all[0]));
  else if (/^v_(fmaak|madak)/.test(op)) from = [...from.slice(0, 2), null];
  from = from.slice(0, /fma_mix|pk_fma|dot2(?!c)/.test(op) ? 3 : 4);
  let does = null;
  if (/fma|_mac_|_mad_|dot2/.test(op)) does = "fma";
  else if (/^v_(dual_)?mul_f32/.test(op)) does = "mul";
  else if (/^v_(dual_)?(add|sub|subrev)_f32/.test(op)) does = "add";
  return operation(register(all[0]), from, does, /dot2|pk_fma/.test(op) ? 2 : 1);
}

export const passes = (machine, wave) => wave / machine.lanes;

export function alu(body, passes) {
  const clocks = sum(body, ["fma", "valu", "quarter", "trans"], (i) => i.cost);
  return passes * Math.max(clocks, 4 * count(body, "trans"));
}

export const scalar = (body) => count(body, "salu") + count(body, "smem") + count(body, "branch");

/** A wave alone: loads complete in order, each queue its own; s_waitcnt says how many may still be on their way. */
export function alone(machine, wave) {
  const queues = { vmcnt: [], lgkmcnt: [], vscnt: [] };
  const passes = Math.max(1, Math.floor(wave / machine.lanes));
  const after = (queue, bytes, rate) => (queue.at(-1) ?? 0) + (bytes * wave) / rate;
  return (i, now) => {
    const { vmcnt, lgkmcnt, vscnt } = queues;
    switch (i.kind) {
      case "wait":
        for (const [name, most] of Object.entries(i.wait)) {
          while (queues[name].length > most) now = Math.max(now, queues[name].shift());
        }
        return now;
      case "vload":
      case "scratch":
        vmcnt.push(Math.max(now + machine.memory, after(vmcnt, i.bytes, machine.l1)));
        break;
      case "lload":
        lgkmcnt.push(Math.max(now + machine.local, after(lgkmcnt, i.bytes, machine.lds)));
        break;
      case "lstore":
        lgkmcnt.push(now + machine.local);
        break;
      case "smem":
        lgkmcnt.push(now + machine.constant);
        break;
      case "vstore":
        vscnt.push(now + machine.memory);
        break;
      case "fma":
      case "valu":
      case "quarter":
        return now + i.cost * passes;
      case "trans":
        return now + passes;
      case "barrier":
        return now + 20;
    }
    return now + Math.min(i.cost, 1);
  };
}

/** Resident waves of a SIMD; four SIMDs share 128 KiB of workgroup memory. */
export function waves(machine, told, wave, lds, groupWaves) {
  const step = machine.allocation[wave];
  const registers = Math.max(step, Math.ceil(Number(told.VGPRs) / step) * step);
  const most = Math.min(machine.waves, Math.floor(Math.floor((machine.registers * 32) / wave) / registers));
  if (!lds) return most;
  const resident = Math.floor(131072 / lds) * groupWaves;
  return Math.min(most, Math.max(1, Math.floor(resident / 4)));
}

/** SIMDs over which a workgroup's waves are spread: both compute units of a workgroup processor. */
export const spread = (machine) => 2 * machine.simds;

/** The first cache serves a line a clock. */
export const lineAClock = true;
