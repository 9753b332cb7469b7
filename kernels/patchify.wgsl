// patchify: squares of pixels side by side on channels, in the order row, column, channel; or back.
// y[n, i, j, (u, v, c)] = x[n, i size + u, j size + v, c]; back: x and y change places.
// Grid: x = channels of a row of squares, y = rows of squares of all images. A thread copies one vec4.
// Twin: tests/twin/patchify.rs
//# use elem

const BACK: u32 = 1u;

// `channels` counts fours, of a pixel; `across` squares.
struct Params {
    first: u32,
    rows: u32,
    across: u32,
    size: u32,
    channels: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [rows, size, across, size, channels]
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;         // [rows, across, size, size, channels]

@compute @workgroup_size(64)
fn patchify(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y + p.first;
    let square = p.size * p.size * p.channels;
    if id.x >= p.across * square || row >= p.rows {
        return;
    }
    let c = id.x % p.channels;
    let v = id.x / p.channels % p.size;
    let u = id.x / (p.channels * p.size) % p.size;
    let j = id.x / square;
    let of_square = row * p.across * square + id.x;
    let of_pixel = (((row * p.size + u) * p.across + j) * p.size + v) * p.channels + c;
    if (p.flags & BACK) != 0u {
        y[of_pixel] = x[of_square];
    } else {
        y[of_square] = x[of_pixel];
    }
}
