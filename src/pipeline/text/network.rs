//! A text encoder by itself: token ids to hidden states and pooled vectors.

use std::rc::Rc;

use crate::device::{Device, Session};
use crate::error::{Error, Result};
use crate::model::config::NetworkConfig;
use crate::model::text::{HiddenState, MASK, TextEncoder, TextSizes, TextUse};
use crate::pipeline::component::Component;
use crate::pipeline::origin::{Merged, Origin};
use crate::pipeline::read_json;
use crate::plan::ops::HIDDEN;
use crate::plan::{Plan, Recorder, Target};
use crate::quant::Format;
use crate::shape::Elem;
use crate::weights::{Declarations, Hooks, join};

/// A text encoder, from token ids on.
pub struct TextNetwork {
    pub encoder: Rc<dyn TextEncoder>,
    pub(in crate::pipeline) merged: Merged,
    /// The vectors of learned tokens, `[n, width]`: the token behind the vocabulary and those after it.
    pub(super) learned: Vec<f32>,
}

impl TextNetwork {
    pub async fn load(
        device: &Device,
        origin: &Origin<'_>,
        component: &str,
        usage: TextUse,
        format: Format,
        hooks: Hooks<'_>,
    ) -> Result<TextNetwork> {
        let path = join(component, "config.json");
        let config = NetworkConfig::text(
            &read_json(origin.folder, &path).await?,
            &path,
            Component::class_of(component),
        )?;
        let layers = config.sizes().num_hidden_layers;
        if let Some(state) = usage.state.filter(|state| state.depth(layers).is_none()) {
            return Err(Error::model(format!(
                "{path}: num_hidden_layers is {layers}, wanted at least {} for what this model reads",
                state.least()
            )));
        }
        let mut d = Declarations::new(format);
        let encoder = config.declare(&mut d, usage);
        let merged = Merged::load(device, origin, (component, "model"), d, vec![], hooks).await?;
        Ok(TextNetwork { encoder, merged, learned: vec![] })
    }

    /// The plan for so many prompts of so many tokens, which the device can hold.
    pub fn plan(&self, target: &Target, [prompts, tokens]: [usize; 2], state: HiddenState) -> Result<Plan> {
        let target = encoder_target(&*self.encoder, target);
        let plan = text_plan(&*self.encoder, &target, [prompts, tokens], state);
        plan.check("text encoder", &self.merged.weights.device().limits())?;
        Ok(plan)
    }

    /// A session for so many prompts of so many tokens: its inputs are [`Self::embeddings`] and [`Self::write_mask`], its
    /// section "text".
    pub async fn session(&self, target: &Target, sizes: [usize; 2], state: HiddenState) -> Result<Session> {
        self.prepare(self.plan(target, sizes, state)?).await
    }

    /// A session from its plan.
    pub(super) async fn prepare(&self, plan: Plan) -> Result<Session> {
        let session = Session::new(plan, &self.merged.weights).await?;
        let tables = |table| self.merged.weights.table(table);
        let shape = session.plan().named("embeddings").shape;
        for (name, values) in self.encoder.constants([shape.n, shape.pixels()].map(|n| n as usize), &tables) {
            session.write(name, &values);
        }
        Ok(session)
    }

    /// Hides the padding behind as many tokens of each prompt, where the encoder hides it.
    pub fn write_mask(&self, session: &Session, lengths: &[usize]) {
        if self.encoder.is_masked() {
            let each = session.plan().named(MASK).shape.c as usize;
            session.write(MASK, &mask(lengths, each));
        }
    }

    /// The wanted states of a session that has run, side by side on channels, and whether they were in halves.
    pub async fn states(&self, session: &Session) -> Result<(Vec<f32>, bool)> {
        let width = self.encoder.sizes().hidden_size;
        let (mut all, mut halves) = (vec![], false);
        for name in (0..).map(state_name).take_while(|name| session.plan().outputs.contains_key(name)) {
            halves |= session.plan().named(&name).elem != Elem::F32;
            all.push(session.read(&name).await?);
        }
        Ok((if all.len() == 1 { all.remove(0) } else { side_by_side(&all, width) }, halves))
    }

