// copy: y[r, y_at + i] = x[r, x_at + i]. Joins and cuts sequences, and measures how fast a device moves memory.
// Grid: x = values, y = rows, one thread each.
// Twin: tests/twin/copy.rs
//# use elem

struct Params {
    first: u32,
    rows: u32,
    values: u32,
    x_at: u32,
    x_stride: u32,
    y_at: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [rows, x_stride]
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;         // [rows, y_stride]

@compute @workgroup_size(64)
fn copy(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y + p.first;
    if id.x < p.values && row < p.rows {
        y[row * p.y_stride + p.y_at + id.x] = x[row * p.x_stride + p.x_at + id.x];
    }
}
