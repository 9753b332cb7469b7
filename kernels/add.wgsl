// add: y[n, i] = a[n, i] + k[n] * b[n, i], with k[n] the first number of scales[n, slot]: what another
// network adds inside a U-Net, scaled for each image. One b may do for all of them.
// Grid: x = 1, y = elements of y.
// Twin: tests/twin/add.rs
//# use elem

struct Params {
    first: u32,
    total: u32,
    image: u32,
    count: u32,
    slots: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> scales: array<vec4<f32>>;     // [images, slots]
@group(0) @binding(2) var<storage, read> a: array<Elem>;               // [images, image]
@group(0) @binding(3) var<storage, read> b: array<Elem>;               // [count]: [images, image] or [1, image]
@group(0) @binding(4) var<storage, read_write> y: array<Elem>;         // [images, image]

@compute @workgroup_size(1, 64)
fn add(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y + p.first;
    if id.x > 0u || i >= p.total {
        return;
    }
    let k = scales[i / p.image * p.slots + p.slot].x;
    y[i] = encode(decode(a[i]) + k * decode(b[i % p.count]));
}
