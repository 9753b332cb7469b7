//! Prompts and sizes to what a U-Net is told.

use super::Pipeline;
use super::denoise::Conditions;
use super::request::{Request, Watch};
use super::task::Task;
use super::text::{Encoded, TextPart};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::clip::HiddenState;

impl Pipeline {
    /// Encodes the prompts, under guidance the negative ones first.
    pub(super) async fn conditions(
        &self,
        device: &Device,
        request: &Request,
        task: &Task,
        watch: &Watch<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Conditions> {
        let negative = request.negative_prompt.as_str();
        let rows = |prompt: Option<&str>, negative_prompt: Option<&str>| -> Vec<String> {
            let images = request.prompts.len();
            let guided = if task.job.guided { images } else { 0 };
            let negatives = std::iter::repeat_n(negative_prompt.unwrap_or(negative), guided);
            let prompts = request.prompts.iter().map(|p| prompt.unwrap_or(p));
            negatives.chain(prompts).map(str::to_owned).collect()
        };
        let state = self.hidden_state(request.clip_skip)?;
        let mut encoded =
            self.encode(device, &self.text, rows(None, None), state, watch, warnings).await?;
        if let Some(text_2) = &self.text_2 {
            let prompts = rows(request.prompt_2.as_deref(), request.negative_prompt_2.as_deref());
            encoded = encoded.beside(self.encode(device, text_2, prompts, state, watch, warnings).await?);
            let no_negative = negative.is_empty() && request.negative_prompt_2.is_none();
            if task.job.guided && no_negative && self.zeros_for_empty_prompt {
                let (states, pooled) = (encoded.states.len() / 2, encoded.pooled.len() / 2);
                encoded.states[..states].fill(0.0);
                encoded.pooled[..pooled].fill(0.0);
            }
        }
        Ok(Conditions {
            text: encoded.states,
            pooled: encoded.pooled,
            sizes: request.sizes.numbers(task.height, task.width),
            guidance: task.guidance,
        })
    }

    async fn encode(
        &self,
        device: &Device,
        text: &TextPart,
        prompts: Vec<String>,
        state: HiddenState,
        watch: &Watch<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Encoded> {
        let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
        text.encode(device, &self.target, &prompts, state, watch, warnings).await
    }

    fn hidden_state(&self, clip_skip: usize) -> Result<HiddenState> {
        let usual = if self.text_2.is_some() { HiddenState::PENULTIMATE } else { HiddenState::LAST };
        let state = HiddenState { skip: usual.skip + clip_skip, ..usual };
        let encoders = [Some(&self.text), self.text_2.as_ref()].into_iter().flatten();
        let layers = encoders.map(|t| t.network.encoder.config.num_hidden_layers).min().unwrap_or(0);
        if state.skip >= layers {
            let most = layers.saturating_sub(usual.skip + 1);
            return Err(Error::option(format!("clip_skip: wanted 0 to {most}, found {clip_skip}")));
        }
        Ok(state)
    }
}
