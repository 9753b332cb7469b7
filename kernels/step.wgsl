// step: one step of any scheduler, in f32. With m the model output (under guidance m = u + g * (c - u),
// u the first half of the batch, c the second) and b1, b2, b3 the predictions of earlier steps:
//   p = clamp(a * x + b * m, -clip, clip)
//   x' = c * p + d * x + e * m + f * noise + g1 * b1 + g2 * b2 + g3 * b3
// Before that, if s is not 0, the prediction of the step before becomes b1, b1 becomes b2, b2 becomes b3.
// Counts what is wrong with the model output (lib/watch.wgsl).
// Grid: x = 1, y = elements of x.
// Twin: tests/twin/step.rs
//# use elem watch

const GUIDED: u32 = 1u;

struct Params {
    first: u32,
    count: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> coefficients: array<vec4<f32>>; // [3]: a b clip g, c d e f, g1 g2 g3 s
@group(0) @binding(2) var<storage, read> model: array<Elem>;              // [count] or [2 * count]
@group(0) @binding(3) var<storage, read> noise: array<vec4<f32>>;         // [count]
@group(0) @binding(4) var<storage, read_write> watch: array<atomic<u32>, 4>;
@group(0) @binding(5) var<storage, read_write> x: array<vec4<f32>>;       // [count]
@group(0) @binding(6) var<storage, read_write> predictions: array<vec4<f32>>; // [4 * count]: p, b1, b2, b3

@compute @workgroup_size(1, 64)
fn step(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y + p.first;
    if id.x > 0u || i >= p.count {
        return;
    }
    let k = coefficients[0];
    let l = coefficients[1];
    let before = coefficients[2];
    var m = decode(model[i]);
    var found = faults(magnitude(m));
    if (p.flags & GUIDED) != 0u {
        let prompted = decode(model[p.count + i]);
        found += faults(magnitude(prompted));
        m += k.w * (prompted - m);
    }
    count_faults(found);
    let at = vec3<u32>(1u, 2u, 3u) * p.count + i;
    if before.w != 0.0 {
        predictions[at.z] = predictions[at.y];
        predictions[at.y] = predictions[at.x];
        predictions[at.x] = predictions[i];
    }
    let sample = x[i];
    let predicted = clamp(k.x * sample + k.y * m, vec4<f32>(-k.z), vec4<f32>(k.z));
    let now = l.x * predicted + l.y * sample + l.z * m + l.w * noise[i];
    x[i] = now + before.x * predictions[at.x] + before.y * predictions[at.y] + before.z * predictions[at.z];
    predictions[i] = predicted;
}
