//! The plans of the models: golden text, memory sharing recomputed, and what a full-size model costs.

mod published;

use std::collections::BTreeMap;

use pollster::block_on;
use tintype::device::program;
use tintype::gpu::{Binding, Program, Summary};
use tintype::model::clip::ClipTextModel;
use tintype::model::config::{ClipTextConfig, UnetConfig, VaeConfig};
use tintype::model::denoiser::{Job, denoise_plan};
use tintype::model::text::HiddenState;
use tintype::model::unet::Networks;
use tintype::model::unet::Unet;
use tintype::pipeline::{self, Network, read_json, text_plan, vae_plan};
use tintype::plan::{Plan, Target};
use tintype::quant::Format;
use tintype::shape::Elem;
use tintype::weights::{Declarations, DiskFolder};

use crate::models::folder::{Temp, golden, here};

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
    /// Height and width of the image.
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
    let job =
        Job { images, guided, size: latent, tokens: text.max_position_embeddings as u32, ..Job::default() };
    let mut declarations = [(); 3].map(|()| Declarations::new(Format::F16));
    let [d, e, f] = &mut declarations;
    let encoder = ClipTextModel::declare(d, &text);
    let network = Unet::declare(e, &unet);
    let decoder = Network::decoder(f, &vae);
    let [d, e, f] = declarations;
    Plans {
        text_encoder: (
            d,
            text_plan(
                &encoder,
                &target,
                [if guided { 2 * images } else { images } as usize, text.max_position_embeddings],
                HiddenState::LAST,
            ),
        ),
        unet: (e, denoise_plan(&Networks::of(network, unet), &target, job)),
        decoder: (f, vae_plan(&decoder, &vae, &target, 1, latent)),
    }
}

fn costs(plan: &Plan) -> Summary {
    program(plan).summary()
}

/// What a loaded model would do (`force_upcast`) is what its plan says.
#[test]
fn an_autoencoder_that_computes_in_f32_is_planned_so() {
    let stored = |class: &str, target: Elem| {
        let model = Temp::model("sdxl-like");
        model.set("vae/config.json", &[("force_upcast", Some(true.into()))]);
        model.set("model_index.json", &[("_class_name", Some(class.into()))]);
        let folder = DiskFolder::new(model.0.clone());
        let all = block_on(pipeline::plans(&folder, Format::F16, &Target::new(target), [64; 2])).unwrap();
        ["unet", "decoder", "encoder"].map(|name| {
            let plan = &all.networks.iter().find(|p| p.name == name).unwrap().plan;
            plan.named(if name == "unet" { "model_output" } else { "sample" }).elem
        })
    };
    let (half, full) = (Elem::F16, Elem::F32);
    assert_eq!(stored("StableDiffusionXLPipeline", half), [half, full, full]);
    assert_eq!(stored("StableDiffusionXLPipeline", full), [full; 3]);
    assert_eq!(stored("StableDiffusionPipeline", half), [half; 3]);
}

/// A change of a plan shows in review. To accept one: `BLESS=1 cargo test --release plans::`.
#[test]
fn golden_text() {
    let mut wrong = vec![];
    // What one model has as another one does is left out.
    for (model, parts) in [
        ("sd-turbo-like", &["text_encoder", "unet", "decoder", "encoder"][..]),
        ("sdxs-like", &["text_encoder", "unet", "decoder", "encoder"]),
        ("sd15-like", &["unet"]),
        ("lcm-like", &["unet"]),
        ("sdxl-like", &["text_encoder", "text_encoder_2", "unet"]),
    ] {
        let folder = DiskFolder::new(golden(model));
        let all = block_on(pipeline::plans(&folder, Format::F16, &Target::new(Elem::F32), [64; 2])).unwrap();
        for part in parts {
            let planned = all.networks.iter().find(|p| p.name == *part).expect(part);
            wrong.extend(accept(&format!("{model}.{part}.txt"), &program(&planned.plan).to_string()));
        }
    }
    assert!(wrong.is_empty(), "plans changed (BLESS=1 accepts them):\n{}", wrong.join("\n"));
}

