// What both kernels of products are given.
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
