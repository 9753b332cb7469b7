// Activations stored as halves, four channels an element; needs the feature shader-f16.
enable f16;

alias Elem = vec4<f16>;

fn decode(e: Elem) -> vec4<f32> {
    return vec4<f32>(e);
}

// Clamped, because an overflow to infinity would spread over the whole picture.
fn encode(v: vec4<f32>) -> Elem {
    return vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}
