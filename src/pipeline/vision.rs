//! Images to image embeddings, and the safety checker's verdict on them.

use super::read_json;
use crate::device::{Device, Session, Weights};
use crate::error::{Error, Result};
use crate::host::Cancel;
use crate::image::{Filter, Picture};
use crate::model::clip_vision::ImageEncoder;
use crate::model::config::{ClipImageConfig, ClipVisionConfig, IpAdapterConfig};
use crate::plan::{Faults, Plan, Recorder, Target};
use crate::quant::Format;
use crate::shape::Elem;
use crate::weights::{Checkpoint, Declarations, Folder, Handle, Hooks, join};

/// An image encoder, and what it wants of an image.
pub struct VisionPart {
    pub encoder: ImageEncoder,
    pub processor: ClipImageConfig,
    weights: Weights,
}

/// What an image encoder makes of N images.
pub struct Encoded {
    /// `[N, tokens, hidden_size]`, the class token first.
    pub last_hidden_state: Vec<f32>,
    /// Hidden states before the last layer, `[N, tokens, hidden_size]`.
    pub penultimate: Vec<f32>,
    /// `[N, projection_dim]`.
    pub image_embeds: Vec<f32>,
    /// What was wrong with the values that the network made, and how many were looked at.
    pub faults: Faults,
    pub looked_at: u64,
}

impl VisionPart {
    /// A `CLIPVisionModelWithProjection` in `component`. `processor` is the folder of its
    /// preprocessor_config.json; without such a file the encoder's own size decides.
    pub async fn load(
        device: &Device,
        folder: &dyn Folder,
        component: &str,
        processor: &str,
        format: Format,
        hooks: Hooks<'_>,
    ) -> Result<VisionPart> {
        let path = join(component, "config.json");
        let config = ClipVisionConfig::from_json(&read_json(folder, &path).await?, &path)?;
        let processor = read_processor(folder, processor, &config).await?;
        let mut d = Declarations::new(format);
        let encoder = ImageEncoder::declare(&mut d, "vision_model", &config);
        let checkpoint = Checkpoint::new(folder, component, "model");
        let weights = Weights::load(device, &d, &[checkpoint], hooks).await?;
        Ok(VisionPart { encoder, processor, weights })
    }

    /// What the encoder sees of an image, `[image_size, image_size, 3]`.
    pub fn pixels(&self, picture: &Picture) -> Vec<f32> {
        clip_pixels(picture, &self.processor)
    }

    fn count(&self, pixels: &[f32]) -> usize {
        pixels.len() / (self.encoder.config.image_size.pow(2) * 3)
    }

    /// The plan for images of [`Self::pixels`], one behind the other, which the device can hold.
    pub fn plan(&self, target: &Target, pixels: &[f32]) -> Result<Plan> {
        let plan = vision_plan(&self.encoder, target, self.count(pixels));
        plan.check("image encoder", &self.weights.device().limits())?;
        Ok(plan)
    }

    /// Encodes images by their plan.
    pub async fn encode(&self, plan: Plan, pixels: &[f32], cancel: &Cancel) -> Result<Encoded> {
        let encoder = &self.encoder;
        let session = Session::new(plan, &self.weights).await?;
        let [class, positions] = encoder.tables().map(|t| self.weights.table(t));
        let embeddings = encoder.embeddings(self.count(pixels), class.values(), positions.values());
        session.write("patches", &encoder.patches(pixels));
        session.write("embeddings", &embeddings);
        session.run("vision", cancel, &|_| {}).await?;
        let (mut faults, mut looked_at) = (Faults::default(), 0);
        let mut read = async |name: &str| {
            let values = session.read(name).await?;
            faults = faults.and(Faults::of(&values, session.plan().named(name).elem != Elem::F32));
            looked_at += values.len() as u64;
            Ok::<_, Error>(values)
        };
        let all = read("image_embeds").await?;
        let (last_hidden_state, penultimate) = (read("last_hidden_state").await?, read("penultimate").await?);
        let width = encoder.config.projection_dim;
        let classes = all.chunks_exact(encoder.config.tokens() * width);
        let image_embeds = classes.flat_map(|tokens| &tokens[..width]).copied().collect();
        Ok(Encoded { last_hidden_state, penultimate, image_embeds, faults, looked_at })
    }
}

