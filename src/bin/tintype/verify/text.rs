//! Text encoders: hidden states, last hidden state, pooled output.

use serde_json::Value;
use tintype::error::Result;
use tintype::host::Cancel;
use tintype::model::text::HiddenState;
use tintype::pipeline::{Origin, TextNetwork, TextUse};
use tintype::weights::{DiskFolder, Hooks};

use super::{Bench, Check};

pub async fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let (folder, component) = bench.component(case)?;
    let folder = DiskFolder::new(&folder);
    let (device, origin) = (&bench.device, Origin::of(&folder));
    let usage = TextUse { masked: reference.has("in.attention_mask"), ..TextUse::ANY };
    let format = bench.load.weights;
    let network = TextNetwork::load(device, &origin, component, usage, format, Hooks::NONE).await?;
    let tokens = reference.shape("in.input_ids")?[1];
    let ids: Vec<Vec<u32>> = reference
        .f64("in.input_ids")?
        .chunks_exact(tokens)
        .map(|row| row.iter().map(|&id| id as u32).collect())
        .collect();
    let session = network.session(&bench.tapped(), [ids.len(), tokens], HiddenState::LAST).await?;
    session.write("embeddings", &network.embeddings(&ids)?);
    if reference.has("in.attention_mask") {
        // Padding is on the right.
        let mask = reference.f64("in.attention_mask")?;
        let lengths = mask.chunks_exact(tokens).map(|row| row.iter().sum::<f64>() as usize);
        network.write_mask(&session, &lengths.collect::<Vec<_>>());
    }
    session.run("text", &Cancel::default(), &|_| {}).await?;
    let last = session.read("last_hidden_state").await?;
    let mut checks =
        vec![Check::new("out.last_hidden_state", &last, &reference.f32("out.last_hidden_state")?)];
    if reference.has("out.text_embeds") {
        let embeds = network.text_embeds(&last, &ids);
        checks.push(Check::new("out.text_embeds", &embeds, &reference.f32("out.text_embeds")?));
    } else if reference.has("out.pooler_output") {
        let pooled = network.pooled(&last, &ids);
        checks.push(Check::new("out.pooler_output", &pooled, &reference.f32("out.pooler_output")?));
    }
    let kept = |path: &str| session.plan().outputs.contains_key(path);
    let states = |n: &&str| n.starts_with("hidden_states.") || n.starts_with("out.clip_skip_");
    let modules = |n: &&str| n.strip_prefix("act.").is_some_and(kept);
    for name in reference.names().filter(|n| states(n) || modules(n)) {
        // The file holds the first prompts only.
        let want = reference.f32(name)?;
        let got = session.read(name.trim_start_matches("out.").trim_start_matches("act.")).await?;
        checks.push(Check::new(name, &got[..want.len().min(got.len())], &want));
    }
    Ok(checks)
}