/// Compares with a file of tests/plans, or writes it. Returns what differs.
fn accept(file: &str, text: &str) -> Option<String> {
    let file = here("tests/plans").join(file);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, text).unwrap();
        return None;
    }
    // On Windows git may have made it CRLF.
    let golden = std::fs::read_to_string(&file).unwrap_or_default().replace('\r', "");
    (golden != text).then(|| format!("{}\n{}", file.display(), difference(&golden, text)))
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

/// The first and last dispatch that use each tensor, and the sections in which it is used. Written without a
/// look at plan/memory.rs: it is that file that is tested.
struct Life {
    first: usize,
    last: usize,
    sections: Vec<&'static str>,
}

fn lives(program: &Program) -> BTreeMap<u32, Life> {
    let mut lives: BTreeMap<u32, Life> = BTreeMap::new();
    for (i, dispatch) in program.dispatches.iter().enumerate() {
        let mut sections = program.plan.sections.iter();
        let section = sections.find(|s| program.of(s.steps.clone()).contains(&i));
        let section = section.expect("a section for each dispatch").name;
        for binding in &dispatch.bindings {
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

fn shares_rightly(what: &str, program: &Program) {
    let (plan, lives) = (&program.plan, lives(program));
    let (sizes, assignment) = (&program.buffers.sizes, &program.buffers.assignment);
    let kept: Vec<u32> = plan.inputs.values().chain(plan.outputs.values()).map(|t| t.id.0).collect();
    let alone = |t: u32| kept.contains(&t) || lives.get(&t).is_none_or(|l| l.sections.len() > 1);
    let mut tenants: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    assert_eq!(assignment.len(), program.tensors.len());
    for (t, &buffer) in assignment.iter().enumerate() {
        assert!(program.tensors[t].bytes() <= sizes[buffer], "{what}: tensor {t} does not fit");
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
    assert_eq!(tenants.len(), sizes.len(), "{what}: a buffer without a tensor");
}

#[test]
fn tensors_that_live_together_share_nothing() {
    for model in ["sd-turbo-like", "sdxs-like"] {
        for (taps, guided) in [(false, false), (true, false), (false, true)] {
            let wish = Wish { taps, guided, images: 2, size: [88, 56], elem: Elem::Pack16 };
            let p = plans(&golden(model), wish);
            for (part, (_, plan)) in [("text", p.text_encoder), ("unet", p.unet), ("decoder", p.decoder)] {
                let program = program(&plan);
                shares_rightly(&format!("{model} {part}, taps {taps}, guided {guided}"), &program);
                // That something is shared at all.
                if !taps {
                    let used: u64 = program.tensors.iter().map(|t| t.bytes()).sum();
                    assert!(program.summary().peak_bytes < used / 2, "{model} {part}");
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
    let across = lives(&program(&plan)).into_values().filter(|l| l.sections.len() > 1).count();
    // 16 contexts, the time projections, the latents, the model's output.
    assert!(across >= 4, "{across} tensors are used across sections");
}

/// Stabilityai's SD-Turbo at 512x512 in halves: what its plans need, and where its weights are.
#[test]
fn the_full_size() {
    let p = plans(&here("tests/plans/configs/sd-turbo"), Wish { elem: Elem::F16, size: [512, 512], ..PLAIN });
    let [unet, decoder] = [&p.unet.1, &p.decoder.1].map(costs);
    println!("text encoder {:?}\nU-Net {unet:?}\ndecoder {decoder:?}", costs(&p.text_encoder.1));
    assert!(unet.dispatches <= 500, "{unet:?}");
    assert!(unet.peak_bytes <= 160_000_000, "{unet:?}");
    assert!(decoder.peak_bytes <= 420_000_000, "{decoder:?}");

    // Each parameter is on the GPU once, in halves, with little beside; embedding tables are not.
    let weights = p.unet.0.parameters() * 2;
    assert!((weights..weights / 1000 * 1002).contains(&unet.weight_bytes), "{unet:?}");
}

/// The costs of an image of another size, batch or storage are what they must be.
#[test]
fn costs_scale() {
    let of = |wish| {
        let p = plans(&golden("sdxs-like"), wish);
        [p.text_encoder.1, p.unet.1, p.decoder.1].map(|plan| costs(&plan))
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
