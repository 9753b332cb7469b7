// Weights as codes of 4 bits with a scale for each 32 inputs of an output: w = scale * (code - 8). A block is
// 4 inputs x 4 outputs; column j holds the outputs of input j. Sixteen blocks of codes, then their scales.
fn weight(block: u32) -> mat4x4<f32> {
    let first = block / 16u * 9u;
    let codes = w[first + block % 16u / 2u];
    let scales = w[first + 8u];
    let q = select(codes.xy, codes.zw, block % 2u == 1u);
    let s = select(scales.xy, scales.zw, block % 16u >= 8u);
    let scale = vec4<f32>(unpack2x16float(s.x), unpack2x16float(s.y));
    let low = q & vec2<u32>(0x0f0f0f0fu);
    let high = (q >> vec2<u32>(4u)) & vec2<u32>(0x0f0f0f0fu);
    return mat4x4<f32>(
        (vec4<f32>(unpack4xU8(low.x)) - 8.0) * scale,
        (vec4<f32>(unpack4xU8(high.x)) - 8.0) * scale,
        (vec4<f32>(unpack4xU8(low.y)) - 8.0) * scale,
        (vec4<f32>(unpack4xU8(high.y)) - 8.0) * scale,
    );
}

// The factor of four neighbouring outputs; `at` is where the scales begin.
fn weight_scale(at: u32, output4: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}
