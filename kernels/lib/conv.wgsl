// What both kernels of convolutions are given.
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
