//! Linear layers, also several of them fused into one matrix.

use crate::plan::Tensor;
use crate::plan::ops::{Activation, Epilogue, Matmul};
use crate::weights::{Columns, Declarations, Part, Rows, Weight, weight_and_bias};

#[derive(Clone, Copy, Debug)]
pub struct Linear {
    weight: Weight,
    pub outputs: u32,
    gate: Option<Activation>,
    model_weights: u64,
}

impl Linear {
    /// `path.weight` `[outputs, inputs]` and, if it has one, `path.bias`.
    pub fn declare(d: &mut Declarations, path: &str, inputs: u32, outputs: u32, bias: bool) -> Linear {
        let parts = weight_and_bias(
            path,
            vec![outputs as usize, inputs as usize],
            bias,
            Rows::From(0),
            Columns::Same,
        );
        Linear::fused(d, inputs, outputs, parts)
    }

    /// A projection to 2 x `outputs` whose second half gates the first (GEGLU).
    pub fn geglu(d: &mut Declarations, path: &str, inputs: u32, outputs: u32) -> Linear {
        assert!(outputs.is_multiple_of(4), "GEGLU of {outputs}: values and gates alternate by four");
        let rows = Rows::Geglu { outputs };
        let parts =
            weight_and_bias(path, vec![2 * outputs as usize, inputs as usize], true, rows, Columns::Same);
        Linear::fused(d, inputs, 2 * outputs, parts).gated(Activation::Gelu)
    }

    /// One matrix of `inputs` (with any padding of the parts) to `outputs`, made of these parts.
    pub fn fused(d: &mut Declarations, inputs: u32, outputs: u32, parts: Vec<Part>) -> Linear {
        let weights = parts.iter().filter(|p| p.shape.len() > 1);
        let model_weights = weights.map(Part::values).sum();
        Linear { weight: d.matrix(outputs, inputs, 1, parts), outputs, gate: None, model_weights }
    }

    /// Outputs are values and gates, alternating by four ([`Rows::Fours`]), and make half as many: `value * act(gate)`.
    pub fn gated(self, activation: Activation) -> Linear {
        Linear { gate: Some(activation), ..self }
    }

    /// `[.., inputs] -> [.., outputs]`, ready to be given an epilogue and recorded.
    pub fn of(&self, x: Tensor) -> Matmul {
        Matmul {
            weight: self.weight,
            x,
            x2: None,
            epilogue: Epilogue::default(),
            gate: self.gate,
            outputs: self.outputs,
            model_weights: self.model_weights,
        }
    }
}
