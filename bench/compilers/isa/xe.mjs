// Intel Xe, as Mesa's disassembler prints it: in its own notation up to 26.1, in one like Intel's later. Eight lanes a clock;
// memory, barriers and the rest are messages (send).

import { assemble, instruction, operation } from "./instruction.mjs";

const HEAD = /^(?:\([^)]*\)\s*)*([a-z][\w.]*)\s*\((\d+)\)\s*(.*)/s;
/** Whether a type is of floats, by the target or by any operand. */
const TO_FLOAT = /^\S*(:h?f|>H?F)\b/;
const OF_FLOATS = /:f\b|>F\b/;

export function parse(text) {
  // What a message does is a line of its own in the older notation, and an operation may have a second word.
  const joined = text.replace(/\n +(\w+ MsgDesc: )/g, " // $1");
  return assemble(joined, (line) => {
    const bare = line.trim().replace(/^(\([^)]*\) *)?(math|sync) (?=\w)/, "$1$2.");
    const label = bare.match(/^(L(?:ABEL)?\d+):$/);
    return label ? { labels: [label[1]] } : read(bare);
  });
}

function read(text) {
  const [body, note = ""] = text.split(/\/\/(.*)/s);
  const head = body.match(HEAD);
  if (!head) return null;
  const [, op, lanes, rest] = head;
  const base = op.split(".")[0];
  const cost = Math.max(1, lanes / 8);
  const tokens = [...(rest + note).matchAll(/\$(\d+)/g)].map(([, token]) => token);
  const wait = { sets: null, needs: tokens };
  const is = (kind, more) => instruction(kind, text, { wait, ...more });
  if (["send", "sends", "sendc"].includes(base)) return message(op, Number(lanes), note, { sets: tokens.at(-1) ?? null, needs: [] }, text);
  if (base === "mad" && TO_FLOAT.test(rest)) return is("fma", { fmas: 1, cost });
  if (base === "math") return is("trans", { cost: 4 * cost });
  if (base === "sync" || base === "nop") return op.includes("sync.bar") ? is("barrier") : is("other", { cost: 0 });
  if (["mul", "mach", "macl", "mad"].includes(base) && !OF_FLOATS.test(rest)) return is("quarter", { cost: 2 * cost });
  if (base === "while" || base === "jmpi") return is("branch", { target: rest.match(/\bL(?:ABEL)?\d+\b/)?.[0] ?? null });
  if (["if", "else", "endif", "break", "cont", "halt"].includes(base)) return is("valu");
  return is("valu", { cost });
}

function message(op, lanes, note, wait, text) {
  const is = (kind, bytes = 0) => instruction(kind, text, { wait, bytes });
  const local = op.includes("slm") || note.includes("slm");
  const registers = (found) => (found ? (Number(found[1]) * 32) / Math.max(8, lanes) : 4);
  if (note.includes("barrier") || op.includes("gtwy") || note.includes("gateway")) return is("barrier");
  if (note.includes("fence")) return is("other");
  if (note.includes("store")) return is(local ? "lstore" : "vstore", registers(note.match(/(?:wr:\d+\+|src1_len = )(\d+)/)));
  if (lanes === 1) return is("smem");
  return is(local ? "lload" : "vload", registers(note.match(/(?:rd:|dst_len = )(\d+)/)));
}

export function operations(text) {
  const [, op, all] = text.match(/^(?:\([^)]*\)\s*)*([a-z][\w.]*)\s*\(\d+\)\s*(.*?)(?:\{|\/\/|$)/) ?? [];
  const words = (all ?? "").split(/\s+/).filter((word) => word && !word.startsWith("("));
  const name = (word) => word.replace(/^-+|-+$/g, "").replace("(abs)", "").replace(/(<[^>]*>)?(:\w+|(?<=>)\w+)?$/, "");
  const [to, ...from] = words.map(name);
  if (!to) return [operation(null, [], null)];
  const sources = from.slice(0, 3);
  // mad adds to its first source.
  if (op === "mad" && sources.length === 3) sources.push(sources.shift());
  const float = /^\S+(:f|>F)\b/.test(all);
  let does = null;
  if (op === "mad") does = "fma";
  else if (op === "mul" && float) does = "mul";
  else if (op === "add" && float) does = "add";
  return [operation(to, sources, does)];
}

export const passes = (machine, wave) => Math.max(1, wave / 8);
export const alu = (body) => body.reduce((clocks, i) => clocks + (i.kind === "wait" ? 0 : i.cost), 0);
export const scalar = () => 0;

/** A thread alone: a message sets a token, and what needs its result names it. */
export function alone(machine) {
  const done = {};
  return (i, now) => {
    for (const token of i.wait.needs) now = Math.max(now, done[token] ?? 0);
    const near = ["lload", "lstore", "barrier"].includes(i.kind);
    if (i.wait.sets !== null) done[i.wait.sets] = now + (near ? machine.local : machine.memory);
    return now + (i.kind === "barrier" ? 20 : i.cost);
  };
}

/** Resident threads of a vector engine; sixteen engines share 64 KiB of workgroup memory, given out in powers of two. */
export function waves(machine, told, wave, lds, groupWaves) {
  if (!lds) return machine.waves;
  const given = Math.max(1024, 2 ** Math.ceil(Math.log2(lds)));
  return Math.min(machine.waves, Math.max(1, Math.floor((Math.floor(65536 / given) * groupWaves) / 16)));
}

/** SIMDs over which a workgroup's waves are spread. */
export const spread = (machine) => machine.simds;
