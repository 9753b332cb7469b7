//! The plans of the models: golden text, memory sharing recomputed, and what a full-size model costs.

use std::collections::BTreeMap;

use pollster::block_on;
use tintype::model::clip::{HiddenState, TextEncoder};
use tintype::model::config::{ClipTextConfig, UnetConfig, VaeConfig};
use tintype::model::unet::Unet;
use tintype::pipeline::{Job, Network, Networks, denoise_plan, read_json, text_plan, vae_plan};
use tintype::plan::{Binding, Plan, Target};
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::weights::{Declarations, DiskFolder};

use crate::models::folder::{golden, here};

/// The plans of a model in diffusers layout, of which only the configurations are read, with the
/// declarations that each was made from.
struct Plans {
    text_encoder: (Declarations, Plan),
    unet: (Declarations, Plan),
    decoder: (Declarations, Plan),
}

struct Wish {
    elem: Elem,
    taps: bool,
    images: u32,
    guided: bool,
    /// Height and width of the picture.
    size: [u32; 2],
}

const PLAIN: Wish = Wish { elem: Elem::F32, taps: false, images: 1, guided: false, size: [64, 64] };

fn plans(model: &std::path::Path, wish: Wish) -> Plans {
    let folder = DiskFolder::new(model);
    let json = |file| block_on(read_json(&folder, file)).unwrap();
    let text = ClipTextConfig::from_json(&json("text_encoder/config.json"), "text").unwrap();
    let unet = UnetConfig::from_json(&json("unet/config.json"), "unet").unwrap();
    let vae = VaeConfig::from_json(&json("vae/config.json"), "vae").unwrap();
    let Wish { elem, taps, images, guided, size } = wish;
    let target = Target { taps, ..Target::new(elem) };
    let latent = size.map(|s| s / vae.spatial_factor() as u32);
    let job = Job { images, guided, size: latent, tokens: text.max_position_embeddings as u32 };
    let mut declarations = [(); 3].map(|()| Declarations::new(Format::F16));
    let [d, e, f] = &mut declarations;
    let encoder = TextEncoder::declare(d, &text);
    let network = Unet::declare(e, &unet);
    let decoder = Network::decoder(f, &vae);
    let [d, e, f] = declarations;
    Plans {
        text_encoder: (
            d,
            text_plan(
                &encoder,
                &target,
                if guided { 2 * images } else { images } as usize,
                HiddenState::LAST,
            ),
        ),
        unet: (e, denoise_plan(&Networks::of(network, unet), &target, job)),
        decoder: (f, vae_plan(&decoder, &vae, &target, 1, latent)),
    }
}

/// A change of a plan shows in review. To accept one: `BLESS=1 cargo test --release plans::`.
#[test]
fn golden_text() {
    let mut wrong = vec![];
    for model in ["sd-turbo-like", "sdxs-like"] {
        let p = plans(&golden(model), PLAIN);
        for (part, (_, plan)) in [("text_encoder", p.text_encoder), ("unet", p.unet), ("decoder", p.decoder)]
        {
            let file = here("tests/plans").join(format!("{model}.{part}.txt"));
            let text = plan.to_string();
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(file, text).unwrap();
                continue;
            }
            // On Windows git may have made it CRLF.
            let golden = std::fs::read_to_string(&file).unwrap_or_default().replace('\r', "");
            if golden != text {
                wrong.push(format!("{}\n{}", file.display(), difference(&golden, &text)));
            }
        }
    }
    assert!(wrong.is_empty(), "plans changed (BLESS=1 accepts them):\n{}", wrong.join("\n"));
}

/// The lines between the first and the last that differ, the old ones with -, the new ones with +.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let side = |sign: &str, lines: &[&str]| -> String {
        let middle = &lines[same..lines.len() - tail];
        let shown: String = middle.iter().take(12).map(|l| format!("{sign} {l}\n")).collect();
        if middle.len() > 12 { format!("{shown}{sign} ... {} more\n", middle.len() - 12) } else { shown }
    };
    format!("from line {}:\n{}{}", same + 1, side("-", &old), side("+", &new))
}

#[test]
fn differences_are_shown_alone() {
    let shown = difference("a\nb\nc\nd\n", "a\nx\ny\nc\nd\n");
    assert_eq!(shown, "from line 2:\n- b\n+ x\n+ y\n");
    assert_eq!(difference("a\nb\n", "a\n"), "from line 2:\n- b\n");
}

/// The first and last step that use each tensor, and the sections in which it is used. Written without a
/// look at plan/memory.rs: it is that file that is tested.
struct Life {
    first: usize,
    last: usize,
    sections: Vec<&'static str>,
}

fn lives(plan: &Plan) -> BTreeMap<u32, Life> {
    let mut lives: BTreeMap<u32, Life> = BTreeMap::new();
    for (i, step) in plan.steps.iter().enumerate() {
        let section =
            plan.sections.iter().find(|s| s.steps.contains(&i)).expect("a section for each step").name;
        for binding in &step.bindings {
            let Binding::Tensor(id) = binding else { continue };
            let life = lives.entry(id.0).or_insert(Life { first: i, last: i, sections: vec![] });
            life.last = i;
            if !life.sections.contains(&section) {
                life.sections.push(section);
            }
        }
    }
    lives
}

