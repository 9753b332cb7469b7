// Weights as 32-bit floats. A block is 4 inputs x 4 outputs; column j holds the outputs of input j.
fn weight(block: u32) -> mat4x4<f32> {
    let i = block * 4u;
    return mat4x4<f32>(
        bitcast<vec4<f32>>(w[i]),
        bitcast<vec4<f32>>(w[i + 1u]),
        bitcast<vec4<f32>>(w[i + 2u]),
        bitcast<vec4<f32>>(w[i + 3u]),
    );
}

// The factor of four neighbouring outputs; `at` is where the scales begin.
fn weight_scale(at: u32, output4: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}
