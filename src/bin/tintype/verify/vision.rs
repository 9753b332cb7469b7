//! Networks that look at images: CLIP's image encoder, IP-Adapter's projection, the safety checker.

use serde_json::Value;
use tintype::device::{Session, Weights};
use tintype::error::Result;
use tintype::host::Cancel;
use tintype::image::Picture;
use tintype::model::config::IpAdapterConfig;
use tintype::model::ip_adapter::ImageProjection;
use tintype::pipeline::{Encoded, SafetyPart, VisionPart};
use tintype::plan::Recorder;
use tintype::weights::{Checkpoint, Declarations, DiskFolder, Hooks};

use super::{Bench, Check};
use crate::picture::read_image;

/// Where the IP-Adapter and its encoder lie below the models, and the image that they see: the case of the
/// embeddings names neither.
const IP_ADAPTER: &str = "extras/ip-adapter";
const PICTURE: &str = "ref/inputs/clip_image.png";

pub async fn image_encoder(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let (folder, component) = bench.component(case)?;
    let part = load(bench, &DiskFolder::new(&folder), component).await?;
    let pixels = part.pixels(&picture(bench, case["image"].as_str().unwrap_or(PICTURE))?);
    let got = encode(bench, &part, &pixels).await?;
    let check =
        |name: &str, got: &[f32]| -> Result<Check> { Ok(Check::new(name, got, &reference.nhwc(name)?)) };
    Ok(vec![
        check("pixel_values", &pixels)?,
        check("last_hidden_state", &got.last_hidden_state)?,
        check("penultimate", &got.penultimate)?,
        check("image_embeds", &got.image_embeds)?,
    ])
}

pub async fn ip_adapter_embeds(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let folder = DiskFolder::new(bench.root.join("models").join(IP_ADAPTER));
    let part = load(bench, &folder, "image_encoder").await?;
    let (kind, picture) = (IpAdapterConfig::Plain, picture(bench, PICTURE)?);
    let encode = async |pixels: &[f32]| encode(bench, &part, pixels).await;
    let seen = part.prompt(&picture, kind, true, encode).await?;
    let width = reference.shape("projected")?.last().copied().unwrap_or(0) as u32;

    let mut d = Declarations::new(bench.load.weights);
    let projection = ImageProjection::declare(&mut d, width, kind, &part.encoder.config);
    let checkpoint = Checkpoint::new(&folder, "", "ip-adapter");
    let weights = Weights::load(&bench.device, &d, &[checkpoint], Hooks::NONE).await?;
    let mut r = Recorder::new(&bench.target);
    r.section("projection");
    let x = r.input("image_embeds", projection.shape(1), bench.target.elem);
    let tokens = projection.record(&mut r, x, None);
    r.output("projected", tokens);
    let session = Session::new(r.finish(), &weights).await?;
    session.write("image_embeds", &seen.positive);
    session.run("projection", &Cancel::default(), &|_| {}).await?;
    let projected = session.read("projected").await?;

    Ok(vec![
        Check::new("image_embeds", &seen.positive, &reference.f32("image_embeds")?),
        Check::new("negative", &seen.negative, &reference.f32("negative")?),
        Check::new("projected", &projected, &reference.f32("projected")?),
    ])
}

pub async fn safety_checker(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let (folder, component) = bench.component(case)?;
    let folder = DiskFolder::new(&folder);
    let part = SafetyPart::load(
        &bench.device,
        &folder,
        component,
        "feature_extractor",
        bench.load.weights,
        Hooks::NONE,
    )
    .await?;
    let pixels = reference.nhwc("clip_input")?;
    let encoded = encode(bench, &part.vision, &pixels).await?;
    let verdicts = part.verdicts(&encoded.image_embeds);
    let concepts: Vec<f32> = verdicts.iter().flat_map(|v| &v.concepts).map(|c| c.cosine).collect();
    let special: Vec<f32> = verdicts.iter().flat_map(|v| &v.special_care).map(|c| c.cosine).collect();
    let wanted = reference.f64("has_nsfw")?;
    let wrong = verdicts.iter().zip(wanted).filter(|(v, want)| v.flagged != (**want != 0.0)).count();
    let missing = wanted.len().abs_diff(verdicts.len());
    Ok(vec![
        Check::new("image_embeds", &encoded.image_embeds, &reference.f32("image_embeds")?),
        Check::new("special_cos", &special, &reference.f32("special_cos")?),
        Check::new("cos", &concepts, &reference.f32("cos")?),
        Check::below("images with another verdict", (wrong + missing) as f64, 0.0),
    ])
}

async fn load(bench: &Bench, folder: &DiskFolder, component: &str) -> Result<VisionPart> {
    let (format, processor) = (bench.load.weights, "feature_extractor");
    VisionPart::load(&bench.device, folder, component, processor, format, Hooks::NONE).await
}

async fn encode(bench: &Bench, part: &VisionPart, pixels: &[f32]) -> Result<Encoded> {
    let plan = part.plan(&bench.target, pixels)?;
    part.encode(plan, pixels, &Cancel::default()).await
}

/// A PNG below the reference set.
pub fn picture(bench: &Bench, path: &str) -> Result<Picture> {
    read_image(&bench.root.join(path))
}
