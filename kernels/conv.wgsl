// conv: y[n, i, j, o] = act(sum over taps and c of x[n, i*s + u - pad, j*s + v - pad, c] * W[u, v, c, o]
//                           + bias[o] + add[n, o] + residual[n, i, j, o])
// with x = [x1, x2] side by side on channels, zero outside, W = scale * stored. The input may be seen
// through a nearest upsample to virtual_h x virtual_w: source index = floor(index * ratio), as torch does.
// Grid: x = outputs / 8, y = images * out_h * out_w / 4 (a row's rest counts as a whole four).
// A thread makes 4 neighbouring pixels x 8 outputs in registers, no barriers.
// Twin: tests/twin/conv.rs
//# use elem weight activation epilogue
//# const KERNEL

// Channel counts and strides count groups of four channels.
struct Params {
    first: u32,
    images: u32,
    in_h: u32,
    in_w: u32,
    virtual_h: u32,
    virtual_w: u32,
    ratio_h: f32,
    ratio_w: f32,
    out_h: u32,
    out_w: u32,
    inputs1: u32,
    inputs2: u32,
    outputs: u32,
    stride: u32,
    pad: u32,
    scale_at: u32,
    bias_at: u32,
    add_at: u32,
    add_stride: u32,
    activation: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x1: array<Elem>;              // [images, in_h, in_w, inputs1]
@group(0) @binding(2) var<storage, read> x2: array<Elem>;              // [images, in_h, in_w, inputs2]
@group(0) @binding(3) var<storage, read> w: array<vec4<u32>>;          // [outputs, taps, inputs] blocks, scale, bias
@group(0) @binding(4) var<storage, read> add: array<Elem>;             // [images, add_stride]
@group(0) @binding(5) var<storage, read> residual: array<Elem>;        // [images, out_h, out_w, outputs]
@group(0) @binding(6) var<storage, read_write> y: array<Elem>;         // [images, out_h, out_w, outputs]

@compute @workgroup_size(8, 8)
fn conv(@builtin(global_invocation_id) id: vec3<u32>) {
    let fours = (p.out_w + 3u) / 4u;
    let o = id.x * 2u;
    let four = id.y + p.first;
    let image = four / (fours * p.out_h);
    if o >= p.outputs || image >= p.images {
        return;
    }
    let i = four / fours % p.out_h;
    let j = four % fours * 4u;
    let inputs = p.inputs1 + p.inputs2;
    let b0 = o * KERNEL * KERNEL * inputs;
    let b1 = min(o + 1u, p.outputs - 1u) * KERNEL * KERNEL * inputs;

    var a00 = vec4<f32>(); var a01 = vec4<f32>(); var a02 = vec4<f32>(); var a03 = vec4<f32>();
    var a10 = vec4<f32>(); var a11 = vec4<f32>(); var a12 = vec4<f32>(); var a13 = vec4<f32>();
    for (var u = 0u; u < KERNEL; u++) {
        // Unsigned on purpose: an index left of or above the picture wraps to a huge number.
        let row = i * p.stride + u - p.pad;
        if row >= p.virtual_h {
            continue;
        }
        let source_row = (image * p.in_h + min(u32(f32(row) * p.ratio_h), p.in_h - 1u)) * p.in_w;
        for (var v = 0u; v < KERNEL; v++) {
            let column = (vec4<u32>(j, j + 1u, j + 2u, j + 3u)) * p.stride + v - p.pad;
            let inside = select(vec4<f32>(), vec4<f32>(1.0), column < vec4<u32>(p.virtual_w));
            let nearest = vec4<u32>(vec4<f32>(min(column, vec4<u32>(p.virtual_w))) * p.ratio_w);
            let source = source_row + min(nearest, vec4<u32>(p.in_w - 1u));
            let tap = (u * KERNEL + v) * inputs;
            for (var k = 0u; k < p.inputs1; k++) {
                let w0 = weight(b0 + tap + k);
                let w1 = weight(b1 + tap + k);
                let v0 = decode(x1[source.x * p.inputs1 + k]) * inside.x;
                let v1 = decode(x1[source.y * p.inputs1 + k]) * inside.y;
                let v2 = decode(x1[source.z * p.inputs1 + k]) * inside.z;
                let v3 = decode(x1[source.w * p.inputs1 + k]) * inside.w;
                a00 += w0 * v0; a01 += w0 * v1; a02 += w0 * v2; a03 += w0 * v3;
                a10 += w1 * v0; a11 += w1 * v1; a12 += w1 * v2; a13 += w1 * v3;
            }
            for (var k = 0u; k < p.inputs2; k++) {
                let w0 = weight(b0 + tap + p.inputs1 + k);
                let w1 = weight(b1 + tap + p.inputs1 + k);
                let v0 = decode(x2[source.x * p.inputs2 + k]) * inside.x;
                let v1 = decode(x2[source.y * p.inputs2 + k]) * inside.y;
                let v2 = decode(x2[source.z * p.inputs2 + k]) * inside.z;
                let v3 = decode(x2[source.w * p.inputs2 + k]) * inside.w;
                a00 += w0 * v0; a01 += w0 * v1; a02 += w0 * v2; a03 += w0 * v3;
                a10 += w1 * v0; a11 += w1 * v1; a12 += w1 * v2; a13 += w1 * v3;
            }
        }
    }

    store(image, i, j, o, a00, a10);
    store(image, i, j + 1u, o, a01, a11);
    store(image, i, j + 2u, o, a02, a12);
    store(image, i, j + 3u, o, a03, a13);
}

fn store(image: u32, i: u32, j: u32, o: u32, acc0: vec4<f32>, acc1: vec4<f32>) {
    if j >= p.out_w {
        return;
    }
    let pixel = (image * p.out_h + i) * p.out_w + j;
    y[pixel * p.outputs + o] = encode(epilogue(image, pixel, o, acc0));
    if o + 1u < p.outputs {
        y[pixel * p.outputs + o + 1u] = encode(epilogue(image, pixel, o + 1u, acc1));
    }
}