/// Shortest edge, centre crop, normalised: `[crop_size, crop_size, 3]`.
pub fn clip_pixels(picture: &Picture, config: &ClipImageConfig) -> Vec<f32> {
    let (width, height, edge) = (picture.width, picture.height, config.shortest_edge);
    let short = width.min(height);
    let resized = picture.resized(width * edge / short, height * edge / short, Filter::Bicubic);
    let middle = resized.centre_crop(config.crop_size, config.crop_size);
    middle.normalised(config.image_mean, config.image_std)
}

/// What an IP-Adapter sees.
pub struct ImagePrompt {
    pub positive: Vec<f32>,
    /// For the negative prompts, under guidance.
    pub negative: Vec<f32>,
}

impl VisionPart {
    /// What an adapter sees of an image, which `encode` encodes. A negative prompt has an embedding of zeros, or else the
    /// states of an image that is zero everywhere, which is not black.
    pub async fn prompt(
        &self,
        picture: &Picture,
        adapter: IpAdapterConfig,
        guided: bool,
        encode: impl AsyncFn(&[f32]) -> Result<Encoded>,
    ) -> Result<ImagePrompt> {
        let states = adapter.sees_states();
        let see = async |pixels: &[f32]| {
            let encoded = encode(pixels).await?;
            Ok::<_, Error>(if states { encoded.penultimate } else { encoded.image_embeds })
        };
        let pixels = self.pixels(picture);
        let positive = see(&pixels).await?;
        let negative = match (guided, states) {
            (false, _) => vec![],
            (true, false) => vec![0.0; positive.len()],
            (true, true) => see(&vec![0.0; pixels.len()]).await?,
        };
        Ok(ImagePrompt { positive, negative })
    }
}

/// Section "vision": inputs "patches" and "embeddings"; outputs "last_hidden_state", "penultimate" and
/// "image_embeds".
pub fn vision_plan(encoder: &ImageEncoder, target: &Target, images: usize) -> Plan {
    let mut r = Recorder::new(target);
    r.section("vision");
    let [patches, embeddings] = encoder.shapes(images as u32);
    let patches = r.input("patches", patches, target.elem);
    let embeddings = r.input("embeddings", embeddings, target.elem);
    let states = encoder.record(&mut r, patches, embeddings);
    r.output("last_hidden_state", states.last_hidden_state);
    r.output("penultimate", states.penultimate);
    r.output("image_embeds", states.image_embeds);
    r.finish()
}

/// preprocessor_config.json in `processor`, which must give what the encoder takes.
async fn read_processor(
    folder: &dyn Folder,
    processor: &str,
    encoder: &ClipVisionConfig,
) -> Result<ClipImageConfig> {
    let path = join(processor, "preprocessor_config.json");
    let Some(json) = folder.read(&path).await? else {
        return Ok(ClipImageConfig::of_size(encoder.image_size));
    };
    let config = ClipImageConfig::from_json(&json, &path)?;
    if config.crop_size != encoder.image_size {
        return Err(Error::model(format!(
            "{path}: crop_size is {}, but the image encoder's image_size is {}",
            config.crop_size, encoder.image_size
        )));
    }
    Ok(config)
}

/// How many concepts diffusers' StableDiffusionSafetyChecker knows, and how many of special care.
const CONCEPTS: usize = 17;
const SPECIAL_CARE: usize = 3;

/// diffusers' StableDiffusionSafetyChecker.
pub struct SafetyPart {
    pub vision: VisionPart,
    concepts: Concepts,
    special_care: Concepts,
}

/// The image encoder of a safety checker, the concepts that it knows and those of special care.
pub(super) fn safety_checker(
    d: &mut Declarations,
    config: &ClipVisionConfig,
) -> (ImageEncoder, [Concepts; 2]) {
    let encoder = ImageEncoder::declare(d, "vision_model.vision_model", config);
    let concepts = [("concept_embeds", CONCEPTS), ("special_care_embeds", SPECIAL_CARE)];
    let concepts = concepts.map(|(name, count)| Concepts {
        embeds: d.table(name, count, config.projection_dim),
        thresholds: d.table(&format!("{name}_weights"), count, 1),
    });
    (encoder, concepts)
}

/// Directions in the space of image embeddings, and the cosine from which each counts.
pub(super) struct Concepts {
    /// `[concepts, projection_dim]`
    embeds: Handle,
    /// `[concepts]`
    thresholds: Handle,
}

/// What the safety checker says of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The cosine with each concept and how far it is above its threshold, in thousandths.
    pub concepts: Vec<Similarity>,
    /// Cosines with the special-care concepts, which only make the thresholds of the others stricter.
    pub special_care: Vec<Similarity>,
    /// Whether any concept is above its threshold: diffusers shows a black image then.
    pub flagged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    pub cosine: f32,
    pub score: f32,
}

