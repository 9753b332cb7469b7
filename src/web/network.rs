//! One network of a model folder by itself, as the reference library has it: what bench/peers measures,
//! and what tests compare in a browser.

use std::cell::RefCell;

use js_sys::{Array, Float32Array, Reflect};
use wasm_bindgen::prelude::*;

use super::source::place;
use super::{Options, Source, device, to_js};
use crate::device::{Device, Session};
use crate::error::{Error, Result};
use crate::host::Cancel;
use crate::model::denoiser::Job;
use crate::pipeline::{DenoiserPart, Half, HiddenState, LoadOptions, Origin, TextNetwork, TextUse, VaePart};
use crate::plan::Target;
use crate::shape::{nchw, nhwc};
use crate::weights::Hooks;

/// A U-Net, half an autoencoder or a text encoder. Like a generator it serves one call at a time.
#[wasm_bindgen]
pub struct Network {
    device: Device,
    target: Target,
    part: Part,
    /// The session of the last sizes: the first run of a size makes one.
    session: RefCell<Option<([u32; 4], Session)>>,
}

enum Part {
    Unet(DenoiserPart),
    Autoencoder(VaePart, Half),
    Text(TextNetwork),
}

#[wasm_bindgen]
impl Network {
    /// `component`: "unet", "vae" or "text_encoder". `options` as for a generator; with `encoder` it is that half of an
    /// autoencoder.
    pub async fn create(
        source: Source,
        component: String,
        options: JsValue,
    ) -> std::result::Result<Network, JsValue> {
        Self::load(source, &component, &Options(options)).await.map_err(to_js)
    }

    /// `inputs`: { name, shape, values } with diffusers' names and order of axes: of a U-Net "sample",
    /// "timestep" and "encoder_hidden_states", and what it wants of "timestep_cond" (the guidance embedding), "text_embeds"
    /// and "time_ids", a row for each sample; of a decoder "z", of an encoder "sample", of a text encoder "input_ids". Resolves to the values of
    /// the output.
    pub async fn run(&self, inputs: Array) -> std::result::Result<Float32Array, JsValue> {
        let values = self.compute(&Inputs(inputs)).await.map_err(to_js)?;
        Ok(Float32Array::from(values.as_slice()))
    }

    /// What it runs on, for people.
    pub fn device(&self) -> String {
        self.device.name()
    }

    async fn load(source: Source, component: &str, options: &Options) -> Result<Network> {
        let [weights, activations] =
            ["weights", "activations"].map(|key| Ok(options.text(key)?.unwrap_or("f32".to_owned())));
        let load = LoadOptions::parse(&weights?, &activations?)?;
        let device = device::open(options, &load).await?;
        let (d, format) = (&device, load.weights);
        let source = &place(source);
        let origin = Origin::of(source);
        let part = match component {
            "unet" => Part::Unet(DenoiserPart::load(d, source, component, format, Hooks::NONE).await?),
            "vae" => {
                let half = if options.flag("encoder")? { Half::Encoder } else { Half::Decoder };
                // A folder of nothing but an autoencoder is one.
                let folder = if options.flag("alone")? { "" } else { component };
                Part::Autoencoder(
                    VaePart::load(d, &origin, folder, format, Hooks::NONE, &[half]).await?,
                    half,
                )
            }
            "text_encoder" => {
                Part::Text(TextNetwork::load(d, &origin, component, TextUse::ANY, format, Hooks::NONE).await?)
            }
            other => {
                return Err(Error::option(format!(
                    "component: wanted unet, vae or text_encoder, found {other:?}"
                )));
            }
        };
        let target = device.target(&load.activations)?;
        Ok(Network { device, target, part, session: RefCell::default() })
    }