    /// The embeddings of tokens, with those of their positions if there are any, gathered on the CPU.
    pub fn embeddings(&self, ids: &[Vec<u32>]) -> Result<Vec<f32>> {
        let TextSizes { vocab_size, hidden_size: width, .. } = self.encoder.sizes();
        let tokens = self.merged.weights.table(self.encoder.token_embedding());
        let scale = self.encoder.embedding_scale();
        let positions = self.encoder.position_embedding().map(|table| self.merged.weights.table(table));
        let mut sums = vec![];
        for row in ids {
            for (at, &id) in row.iter().enumerate() {
                let learned = |id: usize| {
                    let at = id.checked_sub(vocab_size)?;
                    Some(self.learned.chunks_exact(width).nth(at)?.to_vec())
                };
                let token = tokens.row(id as usize).or_else(|| learned(id as usize)).ok_or_else(|| {
                    Error::model(format!(
                        "the tokenizer made the token {id}, but the text encoder's vocab_size is {vocab_size}"
                    ))
                })?;
                match &positions {
                    Some(table) => {
                        let position = &table.values()[at * width..][..width];
                        sums.extend(token.iter().zip(position).map(|(t, p)| t * scale + p));
                    }
                    None => sums.extend(token.iter().map(|t| t * scale)),
                }
            }
        }
        Ok(sums)
    }

    /// The states that are pooled, `[prompts, hidden_size]`, of the last hidden states.
    pub fn pooled(&self, last: &[f32], ids: &[Vec<u32>]) -> Vec<f32> {
        let TextSizes { hidden_size: width, .. } = self.encoder.sizes();
        let tokens = last.len() / width / ids.len();
        let pooled = last.chunks_exact(tokens * width).zip(ids).map(|(states, ids)| {
            let at = self.encoder.pooled_token(ids).unwrap_or(0) * width;
            &states[at..at + width]
        });
        pooled.flatten().copied().collect()
    }

    /// The projected pooled states, `[prompts, projection_dim]`, from the last hidden states.
    pub fn text_embeds(&self, last: &[f32], ids: &[Vec<u32>]) -> Vec<f32> {
        let projection = self.encoder.text_projection().expect("an encoder with a projection");
        let (table, width) = (self.merged.weights.table(projection), self.encoder.sizes().hidden_size);
        let matrix = table.values();
        let pooled = self.pooled(last, ids);
        let dot = |row: &[f32], vector: &[f32]| row.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
        pooled
            .chunks_exact(width)
            .flat_map(|v| matrix.chunks_exact(width).map(move |row| dot(row, v)))
            .collect()
    }
}

/// What the plan of an encoder is recorded for, where others have this target.
pub fn encoder_target(encoder: &dyn TextEncoder, target: &Target) -> Target {
    let elem = if encoder.overflows_halves() { Elem::F32 } else { target.elem };
    Target { elem, ..target.clone() }
}

/// The input that hides all but so many of each prompt's tokens, in rows of `each` numbers.
fn mask(lengths: &[usize], each: usize) -> Vec<f32> {
    let row = |&length: &usize| (0..each).map(move |at| if at < length { 0.0 } else { HIDDEN });
    lengths.iter().flat_map(row).collect()
}

/// Rows of this width, each of the first states and behind it those of the others.
fn side_by_side(all: &[Vec<f32>], width: usize) -> Vec<f32> {
    let rows = (0..all[0].len() / width).map(|row| row * width..(row + 1) * width);
    rows.flat_map(|at| all.iter().flat_map(move |states| &states[at.clone()])).copied().collect()
}

/// The output of the wanted states of one place.
fn state_name(at: usize) -> String {
    format!("hidden_state.{at}")
}

/// Section "text": input "embeddings" and those of the encoder, outputs "hidden_state.0" and so on (the wanted ones) and
/// "last_hidden_state" (behind the final norm, if it comes that far).
pub fn text_plan(
    encoder: &dyn TextEncoder,
    target: &Target,
    [prompts, tokens]: [usize; 2],
    state: HiddenState,
) -> Plan {
    let mut r = Recorder::new(target);
    r.section("text");
    let x = r.input("embeddings", encoder.sizes().shape(prompts as u32, tokens as u32), target.elem);
    let (states, last) = encoder.record(&mut r, x, state);
    for (at, state) in states.into_iter().enumerate() {
        r.output(&state_name(at), state);
    }
    if let Some(last) = last {
        r.output("last_hidden_state", last);
    }
    r.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_hidden() {
        assert_eq!(mask(&[1, 3], 4), [0.0, HIDDEN, HIDDEN, HIDDEN, 0.0, 0.0, 0.0, HIDDEN]);
    }

    #[test]
    fn states_of_a_token_are_side_by_side() {
        let all = [vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0, 7.0, 8.0]];
        assert_eq!(side_by_side(&all, 2), [1.0, 2.0, 5.0, 6.0, 3.0, 4.0, 7.0, 8.0]);
    }
}
