// matmul_tile: the product of matmul.wgsl, by workgroups whose threads share what they fetch.
// Grid: x = outputs / 64, y = rows / ROWS, counted in workgroups.
// Twin: tests/twin/matmul.rs
//# use elem matmul weight cell activation epilogue tile tile_blocks
//# const ROWS EACH

@compute @workgroup_size(THREADS)
fn matmul_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let o = group.x * OUT_VEC4S;
    let first = (group.y + p.first) * ROWS;
    let inputs = p.inputs1 + p.inputs2;
    locate(first, t, 0u, 0u);
    fetch_inputs(t, 0u);
    fetch_weights(t, 0u, o, 0u, inputs);
    for (var k = 0u; k < inputs; k += STEP) {
        share_inputs(t, k, inputs);
        share_weights(t);
        workgroupBarrier();
        fetch_inputs(t, k + STEP);
        fetch_weights(t, k + STEP, o, 0u, inputs);
        multiply_step(t);
        workgroupBarrier();
    }
    finish(t, first, o);
}

// Rows past the end repeat the last one and are not stored.
fn spot(row: u32, u: u32, v: u32) -> Spot {
    return Spot(min(row, p.rows - 1u), true);
}

fn store(row: u32, o: u32, acc0: vec4<f32>, acc1: vec4<f32>) {
    store_row(row, o, acc0, acc1);
}
