//! Where the tensors of one network are, and what is added to them on the way to their handles.

use std::collections::HashSet;

use super::declare::{Declarations, Handle};
use super::fill::Filler;
use super::lora::Adapter;
use super::merge::Merge;
use super::original::Renamed;
use super::pack::{Manifest, fill_packed};
use super::piece::Piece;
use super::place::Place;
use super::source::Folder;
use super::stream::{Hooks, stream, stream_file};
use crate::error::{Code, Error, Result};
use crate::warning::{Topic, Warning};

/// The tensors of one network.
pub struct Checkpoint<'a> {
    pub folder: &'a dyn Folder,
    /// What diffusers calls the network: "unet", "vae", "text_encoder", "text_encoder_2". Says which modules
    /// of a LoRA are meant.
    pub component: &'a str,
    pub files: Files<'a>,
    /// Added to the weights while they stream, in this order.
    pub loras: &'a [Adapter<'a>],
}

/// The files of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub enum Files<'a> {
    /// diffusers' layout: `stem` and its variants in the folder of the component ("" for the folder
    /// itself), as [`stream()`] looks for them.
    Folder { stem: &'a str },
    /// One file that holds a whole model under the names of the original code.
    Single { path: &'a str, place: Place },
    /// The packed weights of the component.
    Pack(&'a Manifest),
}

impl<'a> Checkpoint<'a> {
    /// A component in the diffusers layout, or in the file that stands for the folder.
    pub fn new(folder: &'a dyn Folder, component: &'a str, stem: &'a str) -> Self {
        let single = folder.single().and_then(|file| Some((file, file.place(component)?)));
        match single {
            Some((file, place)) => Self::single(folder, &file.path, place),
            None => Checkpoint { folder, component, files: Files::Folder { stem }, loras: &[] },
        }
    }

    /// A component in a single file ([`super::places`]).
    pub fn single(folder: &'a dyn Folder, path: &'a str, place: Place) -> Self {
        Checkpoint { folder, component: place.component, files: Files::Single { path, place }, loras: &[] }
    }

    /// A component of a pack.
    pub fn packed(folder: &'a dyn Folder, component: &'a str, manifest: &'a Manifest) -> Self {
        Checkpoint { folder, component, files: Files::Pack(manifest), loras: &[] }
    }

    pub fn with_loras(self, loras: &'a [Adapter<'a>]) -> Self {
        Checkpoint { loras, ..self }
    }

    /// The handles of a source that the LoRAs are for: what must be read again when a scale changes.
    pub fn touched(&self, declarations: &Declarations, source: usize) -> Result<HashSet<Handle>> {
        Ok(Merge::new(declarations, source, self.component, self.loras)?.handles().collect())
    }

    /// Streams the checkpoint into the handles of a source, or into those of them that are in `only`, and
    /// hands out their blobs in pieces.
    pub async fn fill(
        &self,
        declarations: &Declarations,
        source: usize,
        only: Option<&HashSet<Handle>>,
        hooks: Hooks<'_>,
        upload: &mut dyn FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        if let Files::Pack(manifest) = self.files {
            if !self.loras.is_empty() {
                return Err(Error::unsupported(format!(
                    "{}: LoRAs are merged into the weights of a checkpoint; those of a pack are stored already",
                    self.folder.describe()
                )));
            }
            return fill_packed(self.folder, manifest, self.component, declarations, hooks, upload).await;
        }
        // Whoever reads a part again was told before.
        let hooks = if only.is_some() { Hooks { warn: &|_| {}, ..hooks } } else { hooks };
        // What is merged belongs to this load alone.
        let keeping = hooks.keeping.filter(|_| source == 0 && only.is_none() && self.loras.is_empty());
        let kept = keeping.map(|keeping| keeping.weights(self.component, declarations));
        let mut pass = |piece: Piece<'_>| {
            if let Some(kept) = &kept {
                kept.write(piece);
            }
            upload(piece)
        };
        let mut merge = Merge::new(declarations, source, self.component, self.loras)?;
        std::mem::take(&mut merge.warnings).into_iter().for_each(hooks.warn);
        let mut filler = Filler::new(declarations, source, &mut pass).merging(merge);
        if let Some(handles) = only {
            filler = filler.only(handles);
        }
        match self.files {
            Files::Folder { stem } => {
                stream(self.folder, self.component, stem, &mut filler, hooks).await?;
                filler.finish(self.component)?;
            }
            Files::Single { path, place } => {
                let mut renamed = Renamed::new(&mut filler, place, declarations, source);
                stream_file(self.folder, path, &mut renamed, hooks).await?;
                // Text encoders and autoencoders have parts that are never read; a U-Net has none.
                if let (Some(first), false, "unet") =
                    (renamed.unknown.first(), place.prefix.is_empty(), self.component)
                {
                    let count = renamed.unknown.len();
                    (hooks.warn)(Warning::new(
                        Topic::Unused,
                        format!(
                            "{path}: tensors of the U-Net that nothing here uses: {count}, the first is {first}"
                        ),
                    ));
                }
                renamed.finish(path)?;
                filler.finish(self.component).map_err(|e| match e.code {
                    Code::InvalidModel => Error::model(format!("{path}: {}", e.message)),
                    _ => e,
                })?;
            }
            Files::Pack(_) => unreachable!("filled above"),
        }
        if let Some(kept) = kept {
            kept.end();
        }
        Ok(())
    }
}
