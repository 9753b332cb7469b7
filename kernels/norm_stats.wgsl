// norm_stats: mean and sum of squared deviations of every channel over one slab of pixels; the first
// third of a group norm. Per channel, not per group, since a group may cross the seam of a skip
// connection. Two passes over the slab, because E[x^2] - E[x]^2 cancels when the mean is large.
// Counts what is wrong with the values (lib/watch.wgsl).
// Grid: x = channels / 4, y = images * slabs.
// Twin: tests/twin/norm_stats.rs
//# use elem watch

struct Params {
    first: u32,
    images: u32,
    pixels: u32,
    channels1: u32,
    channels2: u32,
    slabs: u32,
    slab: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x1: array<Elem>;              // [images, pixels, channels1]
@group(0) @binding(2) var<storage, read> x2: array<Elem>;              // [images, pixels, channels2]
@group(0) @binding(3) var<storage, read_write> watch: array<atomic<u32>, 4>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec4<f32>>; // [images, slabs, channels, 2]

fn load(pixel: u32, c: u32) -> vec4<f32> {
    if c < p.channels1 {
        return decode(x1[pixel * p.channels1 + c]);
    }
    return decode(x2[pixel * p.channels2 + c - p.channels1]);
}

@compute @workgroup_size(8, 8)
fn norm_stats(@builtin(global_invocation_id) id: vec3<u32>) {
    let channels = p.channels1 + p.channels2;
    let c = id.x;
    let row = id.y + p.first;
    if c >= channels || row >= p.images * p.slabs {
        return;
    }
    let image = row / p.slabs;
    let begin = row % p.slabs * p.slab;
    let end = min(begin + p.slab, p.pixels);
    var sum = vec4<f32>();
    var worst = vec4<u32>();
    for (var i = begin; i < end; i++) {
        let v = load(image * p.pixels + i, c);
        sum += v;
        worst = max(worst, magnitude(v));
    }
    if faulty(worst) {
        var found = vec2<u32>();
        for (var i = begin; i < end; i++) {
            found += faults(magnitude(load(image * p.pixels + i, c)));
        }
        count_faults(found);
    }
    let mean = sum / f32(end - begin);
    var squares = vec4<f32>();
    for (var i = begin; i < end; i++) {
        let d = load(image * p.pixels + i, c) - mean;
        squares += d * d;
    }
    stats[(row * channels + c) * 2u] = mean;
    stats[(row * channels + c) * 2u + 1u] = squares;
}
