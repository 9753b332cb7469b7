//! `tintype inspect`: what a .safetensors file is, from its header alone, and what of it would go unused.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tintype::error::Result;
use tintype::pipeline::{Described, ModelFiles, plans};
use tintype::plan::Target;
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::weights::{
    DiskFolder, Dtype, Header, Renamed, Sink, TensorInfo, addend, is_embedding, is_scale, kind,
};

use crate::model::split;
use crate::plan::{model_json, tell};

#[derive(Args)]
pub struct Options {
    /// A .safetensors file of any kind
    file: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// What a file is.
struct Found {
    kind: &'static str,
    /// In words.
    what: String,
    family: Option<String>,
    /// Tensors that nothing here reads; none of a kind whose tensors are not looked at one by one.
    unused: Option<Vec<String>>,
}

/// Names of as many unused tensors are printed.
const SHOWN: usize = 10;

pub async fn run(options: &Options) -> Result<bool> {
    let path = &options.file;
    let (folder, name) = split(path)?;
    let folder = DiskFolder::new(folder);
    let (header, described) = Described::read_with_header(&folder, name, &[]).await?;
    // What is no model at all is something else, what is one of another kind is known by its name.
    let model = described.ok().map(|described| ModelFiles::of_described(folder, described));
    let described = model.as_ref().and_then(ModelFiles::described);
    let found = match model.as_ref().zip(described) {
        Some((model, described)) => Found {
            kind: "checkpoint",
            what: format!("a checkpoint of {}", described.name()),
            family: Some(described.family.as_str().to_owned()),
            unused: Some(unread(&header, model, described).await?),
        },
        None => other(&header),
    };
    let bytes = header.data_len();
    if options.json {
        let mut value = json!({
            "file": path, "kind": found.kind, "what": found.what, "family": found.family,
            "tensors": header.tensors.len(), "bytes": bytes, "unused": found.unused,
        });
        if let Some(described) = described {
            value["model"] = model_json(described);
        }
        crate::say(value);
        return Ok(true);
    }
    let family =
        found.family.filter(|_| described.is_none()).map_or(String::new(), |family| format!(", {family}"));
    crate::say(format_args!(
        "{}{family}: {} tensors, {:.1} MB",
        found.what,
        header.tensors.len(),
        bytes as f64 / 1e6
    ));
    if let Some(described) = described {
        crate::say(tell(described));
        crate::warn(&described.file.warnings);
    }
    let Some(unused) = found.unused else {
        crate::say("unused: not looked at");
        return Ok(true);
    };
    crate::say(format_args!("unused: {}", unused.len()));
    unused.iter().take(SHOWN).for_each(|name| crate::say(format_args!("  {name}")));
    if unused.len() > SHOWN {
        crate::say(format_args!("  and {} more", unused.len() - SHOWN));
    }
    Ok(true)
}

/// Wants every tensor.
struct All;

impl Sink for All {
    fn wants(&mut self, _: &TensorInfo) -> Result<bool> {
        Ok(true)
    }

