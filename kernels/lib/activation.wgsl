// Activations, applied to four channels. The numbers are those of `Activation` in crates/graph/src/plan/ops.rs.

// exp, clamped so that no driver reaches infinity.
fn safe_exp(v: vec4<f32>) -> vec4<f32> {
    return exp(clamp(v, vec4<f32>(-87.0), vec4<f32>(88.0)));
}

fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + safe_exp(-v));
}

fn silu(v: vec4<f32>) -> vec4<f32> {
    return v * sigmoid(v);
}

// tanh written out: the built-in one is off by 1e-4 on some drivers. Near zero 1 - exp(-2a) cancels,
// so small arguments take the odd series a - a^3/3 + 2a^5/15 - 17a^7/315.
fn precise_tanh(v: vec4<f32>) -> vec4<f32> {
    let a = abs(v);
    let e = safe_exp(-2.0 * a);
    let s = a * a;
    let small = a * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 - s * (17.0 / 315.0))));
    return sign(v) * select((1.0 - e) / (1.0 + e), small, a < vec4<f32>(0.15));
}

// erf by Abramowitz and Stegun 7.1.26 is off by 1.5e-7, too much after cancellation near zero; so the
// odd Taylor series below 1 (terms to x^19, remainder under 1e-8) and 1 - tail above it.
fn erf(v: vec4<f32>) -> vec4<f32> {
    let a = abs(v);
    let s = a * a;
    var p = vec4<f32>(-1.0 / 6894720.0);
    p = p * s + 1.0 / 685440.0;
    p = p * s - 1.0 / 75600.0;
    p = p * s + 1.0 / 9360.0;
    p = p * s - 1.0 / 1320.0;
    p = p * s + 1.0 / 216.0;
    p = p * s - 1.0 / 42.0;
    p = p * s + 1.0 / 10.0;
    p = p * s - 1.0 / 3.0;
    p = p * s + 1.0;
    let series = 1.1283791670955126 * a * p;
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let q = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    let tail = 1.0 - q * safe_exp(-s);
    return sign(v) * select(tail, series, a < vec4<f32>(1.0));
}

fn gelu(v: vec4<f32>) -> vec4<f32> {
    return 0.5 * v * (1.0 + erf(v * 0.7071067811865476));
}

// What is not a number stays so, where a maximum may make zero of it: bits of negative numbers lie between two bounds.
fn relu(v: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(v);
    let negative = bits - vec4<u32>(0x80000000u) <= vec4<u32>(0x7f800000u);
    return select(v, vec4<f32>(), negative);
}

fn activate(kind: u32, v: vec4<f32>) -> vec4<f32> {
    switch kind {
        case 1u: { return silu(v); }
        case 2u: { return gelu(v); }
        case 3u: { return v * sigmoid(1.702 * v); }
        case 4u: { return relu(v); }
        case 5u: { return 3.0 * precise_tanh(v / 3.0); }
        case 6u: { return 2.0 * v - 1.0; }
        case 7u: { return 0.5 * v * (1.0 + precise_tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))); }
        case 8u: {
            // What is not a number stays so: the clamp of the exponential would make one of it.
            let number = (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) <= vec4<u32>(0x7f800000u);
            return select(v, precise_tanh(v), number);
        }
        default: { return v; }
    }
}
