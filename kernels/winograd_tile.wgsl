// winograd_tile: the products of a 3x3 convolution whose inputs and weights are transformed, one for each of the 36 elements
// of a tile.
// Grid: x = outputs / 64, y = 36 x tiles of the band / ROWS, counted in workgroups.
// Twin: tests/twin/conv.rs
//# use elem weight cell tile
//# const ROWS EACH

struct Params {
    first: u32,
    // Tiles of the band.
    rows: u32,
    // Groups of four channels: of inputs, with none of a second one, of outputs, of those of all elements together.
    inputs1: u32,
    inputs2: u32,
    width: u32,
    outputs: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x1: array<Elem>;              // [36, rows, inputs1]
@group(0) @binding(2) var<storage, read> x2: array<Elem>;
@group(0) @binding(3) var<storage, read> w: array<vec4<u32>>;          // [36, width, inputs1] blocks
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;    // [36, rows, width]

// Which of the 36 this workgroup makes.
var<private> element: u32;

@compute @workgroup_size(THREADS)
fn winograd_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let groups = (p.rows + ROWS - 1u) / ROWS;
    element = (group.y + p.first) / groups;
    let first = (group.y + p.first) % groups * ROWS;
    let o = group.x * OUT_VEC4S;
    let weights = element * p.width + o;
    locate(first, t, 0u, 0u);
    fetch_step(t, 0u, weights, 0u, p.inputs1);
    for (var k = 0u; k < p.inputs1; k += STEP) {
        share_step(t, k, p.inputs1);
        workgroupBarrier();
        fetch_step(t, k + STEP, weights, 0u, p.inputs1);
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
    if row < p.rows && o < p.width {
        y[(element * p.rows + row) * p.width + o] = acc;
    }
}
