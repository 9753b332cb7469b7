// image: rgba8 pixels from a decoder's output: round(clamp(x / 2 + 0.5, 0, 1) * 255), half to even, opaque.
// Counts what is wrong with the values (lib/watch.wgsl).
// Grid: x = 1, y = pixels.
// Twin: tests/twin/image.rs
//# use elem watch

struct Params {
    first: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [pixels, 4], three channels used
@group(0) @binding(2) var<storage, read_write> watch: array<atomic<u32>, 4>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;          // [pixels]

@compute @workgroup_size(1, 64)
fn image(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y + p.first;
    if id.x > 0u || i >= p.pixels {
        return;
    }
    let v = decode(x[i]);
    count_faults(faults(magnitude(v)));
    let level = vec3<u32>(round(clamp(v.xyz / 2.0 + 0.5, vec3<f32>(), vec3<f32>(1.0)) * 255.0));
    y[i] = level.x | (level.y << 8u) | (level.z << 16u) | 0xff000000u;
}
