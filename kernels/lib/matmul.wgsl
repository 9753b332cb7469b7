// What both kernels of products are given.
const GATED: u32 = 4u;

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

// Eight outputs of a row, which a gated product needs side by side.
fn store_row(row: u32, o: u32, acc0: vec4<f32>, acc1: vec4<f32>) {
    if row >= p.rows || o >= p.outputs {
        return;
    }
    let image = row / p.rows_per_image;
    if (p.flags & GATED) != 0u {
        let value = scaled(o, acc0);
        y[row * (p.outputs / 2u) + o / 2u] = encode(value * activate(p.activation, scaled(o + 1u, acc1)));
        return;
    }
    let v0 = epilogue(image, row, o, acc0);
    y[row * p.outputs + o] = encode(v0);
    if o + 1u < p.outputs {
        y[row * p.outputs + o + 1u] = encode(epilogue(image, row, o + 1u, acc1));
    }
}
