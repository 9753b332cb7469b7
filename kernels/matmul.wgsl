// matmul: y[r, o] = act((sum over k of x[r, k] * W[k, o] + bias[o] + add[n, o]) * gate[n, o] + residual[r, o])
// with x = [x1, x2] side by side, W = scale * stored, n = r / rows_per_image; also 1x1 convolutions.
// Gated: outputs come in pairs of four, value then gate, and y = value * act(gate) is half as wide.
// Grid: x = outputs / (4 FOURS), y = rows / (4 QUADS). A thread makes a block in registers, no barriers.
// Twin: tests/twin/matmul.rs
//# use elem matmul weight activation epilogue block

// Rows of a quad.
alias Place = vec4<u32>;

@compute @workgroup_size(ACROSS, DOWN)
fn matmul(@builtin(global_invocation_id) id: vec3<u32>) {
    let o = id.x * FOURS;
    let quad = (id.y + p.first) * QUADS;
    if o >= p.outputs || quad * 4u >= p.rows {
        return;
    }
    let inputs = p.inputs1 + p.inputs2;
    let w = o * inputs;
    begin(o, inputs);
    locate(quad, 0u, 0u);
    for (var k = 0u; k < p.inputs1; k++) {
        accumulate1(k, w + k);
    }
    for (var k = 0u; k < p.inputs2; k++) {
        accumulate2(k, w + p.inputs1 + k);
    }
    finish(quad, o);
}

// Rows past the end repeat the last one and are not stored.
fn place(quad: u32, u: u32, v: u32) -> Place {
    let row = quad * 4u;
    return min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(p.rows - 1u));
}

fn load1(r: Place, k: u32) -> mat4x4<f32> {
    let at = r * p.inputs1 + k;
    return mat4x4<f32>(decode(x1[at.x]), decode(x1[at.y]), decode(x1[at.z]), decode(x1[at.w]));
}

fn load2(r: Place, k: u32) -> mat4x4<f32> {
    let at = r * p.inputs2 + k;
    return mat4x4<f32>(decode(x2[at.x]), decode(x2[at.y]), decode(x2[at.z]), decode(x2[at.w]));
}

// Eight outputs of a quad, which a gated product needs side by side.
fn store(quad: u32, o: u32, acc0: mat4x4<f32>, acc1: mat4x4<f32>) {
    store_row(quad * 4u, o, acc0[0], acc1[0]);
    store_row(quad * 4u + 1u, o, acc0[1], acc1[1]);
    store_row(quad * 4u + 2u, o, acc0[2], acc1[2]);
    store_row(quad * 4u + 3u, o, acc0[3], acc1[3]);
}
