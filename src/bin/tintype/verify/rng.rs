//! The torch generator: names such as randn_seed42_n17, randn_f16_seed1_n64, randn_chain_seed0_3_5_16.

use serde_json::Value;
use tintype::error::{Error, Result};
use tintype::rng::{Generator, Halves};

use super::{Bench, Check};

pub fn run(bench: &Bench, case: &Value) -> Result<Vec<Check>> {
    let reference = bench.reference(case)?;
    let halves = Halves::of_torch(&bench.torch);
    let mut checks = vec![];
    for name in reference.names() {
        let got = draw(name, halves).ok_or_else(|| Error::unsupported(format!("rng: {name}")))?;
        checks.push(Check::new(name, &got, &reference.f32(name)?));
    }
    Ok(checks)
}

fn draw(name: &str, halves: Halves) -> Option<Vec<f32>> {
    let (kind, rest) = name.split_once("_seed")?;
    let mut words = rest.split('_');
    let mut generator = Generator::new(words.next()?.parse().ok()?).with_halves(halves);
    let words: Vec<&str> = words.collect();
    if kind == "randn_chain" {
        let sizes: Option<Vec<usize>> = words.iter().map(|w| w.parse().ok()).collect();
        return Some(sizes?.into_iter().flat_map(|n| generator.randn(n)).collect());
    }
    // "n17", or a shape such as "4x64x64", of which a part may be kept.
    let size = words[0];
    let n = match size.strip_prefix('n') {
        Some(n) => n.parse().ok()?,
        None => size.split('x').map(|d| d.parse::<usize>().ok()).product::<Option<usize>>()?,
    };
    let values: Vec<f32> = match kind {
        "rand" => generator.rand(n),
        "randn" => generator.randn(n),
        "randn_f64" => generator.randn_f64(n).into_iter().map(|v| v as f32).collect(),
        "randn_f16" => generator.randn_f16(n).into_iter().map(|v| v.to_f32()).collect(),
        "randn_bf16" => generator.randn_bf16(n).into_iter().map(|v| v.to_f32()).collect(),
        _ => return None,
    };
    Some(match words.get(1).copied() {
        None => values,
        Some(part) => {
            if let Some(n) = part.strip_prefix("first") {
                values[..n.parse().ok()?].to_vec()
            } else {
                let n: usize = part.strip_prefix("last")?.parse().ok()?;
                values[values.len() - n..].to_vec()
            }
        }
    })
}
