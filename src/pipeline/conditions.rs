//! Prompts and sizes to what a U-Net is told.

use super::Pipeline;
use super::denoise::Conditions;
use super::request::{Request, Watch};
use super::task::Task;
use super::text::{Encoded, TextPart};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::clip::HiddenState;
use crate::prompt::{self, Chunk};

impl Pipeline {
    /// The prompts of every text encoder as chunks of tokens, under guidance the negative ones first; equally many
    /// chunks each.
    pub(super) fn chunks(
        &self,
        request: &Request,
        guided: bool,
        warnings: &mut Vec<String>,
    ) -> Vec<Vec<Vec<Chunk>>> {
        let mut encoders = vec![(&self.text, None, None)];
        if let Some(text_2) = &self.text_2 {
            encoders.push((text_2, request.prompt_2.as_deref(), request.negative_prompt_2.as_deref()));
        }
        let mut all = vec![];
        for (text, prompt, negative) in encoders {
            let mut chunks = |prompt: &str| text.chunks(prompt, request.weighted, warnings);
            let mut rows = vec![];
            if guided {
                let negative = chunks(negative.unwrap_or(&request.negative_prompt));
                rows.resize(request.prompts.len(), negative);
            }
            rows.extend(request.prompts.iter().map(|p| chunks(prompt.unwrap_or(p))));
            all.push(rows);
        }
        let longest = all.iter().flatten().map(Vec::len).max().unwrap_or(1);
        for (rows, text) in all.iter_mut().zip(self.texts()) {
            prompt::level(&text.tokenizer, rows, longest);
        }
        all
    }

    /// Encodes the prompts.
    pub(super) async fn conditions(
        &self,
        device: &Device,
        request: &Request,
        task: &Task,
        watch: &Watch<'_>,
    ) -> Result<Conditions> {
        let state = self.hidden_state(request.clip_skip)?;
        let mut encoded = self.encode(device, &self.text, &task.prompts[0], task, state, watch).await?;
        if let Some(text_2) = &self.text_2 {
            let other = self.encode(device, text_2, &task.prompts[1], task, state, watch).await?;
            encoded = encoded.beside(other);
            let no_negative = request.negative_prompt.is_empty() && request.negative_prompt_2.is_none();
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

    /// Negative prompts have the usual state, whatever layers the prompts leave out: diffusers has it so.
    async fn encode(
        &self,
        device: &Device,
        text: &TextPart,
        rows: &[Vec<Chunk>],
        task: &Task,
        state: HiddenState,
        watch: &Watch<'_>,
    ) -> Result<Encoded> {
        let usual = self.hidden_state(0)?;
        let negatives = if task.job.guided && state != usual { task.job.images as usize } else { 0 };
        let (negative, rows) = rows.split_at(negatives);
        let encoded = text.encode(device, &self.target, rows, state, watch).await?;
        if negatives == 0 {
            return Ok(encoded);
        }
        Ok(text.encode(device, &self.target, negative, usual, watch).await?.above(encoded))
    }

    fn hidden_state(&self, clip_skip: usize) -> Result<HiddenState> {
        let usual = if self.text_2.is_some() { HiddenState::PENULTIMATE } else { HiddenState::LAST };
        let state = HiddenState { skip: usual.skip + clip_skip, ..usual };
        let layers = self.texts().map(|t| t.network.encoder.config.num_hidden_layers).min().unwrap_or(0);
        if state.skip >= layers {
            let most = layers.saturating_sub(usual.skip + 1);
            return Err(Error::option(format!("clip_skip: wanted 0 to {most}, found {clip_skip}")));
        }
        Ok(state)
    }
}
