// winograd_output: what the products of winograd_tile.wgsl are for: 4x4 outputs of a 3x3 convolution for each tile.
// Grid: x = outputs / 64, y = tiles of the band, counted in workgroups.
// Twin: tests/twin/conv.rs
//# use elem weight activation epilogue winograd

struct Params {
    first: u32,
    images: u32,
    out_h: u32,
    out_w: u32,
    // Groups of four channels: of all outputs, of those at hand, before them.
    outputs: u32,
    width: u32,
    first_output: u32,
    // Tiles of a row and of a column of an image.
    tiles_w: u32,
    tiles_h: u32,
    // The first tile of the band, and how many tiles it has.
    first_tile: u32,
    tiles: u32,
    scale_at: u32,
    bias_at: u32,
    add_at: u32,
    add_stride: u32,
    activation: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;          // [36, tiles, width]
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;          // [outputs, 9, inputs] blocks, scale, bias
@group(0) @binding(3) var<storage, read> add: array<Elem>;             // [images, add_stride]
@group(0) @binding(4) var<storage, read> residual: array<Elem>;        // [images, out_h, out_w, outputs]
@group(0) @binding(5) var<storage, read_write> y: array<Elem>;         // [images, out_h, out_w, outputs]

struct Four {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

@compute @workgroup_size(THREADS)
fn winograd_output(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let o = group.x * ACROSS + t % ACROSS;
    let tile = group.y + p.first;
    let next = p.tiles * p.width;
    let first = t / ACROSS * next + tile * p.width + min(o, p.width - 1u);
    let made = transformed(Six(
        x[first],
        x[first + SIDE * next],
        x[first + 2u * SIDE * next],
        x[first + 3u * SIDE * next],
        x[first + 4u * SIDE * next],
        x[first + 5u * SIDE * next],
    ));
    leave(0u, t, made.a);
    leave(1u, t, made.b);
    leave(2u, t, made.c);
    leave(3u, t, made.d);
    workgroupBarrier();
    let row = t / ACROSS;
    if row >= OUT || o >= p.width {
        return;
    }
    let at = p.first_tile + tile;
    let image = at / (p.tiles_w * p.tiles_h);
    let i = at / p.tiles_w % p.tiles_h * OUT + row;
    let j = at % p.tiles_w * OUT;
    let out = transformed(found(t));
    store(image, i, j, o, out.a);
    store(image, i, j + 1u, o, out.b);
    store(image, i, j + 2u, o, out.c);
    store(image, i, j + 3u, o, out.d);
}

fn transformed(v: Six) -> Four {
    let near = v.b + v.c;
    let near_odd = A * (v.b - v.c);
    let far = v.d + v.e;
    let far_odd = B * (v.d - v.e);
    return Four(v.a + near + far, near_odd + far_odd, 0.5 * near + 2.0 * far, 0.5 * near_odd + 2.0 * far_odd + v.f);
}

fn store(image: u32, i: u32, j: u32, o: u32, v: vec4<f32>) {
    if image < p.images && i < p.out_h && j < p.out_w {
        let pixel = (image * p.out_h + i) * p.out_w + j;
        let four = p.first_output + o;
        y[pixel * p.outputs + four] = encode(epilogue(image, pixel, four, v));
    }
}
