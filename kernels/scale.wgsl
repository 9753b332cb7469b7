// scale: y[i] = act(a * x[i mod count] + b): latents and images on their way into a network. The input
// is always f32; a batch is repeated when y is longer (both halves of classifier-free guidance).
// Grid: x = 1, y = elements of y. a and b come in a buffer, as they change from step to step.
// Twin: tests/twin/scale.rs
//# use elem activation

struct Params {
    first: u32,
    count: u32,
    total: u32,
    channels: u32,
    last: u32,
    activation: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;          // [count], the last dimension padded to fours
@group(0) @binding(2) var<storage, read> coefficients: array<vec4<f32>>; // [1]: a, b
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;         // [total]

@compute @workgroup_size(1, 64)
fn scale(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y + p.first;
    if id.x > 0u || i >= p.total {
        return;
    }
    let ab = coefficients[0];
    // Padding stays zero: a row has `channels` fours, of which the last one holds `last` channels.
    let width = select(4u, p.last, i % p.channels == p.channels - 1u);
    let real = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(width);
    let v = activate(p.activation, ab.x * x[i % p.count] + ab.y);
    y[i] = encode(select(vec4<f32>(), v, real));
}
