// norm_apply: y[n, i, c] = act(x[n, i, c] * scale[n, c] + shift[n, c]) with x = [x1, x2] side by side;
// the last third of a group norm, and where a skip connection becomes one tensor.
// Grid: x = channels / 4, y = images * pixels.
// Twin: tests/twin/norm_apply.rs
//# use elem activation

struct Params {
    first: u32,
    images: u32,
    pixels: u32,
    channels1: u32,
    channels2: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x1: array<Elem>;              // [images, pixels, channels1]
@group(0) @binding(2) var<storage, read> x2: array<Elem>;              // [images, pixels, channels2]
@group(0) @binding(3) var<storage, read> affine: array<vec4<f32>>;     // [images, channels, 2]: scale, shift
@group(0) @binding(4) var<storage, read_write> y: array<Elem>;         // [images, pixels, channels]

@compute @workgroup_size(8, 8)
fn norm_apply(@builtin(global_invocation_id) id: vec3<u32>) {
    let channels = p.channels1 + p.channels2;
    let c = id.x;
    let row = id.y + p.first;
    if c >= channels || row >= p.images * p.pixels {
        return;
    }
    var v: vec4<f32>;
    if c < p.channels1 {
        v = decode(x1[row * p.channels1 + c]);
    } else {
        v = decode(x2[row * p.channels2 + c - p.channels1]);
    }
    let at = (row / p.pixels * channels + c) * 2u;
    y[row * channels + c] = encode(activate(p.activation, v * affine[at] + affine[at + 1u]));
}
