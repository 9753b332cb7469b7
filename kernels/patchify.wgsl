// patchify: squares of pixels side by side on channels, in the order row, column, channel; or back.
// y[n, i, j, (u, v, c)] = x[n, i size + u, j size + v, c]; back: x and y change places.
// Shortcuts around changes of size take channels in the order channel, row, column:
// means: y[n, i, j, o] = the mean over t below `ratio` of s[o ratio + t], where s[(c, u, v)] = x[n, i size + u, j size + v, c];
// repeated: y[n, i size + u, j size + v, c] = x[n, i, j, (c, u, v) / ratio].
// Grid: x = channels of a row of squares, y = rows of squares of all images. A thread makes one vec4.
// Twin: tests/twin/patchify.rs
//# use elem

const BACK: u32 = 1u;
const MEANS: u32 = 2u;
const REPEATED: u32 = 4u;

// `channels` counts fours, of a pixel, and `wide` of a square where that has not all channels of its pixels; `across` squares.
struct Params {
    first: u32,
    rows: u32,
    across: u32,
    size: u32,
    channels: u32,
    wide: u32,
    ratio: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [rows, size, across, size, channels]
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;         // [rows, across, size, size, channels]

@compute @workgroup_size(64)
fn patchify(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y + p.first;
    if row >= p.rows {
        return;
    }
    if (p.flags & MEANS) != 0u {
        if id.x < p.across * p.wide {
            y[row * p.across * p.wide + id.x] = encode(means(row, id.x / p.wide, id.x % p.wide));
        }
        return;
    }
    let square = p.size * p.size * p.channels;
    if id.x >= p.across * square {
        return;
    }
    let c = id.x % p.channels;
    let v = id.x / p.channels % p.size;
    let u = id.x / (p.channels * p.size) % p.size;
    let j = id.x / square;
    let of_square = row * p.across * square + id.x;
    let of_pixel = (((row * p.size + u) * p.across + j) * p.size + v) * p.channels + c;
    if (p.flags & REPEATED) != 0u {
        let from_x = (row * p.across + j) * p.wide;
        let place = u * p.size + v;
        let each = p.size * p.size;
        y[of_pixel] = encode(vec4<f32>(
            lane(from_x, (4u * c * each + place) / p.ratio),
            lane(from_x, ((4u * c + 1u) * each + place) / p.ratio),
            lane(from_x, ((4u * c + 2u) * each + place) / p.ratio),
            lane(from_x, ((4u * c + 3u) * each + place) / p.ratio),
        ));
    } else if (p.flags & BACK) != 0u {
        y[of_pixel] = x[of_square];
    } else {
        y[of_square] = x[of_pixel];
    }
}

// Channel `c` of what begins here.
fn lane(at: u32, c: u32) -> f32 {
    return decode(x[at + c / 4u])[c % 4u];
}

// The value of a square, its channels in the order channel, row, column.
fn spread(row: u32, j: u32, m: u32) -> f32 {
    let u = m / p.size % p.size;
    let v = m % p.size;
    return lane((((row * p.size + u) * p.across + j) * p.size + v) * p.channels, m / (p.size * p.size));
}

fn means(row: u32, j: u32, o: u32) -> vec4<f32> {
    var sum = vec4<f32>();
    for (var t = 0u; t < p.ratio; t++) {
        let m = 4u * o * p.ratio + t;
        sum += vec4<f32>(
            spread(row, j, m), spread(row, j, m + p.ratio),
            spread(row, j, m + 2u * p.ratio), spread(row, j, m + 3u * p.ratio),
        );
    }
    return sum / f32(p.ratio);
}
