// conv: y[n, i, j, o] = act(sum over taps and c of x[n, i*s + u - pad, j*s + v - pad, c] * W[u, v, c, o]
//                           + bias[o] + add[n, o] + residual[n, i, j, o])
// with x = [x1, x2] side by side on channels, zero outside, W = scale * stored. The input may be seen
// through a nearest upsample to virtual_h x virtual_w: source index = floor(index * ratio), as torch does.
// A quad is four neighbouring pixels of a row (its rest counts as a whole one).
// Grid: x = outputs / (4 FOURS), y = quads of all images / QUADS. A thread makes a block in registers, no barriers.
// Twin: tests/twin/conv.rs
//# use elem conv weight activation epilogue block
//# const KERNEL

// Stored pixels that a tap of a quad sees, and 1 or 0 where it is inside the image or not.
struct Place {
    source: vec4<u32>,
    inside: vec4<f32>,
}

@compute @workgroup_size(ACROSS, DOWN)
fn conv(@builtin(global_invocation_id) id: vec3<u32>) {
    let o = id.x * FOURS;
    let quad = (id.y + p.first) * QUADS;
    if o >= p.outputs || quad >= p.images * p.out_h * quads_a_row() {
        return;
    }
    let inputs = p.inputs1 + p.inputs2;
    let next = KERNEL * KERNEL * inputs;
    begin(o, next);
    for (var u = 0u; u < KERNEL; u++) {
        for (var v = 0u; v < KERNEL; v++) {
            locate(quad, u, v);
            let w = o * next + (u * KERNEL + v) * inputs;
            for (var k = 0u; k < p.inputs1; k++) {
                accumulate1(k, w + k);
            }
            for (var k = 0u; k < p.inputs2; k++) {
                accumulate2(k, w + p.inputs1 + k);
            }
        }
    }
    finish(quad, o);
}

fn quads_a_row() -> u32 {
    return (p.out_w + 3u) / 4u;
}

fn place(quad: u32, u: u32, v: u32) -> Place {
    let quads = quads_a_row();
    let image = min(quad / (quads * p.out_h), p.images - 1u);
    let i = quad / quads % p.out_h;
    let j = quad % quads * 4u;
    // Unsigned on purpose: an index left of or above the image wraps to a huge number.
    let row = i * p.stride + u - p.pad;
    let column = vec4<u32>(j, j + 1u, j + 2u, j + 3u) * p.stride + v - p.pad;
    let inside = column < vec4<u32>(select(0u, p.virtual_w, row < p.virtual_h));
    let nearest_row = u32(f32(min(row, p.virtual_h)) * p.ratio_h);
    let nearest = vec4<u32>(vec4<f32>(min(column, vec4<u32>(p.virtual_w))) * p.ratio_w);
    let source_row = (image * p.in_h + min(nearest_row, p.in_h - 1u)) * p.in_w;
    return Place(
        source_row + min(nearest, vec4<u32>(p.in_w - 1u)),
        select(vec4<f32>(), vec4<f32>(1.0), inside),
    );
}

fn load1(at: Place, k: u32) -> mat4x4<f32> {
    let i = at.source * p.inputs1 + k;
    return mat4x4<f32>(
        decode(x1[i.x]) * at.inside.x,
        decode(x1[i.y]) * at.inside.y,
        decode(x1[i.z]) * at.inside.z,
        decode(x1[i.w]) * at.inside.w,
    );
}

fn load2(at: Place, k: u32) -> mat4x4<f32> {
    let i = at.source * p.inputs2 + k;
    return mat4x4<f32>(
        decode(x2[i.x]) * at.inside.x,
        decode(x2[i.y]) * at.inside.y,
        decode(x2[i.z]) * at.inside.z,
        decode(x2[i.w]) * at.inside.w,
    );
}

// Eight outputs of a quad.
fn store(quad: u32, o: u32, acc0: mat4x4<f32>, acc1: mat4x4<f32>) {
    let quads = quads_a_row();
    let row = quad / quads;
    let j = quad % quads * 4u;
    store_four(row, j, o, acc0);
    store_four(row, j, o + 1u, acc1);
}

// `row` counts the rows of all images.
fn store_four(row: u32, j: u32, o: u32, acc: mat4x4<f32>) {
    store_pixel(row, j, o, acc[0]);
    store_pixel(row, j + 1u, o, acc[1]);
    store_pixel(row, j + 2u, o, acc[2]);
    store_pixel(row, j + 3u, o, acc[3]);
}

fn store_pixel(row: u32, j: u32, o: u32, acc: vec4<f32>) {
    if row < p.images * p.out_h && j < p.out_w && o < p.outputs {
        let pixel = row * p.out_w + j;
        y[pixel * p.outputs + o] = encode(epilogue(row / p.out_h, pixel, o, acc));
    }
}
