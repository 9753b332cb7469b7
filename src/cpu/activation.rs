//! kernels/lib/activation.wgsl on the CPU.

/// Applies the activation of this number (`ops::Activation`) to every value.
pub fn activate(kind: u32, values: &mut [f32]) {
    let f: fn(f32) -> f32 = match kind {
        1 => |v| v * sigmoid(v),
        2 => gelu,
        3 => |v| v * sigmoid(1.702 * v),
        // What is not a number stays so.
        4 => |v| if v <= 0.0 { 0.0 } else { v },
        5 => |v| 3.0 * (v / 3.0).tanh(),
        6 => |v| 2.0 * v - 1.0,
        7 => |v| 0.5 * v * (1.0 + (0.797_884_6 * (v + 0.044715 * v * v * v)).tanh()),
        _ => return,
    };
    values.iter_mut().for_each(|v| *v = f(*v));
}

fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + (-v).exp())
}

pub fn gelu(v: f32) -> f32 {
    0.5 * v * (1.0 + libm::erff(v * std::f32::consts::FRAC_1_SQRT_2))
}
