//! Where the components of a model are in a single file, and the tensors there by their original names.

use super::original::Names;
use super::safetensors::Header;

/// Where a component is in a single file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// diffusers' name of the component.
    pub component: &'static str,
    /// What the names of its tensors begin with.
    pub prefix: &'static str,
    pub names: Names,
    /// Averages of the weights, which are kept under names without dots.
    pub flat: bool,
    /// How far the first blocks of two levels of a U-Net are apart, where that shows: files that were pruned in place
    /// keep the numbers of the whole.
    pub stride: Option<usize>,
}

/// Every place that a component may have, with a tensor below the prefix by which it is known: the first counts.
const PLACES: [(&str, &str, Names, &str); 11] = [
    ("unet", "model.diffusion_model.", Names::Unet, "input_blocks.0.0.weight"),
    ("unet", "model_ema.diffusion_model.", Names::Unet, "input_blocks.0.0.weight"),
    ("unet", FLAT, Names::Unet, "input_blocks.0.0.weight"),
    // A U-Net alone. Nothing comes out of a ControlNet.
    ("unet", "", Names::Unet, "out.2.weight"),
    ("vae", "first_stage_model.", Names::Vae, "decoder.conv_in.weight"),
    ("vae", "vae.", Names::Vae, "decoder.conv_in.weight"),
    ("text_encoder", "cond_stage_model.transformer.", Names::Clip, "text_model.final_layer_norm.weight"),
    ("text_encoder", "cond_stage_model.transformer.", Names::Clip, "final_layer_norm.weight"),
    ("text_encoder", "cond_stage_model.model.", Names::OpenClip, "ln_final.weight"),
    (
        "text_encoder",
        "conditioner.embedders.0.transformer.",
        Names::Clip,
        "text_model.final_layer_norm.weight",
    ),
    ("text_encoder_2", "conditioner.embedders.1.model.", Names::OpenClip, "ln_final.weight"),
];

const FLAT: &str = "model_ema.diffusion_model";

/// The components that a single file holds.
pub fn places(header: &Header) -> Vec<Place> {
    let mut found = Vec::<Place>::new();
    for (component, prefix, names, known) in PLACES {
        let mut place = Place { component, prefix, names, flat: prefix == FLAT, stride: None };
        if place.shape(header, known).is_none() || found.iter().any(|other| other.component == component) {
            continue;
        }
        let first = |at: &usize| place.shape(header, &format!("input_blocks.{at}.0.op.weight")).is_some();
        place.stride = (names == Names::Unet).then(|| (1..16).find(first)).flatten();
        found.push(place);
    }
    found
}

impl Place {
    /// The name in the file of a tensor.
    pub fn name(&self, original: &str) -> String {
        let original = if self.flat { &original.replace('.', "") } else { original };
        format!("{}{original}", self.prefix)
    }

    /// The shape of a tensor, if the file has it.
    #[inline(never)]
    pub fn shape<'a>(&self, header: &'a Header, original: &str) -> Option<&'a [usize]> {
        let name = self.name(original);
        header.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| &tensor.shape[..])
    }
}

/// What a file without a model of ours is, by a piece of a tensor's name that no other kind has; and whether that tells
/// even of a file that looks like a model. The first counts.
const KINDS: [(&str, &str, bool); 16] = [
    ("conditioner.embedders.0.model.", "the refiner of SDXL", true),
    ("edm_mean", "Playground v2.5", true),
    ("edm_vpred.sigma_max", "a model of the EDM kind", true),
    ("joint_blocks.0.", "SD 3", true),
    ("double_blocks.0.", "FLUX or a relative of it", true),
    ("control_model.", "a ControlNet under its original names", true),
    ("input_hint_block.0.", "a ControlNet under its original names", true),
    ("controlnet_cond_embedding.", "a ControlNet", false),
    ("lora_", "a LoRA", false),
    ("lokr_", "a LoKr", false),
    ("hada_", "a LoHa", false),
    ("ip_adapter.", "an IP-Adapter", false),
    ("emb_params", "a learned embedding", false),
    ("down_blocks.0.", "one network of a folder in the diffusers layout", false),
    ("decoder.", "an autoencoder alone", false),
    ("text_model.", "a text encoder alone", false),
];

/// What a file is that is no model, and whether that is certain.
pub fn kind(header: &Header) -> Option<(&'static str, bool)> {
    let has = |piece: &str| header.tensors.iter().any(|tensor| tensor.name.contains(piece));
    KINDS.iter().find(|(piece, ..)| has(piece)).map(|&(_, what, certain)| (what, certain))
}
