// What workgroup memory keeps of four channels: halves packed in words. Activations that are stored so and codes of
// q8 stay as they are; weights of q4 are rounded.
alias Cell = vec2<u32>;

fn narrow(v: vec4<f32>) -> Cell {
    return vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
}

fn widen(c: Cell) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(c.x), unpack2x16float(c.y));
}
