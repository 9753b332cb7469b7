// Activations stored as halves packed in words: for the many devices without shader-f16.
alias Elem = vec2<u32>;
// The bits of a magnitude from which on a value counts as wrong: 65504, the largest half.
const CLAMP: u32 = 0x477fe000u;

fn decode(e: Elem) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(e.x), unpack2x16float(e.y));
}

// Clamped, because packing a value out of range is indeterminate. What is not a number stays so, where a device's clamp
// may make a bound of it: by bits, as a compiler may assume that there is none.
fn encode(v: vec4<f32>) -> Elem {
    let c = clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0));
    let number = (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) <= vec4<u32>(0x7f800000u);
    // All bits of the exponent and one of the fraction, of the lower half of a word and of the higher.
    let nan = select(vec4<u32>(0x7e00u, 0x7e000000u, 0x7e00u, 0x7e000000u), vec4<u32>(), number);
    return vec2<u32>(pack2x16float(c.xy), pack2x16float(c.zw)) | nan.xz | nan.yw;
}
