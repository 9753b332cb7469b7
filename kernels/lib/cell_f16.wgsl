// What workgroup memory keeps of four channels: halves. Activations that are stored so and codes of
// q8 stay as they are; weights of q4 are rounded.
enable f16;

alias Cell = vec4<f16>;

fn narrow(v: vec4<f32>) -> Cell {
    return vec4<f16>(v);
}

fn widen(c: Cell) -> vec4<f32> {
    return vec4<f32>(c);
}
