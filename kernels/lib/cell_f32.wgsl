// What workgroup memory keeps of four channels: floats as they are.
alias Cell = vec4<f32>;

fn narrow(v: vec4<f32>) -> Cell {
    return v;
}

fn widen(c: Cell) -> vec4<f32> {
    return c;
}