    async fn compute(&self, inputs: &Inputs) -> Result<Vec<f32>> {
        let target = &self.target;
        match &self.part {
            Part::Unet(part) => {
                let (sample, [n, c, h, w]) = inputs.get("sample")?;
                let (text, [_, tokens, ..]) = inputs.get("encoder_hidden_states")?;
                let (timestep, _) = inputs.get("timestep")?;
                let job = Job { images: n, guided: false, size: [h, w], tokens, ..Job::default() };
                let session = self.session([n, h, w, tokens], part.session(target, job)).await?;
                let unet =
                    part.network.unet().ok_or_else(|| Error::unsupported("a denoiser that is no U-Net"))?;
                let (config, time) = (&unet.config, unet.unet.time_embedding());
                let features: Vec<f32> = timestep.iter().flat_map(|&t| time.features(t)).collect();
                let rows = n as usize / timestep.len().max(1);
                part.write_sample(&session, &nhwc(&sample, c as usize, (h * w) as usize));
                session.write("text", &text);
                session.write("time_features", &features.repeat(rows));
                if config.time_cond_proj_dim.is_some() {
                    session.write("guidance_features", &inputs.get("timestep_cond")?.0);
                }
                if let Some(text_time) = config.text_time {
                    let (pooled, (sizes, _)) = (inputs.get("text_embeds")?.0, inputs.get("time_ids")?);
                    let rows = pooled.chunks_exact(text_time.pooled()).zip(sizes.as_chunks().0);
                    let added: Vec<f32> = rows.flat_map(|(p, s)| time.added_features(p, *s)).collect();
                    session.write("added_features", &added);
                }
                self.finish(session, [n, h, w, tokens], &["context", "time", "unet"], "model_output").await
            }
            Part::Autoencoder(part, half) => {
                let name = if *half == Half::Encoder { "sample" } else { "z" };
                let (x, [n, c, h, w]) = inputs.get(name)?;
                let session = self.session([n, c, h, w], part.session(target, *half, n, [h, w])).await?;
                // Without the scaling, which belongs to the pipeline.
                session.write("coefficients", &[1.0, 0.0, 0.0, 0.0]);
                session.write("input", &nhwc(&x, c as usize, (h * w) as usize));
                self.finish(session, [n, c, h, w], &["vae"], "sample").await
            }
            Part::Text(network) => {
                let (ids, [n, tokens, ..]) = inputs.get("input_ids")?;
                let ids: Vec<Vec<u32>> = ids
                    .chunks(tokens as usize)
                    .map(|row| row.iter().map(|&id| id as u32).collect())
                    .collect();
                let size = [n, tokens, 1, 1];
                let session = self
                    .session(
                        size,
                        network.session(target, [n, tokens].map(|n| n as usize), HiddenState::LAST),
                    )
                    .await?;
                session.write("embeddings", &network.embeddings(&ids)?);
                self.finish(session, size, &["text"], "last_hidden_state").await
            }
        }
    }

    /// The kept session if it is of this size, else a new one.
    async fn session(&self, size: [u32; 4], new: impl Future<Output = Result<Session>>) -> Result<Session> {
        match self.session.take() {
            Some((kept, session)) if kept == size => Ok(session),
            _ => new.await,
        }
    }

    /// Runs the sections, reads the output in the reference's order of axes, and keeps the session.
    async fn finish(
        &self,
        session: Session,
        size: [u32; 4],
        sections: &[&str],
        output: &str,
    ) -> Result<Vec<f32>> {
        for section in sections {
            session.run(section, &Cancel::default(), &|_| {}).await?;
        }
        let values = session.read(output).await?;
        let shape = session.plan().outputs[output].shape;
        self.session.replace(Some((size, session)));
        Ok(match self.part {
            Part::Text(_) => values,
            _ => nchw(&values, shape.c as usize, shape.pixels() as usize),
        })
    }
}

/// Tensors of a caller.
struct Inputs(Array);

impl Inputs {
    /// The values and the shape, with ones behind it.
    fn get(&self, name: &str) -> Result<(Vec<f32>, [u32; 4])> {
        let field = |tensor: &JsValue, key: &str| Reflect::get(tensor, &key.into()).unwrap_or_default();
        let tensor = self.0.iter().find(|t| field(t, "name").as_string().is_some_and(|n| n == name));
        let tensor = tensor.ok_or_else(|| Error::option(format!("inputs: {name} is missing")))?;
        let values = Float32Array::new(&field(&tensor, "values")).to_vec();
        let mut shape = [1; 4];
        for (side, given) in shape.iter_mut().zip(Array::from(&field(&tensor, "shape"))) {
            *side = given.as_f64().unwrap_or(0.0) as u32;
        }
        let wanted: u32 = shape.iter().product();
        if values.len() != wanted as usize || wanted == 0 {
            return Err(Error::option(format!("{name}: {} values for the shape {shape:?}", values.len())));
        }
        Ok((values, shape))
    }
}
