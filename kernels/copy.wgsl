// copy: y[r, at + i] = x[r, i]. Joins sequences, and measures how fast a device moves memory.
// Grid: x = values, y = rows, one thread each.
// Twin: tests/twin/copy.rs
//# use elem

struct Params {
    first: u32,
    rows: u32,
    values: u32,
    at: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [rows, values]
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;         // [rows, stride]

@compute @workgroup_size(64)
fn copy(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y + p.first;
    if id.x < p.values && row < p.rows {
        y[row * p.stride + p.at + id.x] = x[row * p.values + id.x];
    }
}
