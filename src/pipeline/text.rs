//! Prompts to hidden states and pooled vectors.

mod network;

use std::ops::Range;

use super::family::Encoder;
use super::origin::Origin;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::host::Cancel;
use crate::model::text::{TextSizes, TextUse};
use crate::plan::{Faults, Plan};
use crate::prompt::{self, Chunk};
use crate::quant::Format;
use crate::tokenizer::{Files, Tokenizer};
use crate::warning::{Topic, Warning};
use crate::weights::{Embedding, Hooks, join};
pub use network::{TextNetwork, encoder_target, text_plan};

/// A tokenizer and its text encoder.
pub struct TextPart {
    pub tokenizer: Tokenizer,
    pub network: TextNetwork,
    /// Whether the pooled state is wanted as it is, without a projection.
    pools: bool,
    /// Whether padding behind all prompts is left out.
    cut: bool,
    /// What the tokenizer reads of a prompt.
    turn: fn(&str) -> String,
    learned: Vec<Learned>,
}

/// A learned token.
struct Learned {
    /// How prompts may write it.
    names: Vec<String>,
    /// Its file's name, until that is one of them.
    stem: Option<String>,
    ids: Range<u32>,
}

impl TextPart {
    pub async fn load(
        device: &Device,
        origin: &Origin<'_>,
        Encoder { component, tokenizer, pools, cut, turn, .. }: &Encoder,
        usage: TextUse,
        format: Format,
        hooks: Hooks<'_>,
    ) -> Result<TextPart> {
        let component = component.folder;
        let file = async |name: &str| origin.folder.read(&join(tokenizer, name)).await;
        let mut files = Files {
            folder: (*tokenizer).to_owned(),
            tokenizer_json: file("tokenizer.json").await?,
            tokenizer_config: file("tokenizer_config.json").await?,
            special_tokens_map: file("special_tokens_map.json").await?,
            ..Files::default()
        };
        if !files.is_beyond_clip()? {
            files.vocab_json = file("vocab.json").await?;
            files.merges_txt = file("merges.txt").await?;
        } else if files.tokenizer_json.is_none() {
            files.sentencepiece = file("spiece.model").await?;
        }
        let tokenizer = Tokenizer::load(&files).await?;
        let network = TextNetwork::load(device, origin, component, usage, format, hooks).await?;
        let positions = network.encoder.sizes().max_position_embeddings;
        if let Some(positions) = positions.filter(|positions| tokenizer.length() != *positions) {
            return Err(Error::model(format!(
                "{}: max_position_embeddings is {positions}, but the tokenizer's model_max_length is {}",
                join(component, "config.json"),
                tokenizer.length()
            )));
        }
        Ok(TextPart { tokenizer, network, pools: *pools, cut: *cut, turn: *turn, learned: vec![] })
    }

    /// Numbers of pooled text that a prompt has of it.
    pub(super) fn pooled_width(&self) -> Option<usize> {
        let TextSizes { hidden_size, projection_dim, .. } = self.network.encoder.sizes();
        projection_dim.or(self.pools.then_some(hidden_size))
    }

    /// Tokens that a text in front of a prompt adds to it: diffusers counts two of them as the prompt's own.
    pub(super) fn tokens_of(&self, front: &str) -> Result<usize> {
        if front.is_empty() {
            return Ok(0);
        }
        let around = self.tokenizer.length() - self.tokenizer.room();
        Ok((self.tokenizer.tokens(front)?.len() + around).saturating_sub(2))
    }

    /// Whether the network reads as many tokens as there are, in one piece.
    pub(super) fn reads_any_number(&self) -> bool {
        self.network.encoder.sizes().max_position_embeddings.is_none()
    }

    /// Teaches it a token of textual inversion: `vectors` is `[n, width]`.
    pub(super) fn learn(&mut self, embedding: &Embedding, vectors: &[f32]) -> Result<()> {
        let TextNetwork { encoder, learned, .. } = &mut self.network;
        let TextSizes { vocab_size, hidden_size, .. } = encoder.sizes();
        let id = |length: usize| (vocab_size + length / hidden_size) as u32;
        let ids = id(learned.len())..id(learned.len() + vectors.len());
        self.tokenizer.add_name(&embedding.token, ids.clone())?;
        let (names, stem) = (vec![embedding.token.clone()], embedding.stem.clone());
        self.learned.push(Learned { names, stem, ids });
        learned.extend(vectors);
        Ok(())
    }

    /// Lets files' names stand for the learned tokens too, where they are nobody's own.
    pub(super) fn add_stems(&mut self) {
        for token in &mut self.learned {
            let stem = token.stem.take().filter(|stem| self.tokenizer.add_alias(stem, token.ids.clone()));
            token.names.extend(stem);
        }
    }

