//! The plans of a model, from its configurations alone: what `tintype plan` prints and bench measures.

use super::{Job, Network, Networks, Request, denoise_plan, read_json, text_plan, vae_plan};
use crate::error::Result;
use crate::model::clip::{HiddenState, TextEncoder};
use crate::model::config::{ClipTextConfig, UnetConfig, VaeConfig};
use crate::model::unet::Unet;
use crate::plan::{Plan, Target};
use crate::quant::Format;
use crate::weights::{Declarations, Folder};

/// Of a prompt, when no text encoder says otherwise.
const CLIP_TOKENS: u32 = 77;

/// A network of a model, recorded for one picture.
pub struct Planned {
    pub name: &'static str,
    pub declarations: Declarations,
    pub plan: Plan,
}

/// The text encoders, the U-Net and the decoder of a folder in the diffusers layout, as far as it has them, for one
/// picture of `size` (width, height) without guidance.
pub async fn plans<F: Folder>(
    folder: &F,
    format: Format,
    target: &Target,
    size: [usize; 2],
) -> Result<Vec<Planned>> {
    let [unet, vae] = ["unet", "vae"].map(|c| format!("{c}/config.json"));
    let vae = VaeConfig::from_json(&read_json(folder, &vae).await?, &vae)?;
    let request = Request { size: Some(size), ..Request::new("", 0) };
    let [width, height] = request.size(0, vae.spatial_factor())?;
    let latent = [height, width].map(|s| (s / vae.spatial_factor()) as u32);
    let planned = |name, record: &dyn Fn(&mut Declarations) -> Plan| {
        let mut declarations = Declarations::new(format);
        let plan = record(&mut declarations);
        Planned { name, declarations, plan }
    };
    let mut all = vec![];
    let mut tokens = CLIP_TOKENS;
    let two = folder.read("text_encoder_2/config.json").await?.is_some();
    let state = if two { HiddenState::PENULTIMATE } else { HiddenState::LAST };
    for name in ["text_encoder", "text_encoder_2"] {
        let path = format!("{name}/config.json");
        let Some(json) = folder.read(&path).await? else { continue };
        let text = ClipTextConfig::from_json(&json, &path)?;
        tokens = text.max_position_embeddings as u32;
        all.push(planned(name, &|d| text_plan(&TextEncoder::declare(d, &text), target, 1, state)));
    }
    if let Some(json) = folder.read(&unet).await? {
        let unet = UnetConfig::from_json(&json, &unet)?;
        let job = Job { images: 1, guided: false, size: latent, tokens };
        all.push(planned("unet", &|d| {
            denoise_plan(&Networks::of(Unet::declare(d, &unet), unet.clone()), target, job)
        }));
    }
    all.push(planned("decoder", &|d| vae_plan(&Network::decoder(d, &vae), &vae, target, 1, latent)));
    Ok(all)
}
