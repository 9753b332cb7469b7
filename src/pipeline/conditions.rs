//! Prompts and sizes to what a denoiser is told.

use super::Pipeline;
use super::precision::Part;
use super::request::{Request, Stage};
use super::run::Run;
use super::task::Task;
use super::text::{Encoded, TextPart};
use crate::error::{Error, Result};
use crate::model::denoiser::Conditions;
use crate::model::text::HiddenState;
use crate::plan::Plan;
use crate::prompt::{self, Chunk};
use crate::warning::{Topic, Warning};

/// Prompts that a text encoder reads in one run, and its plan.
pub(super) struct EncodeBatch<'a> {
    text: &'a TextPart,
    rows: &'a [Vec<Chunk>],
    pub plan: Plan,
}

impl Pipeline {
    /// The prompts of every text encoder as chunks of tokens, under guidance the negative ones first; equally many
    /// chunks each.
    pub(super) fn chunks(
        &self,
        request: &Request,
        guided: bool,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<Vec<Vec<Chunk>>>> {
        // A second and a third one read their own prompts, if there are any; the others read the prompt.
        let second = (request.prompt_2.as_deref(), request.negative_prompt_2.as_deref());
        let third = (request.prompt_3.as_deref(), request.negative_prompt_3.as_deref());
        let own = [(None, None), second, third].into_iter().chain(std::iter::repeat((None, None)));
        for (name, (prompt, negative), encoders) in [("2", second, 2), ("3", third, 3)] {
            if (prompt.is_some() || negative.is_some()) && self.texts.len() < encoders {
                warnings.push(Warning::new(
                    Topic::Unused,
                    format!("prompt {name} is not used: the model has fewer than {encoders} text encoders"),
                ));
            }
        }
        let instruction = self.instruction(request)?;
        let mut all = vec![];
        for (text, (prompt, negative)) in self.texts.iter().zip(own) {
            let mut front = "";
            if text.reads_any_number() {
                front = instruction;
                let length = self.sequence_length(request)?;
                text.tokenizer.set_length(length + text.tokens_of(front)?)?;
            }
            let mut chunks = |prompt: &str| text.chunks((front, prompt), request.weighted, warnings);
            let mut rows = vec![];
            if guided {
                let negative = chunks(negative.unwrap_or(&request.negative_prompt))?;
                rows.resize(request.prompts.len(), negative);
            }
            for p in &request.prompts {
                rows.push(chunks(prompt.unwrap_or(p))?);
            }
            text.cut(&mut rows);
            all.push(rows);
        }
        // One that reads any number of tokens has one chunk in any case.
        let chunked = |text: &TextPart| !text.reads_any_number();
        let several = all.iter().zip(&self.texts).filter(|(_, text)| chunked(text));
        let longest = several.flat_map(|(rows, _)| rows).map(Vec::len).max().unwrap_or(1);
        for (rows, text) in all.iter_mut().zip(&self.texts).filter(|(_, text)| chunked(text)) {
            prompt::level(&text.tokenizer, rows, longest);
        }
        Ok(all)
    }

    /// Tokens that a text encoder of any number of them reads of each prompt.
    ///
    /// Errors: `InvalidOption` for another number than 8 to 2048, or where no encoder takes one.
    pub(super) fn sequence_length(&self, request: &Request) -> Result<usize> {
        let usual = self.family.encoders.iter().map(|encoder| encoder.tokens).max().unwrap_or(0);
        let Some(length) = request.max_sequence_length else { return Ok(usual) };
        let wanted = match (usual, length) {
            (0, _) => "nothing, since this model's text encoders read as many as they always do".to_owned(),
            (_, 8..=2048) => return Ok(length),
            _ => "a number from 8 to 2048".to_owned(),
        };
        Err(Error::option(format!("max_sequence_length: wanted {wanted}, found {length}")))
    }

    /// What stands in front of a request's prompts.
    ///
    /// Errors: `InvalidOption` for a model whose prompts have nothing there.
    fn instruction<'a>(&self, request: &'a Request) -> Result<&'a str> {
        match request.instruction.as_deref() {
            None => Ok(self.family.instruction),
            Some(_) if self.family.instruction.is_empty() => Err(Error::option(
                "instruction: wanted none, since this model's text encoders read prompts alone",
            )),
            Some(text) => Ok(text),
        }
    }

    /// What each text encoder reads of a request. Negative prompts have the usual state, whatever layers the prompts leave
    /// out: diffusers has it so.
    pub(super) fn batches<'a>(
        &'a self,
        request: &Request,
        task: &'a Task,
    ) -> Result<Vec<Vec<EncodeBatch<'a>>>> {
        let (state, usual) = (self.hidden_state(request.clip_skip)?, self.hidden_state(0)?);
        let target = self.text_target();
        let negatives = if task.job.guided && state != usual { task.job.images as usize } else { 0 };
        let mut all = vec![];
        for (text, rows) in self.texts.iter().zip(&task.prompts) {
            let (negative, rows) = rows.split_at(negatives);
            let mut batches = vec![];
            for (rows, state) in [(negative, usual), (rows, state)].into_iter().filter(|(r, _)| !r.is_empty())
            {
                let chunks = rows.iter().map(Vec::len).sum();
                let plan = text.network.plan(target, [chunks, rows[0][0].ids.len()], state);
                let plan = plan.map_err(|error| self.precision.explain(Part::Text, error))?;
                batches.push(EncodeBatch { text, rows, plan });
            }
            all.push(batches);
        }
        Ok(all)
    }

    /// Encodes the prompts. None if that has to be done again in f32.
    pub(super) async fn conditions(
        &self,
        run: &Run<'_>,
        batches: Vec<Vec<EncodeBatch<'_>>>,
    ) -> Result<Option<Conditions>> {
        let Run { request, task, watch, progress } = run;
        let elem = self.text_target().elem;
        let mut encoders = vec![];
        for batches in batches {
            let mut all: Option<Encoded> = None;
            for EncodeBatch { text, rows, plan } in batches {
                let part = progress.part(Stage::Text, plan.work("text"));
                let encoded = text.encode(plan, rows, &watch.cancel, &part).await;
                let encoded = encoded.map_err(|error| self.precision.explain(Part::Text, error))?;
                all = Some(match all {
                    Some(negative) => negative.above(encoded),
                    None => encoded,
                });
            }
            encoders.push(all.expect("at least one prompt"));
        }
        let encoders = self.each_encoder(encoders);
        let width = self.denoiser.network.sizes().cross_attention_dim;
        let mut encoded = (self.family.reading.join)(encoders, task.job.tokens as usize, width);
        let own_negatives = [&request.negative_prompt_2, &request.negative_prompt_3];
        let no_negative =
            request.negative_prompt.is_empty() && own_negatives.into_iter().all(Option::is_none);
        if task.job.guided && no_negative && self.zeros_for_empty_prompt {
            let (states, pooled) = (encoded.states.len() / 2, encoded.pooled.len() / 2);
            encoded.states[..states].fill(0.0);
            encoded.pooled[..pooled].fill(0.0);
        }
        if !task.labels.is_empty() {
            encoded.states = self.denoiser.label_rows(&task.labels);
        }
        let looked_at = encoded.states.len() as u64;
        if self.precision.again(Part::Text, elem, encoded.faults, looked_at)? {
            return Ok(None);
        }
        Ok(Some(Conditions {
            text: encoded.states,
            pooled: encoded.pooled,
            sizes: request.sizes.numbers(task.height, task.width),
            guidance: task.guidance,
            mask: encoded.mask,
        }))
    }

    pub(super) fn hidden_state(&self, clip_skip: usize) -> Result<HiddenState> {
        let usual = self.family.hidden_state;
        let encoders = self.texts.iter().map(|text| &text.network.encoder);
        let skipping = encoders.filter(|encoder| encoder.leaves_out_layers());
        let layers = skipping.map(|encoder| encoder.sizes().num_hidden_layers).min();
        // At least one layer runs.
        let most = layers.and_then(|layers| usual.depth(layers)).map_or(0, |depth| depth.saturating_sub(1));
        let state = usual.without(clip_skip).filter(|_| clip_skip <= most);
        state.ok_or_else(|| Error::option(format!("clip_skip: wanted 0 to {most}, found {clip_skip}")))
    }
}
