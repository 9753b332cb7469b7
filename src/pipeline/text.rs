//! Prompts to hidden states.

use super::{Stage, Watch, read_json};
use crate::device::{Device, Session, Weights};
use crate::error::{Error, Result};
use crate::model::clip::TextEncoder;
use crate::model::config::ClipTextConfig;
use crate::plan::{Plan, Recorder, Target};
use crate::quant::Format;
use crate::tokenizer::{Files, Tokenizer};
use crate::weights::{Checkpoint, Declarations, Folder, Hooks, join};

/// A tokenizer and its text encoder.
pub struct TextPart {
    pub tokenizer: Tokenizer,
    pub network: TextNetwork,
}

/// A text encoder, from token ids on.
pub struct TextNetwork {
    pub encoder: TextEncoder,
    weights: Weights,
}

impl TextPart {
    pub async fn load<F: Folder>(
        device: &Device,
        folder: &F,
        tokenizer: &str,
        component: &str,
        format: Format,
        hooks: Hooks<'_>,
    ) -> Result<TextPart> {
        let file = async |name: &str| folder.read(&join(tokenizer, name)).await;
        let tokenizer = Tokenizer::from_files(&Files {
            folder: tokenizer.to_owned(),
            tokenizer_json: file("tokenizer.json").await?,
            vocab_json: file("vocab.json").await?,
            merges_txt: file("merges.txt").await?,
            tokenizer_config: file("tokenizer_config.json").await?,
            special_tokens_map: file("special_tokens_map.json").await?,
        })?;
        let network = TextNetwork::load(device, folder, component, format, hooks).await?;
        let positions = network.encoder.config.max_position_embeddings;
        if tokenizer.length() != positions {
            return Err(Error::model(format!(
                "{}: max_position_embeddings is {positions}, but the tokenizer's model_max_length is {}",
                join(component, "config.json"),
                tokenizer.length()
            )));
        }
        Ok(TextPart { tokenizer, network })
    }

    /// The hidden states of the prompts, `[prompts, tokens, width]`.
    pub async fn encode(
        &self,
        device: &Device,
        target: &Target,
        prompts: &[&str],
        watch: &Watch<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<f32>> {
        let mut ids = vec![];
        for prompt in prompts {
            let encoded = self.tokenizer.encode(prompt);
            if let Some(rest) = encoded.overflow {
                let limit = self.tokenizer.length() - 2;
                let warning =
                    format!("the prompt has {} tokens, {limit} count; left out: {rest}", encoded.tokens);
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
            ids.push(encoded.ids);
        }
        let session = self.network.session(device, target, ids.len()).await?;
        session.write(device, "embeddings", &self.network.embeddings(&ids)?);
        session.run(device, "text", &watch.cancel, &|f| (watch.progress)(Stage::Text, f)).await?;
        session.read(device, "last_hidden_state").await
    }
}

impl TextNetwork {
    pub async fn load<F: Folder>(
        device: &Device,
        folder: &F,
        component: &str,
        format: Format,
        hooks: Hooks<'_>,
    ) -> Result<TextNetwork> {
        let path = join(component, "config.json");
        let config = ClipTextConfig::from_json(&read_json(folder, &path).await?, &path)?;
        let mut d = Declarations::new(format);
        let encoder = TextEncoder::declare(&mut d, &config);
        let checkpoint = Checkpoint::new(folder, component, "model");
        let weights = Weights::load(device, &d, &[checkpoint], hooks).await?;
        Ok(TextNetwork { encoder, weights })
    }

    /// A session for so many prompts: its input is [`Self::embeddings`], its section "text".
    pub async fn session(&self, device: &Device, target: &Target, prompts: usize) -> Result<Session> {
        let plan = text_plan(&self.encoder, target, prompts);
        plan.check("text encoder", &device.limits())?;
        Session::new(device, plan, &self.weights).await
    }

    /// The sums of token and position embeddings, gathered on the CPU.
    pub fn embeddings(&self, ids: &[Vec<u32>]) -> Result<Vec<f32>> {
        let width = self.encoder.config.hidden_size;
        let [tokens, positions] = self.encoder.tables().map(|t| self.weights.table(t));
        let mut sums = Vec::with_capacity(ids.len() * positions.len());
        for row in ids {
            for (&id, position) in row.iter().zip(positions.chunks_exact(width)) {
                let token = tokens.chunks_exact(width).nth(id as usize).ok_or_else(|| {
                    Error::model(format!(
                        "the tokenizer made the token {id}, but the text encoder's vocab_size is {}",
                        self.encoder.config.vocab_size
                    ))
                })?;
                sums.extend(token.iter().zip(position).map(|(t, p)| t + p));
            }
        }
        Ok(sums)
    }
}

/// Section "text": input "embeddings", output "last_hidden_state".
pub fn text_plan(encoder: &TextEncoder, target: &Target, prompts: usize) -> Plan {
    let mut r = Recorder::new(target);
    r.section("text");
    let x = r.input("embeddings", encoder.shape(prompts as u32), target.elem);
    let y = encoder.record(&mut r, x);
    r.output("last_hidden_state", y);
    r.finish()
}
