// The estimate: which share of a GPU's FMA peak a kernel can reach, from the machine code of its hottest loop.

import { count, sum } from "./isa/instruction.mjs";
import { hottest } from "./loops.mjs";
import { useful } from "./useful.mjs";
import { constant, pattern } from "./patterns.mjs";

/** What `told` and `code` say of a variant on a GPU, or null where it has no loop. */
export function figures(gpu, { kernel, name, source, told, code }) {
  const { isa, machine } = gpu;
  const ownFmas = (body) => useful(body, isa.operations);
  const body = hottest(isa.parse(code), tripsInside(kernel, name, source), ownFmas);
  if (!body) return null;

  const wave = gpu.wave ?? (Number(told.wave) || 32);
  const group = Number(told.workgroup);
  const groupWaves = Math.max(1, Math.ceil(group / wave));
  const lds = Number(told["LDS size"] ?? told["Workgroup Memory Size"] ?? 0) || Number(told["workgroup bytes"]);
  const waves = isa.waves(machine, told, wave, lds, groupWaves);
  const passes = isa.passes(machine, wave);
  const fmas = ownFmas(body);

  // Clocks of one SIMD for a trip of one wave, by resource: the slowest one is the limit.
  const bytes = sum(body, ["vload", "vstore", "scratch"], (i) => i.bytes);
  const localBytes = sum(body, ["lload", "lstore"], (i) => i.bytes);
  const lanes = Math.max(wave, machine.lanes);
  const limits = {
    ALU: isa.alu(body, passes),
    L1: ((bytes * lanes) / machine.l1) * machine.simds,
    LDS: ((localBytes * lanes) / machine.lds) * machine.simds,
    SALU: isa.scalar(body),
  };
  limits.latency = latency(limits, steady(body, isa.alone(machine, wave)), { body, waves, groupSimd: groupWaves / isa.spread(machine) });

  // The same where the first cache keeps nothing from trip to trip, and AMD's serves a line a clock.
  const low = { ...limits };
  const touched = pattern(kernel, name, source, { loads: count(body, "vload"), lanes, waves: group / lanes });
  if (touched) {
    const kept = waves * machine.simds * touched.lines * machine.line <= machine.l1size;
    low.L2 = ((kept ? touched.bytes : touched.lines * machine.line) / machine.l2) * machine.simds;
    if (isa.lineAClock) low.L1 = Math.max(limits.L1, touched.runs * machine.simds);
  }
  const other = sum(body, ["valu", "int", "quarter", "trans"], () => 1) + sum(body, ["fma"], (i) => i.fmas) - fmas;
  const first = (...names) => Number(names.map((n) => told[n]).find((value) => value !== undefined) ?? 0);
  return {
    registers: first("VGPRs", "Number of GPRs", "GPRs", "Registers used", "Max live registers"),
    spills: first("Scratch size", "SLM size", "Scratch", "Scratch Memory Size", "STP Count") || first("Spilled VGPRs", "Spills to memory", "Spills"),
    lds,
    waves,
    code: first("Code size"),
    fmas,
    other,
    loads: count(body, "vload"),
    localLoads: count(body, "lload"),
    share: (fmas * passes) / most(limits)[1],
    limit: most(limits)[0],
    low: (fmas * passes) / most(low)[1],
    lowLimit: most(low)[0],
    limits,
    body,
  };
}

/** How often loops inside the main one run: `//# trip` and a number or a constant, or the length of a head for the kernels that loop over it. */
function tripsInside(kernel, name, source) {
  const said = source.match(/^\/\/# trip (\w+)/m)?.[1];
  if (said) return Number(said) || constant(source, said);
  return ["attention", "attention_quad"].includes(kernel) ? Number(name.split(".").at(-1)) : null;
}

const most = (limits) => Object.entries(limits).reduce((best, entry) => (entry[1] > best[1] ? entry : best));

/** Clocks of a trip of one wave alone, in order, once the first one is over. */
function steady(body, tick) {
  const trips = 3;
  const starts = [];
  let now = 0;
  for (let trip = 0; trip < trips; trip++) {
    starts.push(now);
    for (const i of body) now = tick(i, now);
  }
  return (now - starts[1]) / (trips - 1);
}

/** What other waves do not hide. At a barrier the waves of a workgroup stand still together; only other workgroups fill in. */
function latency({ ALU, L1, LDS }, alone, { body, waves, groupSimd }) {
  if (count(body, "barrier") === 0) return alone / Math.max(1, waves);
  const together = Math.max(1, Math.floor(groupSimd));
  const groups = Math.max(1, waves / together);
  return (Math.max(0, alone - ALU) + together * Math.max(ALU, L1, LDS)) / (together * groups);
}
