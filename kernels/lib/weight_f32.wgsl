// Weights as 32-bit floats. A block is 4 inputs x 4 outputs; column j holds the outputs of input j.
fn weight(block: u32) -> mat4x4<f32> {
    return unpack(fetch(block));
}

struct Packed {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn fetch(block: u32) -> Packed {
    let i = block * 4u;
    return Packed(w[i], w[i + 1u], w[i + 2u], w[i + 3u]);
}

fn unpack(block: Packed) -> mat4x4<f32> {
    return mat4x4<f32>(
        bitcast<vec4<f32>>(block.a),
        bitcast<vec4<f32>>(block.b),
        bitcast<vec4<f32>>(block.c),
        bitcast<vec4<f32>>(block.d),
    );
}

// The factor of four neighbouring outputs; `at` is where the scales begin.
fn weight_scale(at: u32, output4: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}
