// The loop in which a kernel spends its time, found in the code of its machine.

const NO_WAY_ON = /^(s_branch|s_endpgm|s_setpc|exit|bra pT L|stop|jump|end\b|jmp_always)/;

/**
 * The instructions of a trip through the loop with the most useful FMAs of its own, inner loops taken away; the inner one
 * where two have as many. With `trips` it is the loop around it, with every inner loop laid out so many times.
 * Null where there is no loop.
 */
export function hottest({ code, labels }, trips, useful) {
  const all = loops(code, labels);
  const inside = (loop) => all.filter((other) => other.size < loop.size && [...other].every((i) => loop.has(i)));
  const own = (loop) => {
    const inner = inside(loop);
    return [...loop].sort((a, b) => a - b).filter((i) => !inner.some((other) => other.has(i)));
  };
  const at = (indices) => indices.map((i) => code[i]);
  let best = null;
  for (const loop of all.sort((a, b) => b.size - a.size)) {
    const body = own(loop);
    const fmas = useful(at(body));
    if (!best || (fmas >= best.fmas && fmas > 0)) best = { fmas, loop, body };
  }
  if (!best) return null;
  const around = all.filter((other) => inside(other).includes(best.loop)).sort((a, b) => a.size - b.size)[0];
  if (!trips || !around || best.fmas === 0) return at(best.body);

  const inner = inside(around).filter((loop, _, others) => !others.some((other) => inside(other).includes(loop)));
  const laid = [];
  for (const i of [...around].sort((a, b) => a - b)) {
    const begins = inner.find((loop) => Math.min(...loop) === i);
    if (begins) for (let trip = 0; trip < trips; trip++) laid.push(...own(begins));
    else if (!inner.some((loop) => loop.has(i))) laid.push(i);
  }
  return at(laid);
}

/** Natural loops as sets of instructions: a jump back goes to a block that dominates it. */
function loops(code, labels) {
  const blocks = basicBlocks(code, labels);
  const dominates = dominators(blocks);
  const found = new Map();
  blocks.forEach((block, from) => {
    for (const head of block.next) {
      if (!dominates(head, from)) continue;
      const body = found.get(head) ?? new Set([head]);
      found.set(head, body);
      const work = [from];
      while (work.length > 0) {
        const at = work.pop();
        if (body.has(at)) continue;
        body.add(at);
        work.push(...blocks[at].before.filter((other) => dominates(0, other)));
      }
    }
  });
  return [...found.values()].map((body) => {
    const indices = [...body].map((at) => blocks[at]).flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i));
    return new Set(indices);
  });
}

/** [{ first, last, next, before }]: instructions, and the blocks after and before it. */
function basicBlocks(code, labels) {
  const target = (i) => (i.kind === "branch" && labels[i.target] < code.length ? labels[i.target] : null);
  const starts = new Set([0]);
  code.forEach((i, at) => {
    if (target(i) !== null) starts.add(target(i));
    if ((i.kind === "branch" || NO_WAY_ON.test(i.text)) && at + 1 < code.length) starts.add(at + 1);
  });
  const firsts = [...starts].sort((a, b) => a - b);
  const number = new Map(firsts.map((first, at) => [first, at]));
  const blocks = firsts.map((first, at) => ({ first, last: (firsts[at + 1] ?? code.length) - 1, next: [], before: [] }));
  blocks.forEach((block, at) => {
    const last = code[block.last];
    const next = new Set();
    if (target(last) !== null) next.add(number.get(target(last)));
    if (!NO_WAY_ON.test(last.text) && at + 1 < blocks.length) next.add(at + 1);
    block.next = [...next];
    for (const to of next) blocks[to].before.push(at);
  });
  return blocks;
}

/** Whether one block is on every way to another (Cooper, Harvey and Kennedy); false for blocks that nothing leads to. */
function dominators(blocks) {
  const order = [];
  const seen = new Set([0]);
  const stack = [[0, 0]];
  while (stack.length > 0) {
    const top = stack.at(-1);
    const [at, way] = top;
    if (way === blocks[at].next.length) {
      order.push(at);
      stack.pop();
      continue;
    }
    top[1]++;
    const to = blocks[at].next[way];
    if (!seen.has(to)) {
      seen.add(to);
      stack.push([to, 0]);
    }
  }
  const rank = new Map(order.map((at, i) => [at, i]));
  const above = new Map([[0, 0]]);
  const meet = (a, b) => {
    while (a !== b) {
      while (rank.get(a) < rank.get(b)) a = above.get(a);
      while (rank.get(b) < rank.get(a)) b = above.get(b);
    }
    return a;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const at of order.slice(0, -1).reverse()) {
      const known = blocks[at].before.filter((other) => above.has(other));
      const now = known.reduce(meet);
      if (above.get(at) !== now) {
        above.set(at, now);
        changed = true;
      }
    }
  }
  return (a, b) => {
    if (!above.has(a) || !above.has(b)) return false;
    while (b !== a && b !== 0) b = above.get(b);
    return a === b;
  };
}
