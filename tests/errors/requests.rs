//! Requests that no model can fulfil.

use tintype::error::Code::{self, InvalidOption, LimitTooLow};
use tintype::error::Result;
use tintype::pipeline::{LoadOptions, Request, Seeds};
use tintype::plan::{Limits, Recorder, Target};
use tintype::shape::{Elem, Shape};

use super::{PROMPT, draw, refused_by_command, wanted};
use crate::harness::on_device;
use crate::models::folder::golden;

struct Case {
    /// For the command; empty where only a library can ask for such a thing.
    args: &'static [&'static str],
    request: fn(&mut Request),
    code: Code,
    words: &'static [&'static str],
}

const CASES: &[Case] = &[
    case(&["--size", "60x64"], |r| r.size = Some([60, 64]), &["width", "multiple of 8", "60"]),
    case(&["--size", "64x4"], |r| r.size = Some([64, 4]), &["height", "multiple of 8", "4"]),
    case(&["--size", "0x64"], |r| r.size = Some([0, 64]), &["width", "0"]),
    case(&["--size", "64x16384"], |r| r.size = Some([64, 16384]), &["height", "8192", "16384"]),
    case(&["--steps", "0"], |r| r.steps = Some(0), &["steps", "1 and 1000", "0"]),
    case(&["--steps", "1001"], |r| r.steps = Some(1001), &["steps", "1 and 1000", "1001"]),
    case(
        &["--scheduler", "lcm", "--steps", "51"],
        |r| (r.scheduler, r.steps) = (Some("lcm".to_owned()), Some(51)),
        &["steps", "1 and 50", "51"],
    ),
    case(&["--guidance", "NaN"], |r| r.guidance = Some(f64::NAN), &["guidance", "0 to 100", "NaN"]),
    case(&["--guidance=-1", "--json"], |r| r.guidance = Some(-1.0), &["guidance", "0 to 100", "-1"]),
    case(&["--guidance", "inf"], |r| r.guidance = Some(f64::INFINITY), &["guidance", "0 to 100", "inf"]),
    case(
        &["--scheduler", "unipc"],
        |r| r.scheduler = Some("unipc".to_owned()),
        &["scheduler", "\"unipc\"", "\"euler\"", "\"lcm\""],
    ),
    case(&[], |r| r.prompts.clear(), &["prompts", "at least one"]),
    case(&[], |r| r.seeds = Seeds::Each(vec![1, 2]), &["seeds", "1 prompts", "2"]),
    case(&[], |r| r.seeds = Seeds::Each(vec![]), &["seeds", "1 prompts", "0"]),
];

const fn case(
    args: &'static [&'static str],
    request: fn(&mut Request),
    words: &'static [&'static str],
) -> Case {
    Case { args, request, code: InvalidOption, words }
}

fn request(change: fn(&mut Request)) -> Request {
    let mut request = Request::new(PROMPT, 1);
    change(&mut request);
    request
}

#[test]
fn out_of_range() {
    let model = golden("sdxs-like");
    for case in CASES {
        let what = case.words.join(" ");
        let path = model.clone();
        let result = on_device(move |gpu| draw(gpu, &path, &request(case.request)));
        let e = wanted(&what, result, case.code, case.words);
        if !case.args.is_empty() {
            refused_by_command(&what, &model, case.args, &[&e.to_string()]);
        }
    }
}

/// The widest tensors have 12 channels of f32 for each pixel, and 80 for each of the latents' 1024 x 1024.
#[test]
fn too_large_for_this_gpu() {
    let model = golden("sdxs-like");
    let binding = on_device(|gpu| gpu.limits().binding);
    if 1024 * 1024 * 80 * 4 <= binding {
        // This one would really be drawn. The next test has limits of its own.
        return;
    }
    let path = model.clone();
    let result = on_device(move |gpu| draw(gpu, &path, &request(|r| r.size = Some([8192, 8192]))));
    let limit = format!("{} MiB", binding >> 20);
    let e = wanted("8192x8192", result, LimitTooLow, &["U-Net", &limit, "smaller image"]);
    refused_by_command("8192x8192", &model, &["--size", "8192x8192", "--device", "gpu"], &[&e.to_string()]);
}

#[test]
fn a_plan_is_checked_against_both_limits() {
    let mut r = Recorder::new(&Target::new(Elem::F32));
    r.section("all");
    // 5 MiB
    r.input("x", Shape::new(1, 5, 1 << 16, 4), Elem::F32);
    let plan = r.finish();
    let check = |binding: u64, buffer: u64| plan.check("U-Net", &Limits { binding, buffer });
    assert!(check(5 << 20, 5 << 20).is_ok());
    for e in [check((5 << 20) - 1, 9 << 20).unwrap_err(), check(9 << 20, (5 << 20) - 1).unwrap_err()] {
        assert_eq!(e.code, LimitTooLow);
        assert!(["U-Net", "5 MiB", "4 MiB"].iter().all(|w| e.message.contains(w)), "{e}");
    }
}

#[test]
fn words_for_storage() {
    let model = golden("sdxs-like");
    let weights = LoadOptions::parse("q2", "auto").unwrap_err();
    let activations: Result<Elem> = on_device(|gpu| gpu.elem("f64"));
    for (option, word, e) in
        [("--weights", "q2", weights), ("--activations", "f64", activations.unwrap_err())]
    {
        assert_eq!(e.code, InvalidOption);
        assert!(["f32", "f16", word].iter().all(|w| e.message.contains(w)), "{e}");
        refused_by_command(word, &model, &[option, word], &[&e.to_string()]);
    }
}
