// matmul: y[r, o] = act(sum over k of x[r, k] * W[k, o] + bias[o] + add[n, o] + residual[r, o])
// with x = [x1, x2] side by side, W = scale * stored, n = r / rows_per_image; also 1x1 convolutions.
// GEGLU: outputs come in pairs of four, value then gate, and y = value * gelu(gate) is half as wide.
// Grid: x = outputs / 8, y = rows / 4. A thread makes 4 rows x 8 outputs in registers, no barriers.
// Twin: tests/twin/matmul.rs
//# use elem weight activation epilogue

const GEGLU: u32 = 4u;

// Widths and strides count groups of four channels.
struct Params {
    first: u32,
    rows: u32,
    rows_per_image: u32,
    inputs1: u32,
    inputs2: u32,
    outputs: u32,
    scale_at: u32,
    bias_at: u32,
    add_at: u32,
    add_stride: u32,
    activation: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x1: array<Elem>;              // [rows, inputs1]
@group(0) @binding(2) var<storage, read> x2: array<Elem>;              // [rows, inputs2]
@group(0) @binding(3) var<storage, read> w: array<vec4<u32>>;          // [outputs, inputs] blocks, scale, bias
@group(0) @binding(4) var<storage, read> add: array<Elem>;             // [images, add_stride]
@group(0) @binding(5) var<storage, read> residual: array<Elem>;        // [rows, outputs]
@group(0) @binding(6) var<storage, read_write> y: array<Elem>;         // [rows, outputs]

@compute @workgroup_size(8, 8)
fn matmul(@builtin(global_invocation_id) id: vec3<u32>) {
    let o = id.x * 2u;
    let row = (id.y + p.first) * 4u;
    if o >= p.outputs || row >= p.rows {
        return;
    }
    // Rows past the end repeat the last one and are not stored.
    let last = p.rows - 1u;
    let r = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(last));
    let inputs = p.inputs1 + p.inputs2;
    let b0 = o * inputs;
    let b1 = min(o + 1u, p.outputs - 1u) * inputs;

    var a00 = vec4<f32>(); var a01 = vec4<f32>(); var a02 = vec4<f32>(); var a03 = vec4<f32>();
    var a10 = vec4<f32>(); var a11 = vec4<f32>(); var a12 = vec4<f32>(); var a13 = vec4<f32>();
    for (var k = 0u; k < p.inputs1; k++) {
        let w0 = weight(b0 + k);
        let w1 = weight(b1 + k);
        let v0 = decode(x1[r.x * p.inputs1 + k]);
        let v1 = decode(x1[r.y * p.inputs1 + k]);
        let v2 = decode(x1[r.z * p.inputs1 + k]);
        let v3 = decode(x1[r.w * p.inputs1 + k]);
        a00 += w0 * v0; a01 += w0 * v1; a02 += w0 * v2; a03 += w0 * v3;
        a10 += w1 * v0; a11 += w1 * v1; a12 += w1 * v2; a13 += w1 * v3;
    }
    for (var k = 0u; k < p.inputs2; k++) {
        let w0 = weight(b0 + p.inputs1 + k);
        let w1 = weight(b1 + p.inputs1 + k);
        let v0 = decode(x2[r.x * p.inputs2 + k]);
        let v1 = decode(x2[r.y * p.inputs2 + k]);
        let v2 = decode(x2[r.z * p.inputs2 + k]);
        let v3 = decode(x2[r.w * p.inputs2 + k]);
        a00 += w0 * v0; a01 += w0 * v1; a02 += w0 * v2; a03 += w0 * v3;
        a10 += w1 * v0; a11 += w1 * v1; a12 += w1 * v2; a13 += w1 * v3;
    }

    store(row, o, a00, a10);
    store(row + 1u, o, a01, a11);
    store(row + 2u, o, a02, a12);
    store(row + 3u, o, a03, a13);
}

fn store(row: u32, o: u32, acc0: vec4<f32>, acc1: vec4<f32>) {
    if row >= p.rows {
        return;
    }
    let image = row / p.rows_per_image;
    let v0 = epilogue(image, row, o, acc0);
    if (p.flags & GEGLU) != 0u {
        y[row * (p.outputs / 2u) + o / 2u] = encode(v0 * gelu(epilogue(image, row, o + 1u, acc1)));
        return;
    }
    y[row * p.outputs + o] = encode(v0);
    if o + 1u < p.outputs {
        y[row * p.outputs + o + 1u] = encode(epilogue(image, row, o + 1u, acc1));
    }
}
