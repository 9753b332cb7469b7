// NVIDIA since Turing, as NAK prints it. Integers and conversions have a pipe of half the width, rcp and exp2 an eighth.

import { assemble, count, instruction, operation, register } from "./instruction.mjs";

const MEMORY = ["ld", "ldg", "lds", "ldl", "st", "stg", "sts", "stl", "atom", "ldc", "suld", "tld"];
const FLOAT = ["fadd", "fmul", "fmnmx", "fsetp", "fset", "hadd2", "hmul2", "fswz", "imad", "mov"];
const CONVERT = ["i2f", "f2i", "f2f", "i2i", "frnd"];
const FLOW = ["bra", "brx", "exit", "sync", "ssy", "bssy", "bsync", "break", "warpsync", "bclear"];

export function parse(text) {
  return assemble(text, (line) => {
    const bare = line.trim();
    const block = bare.match(/^block(?:\.u)? (\d+)((?: L\d+)*) \[/);
    if (block) return { labels: block[2].split(" ").filter(Boolean) };
    if (bare === "" || bare.startsWith("}")) return null;
    return bare.includes("//") || /^[@a-z]/.test(bare) ? read(bare) : null;
  });
}

function read(text) {
  const [, , to, op, rest] = text.match(/^(@!?u?p\d+\s+)?(?:([^=]*?)\s*=\s*)?([a-z][\w.]*)(.*)/);
  // Six barriers: an instruction sets one when it is done, and waits for those in a mask.
  const wait = {
    mask: text.match(/wt=([01]+)/)?.[1] ?? "",
    sets: text.match(/wr:(\d)/)?.[1] ?? null,
    delay: Number(text.match(/delay=(\d+)/)?.[1] ?? 1),
  };
  const is = (kind, more) => instruction(kind, text.split("//")[0].trim(), { wait, ...more });
  const base = op.split(".")[0];
  if (base === "ffma") return is("fma", { fmas: 1 });
  if (base === "hfma2") return is("fma", { fmas: 2 });
  if (MEMORY.includes(base)) {
    const bits = op.match(/\.[bui](8|16|32|64|128)\b/);
    const bytes = bits ? Number(bits[1]) / 8 : 4;
    if (op.includes(".shared")) return is(base.startsWith("st") ? "lstore" : "lload", { bytes });
    if (op.includes(".local")) return is("scratch", { bytes });
    if (base === "ldc") return is("smem", { bytes });
    return is(base.startsWith("st") || base === "atom" ? "vstore" : "vload", { bytes });
  }
  if (base === "mufu") return is("trans");
  if (CONVERT.includes(base)) return is("quarter");
  if (FLOAT.includes(base)) return is("valu");
  if (FLOW.includes(base)) return is("branch", { target: base === "bra" ? (rest.match(/\b(L\d+)\b/)?.[1] ?? null) : null });
  if (base === "bar") return is("barrier");
  if (["nop", "ccctl", "membar", "fence", "depbar"].includes(base)) return is("other");
  return is(/^u[rp]\d/.test((to ?? "").trim()) ? "salu" : "int");
}

export function operations(text) {
  const [, to, op, rest] = text.match(/^(?:@!?u?p\d+\s+)?([^=]*?)\s*=\s*(\S+)\s*(.*)/) ?? [];
  if (!op) return [operation(null, [], null)];
  const words = (list) => list.split(/\s+/).filter(Boolean);
  let does = null;
  if (op.includes("fma")) does = "fma";
  else if (op.includes("fmul")) does = "mul";
  else if (op.includes("fadd")) does = "add";
  return [operation(register(words(to)[0] ?? ""), words(rest).map(register), does, op.includes("hfma2") ? 2 : 1)];
}

export const passes = () => 1;

export function alu(body) {
  const half = count(body, "int") + count(body, "quarter");
  return Math.max(body.length - count(body, "other"), 2 * half, 8 * count(body, "trans"));
}

export const scalar = () => 0;

/** A warp alone: the compiler wrote delays into the code, and barriers for what takes an unknown time. */
export function alone(machine) {
  const done = {};
  const latency = { vload: machine.memory, scratch: machine.memory, lload: machine.local, lstore: machine.local };
  return (i, now) => {
    const { mask, sets, delay } = i.wait;
    [...mask].reverse().forEach((bit, barrier) => {
      if (bit === "1") now = Math.max(now, done[barrier] ?? 0);
    });
    if (sets !== null) done[sets] = Math.max(done[sets] ?? 0, now + (latency[i.kind] ?? machine.constant));
    return now + delay + (i.kind === "barrier" ? 20 : 0);
  };
}

/** Resident warps of a quarter of an SM, whose 100 KiB of workgroup memory all quarters share. */
export function waves(machine, told, wave, lds, groupWaves) {
  const registers = Math.ceil(Number(told["Number of GPRs"]) / 8) * 8;
  const most = Math.min(machine.waves, Math.floor(65536 / (registers * 32) / 4));
  if (!lds) return most;
  return Math.min(most, Math.max(1, Math.floor((Math.floor(102400 / (lds + 1024)) * groupWaves) / 4)));
}

/** SIMDs over which a workgroup's waves are spread. */
export const spread = (machine) => machine.simds;
