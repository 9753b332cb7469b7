// Activations stored as 32-bit floats, four channels an element.
alias Elem = vec4<f32>;

fn decode(e: Elem) -> vec4<f32> {
    return e;
}

fn encode(v: vec4<f32>) -> Elem {
    return v;
}
