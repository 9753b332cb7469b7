// step: one step of any scheduler, in f32. With m the model output (under guidance m = u + g * (c - u),
// u the first half of the batch, c the second):
//   x0 = clamp(a * x + b * m, -clip, clip)      x' = c * x0 + d * x + e * x0_before + f * noise
// Grid: x = 1, y = elements of x.
// Twin: tests/twin/step.rs
//# use elem

const GUIDED: u32 = 1u;

struct Params {
    first: u32,
    count: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> coefficients: array<vec4<f32>>; // [2]: a, b, clip, g; c, d, e, f
@group(0) @binding(2) var<storage, read> model: array<Elem>;           // [count] or [2 * count]
@group(0) @binding(3) var<storage, read> noise: array<vec4<f32>>;      // [count]
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;    // [count]
@group(0) @binding(5) var<storage, read_write> x0: array<vec4<f32>>;   // [count]

@compute @workgroup_size(1, 64)
fn step(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y + p.first;
    if id.x > 0u || i >= p.count {
        return;
    }
    let k = coefficients[0];
    let l = coefficients[1];
    var m = decode(model[i]);
    if (p.flags & GUIDED) != 0u {
        m += k.w * (decode(model[p.count + i]) - m);
    }
    let sample = x[i];
    let clean = clamp(k.x * sample + k.y * m, vec4<f32>(-k.z), vec4<f32>(k.z));
    x[i] = l.x * clean + l.y * sample + l.z * x0[i] + l.w * noise[i];
    x0[i] = clean;
}
