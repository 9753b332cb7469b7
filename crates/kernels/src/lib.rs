//! The table of compiled kernels, written by build.rs from `kernels/variants.txt`.
//!
//! A [`Variant`] is a kernel with its slots filled: which library stores activations (`elem`), which
//! unpacks weights (`weight`), and its constants. [`find`] names one; [`Variant::source`] links its WGSL.

mod link;

/// One compiled form of a kernel.
#[derive(Debug)]
pub struct Variant {
    /// File, entry point, host function and twin all have this name.
    pub kernel: &'static str,
    /// The values of its slots and constants, joined by dots: "f32.q8.3".
    pub name: &'static str,
    pub workgroup: [u32; 3],
    /// What each binding after the uniform `Params` is, in order.
    pub bindings: &'static [Access],
    /// Size of `Params` in bytes.
    pub params_size: usize,
    pub needs_f16: bool,
    text: &'static str,
    libraries: &'static [&'static str],
    constants: &'static [(&'static str, u32)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

impl Variant {
    /// The values of the kernel's constants, in the order of their names in its file.
    pub fn constants(&self) -> &'static [(&'static str, u32)] {
        self.constants
    }

    /// The value of one of its constants, if it has that.
    pub fn find_constant(&self, name: &str) -> Option<u32> {
        self.constants.iter().find(|(constant, _)| *constant == name).map(|(_, value)| *value)
    }

    /// The value of one of its constants. An unknown one is a mistake of ours.
    pub fn constant(&self, name: &str) -> u32 {
        let found = self.find_constant(name);
        found.unwrap_or_else(|| panic!("kernels/{}.wgsl has no constant {name}", self.kernel))
    }

    /// The WGSL that the driver compiles.
    pub fn source(&self) -> String {
        link::link(self.text, self.libraries, self.constants)
    }
}

/// Where a variant stands in [`VARIANTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VariantId(pub usize);

impl VariantId {
    pub fn get(self) -> &'static Variant {
        &VARIANTS[self.0]
    }
}

/// The variant of `kernel` called `name`. An unknown one is a mistake of ours.
pub fn find(kernel: &str, name: &str) -> VariantId {
    let at = VARIANTS.iter().position(|v| v.kernel == kernel && v.name == name);
    VariantId(at.unwrap_or_else(|| panic!("kernels/variants.txt has no {kernel} {name}")))
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_few() {
        assert!(VARIANTS.len() <= 220, "{} variants", VARIANTS.len());
    }

    #[test]
    fn every_kernel_file_is_in_the_table() {
        for entry in std::fs::read_dir("../../kernels").unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "wgsl") {
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                assert!(VARIANTS.iter().any(|v| v.kernel == name), "{name} is compiled nowhere");
            }
        }
    }
}
