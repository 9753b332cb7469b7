//! Whose module a tensor is, by each naming, and what it is of that module.
//!
//! Training scripts of kohya's kind write `lora_unet_` and the path with underscores, which cannot be split again;
//! diffusers and peft write `unet.` and the path; old diffusers files name an attention's processor. Here a path is
//! kept with underscores in every case.

use super::delta::KINDS;
use super::difference;
use crate::error::{Error, Result};

/// What a tensor of a file is.
pub enum Found {
    /// The component, the path with underscores, and which part of this module.
    Part(&'static str, String, &'static str),
    /// Of no LoRA.
    Unknown,
}

/// What the names of a component's modules begin with.
const PREFIXES: [(&str, &str); 18] = [
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("lycoris_unet_", "unet"),
    ("lycoris_te1_", "text_encoder"),
    ("lycoris_te2_", "text_encoder_2"),
    ("lycoris_te_", "text_encoder"),
    ("lycoris_", "unet"),
    ("unet.", "unet"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("diffusion_model.", "unet"),
    ("model.diffusion_model.", "unet"),
    ("text_encoders.clip_l.transformer.", "text_encoder"),
    ("text_encoders.clip_h.transformer.", "text_encoder"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2"),
    ("text_encoders.", "text_encoder"),
];

/// What peft puts before the path.
const PEFT: &str = "base_model.model.";

/// What all kinds have.
const ENDS: [(&str, &str); 9] = [
    ("_lora.alpha", "alpha"),
    (".alpha", "alpha"),
    (".dora_scale", "dora_scale"),
    (".lora_magnitude_vector", "lora_magnitude_vector"),
    (".lora_magnitude_vector.weight", "lora_magnitude_vector"),
    (".diff_b", "diff_b"),
    (".b_norm", "diff_b"),
    (".lora_B.bias", "bias"),
    (".lora_up.bias", "bias"),
];

/// What the tensors of kinds that are not supported have in their names.
const OTHERS: [(&str, &str); 17] = [
    (".oft_", "OFT"),
    (".boft_", "BOFT"),
    (".rescale", "OFT"),
    (".a1.weight", "GLoRA"),
    (".a2.weight", "GLoRA"),
    (".b1.weight", "GLoRA"),
    (".b2.weight", "GLoRA"),
    (".on_input", "IA3"),
    (".ia3_", "IA3"),
    (".vera_", "VeRA"),
    (".lora_E", "AdaLoRA"),
    (".hra_", "HRA"),
    (".lora_embedding_", "LoRA of an embedding"),
    (".lokr_t1", "LoKr with two cores"),
    (".set_weight", "a weight in another's place"),
    (".reshape_weight", "a weight of another shape"),
    ("lora_controlnet", "Control-LoRA"),
];

/// Errors: `Unsupported` for a relative of LoRA that is none of [`KINDS`].
pub fn split(name: &str) -> Result<Found> {
    if let Some(kind) = other(name) {
        return Err(Error::unsupported(format!(
            "{name}: this is of {kind}; supported are LoRA, LoHa, LoKr, DoRA and differences"
        )));
    }
    let name = without_adapter(name);
    let all = KINDS.iter().flat_map(|kind| kind.ends).chain(&ENDS);
    let Some((module, part)) = all.into_iter().find_map(|(end, part)| Some((name.strip_suffix(end)?, *part)))
    else {
        return Ok(Found::Unknown);
    };
    let module = module.strip_prefix(PEFT).unwrap_or(module);
    let prefix = PREFIXES.iter().find_map(|(prefix, c)| Some((module.strip_prefix(prefix)?, *c)));
    let (path, component) = prefix.unwrap_or_else(|| (module, bare(module)));
    let path = path.strip_prefix(PEFT).unwrap_or(path);
    let path = path.replace(".processor", "").replace(".lora", "").replace('.', "_");
    Ok(Found::Part(component, today(component, path), part))
}

fn other(name: &str) -> Option<&'static str> {
    OTHERS.iter().find(|(word, _)| name.contains(word)).map(|(_, kind)| *kind)
}

/// Which relative of LoRA a tensor belongs to, "" where all have such a one, and whether a file with it is refused; none
/// where no LoRA has it.
pub fn addend(name: &str) -> Option<(&'static str, bool)> {
    let plain = without_adapter(name);
    let part = |ends: &[(&str, &'static str)]| {
        ends.iter().find(|(end, _)| plain.ends_with(end)).map(|(_, part)| *part)
    };
    let own = || KINDS.iter().find(|kind| part(kind.ends).is_some()).map(|kind| kind.what);
    let common = || match part(&ENDS)? {
        "dora_scale" | "lora_magnitude_vector" => Some("DoRA"),
        "diff_b" => Some(difference::KIND.what),
        _ => Some(""),
    };
    let refused = other(name).map(|what| (what, true));
    refused.or_else(|| Some((own().or_else(common)?, false)))
}

/// The first files of diffusers were for the U-Net alone and did not say so; nor does peft say of which network a file
/// is.
fn bare(module: &str) -> &'static str {
    let text = ["text_model.", "encoder.layers.", "text_projection"];
    if text.iter().any(|begin| module.starts_with(begin)) { "text_encoder" } else { "unet" }
}

/// peft puts an adapter's name between a matrix and its `weight`, or behind lengths.
fn without_adapter(name: &str) -> String {
    const LENGTHS: &str = ".lora_magnitude_vector.";
    for matrix in [".lora_A.", ".lora_B.", LENGTHS] {
        let Some((module, rest)) = name.split_once(matrix) else { continue };
        return match rest.rsplit('.').next() {
            Some(part @ ("weight" | "bias")) => format!("{module}{matrix}{part}"),
            _ if matrix == LENGTHS => format!("{module}{matrix}weight"),
            _ => name.to_owned(),
        };
    }
    name.strip_suffix(".default").unwrap_or(name).to_owned()
}

/// Attention processors called every network's projections alike, and the output without its index.
fn today(component: &str, path: String) -> String {
    let Some((attention, projection)) = path.rsplit_once("_to_") else { return path };
    let names: &[(&str, &str)] = match component {
        "unet" => &[("out", "to_out_0")],
        _ => &[("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("out", "out_proj"), ("out_0", "out_proj")],
    };
    match names.iter().find(|(old, _)| *old == projection) {
        Some((_, new)) => format!("{attention}_{new}"),
        None => path,
    }
}
