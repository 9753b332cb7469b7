// An instruction, the same for all GPUs.
//
// kind    fma, valu, int (NVIDIA's other pipe), quarter (at a quarter of the rate), trans (rcp, exp2 ...), vload, vstore,
//         lload, lstore (workgroup memory), smem, salu, scratch, wait, barrier, branch, other
// text    for people, and for the few questions that only one GPU asks
// fmas    how many a lane does
// bytes   that a lane loads or stores
// cost    in clocks, where the kind does not say it
// target  of a branch: a label
// wait    what it waits for, and what later ones wait for: each GPU's own

export const instruction = (kind, text, more) => ({ kind, text, fmas: 0, bytes: 0, cost: 1, target: null, wait: null, ...more });

/** Of a loop body: [{ to, from, does, fmas }], one for each operation of an instruction; `does` is fma, mul, add or null. */
export const operation = (to, from, does, fmas = 1) => ({ to, from, does, fmas });

/** A register's name without modifiers, or null for what is none. */
export function register(operand) {
  const bare = operand.replace(/[\^$|]|\((last|r|neg|abs|sat|ei|rpt\d|nop\d|sy|ss|jp|nopr)\)|neg\(|\)/g, "").trim();
  return bare.replace(/^-+/, "").match(/^h?[vr]\d+(?:\.[xyzw])?[lh]?/)?.[0] ?? null;
}

export const count = (body, kind) => body.filter((i) => i.kind === kind).length;
export const sum = (body, kinds, value) => body.reduce((total, i) => total + (kinds.includes(i.kind) ? value(i) : 0), 0);

/** A text line by line: `each` gets (line, code) and returns a label, an instruction or nothing. */
export function assemble(text, each) {
  const code = [];
  const labels = {};
  for (const line of text.split("\n")) {
    const found = each(line);
    if (found?.labels) for (const label of found.labels) labels[label] = code.length;
    else if (found) code.push(found);
  }
  return { code, labels };
}
