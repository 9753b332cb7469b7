// Which FMAs are the kernel's own. One that unpacks a weight or scales a load is multiplied later; one of a sum is added to.

/**
 * How many FMAs (or multiplications that begin a sum) of a loop's body make something that an addition adds to. Backwards,
 * and twice round for what is carried from trip to trip: is what a register holds added to before it is lost?
 */
export function useful(body, operations) {
  // A loop that is laid out has the same instructions again and again.
  const known = new Map();
  for (const i of body) if (!known.has(i)) known.set(i, operations(i.text));
  const parsed = body.map((i) => known.get(i));
  const added = new Set();
  let total = 0;
  for (let step = 2 * body.length - 1; step >= 0; step--) {
    const ops = parsed[step % body.length];
    // The halves of a dual instruction read before either writes.
    const hits = ops.map(({ to }) => added.has(to));
    ops.forEach(({ to, does, fmas }, at) => {
      if (step < body.length && hits[at] && (does === "fma" || does === "mul")) total += fmas;
      added.delete(to);
    });
    for (const { from, does } of ops) {
      if (does === "fma" && from.at(-1)) added.add(from.at(-1));
      else if (does === "add") from.filter(Boolean).forEach((register) => added.add(register));
    }
  }
  return total;
}
