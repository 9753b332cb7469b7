//! Names of modules and parameters, as a checkpoint has them: dots between a path and what lies below it.

use std::fmt::Display;

pub trait At {
    /// The path of what is called so below this one: `"mid_block".at("resnets").at(0)` is `mid_block.resnets.0`.
    fn at(&self, name: impl Display) -> String;
}

impl At for str {
    fn at(&self, name: impl Display) -> String {
        format!("{self}.{name}")
    }
}