impl SafetyPart {
    /// As [`VisionPart::load`].
    pub async fn load(
        device: &Device,
        folder: &dyn Folder,
        component: &str,
        processor: &str,
        format: Format,
        hooks: Hooks<'_>,
    ) -> Result<SafetyPart> {
        let path = join(component, "config.json");
        let config = ClipVisionConfig::of_safety_checker(&read_json(folder, &path).await?, &path)?;
        let processor = read_processor(folder, processor, &config).await?;
        let mut d = Declarations::new(format);
        let (encoder, [concepts, special_care]) = safety_checker(&mut d, &config);
        let checkpoint = Checkpoint::new(folder, component, "model");
        let weights = Weights::load(device, &d, &[checkpoint], hooks).await?;
        Ok(SafetyPart { vision: VisionPart { encoder, processor, weights }, concepts, special_care })
    }

    /// A verdict on each of the image embeddings, `[N, projection_dim]`.
    pub fn verdicts(&self, image_embeds: &[f32]) -> Vec<Verdict> {
        image_embeds
            .chunks_exact(self.vision.encoder.config.projection_dim)
            .map(|e| self.verdict(e))
            .collect()
    }

    fn verdict(&self, image: &[f32]) -> Verdict {
        let mut adjustment = 0.0;
        let special_care = self.similarities(&self.special_care, image, |cosine, threshold| {
            let score = thousandths(cosine - threshold + adjustment);
            if score > 0.0 {
                adjustment = 0.01;
            }
            score
        });
        let concepts = self.similarities(&self.concepts, image, |cosine, threshold| {
            thousandths(cosine - threshold + adjustment)
        });
        Verdict { flagged: concepts.iter().any(|c| c.score > 0.0), concepts, special_care }
    }

    /// `score` gets each cosine and its threshold.
    fn similarities(
        &self,
        concepts: &Concepts,
        image: &[f32],
        mut score: impl FnMut(f32, f32) -> f32,
    ) -> Vec<Similarity> {
        let [embeds, thresholds] =
            [concepts.embeds, concepts.thresholds].map(|t| self.vision.weights.table(t));
        let each = embeds.values().chunks_exact(image.len()).zip(thresholds.values());
        each.map(|(concept, &threshold)| {
            let cosine = cosine(image, concept);
            Similarity { cosine, score: score(cosine, threshold) }
        })
        .collect()
    }
}

/// Rounded, half to even, as numpy does.
fn thousandths(score: f32) -> f32 {
    (score * 1000.0).round_ties_even() / 1000.0
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    // As torch's normalize, which divides by no less.
    let norm = |a: &[f32]| dot(a, a).sqrt().max(1e-12);
    (dot(a, b) / (norm(a) * norm(b))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_are_scaled_and_survive_zeros() {
        assert_eq!(cosine(&[3.0, 4.0], &[30.0, 40.0]), 1.0);
        assert_eq!(cosine(&[3.0, 4.0], &[-4.0, 3.0]), 0.0);
        assert_eq!(cosine(&[3.0, 4.0], &[0.0, -2.0]), -0.8);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn scores_are_rounded_to_thousandths() {
        assert_eq!(thousandths(0.0004), 0.0);
        assert_eq!(thousandths(0.0006), 0.001);
        assert_eq!(thousandths(-0.0124), -0.012);
        assert_eq!(thousandths(0.25), 0.25);
    }

    /// 6 x 2 becomes 9 x 3, of which the middle is kept. The old pixels in the middle are white, those beside
    /// them yellow.
    #[test]
    fn the_shortest_edge_decides_and_the_middle_is_kept() {
        let rgb: Vec<u8> =
            (0..12).flat_map(|i| if (2..4).contains(&(i % 6)) { [255; 3] } else { [255, 255, 0] }).collect();
        let picture = Picture::new(6, 2, 3, &rgb).unwrap();
        let config = ClipImageConfig {
            shortest_edge: 3,
            crop_size: 3,
            image_mean: [0.5, 0.0, 0.0],
            image_std: [0.25, 0.5, 1.0],
        };
        let pixels = clip_pixels(&picture, &config);
        assert_eq!(pixels.len(), 27);
        for row in pixels.chunks_exact(9) {
            assert!(row.chunks_exact(3).all(|p| p[..2] == [2.0, 2.0]), "{row:?}");
            // The ends of the row lie at the border, its middle inside.
            assert!(row[5] == 1.0 && row[2] < 1.0 && row[2] > 0.5 && row[2] == row[8], "{row:?}");
        }
    }
}
