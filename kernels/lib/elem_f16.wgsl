// Activations stored as halves, four channels an element; needs the feature shader-f16.
enable f16;

alias Elem = vec4<f16>;
// The bits of a magnitude from which on a value counts as wrong: 65504, the largest half.
const CLAMP: u32 = 0x477fe000u;

fn decode(e: Elem) -> vec4<f32> {
    return vec4<f32>(e);
}

// Clamped, because an overflow to infinity would spread over the whole image. What is not a number stays so, where a
// device's clamp may make a bound of it: by bits, as a compiler may assume that there is none.
fn encode(v: vec4<f32>) -> Elem {
    let bits = bitcast<vec4<u32>>(v);
    let clamped = bitcast<vec4<u32>>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
    let number = (bits & vec4<u32>(0x7fffffffu)) <= vec4<u32>(0x7f800000u);
    return vec4<f16>(bitcast<vec4<f32>>(select(bits, clamped, number)));
}