    fn slab(&mut self, _: &TensorInfo, _: usize, _: usize, _: &[f32]) -> Result<()> {
        Ok(())
    }
}

/// The tensors of a checkpoint that none of its networks declares.
async fn unread(
    header: &Header,
    model: &ModelFiles<DiskFolder>,
    described: &Described,
) -> Result<Vec<String>> {
    let target = Target::new(Elem::F16);
    let networks = plans(model, Format::F16, &target, [512, 512]).await?.networks;
    let mut unread: Vec<&TensorInfo> = header.tensors.iter().filter(|tensor| !marks(&tensor.name)).collect();
    for network in &networks {
        let Some(place) = described.file.place(network.component) else { continue };
        let mut all = All;
        let mut renamed = Renamed::new(&mut all, place, &network.declarations, 0);
        unread.retain(|tensor| !renamed.wants(tensor).unwrap_or(false));
    }
    Ok(unread.into_iter().map(|tensor| tensor.name.clone()).collect())
}

/// Tensors that say something by being there, or of the weights beside them.
fn marks(name: &str) -> bool {
    ["v_pred", "ztsnr", "global_step"].contains(&name) || is_scale(name)
}

/// What a file is that is no checkpoint.
fn other(header: &Header) -> Found {
    let has = |piece: &str| header.tensors.iter().any(|tensor| tensor.name.contains(piece));
    let found = |kind, what: &str| Found { kind, what: what.to_owned(), family: None, unused: None };
    if let Some((what, true)) = kind(header) {
        let kind = if what.starts_with("a ControlNet") { "controlnet" } else { "unsupported" };
        return Found { family: family_of(header), ..found(kind, what) };
    }
    if let Some(lora) = lora(header) {
        return lora;
    }
    if !header.tensors.is_empty()
        && header.tensors.iter().all(|t| t.dtype == Dtype::U8 && header.metadata.contains_key(&t.name))
    {
        return found("pack", "the weights of one network in a pack of Tintype's");
    }
    if let Some(embedding) = embedding(header) {
        return embedding;
    }
    for (piece, kind, what) in [
        ("image_proj.latents", "ip-adapter", "an IP-Adapter plus"),
        ("ip_adapter.", "ip-adapter", "an IP-Adapter"),
        ("controlnet_cond_embedding.", "controlnet", "a ControlNet in the diffusers layout"),
        ("adapter.body.", "adapter", "a T2I-Adapter in the diffusers layout"),
        ("body.0.", "adapter", "a T2I-Adapter under its original names"),
        ("concept_embeds", "network", "a safety checker"),
        ("vision_model.", "network", "an image encoder"),
        ("down_blocks.0.resnets.0.time_emb_proj.", "network", "a U-Net in the diffusers layout"),
        ("decoder.up_blocks.", "network", "an autoencoder in the diffusers layout"),
        ("decoder.layers.", "network", "a tiny autoencoder in the diffusers layout"),
        ("decoder.up.", "network", "an autoencoder under its original names"),
        ("text_model.", "network", "a text encoder"),
    ] {
        if has(piece) {
            return Found { family: family_of(header), ..found(kind, what) };
        }
    }
    let unused = header.tensors.iter().map(|tensor| tensor.name.clone()).collect();
    Found { unused: Some(unused), ..found("unknown", "no file that is known here") }
}

fn lora(header: &Header) -> Option<Found> {
    let (mut kinds, mut unused, mut refused) = (vec![], vec![], false);
    for tensor in &header.tensors {
        let Some((what, no)) = addend(&tensor.name) else {
            unused.push(tensor.name.clone());
            continue;
        };
        refused |= no;
        if !what.is_empty() && !kinds.contains(&what) {
            kinds.push(what);
        }
    }
    (!kinds.is_empty()).then(|| Found {
        kind: if refused { "unsupported" } else { "lora" },
        what: format!("a LoRA ({})", kinds.join(", ")),
        family: family_of(header),
        unused: (!refused).then_some(unused),
    })
}

fn embedding(header: &Header) -> Option<Found> {
    let learned = |t: &&TensorInfo| matches!(t.shape[..], [768 | 1024 | 1280] | [1..=77, 768 | 1024 | 1280]);
    let named: Vec<_> = header.tensors.iter().filter(|t| is_embedding(&t.name)).collect();
    let all =
        if named.is_empty() && header.tensors.len() == 1 { header.tensors.iter().collect() } else { named };
    let first = all.iter().copied().find(learned)?;
    let family = match all.iter().filter_map(|tensor| tensor.shape.last()).max() {
        Some(768) => "SD 1.x",
        Some(1024) => "SD 2.x",
        _ => "SDXL",
    };
    let vectors = if first.shape.len() == 1 { 1 } else { first.shape[0] };
    let unused = header.tensors.iter().filter(|t| !all.iter().any(|other| other.name == t.name));
    Some(Found {
        kind: "embedding",
        what: format!("a learned embedding of {vectors} vectors"),
        family: Some(family.to_owned()),
        unused: Some(unused.map(|tensor| tensor.name.clone()).collect()),
    })
}

/// The family that an addition is for: by the width of the text that its cross attention sees, by its second text encoder,
/// by the width of a text encoder, or as its metadata says.
fn family_of(header: &Header) -> Option<String> {
    let texts = header.tensors.iter().filter(|t| t.name.contains("attn2") && t.name.contains("to_k"));
    let inputs = texts.filter_map(|t| t.shape.get(1)).copied();
    let second =
        |t: &TensorInfo| ["lora_te2_", "text_encoder_2."].iter().any(|prefix| t.name.starts_with(prefix));
    let mut widths = inputs.chain(header.tensors.iter().filter(|t| second(t)).map(|_| 2048));
    let known = widths.find_map(|width| match width {
        768 => Some("SD 1.x"),
        1024 => Some("SD 2.x"),
        2048 => Some("SDXL"),
        _ => None,
    });
    let q_proj = header
        .tensors
        .iter()
        .find(|t| t.name.contains("q_proj") && t.shape.get(1).is_some_and(|w| *w >= 768));
    let known = known.or_else(|| match q_proj?.shape[1] {
        768 => Some("SD 1.x"),
        1024 => Some("SD 2.x"),
        _ => None,
    });
    let said =
        ["modelspec.architecture", "ss_base_model_version"].iter().find_map(|key| header.metadata.get(*key));
    known.map(str::to_owned).or_else(|| said.cloned())
}
