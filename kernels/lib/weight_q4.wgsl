// Weights as codes of 4 bits with a scale for each 32 inputs of an output: w = scale * (code - 8). A block is
// 4 inputs x 4 outputs; column j holds the outputs of input j. Sixteen blocks of codes, then their scales.
fn weight(block: u32) -> mat4x4<f32> {
    return unpack(fetch(block));
}

struct Packed {
    codes: vec2<u32>,
    scales: vec2<u32>,
}

fn fetch(block: u32) -> Packed {
    let first = block / 16u * 9u;
    let codes = w[first + block % 16u / 2u];
    let scales = w[first + 8u];
    return Packed(
        select(codes.xy, codes.zw, block % 2u == 1u),
        select(scales.xy, scales.zw, block % 16u >= 8u),
    );
}

fn unpack(block: Packed) -> mat4x4<f32> {
    let scale = vec4<f32>(unpack2x16float(block.scales.x), unpack2x16float(block.scales.y));
    let low = block.codes & vec2<u32>(0x0f0f0f0fu);
    let high = (block.codes >> vec2<u32>(4u)) & vec2<u32>(0x0f0f0f0fu);
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
