// What workgroup memory keeps of four channels: halves. Activations and codes that are stored in as few bits stay as they are.
enable f16;

alias Cell = vec4<f16>;

fn narrow(v: vec4<f32>) -> Cell {
    return vec4<f16>(v);
}

fn widen(c: Cell) -> vec4<f32> {
    return vec4<f32>(c);
}
