// Weights as signed bytes with one scale an output: w = scale * q. A block is 4 inputs x 4 outputs;
// column j holds the outputs of input j.
fn weight(block: u32) -> mat4x4<f32> {
    return unpack(fetch(block));
}

alias Packed = vec4<u32>;

fn fetch(block: u32) -> Packed {
    return w[block];
}

fn unpack(q: Packed) -> mat4x4<f32> {
    return mat4x4<f32>(
        vec4<f32>(unpack4xI8(q.x)),
        vec4<f32>(unpack4xI8(q.y)),
        vec4<f32>(unpack4xI8(q.z)),
        vec4<f32>(unpack4xI8(q.w)),
    );
}

// The factor of four neighbouring outputs; `at` is where the scales begin.
fn weight_scale(at: u32, output4: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(w[at + output4]);
}
