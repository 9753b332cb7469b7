// What a product does with its result: act((acc * scale + bias + add[image]) * gate[image] + residual[row]), where a vector
// of an image is `add` or, by its flag, `gate`.
const ADD: u32 = 1u;
const RESIDUAL: u32 = 2u;
const GATE: u32 = 8u;

// The result with the scale of its weights and the bias.
fn scaled(output4: u32, acc: vec4<f32>) -> vec4<f32> {
    return acc * weight_scale(p.scale_at, output4) + bitcast<vec4<f32>>(w[p.bias_at + output4]);
}

// `row` counts pixels of the output; all widths count groups of four channels.
fn epilogue(image: u32, row: u32, output4: u32, acc: vec4<f32>) -> vec4<f32> {
    var v = scaled(output4, acc);
    if (p.flags & ADD) != 0u {
        v += decode(add[image * p.add_stride + p.add_at + output4]);
    } else if (p.flags & GATE) != 0u {
        v *= decode(add[image * p.add_stride + p.add_at + output4]);
    }
    if (p.flags & RESIDUAL) != 0u {
        v += decode(residual[row * p.outputs + output4]);
    }
    return activate(p.activation, v);
}