    /// The names of every learned token, with whether one of these chunks has it.
    pub(super) fn learned<'a>(
        &'a self,
        rows: &'a [Vec<Chunk>],
    ) -> impl Iterator<Item = (&'a [String], bool)> {
        self.learned.iter().map(|token| {
            (&token.names[..], rows.iter().flatten().any(|chunk| chunk.ids.contains(&token.ids.start)))
        })
    }

    /// A prompt with what stands in front of it as chunks of tokens: one, without weights, unless it is `weighted`. What was left out, and what
    /// other tools would not have read as words, goes to `warnings`, once.
    pub fn chunks(
        &self,
        (front, prompt): (&str, &str),
        weighted: bool,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<Chunk>> {
        let mut warn = |message: String| {
            let warning = Warning::new(Topic::Prompt, message);
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        };
        prompt::foreign(prompt, weighted).into_iter().for_each(&mut warn);
        let prompt = &(front.to_owned() + &(self.turn)(prompt));
        if weighted {
            let mut chunks = prompt::chunks(&self.tokenizer, &prompt::parse(prompt))?;
            if self.reads_any_number() && chunks.len() > 1 {
                let limit = self.tokenizer.room();
                warn(format!("the prompt is longer than {limit} tokens, which count for this text encoder"));
                chunks.truncate(1);
            }
            return Ok(chunks);
        }
        let encoded = self.tokenizer.encode(prompt)?;
        if let Some(rest) = encoded.overflow {
            let limit = self.tokenizer.room();
            warn(format!("the prompt has {} tokens, {limit} count; left out: {rest}", encoded.tokens));
        }
        Ok(vec![Chunk { weights: vec![1.0; encoded.ids.len()], ids: encoded.ids }])
    }

    /// Leaves out padding behind the longest of these prompts, where nothing reads it.
    pub(super) fn cut(&self, rows: &mut [Vec<Chunk>]) {
        if self.cut {
            let lengths = rows.iter().flatten().map(|chunk| self.tokenizer.unpadded(&chunk.ids));
            let longest = lengths.max().unwrap_or(0);
            for chunk in rows.iter_mut().flatten() {
                chunk.ids.truncate(longest);
                chunk.weights.truncate(longest);
            }
        }
    }

    /// What the network makes of prompts of equally many chunks each, by its plan for so many chunks.
    pub async fn encode(
        &self,
        plan: Plan,
        prompts: &[Vec<Chunk>],
        cancel: &Cancel,
        progress: &dyn Fn(f64),
    ) -> Result<Encoded> {
        let network = &self.network;
        let projection_dim = network.encoder.sizes().projection_dim;
        let ids: Vec<Vec<u32>> = prompts.iter().flatten().map(|chunk| chunk.ids.clone()).collect();
        let tokens = ids.first().map_or(0, Vec::len);
        let session = network.prepare(plan).await?;
        session.write("embeddings", &network.embeddings(&ids)?);
        let lengths: Vec<usize> = ids.iter().map(|ids| self.tokenizer.unpadded(ids)).collect();
        network.write_mask(&session, &lengths);
        let counts = |length: &usize| {
            let length = *length;
            (0..tokens).map(move |at| if at < length { 1.0 } else { 0.0 })
        };
        let mask =
            if network.encoder.is_masked() { lengths.iter().flat_map(counts).collect() } else { vec![] };
        session.run("text", cancel, progress).await?;
        let (mut states, halves) = network.states(&session).await?;
        let width = states.len() / ids.len() / tokens;
        let mut faults = Faults::of(&states, halves);
        let each = states.chunks_exact_mut(tokens * width);
        for (hidden, chunk) in each.zip(prompts.iter().flatten()) {
            prompt::weigh(hidden, &chunk.weights);
        }
        let mut pooled = vec![];
        if let Some(dim) = self.pooled_width() {
            let last = session.read("last_hidden_state").await?;
            faults = faults.and(Faults::of(&last, halves));
            let all = match projection_dim {
                Some(_) => network.text_embeds(&last, &ids),
                None => network.pooled(&last, &ids),
            };
            faults = faults.and(Faults::of(&all, false));
            // A prompt's first chunk speaks for it.
            let step = prompts.first().map_or(1, Vec::len);
            pooled = all.chunks_exact(dim).step_by(step).flatten().copied().collect();
        }
        Ok(Encoded { states, prompts: prompts.len(), width, mask, pooled, faults })
    }
}

/// What a text encoder makes of prompts.
#[derive(Default)]
pub struct Encoded {
    /// `[prompts, tokens of all chunks, width]`
    pub states: Vec<f32>,
    pub prompts: usize,
    pub width: usize,
    /// `[prompts, tokens]`: 1 for a token of a prompt, 0 for padding; empty where the encoder does not tell them apart.
    pub mask: Vec<f32>,
    /// `[prompts, projection_dim]`; empty if the encoder has no projection.
    pub pooled: Vec<f32>,
    /// What was wrong with the values that the network made.
    pub faults: Faults,
}

impl Encoded {
    /// One encoder's states of more prompts.
    pub fn above(self, other: Encoded) -> Encoded {
        Encoded {
            states: [self.states, other.states].concat(),
            prompts: self.prompts + other.prompts,
            width: self.width,
            mask: [self.mask, other.mask].concat(),
            pooled: [self.pooled, other.pooled].concat(),
            faults: self.faults.and(other.faults),
        }
    }

    /// The first token of each prompt, and as many of the last ones as make so many.
    pub fn first_and_last(self, tokens: usize) -> Encoded {
        let of = |values: &[f32], each: usize| -> Vec<f32> {
            let rows = values.chunks_exact(values.len() / self.prompts);
            rows.flat_map(|row| [&row[..each], &row[row.len() - (tokens - 1) * each..]].concat()).collect()
        };
        Encoded { states: of(&self.states, self.width), mask: of(&self.mask, 1), ..self }
    }

    /// Two encoders' states side by side, and so the pooled vectors of those that have any.
    pub fn beside(self, other: Encoded) -> Encoded {
        let rows = self.states.chunks_exact(self.width).zip(other.states.chunks_exact(other.width));
        let states = rows.flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
        Encoded {
            states,
            prompts: self.prompts,
            width: self.width + other.width,
            mask: self.mask,
            pooled: {
                let of = |pooled: &[f32], i: usize| {
                    let each = pooled.len() / self.prompts;
                    pooled[i * each..][..each].to_vec()
                };
                let prompts = 0..self.prompts;
                prompts.flat_map(|i| [of(&self.pooled, i), of(&other.pooled, i)].concat()).collect()
            },
            faults: self.faults.and(other.faults),
        }
    }
}
