// norm_scale: from the slabs' statistics to one scale and shift a channel, so that
// (x - mean) / sqrt(variance + epsilon) * weight + bias = x * scale + shift; the second third of a group norm.
// Slabs and channels are merged as Chan, Golub and LeVeque (1979) do: no cancellation.
// Grid: x = channels / 4, y = images.
// Twin: tests/twin/norm_scale.rs

struct Params {
    first: u32,
    images: u32,
    pixels: u32,
    channels: u32,
    group: u32,
    slabs: u32,
    slab: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> stats: array<vec4<f32>>;      // [images, slabs, channels, 2]
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;          // [2, channels]: weight, bias
@group(0) @binding(3) var<storage, read_write> affine: array<vec4<f32>>; // [images, channels, 2]: scale, shift

// `channels` counts fours, `group` single channels.
fn count(slab: u32) -> f32 {
    return f32(min(p.slab, p.pixels - slab * p.slab));
}

@compute @workgroup_size(64, 1)
fn norm_scale(@builtin(global_invocation_id) id: vec3<u32>) {
    let c4 = id.x;
    let image = id.y + p.first;
    if c4 >= p.channels || image >= p.images {
        return;
    }
    let total = f32(p.pixels * p.group);
    var mean = vec4<f32>();
    var deviation = vec4<f32>();
    for (var lane = 0u; lane < 4u; lane++) {
        let start = (c4 * 4u + lane) / p.group * p.group;
        if lane > 0u && (c4 * 4u + lane - 1u) / p.group * p.group == start {
            mean[lane] = mean[lane - 1u];
            deviation[lane] = deviation[lane - 1u];
            continue;
        }
        var m = 0.0;
        for (var slab = 0u; slab < p.slabs; slab++) {
            let row = (image * p.slabs + slab) * p.channels;
            for (var c = start; c < start + p.group; c++) {
                m += stats[(row + c / 4u) * 2u][c % 4u] * (count(slab) / total);
            }
        }
        var squares = 0.0;
        for (var slab = 0u; slab < p.slabs; slab++) {
            let row = (image * p.slabs + slab) * p.channels;
            for (var c = start; c < start + p.group; c++) {
                let d = stats[(row + c / 4u) * 2u][c % 4u] - m;
                squares += stats[(row + c / 4u) * 2u + 1u][c % 4u] + d * d * count(slab);
            }
        }
        mean[lane] = m;
        deviation[lane] = sqrt(squares / total + p.epsilon);
    }
    let scale = bitcast<vec4<f32>>(w[c4]) / deviation;
    affine[(image * p.channels + c4) * 2u] = scale;
    affine[(image * p.channels + c4) * 2u + 1u] = bitcast<vec4<f32>>(w[p.channels + c4]) - mean * scale;
}
