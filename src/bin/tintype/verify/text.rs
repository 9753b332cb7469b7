//! Text encoders: hidden states, last hidden state, pooled output.

use serde_json::Value;
use tintype::error::Result;
use tintype::host::Cancel;
use tintype::model::text::HiddenState;
use tintype::pipeline::{Origin, TextPart};
use tintype::weights::{DiskFolder, Hooks};

use super::{Bench, Check};

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let (folder, component) = bench.component(case)?;
    let folder = DiskFolder::new(&folder);
    let part = TextPart::load(
        &bench.device,
        &Origin::of(&folder),
        &component.replace("text_encoder", "tokenizer"),
        component,
        bench.load.weights,
        Hooks::NONE,
    )
    .await?;
    let tokens = reference.shape("in.input_ids")?[1];
    let ids: Vec<Vec<u32>> = reference
        .f64("in.input_ids")?
        .chunks_exact(tokens)
        .map(|row| row.iter().map(|&id| id as u32).collect())
        .collect();
    let session = part.network.session(&bench.tapped(), ids.len(), HiddenState::LAST).await?;
    session.write("embeddings", &part.network.embeddings(&ids)?);
    session.run("text", &Cancel::default(), &|_| {}).await?;
    let last = session.read("last_hidden_state").await?;
    let mut checks =
        vec![Check::new("out.last_hidden_state", &last, &reference.f32("out.last_hidden_state")?)];
    let network = &part.network;
    let (name, pooled) = match network.encoder.sizes().projection_dim {
        Some(_) => ("out.text_embeds", network.text_embeds(&last, &ids)),
        None => ("out.pooler_output", network.pooled(&last, &ids)),
    };
    checks.push(Check::new(name, &pooled, &reference.f32(name)?));
    for name in
        reference.names().filter(|n| n.starts_with("hidden_states.") || n.starts_with("out.clip_skip_"))
    {
        // The file holds the first prompts only.
        let want = reference.f32(name)?;
        let got = session.read(name.trim_start_matches("out.")).await?;
        checks.push(Check::new(name, &got[..want.len().min(got.len())], &want));
    }
    Ok(checks)
}
