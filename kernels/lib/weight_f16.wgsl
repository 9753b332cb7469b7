// Weights as halves packed in words. A block is 4 inputs x 4 outputs; column j holds the outputs of input j.
fn weight(block: u32) -> mat4x4<f32> {
    let a = w[block * 2u];
    let b = w[block * 2u + 1u];
    return mat4x4<f32>(
        vec4<f32>(unpack2x16float(a.x), unpack2x16float(a.y)),
        vec4<f32>(unpack2x16float(a.z), unpack2x16float(a.w)),
        vec4<f32>(unpack2x16float(b.x), unpack2x16float(b.y)),
        vec4<f32>(unpack2x16float(b.z), unpack2x16float(b.w)),
    );
}

// The factor of four neighbouring outputs; `at` is where the scales begin.
fn weight_scale(at: u32, output4: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}
