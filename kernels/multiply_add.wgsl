// multiply_add: y[r, i] = the sum of eight chains of v <- a v + b, ROUNDS long, that begin with x[r, i] + 0, 1, ... 7,
// in the arithmetic of the storage (f16 is computed in halves). Measures how fast a device computes: 2 * 4 * 8 *
// ROUNDS FLOPs for two values moved. a and b keep every chain near b / (1 - a) = 0.5.
// Grid: x = values, y = rows, one thread each.
// Twin: tests/twin/multiply_add.rs
//# use elem

const ROUNDS: u32 = 128u;

struct Params {
    first: u32,
    rows: u32,
    values: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [rows, values]
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;         // [rows, values]

@compute @workgroup_size(64)
fn multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y + p.first;
    if id.x >= p.values || row >= p.rows {
        return;
    }
    let a = Elem(0.75);
    let b = Elem(0.125);
    let v = x[row * p.values + id.x];
    var v0 = v;
    var v1 = v + Elem(1.0);
    var v2 = v + Elem(2.0);
    var v3 = v + Elem(3.0);
    var v4 = v + Elem(4.0);
    var v5 = v + Elem(5.0);
    var v6 = v + Elem(6.0);
    var v7 = v + Elem(7.0);
    for (var i = 0u; i < ROUNDS; i++) {
        v0 = fma(v0, a, b); v1 = fma(v1, a, b); v2 = fma(v2, a, b); v3 = fma(v3, a, b);
        v4 = fma(v4, a, b); v5 = fma(v5, a, b); v6 = fma(v6, a, b); v7 = fma(v7, a, b);
    }
    y[row * p.values + id.x] = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7));
}
