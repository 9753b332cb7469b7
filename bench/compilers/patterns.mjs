// What the code alone does not tell: which cache lines the loads of a trip touch, by how the kernels lay out their grids.

/** Bytes of four channels, and of a block of four outputs by four inputs. */
const ELEM = { f32: 16, f16: 8, pack16: 8 };
const BLOCK = { f32: 64, f16: 32, q8: 16, q4: 9 };

/** Of a wave's trip { lines, runs (clocks at a line each), bytes that are new }, or null for kernels that are not known here. */
export function pattern(kernel, name, source, { loads, lanes, waves }) {
  const values = name.split(".");
  const elem = ELEM[values[0]];
  const block = BLOCK[values[1]];
  if (!elem || !block) return null;
  if (["conv", "matmul"].includes(kernel) && values.includes("4x8")) {
    // Eight threads across share rows; each has weights of its own, in another line.
    const quads = Math.floor(lanes / 8);
    return { lines: quads * 4 + 16, runs: lanes + Math.max(0, loads - 4) * lanes, bytes: quads * 4 * elem + 16 * block };
  }
  if (["conv_tile", "matmul_tile"].includes(kernel)) {
    const tile = tileOf(source);
    if (!tile) return null;
    const { rows, fours, depth } = tile;
    const bytes = (rows * depth * elem + fours * depth * block) / waves;
    return { lines: (rows + fours * Math.max(1, Math.floor((depth * block) / 128))) / waves, runs: bytes / 64, bytes };
  }
  return null;
}

/** The value of a constant of a kernel; null where there is none, or an expression. */
export function constant(source, name) {
  const value = source.match(new RegExp(`^\\s*const ${name}(?:: u32)? = (\\d+)u?;`, "m"));
  return value && Number(value[1]);
}

/** A workgroup's tile: rows, outputs and inputs of a step, the last two in vec4s; as kernels/lib/tile.wgsl has them. */
function tileOf(source) {
  const [rows, fours, depth] = ["ROWS", "OUT_VEC4S", "STEP"].map((name) => constant(source, name));
  return rows && fours && depth ? { rows, fours, depth } : null;
}
