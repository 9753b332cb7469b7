//! Files of one network, whose tensors must all be known: another one would make another network of it.

use super::{Count, Names, Place, Renamed};
use crate::error::{Error, Result};
use crate::safetensors::{Header, TensorInfo};
use crate::scaled::is_scale;

impl Place {
    /// A network of its own in a file.
    pub const fn of_network(component: &'static str, prefix: &'static str, names: Names) -> Place {
        Place { component, prefix, names, flat: false, stride: None }
    }

    /// The shape of the tensor that we call so, unless its original number depends on others.
    pub fn shape_of<'h>(&self, header: &'h Header, ours: &str) -> Option<&'h [usize]> {
        let (original, _) = self.names.original(ours, Count::of([].into_iter())).into_iter().next()?;
        self.shape(header, &original)
    }

    fn whole(self) -> bool {
        matches!(self.names, Names::ControlNet { .. } | Names::T2iAdapter { .. } | Names::Ours)
    }
}

impl Renamed<'_> {
    /// A tensor that nothing here is called like: of whole networks there is none, below the prefix.
    pub(super) fn unknown(&mut self, info: &TensorInfo) -> Result<bool> {
        let Place { component, prefix, .. } = self.place;
        if !info.name.starts_with(prefix) || is_scale(&info.name) {
            return Ok(false);
        }
        if self.place.whole() {
            return Err(Error::unsupported(format!(
                "tensor {} is none of the {component} that this model's U-Net takes",
                info.name
            )));
        }
        self.unknown.push(info.name.clone());
        Ok(false)
    }

    /// After the file: every tensor of a whole network must have come. What is lacking is called as in the file.
    pub fn finish(&self, path: &str) -> Result<()> {
        let Place { component, .. } = self.place;
        let absent: Vec<&String> =
            self.table.keys().filter(|name| !self.wanted.contains_key(*name)).collect();
        match absent.iter().min().filter(|_| self.place.whole()) {
            None => Ok(()),
            Some(first) => Err(Error::model(format!(
                "{path}: the {component} lacks {} of the tensors that this model's U-Net wants, one is {first}",
                absent.len()
            ))),
        }
    }
}
