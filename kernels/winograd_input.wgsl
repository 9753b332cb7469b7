// winograd_input: tiles of 6x6 inputs of a 3x3 convolution as the products of winograd_tile.wgsl take them. Tiles overlap by
// two; the input may be seen through a nearest upsample, as in conv.wgsl.
// Grid: x = inputs / 64, y = tiles of the band, counted in workgroups.
// Twin: tests/twin/conv.rs
//# use elem winograd

struct Params {
    first: u32,
    images: u32,
    in_h: u32,
    in_w: u32,
    virtual_h: u32,
    virtual_w: u32,
    ratio_h: f32,
    ratio_w: f32,
    // Groups of four channels.
    inputs1: u32,
    inputs2: u32,
    // Tiles of a row and of a column of an image.
    tiles_w: u32,
    tiles_h: u32,
    // The first tile of the band, and how many tiles it has.
    first_tile: u32,
    tiles: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x1: array<Elem>;              // [images, in_h, in_w, inputs1]
@group(0) @binding(2) var<storage, read> x2: array<Elem>;              // [images, in_h, in_w, inputs2]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;    // [36, tiles, inputs]

@compute @workgroup_size(THREADS)
fn winograd_input(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let c = group.x * ACROSS + t % ACROSS;
    let tile = group.y + p.first;
    let at = p.first_tile + tile;
    let image = min(at / (p.tiles_w * p.tiles_h), p.images - 1u);
    let i = at / p.tiles_w % p.tiles_h * OUT;
    // Unsigned on purpose: an index left of or above the image wraps to a huge number.
    let j = at % p.tiles_w * OUT + t / ACROSS - 1u;
    let made = transformed(Six(
        pixel(image, i - 1u, j, c),
        pixel(image, i, j, c),
        pixel(image, i + 1u, j, c),
        pixel(image, i + 2u, j, c),
        pixel(image, i + 3u, j, c),
        pixel(image, i + 4u, j, c),
    ));
    leave(0u, t, made.a);
    leave(1u, t, made.b);
    leave(2u, t, made.c);
    leave(3u, t, made.d);
    leave(4u, t, made.e);
    leave(5u, t, made.f);
    workgroupBarrier();
    let inputs = p.inputs1 + p.inputs2;
    if c >= inputs {
        return;
    }
    let out = transformed(found(t));
    let next = p.tiles * inputs;
    let first = t / ACROSS * SIDE * next + tile * inputs + c;
    y[first] = out.a;
    y[first + next] = out.b;
    y[first + 2u * next] = out.c;
    y[first + 3u * next] = out.d;
    y[first + 4u * next] = out.e;
    y[first + 5u * next] = out.f;
}

fn pixel(image: u32, row: u32, column: u32, c: u32) -> vec4<f32> {
    if row >= p.virtual_h || column >= p.virtual_w || c >= p.inputs1 + p.inputs2 {
        return vec4<f32>();
    }
    let i = min(u32(f32(row) * p.ratio_h), p.in_h - 1u);
    let j = min(u32(f32(column) * p.ratio_w), p.in_w - 1u);
    let at = (image * p.in_h + i) * p.in_w + j;
    if c < p.inputs1 {
        return decode(x1[at * p.inputs1 + c]);
    }
    return decode(x2[at * p.inputs2 + c - p.inputs1]);
}

fn transformed(v: Six) -> Six {
    let near = v.e - 2.0 * v.c;
    let near_odd = A * (v.d - 2.0 * v.b);
    let far = v.e - 0.5 * v.c;
    let far_odd = B * (v.d - 0.5 * v.b);
    return Six(
        v.a - 2.5 * v.c + v.e,
        near + near_odd,
        near - near_odd,
        far + far_odd,
        far - far_odd,
        v.b - 2.5 * v.d + v.f,
    );
}
