// Weights as halves packed in words. A block is 4 inputs x 4 outputs; column j holds the outputs of input j.
fn weight(block: u32) -> mat4x4<f32> {
    return unpack(fetch(block));
}

struct Packed {
    a: vec4<u32>,
    b: vec4<u32>,
}

fn fetch(block: u32) -> Packed {
    return Packed(w[block * 2u], w[block * 2u + 1u]);
}

fn unpack(block: Packed) -> mat4x4<f32> {
    return mat4x4<f32>(
        vec4<f32>(unpack2x16float(block.a.x), unpack2x16float(block.a.y)),
        vec4<f32>(unpack2x16float(block.a.z), unpack2x16float(block.a.w)),
        vec4<f32>(unpack2x16float(block.b.x), unpack2x16float(block.b.y)),
        vec4<f32>(unpack2x16float(block.b.z), unpack2x16float(block.b.w)),
    );
}

// The factor of four neighbouring outputs; `at` is where the scales begin.
fn weight_scale(at: u32, output4: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}
