//! Compiling ahead, so that the first image does not pause.

use super::precision::Part;
use super::request::Request;
use super::text::{encoder_target, text_plan};
use super::vision::vision_plan;
use super::{Half, Pipeline};
use crate::device::Device;
use crate::error::Result;
use crate::model::denoiser::{Job, denoise_plan};
use crate::plan::Plan;

impl Pipeline {
    /// Compiles the kernels of an image of the model's own size, and of every network that was loaded. `progress` gets
    /// how many are compiled, from 0 on, and their number; between two of them `cancelled` is asked. On a CPU there is
    /// nothing to compile, and `progress` hears nothing. No activations are allocated.
    pub async fn compile(&self, progress: &dyn Fn(usize, usize), cancelled: &dyn Fn() -> bool) -> Result<()> {
        match &self.device {
            Device::Gpu(_) => {
                let plans = self.usual_plans()?;
                self.device.compile(&plans.iter().collect::<Vec<_>>(), progress, cancelled).await
            }
            Device::Cpu => Ok(()),
        }
    }

    fn usual_plans(&self) -> Result<Vec<Plan>> {
        let factor = self.vae.config.spatial_factor();
        let target = |part| self.precision.target(part);
        // A size that no request may have is refused by the first one.
        let request = Request::default();
        let Ok([width, height]) = request.size(self.default_size(), factor * self.patch()) else {
            return Ok(vec![]);
        };
        let pixels = [height as u32, width as u32];
        let size = pixels.map(|side| side / factor as u32);
        let guidance = self.usual_guidance(&self.scheduler) as f32;
        let guided = self.guides(guidance + 1.0 - self.family.unguided);
        let tokens = self.each_encoder(self.texts.iter().map(|text| text.tokenizer.length()));
        let tokens = (self.family.reading.tokens)(&tokens, self.sequence_length(&request)?) as u32;
        let job = Job { images: 1, guided, size, tokens, ..Job::default() };
        let state = self.hidden_state(0)?;
        let mut plans = vec![];
        for text in self.texts.iter().filter(|_| self.text_target.is_none()) {
            let sizes = [job.rows() as usize, text.tokenizer.length()];
            let target = encoder_target(&*text.network.encoder, target(Part::Text));
            plans.push(text_plan(&*text.network.encoder, &target, sizes, state));
        }
        plans.push(denoise_plan(&*self.denoiser.network, target(Part::Denoiser), job));
        // What no device of this kind can hold is refused by the first image.
        let decoding = self.vae.decoding(target(Part::Decoder), size, self.small_tiles);
        plans.extend(decoding.map(|(_, plan)| plan));
        if self.vae.has(Half::Encoder) {
            plans.push(self.vae.recorded(target(Part::Encoder), Half::Encoder, 1, pixels));
        }
        let vision = self.vision.as_ref().map(|vision| (Part::Vision, vision));
        let safety = self.safety.as_ref().map(|safety| (Part::Safety, &safety.vision));
        let encoders = vision.into_iter().chain(safety);
        plans.extend(encoders.map(|(part, vision)| vision_plan(&vision.encoder, target(part), 1)));
        Ok(plans)
    }
}