fn shares_rightly(what: &str, plan: &Plan) {
    let lives = lives(plan);
    let kept: Vec<u32> = plan.inputs.values().chain(plan.outputs.values()).map(|t| t.id.0).collect();
    let alone = |t: u32| kept.contains(&t) || lives.get(&t).is_none_or(|l| l.sections.len() > 1);
    let mut tenants: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    assert_eq!(plan.assignment.len(), plan.tensors.len());
    for (t, &buffer) in plan.assignment.iter().enumerate() {
        assert!(plan.tensors[t].bytes() <= plan.buffers[buffer], "{what}: tensor {t} does not fit");
        tenants.entry(buffer).or_default().push(t as u32);
    }
    for (buffer, tenants) in &tenants {
        for (i, a) in tenants.iter().enumerate() {
            for b in &tenants[..i] {
                assert!(!alone(*a) && !alone(*b), "{what}: {a} or {b} in buffer {buffer} must be alone");
                let (a_life, b_life) = (&lives[a], &lives[b]);
                assert!(
                    a_life.last < b_life.first || b_life.last < a_life.first,
                    "{what}: {a} and {b} share buffer {buffer} and live together"
                );
            }
        }
    }
    assert_eq!(tenants.len(), plan.buffers.len(), "{what}: a buffer without a tensor");
}

#[test]
fn tensors_that_live_together_share_nothing() {
    for model in ["sd-turbo-like", "sdxs-like"] {
        for (taps, guided) in [(false, false), (true, false), (false, true)] {
            let wish = Wish { taps, guided, images: 2, size: [88, 56], elem: Elem::Pack16 };
            let p = plans(&golden(model), wish);
            for (part, (_, plan)) in [("text", p.text_encoder), ("unet", p.unet), ("decoder", p.decoder)] {
                shares_rightly(&format!("{model} {part}, taps {taps}, guided {guided}"), &plan);
                // That something is shared at all.
                if !taps {
                    let used: u64 = plan.tensors.iter().map(|t| t.bytes()).sum();
                    assert!(plan.buffers.iter().sum::<u64>() < used / 2, "{model} {part}");
                }
            }
        }
    }
}

/// Inputs can be written and outputs read whenever the caller likes, sections run in any number.
#[test]
fn sections_follow_each_other() {
    let plan = plans(&golden("sd-turbo-like"), PLAIN).unet.1;
    let names: Vec<&str> = plan.sections.iter().map(|s| s.name).collect();
    assert_eq!(names, ["context", "pictures", "time", "control", "unet", "step"]);
    let mut end = 0;
    for section in &plan.sections {
        assert_eq!(section.steps.start, end);
        end = section.steps.end;
    }
    assert_eq!(end, plan.steps.len());
    let across = lives(&plan).into_values().filter(|l| l.sections.len() > 1).count();
    // 16 contexts, the time projections, the latents, the model's output.
    assert!(across >= 4, "{across} tensors are used across sections");
}

fn parameters(d: &Declarations) -> usize {
    d.specs.iter().flat_map(|s| &s.parts).map(|p| p.shape.iter().product::<usize>()).sum()
}

/// Stabilityai's SD-Turbo at 512x512 in halves: published numbers of parameters, and FLOPs that torch counts.
#[test]
fn the_full_size() {
    let p = plans(&here("tests/plans/sd-turbo"), Wish { elem: Elem::F16, size: [512, 512], ..PLAIN });
    let [unet, decoder] = [&p.unet.1, &p.decoder.1].map(Plan::summary);
    println!("text encoder {:?}\nU-Net {unet:?}\ndecoder {decoder:?}", p.text_encoder.1.summary());
    let near = |flops: u64, giga: f64| (flops as f64 / 1e9 / giga - 1.0).abs() <= 0.02;
    assert!(near(unet.model_flops, 804.0), "{unet:?}");
    assert!(near(decoder.model_flops, 2515.0), "{decoder:?}");
    for s in [unet, decoder] {
        // Padding to fours costs little at this size.
        assert!(s.executed_flops >= s.model_flops && s.executed_flops < s.model_flops / 100 * 102, "{s:?}");
    }
    assert!(unet.dispatches <= 500, "{unet:?}");
    assert!(unet.peak_bytes <= 160_000_000, "{unet:?}");
    assert!(decoder.peak_bytes <= 420_000_000, "{decoder:?}");

    assert_eq!(parameters(&p.unet.0), 865_910_724);
    assert_eq!(parameters(&p.decoder.0), 49_490_199);
    // OpenCLIP-H without its last layer: 340,387,840.
    assert_eq!(parameters(&p.text_encoder.0), 340_387_840);
    // Each parameter is on the GPU once, in halves, with little beside; embedding tables are not.
    let weights = parameters(&p.unet.0) as u64 * 2;
    assert!((weights..weights / 1000 * 1002).contains(&unet.weight_bytes), "{unet:?}");
}

/// The costs of a picture of another size, batch or storage are what they must be.
#[test]
fn costs_scale() {
    let of = |wish| {
        let p = plans(&golden("sdxs-like"), wish);
        [p.text_encoder.1, p.unet.1, p.decoder.1].map(|plan| plan.summary())
    };
    let one = of(PLAIN);
    let two = of(Wish { images: 2, ..PLAIN });
    let guided = of(Wish { guided: true, ..PLAIN });
    let halves = of(Wish { elem: Elem::F16, ..PLAIN });
    assert_eq!(two[1].model_flops, 2 * one[1].model_flops);
    assert_eq!(guided[1].model_flops, 2 * one[1].model_flops);
    assert_eq!(guided[1].dispatches, one[1].dispatches);
    // Convolutions alone: four times the pixels are four times the work.
    let large = of(Wish { size: [128, 128], ..PLAIN });
    assert_eq!(large[2].model_flops, 4 * one[2].model_flops);
    for (half, full) in halves.iter().zip(&one) {
        assert_eq!(half.model_flops, full.model_flops);
        assert!(half.peak_bytes < full.peak_bytes * 3 / 4, "{half:?} {full:?}");
    }
}
