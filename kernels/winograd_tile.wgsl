// winograd_tile: the products of a 3x3 convolution whose inputs and weights are transformed, one for each of the 36 elements
// of a tile.
// Grid: x = outputs / 64, y = 36 x tiles of the band / ROWS, counted in workgroups.
// Twin: tests/twin/conv.rs
//# use elem cell tile tile_rows
//# const ROWS EACH

struct Params {
    first: u32,
    // Tiles of the band.
    rows: u32,
    // Groups of four channels: of inputs, with none of a second one, and of outputs.
    inputs1: u32,
    inputs2: u32,
    outputs: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x1: array<Elem>;              // [36, rows, inputs1]
@group(0) @binding(2) var<storage, read> x2: array<Elem>;
@group(0) @binding(3) var<storage, read> w: array<vec4<f32>>;          // [36, inputs1 * 4, outputs]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;    // [36, rows, outputs]

// Which of the 36 this workgroup makes.
var<private> element: u32;

@compute @workgroup_size(THREADS)
fn winograd_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let groups = (p.rows + ROWS - 1u) / ROWS;
    element = (group.y + p.first) / groups;
    let first = (group.y + p.first) % groups * ROWS;
    let o = group.x * OUT_VEC4S;
    let weights = element * p.inputs1 * 4u;
    locate(first, t, 0u, 0u);
    fetch_inputs(t, 0u);
    fetch_weights(t, 0u, o, weights, p.inputs1);
    for (var k = 0u; k < p.inputs1; k += STEP) {
        share_inputs(t, k, p.inputs1);
        share_weights(t);
        workgroupBarrier();
        fetch_inputs(t, k + STEP);
        fetch_weights(t, k + STEP, o, weights, p.inputs1);
        multiply_step(t);
        workgroupBarrier();
    }
    finish(t, first, o);
}

// Rows past the end repeat the last one and are not stored.
fn spot(row: u32, u: u32, v: u32) -> Spot {
    return Spot(element * p.rows + min(row, p.rows - 1u), true);
}

fn store(row: u32, o: u32, acc0: vec4<f32>, acc1: vec4<f32>) {
    store_four(row, o, acc0);
    store_four(row, o + 1u, acc1);
}

fn store_four(row: u32, o: u32, acc: vec4<f32>) {
    if row < p.rows && o < p.outputs {
        y[(element * p.rows + row) * p.outputs + o] = acc;
    }
}
