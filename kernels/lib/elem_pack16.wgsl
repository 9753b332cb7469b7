// Activations stored as halves packed in words: for the many devices without shader-f16.
alias Elem = vec2<u32>;

fn decode(e: Elem) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(e.x), unpack2x16float(e.y));
}

// Clamped, because packing a value out of range is indeterminate.
fn encode(v: vec4<f32>) -> Elem {
    let c = clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    return vec2<u32>(pack2x16float(c.xy), pack2x16float(c.zw));
}
