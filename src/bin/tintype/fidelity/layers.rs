//! The signal to noise of every matrix of a model, plain rounding beside the chosen scales.

use std::collections::BTreeMap;

use tintype::error::{Code, Result};
use tintype::quant::{Format, Matrix, Scales};
use tintype::weights::{Folder, Hooks, Sink, TensorInfo, stream};

/// The networks of a model, and how their files begin.
const NETWORKS: [(&str, &str); 4] = [
    ("text_encoder", "model"),
    ("text_encoder_2", "model"),
    ("unet", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
];

/// What is measured, in columns.
const WAYS: [(Format, Scales); 4] = [
    (Format::Q8, Scales::Plain),
    (Format::Q8, Scales::Chosen),
    (Format::Q4, Scales::Plain),
    (Format::Q4, Scales::Chosen),
];

/// Squares of the weights, and of their errors in each way.
#[derive(Clone, Copy, Default)]
struct Sums {
    matrices: usize,
    weights: u64,
    signal: f64,
    noise: [f64; WAYS.len()],
}

#[derive(Default)]
struct Layers {
    kinds: BTreeMap<&'static str, Sums>,
}

pub async fn print(folder: &dyn Folder) -> Result<()> {
    crate::say(
        "network         layers           matrices     weights   q8 plain chosen   q4 plain chosen (dB)",
    );
    let mut all = Sums::default();
    for (component, stem) in NETWORKS {
        let mut layers = Layers::default();
        match stream(folder, component, stem, &mut layers, Hooks::NONE).await {
            Err(e) if e.code == Code::NotFound => continue,
            done => done?,
        };
        for (kind, sums) in &layers.kinds {
            line(component, kind, sums);
            all.matrices += sums.matrices;
            all.weights += sums.weights;
            all.signal += sums.signal;
            (0..WAYS.len()).for_each(|i| all.noise[i] += sums.noise[i]);
        }
    }
    line("all", "", &all);
    Ok(())
}

fn line(component: &str, kind: &str, sums: &Sums) {
    let [a, b, c, d] = sums.noise.map(|noise| 10.0 * (sums.signal / noise.max(1e-30)).log10());
    let Sums { matrices, weights, .. } = sums;
    crate::say(format_args!(
        "{component:<15} {kind:<15} {matrices:>9} {weights:>11}   {a:>8.2} {b:>6.2}   {c:>8.2} {d:>6.2}"
    ));
}

impl Sink for Layers {
    /// Matrices that q4 can store; embedding tables are not quantised.
    fn wants(&mut self, info: &TensorInfo) -> Result<bool> {
        let wanted =
            info.shape.len() >= 2 && info.row_len().is_multiple_of(32) && !info.name.contains("embedding.");
        if wanted {
            self.kinds.entry(kind(info)).or_default().matrices += 1;
        }
        Ok(wanted)
    }

    fn slab(&mut self, info: &TensorInfo, _first: usize, _rows: usize, data: &[f32]) -> Result<()> {
        let sums = self.kinds.get_mut(kind(info)).expect("a kind that was wanted");
        let taps: usize = info.shape[2..].iter().product();
        let inputs = info.shape[1];
        for row in data.chunks_exact(info.row_len()) {
            sums.weights += row.len() as u64;
            sums.signal += row.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>();
            for (noise, (format, scales)) in sums.noise.iter_mut().zip(WAYS) {
                let m = Matrix { format, outputs: 4, inputs: inputs as u32, taps: taps as u32 };
                let mut blob = vec![0; m.bytes()];
                m.store_row(&mut blob, 0, row, |c| c, scales);
                m.unpack(&blob, 0, |k, [found, ..]| {
                    let error = f64::from(found - row[k % inputs * taps + k / inputs]);
                    *noise += error * error;
                });
            }
        }
        Ok(())
    }
}

fn kind(info: &TensorInfo) -> &'static str {
    let name = info.name.as_str();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    match () {
        () if has(&["attn1", "self_attn"]) => "self-attention",
        () if has(&["attn2"]) => "cross-attention",
        () if has(&[".ff.", ".mlp."]) => "feed-forward",
        () if has(&["time_emb", "add_embedding"]) => "time",
        () if info.shape.len() == 4 && info.shape[2] > 1 => "convolution",
        () => "others",
    }
}
