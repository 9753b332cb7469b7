//! The native command: what it writes, prints and exits with.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::models::folder::{Temp, golden, here};
use crate::models::tensors::Tensors;

/// The command, not yet run, with nothing else on stderr than what it says itself.
pub fn tintype(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tintype"));
    // Mesa complains when it has no place for sockets, which nobody opens here.
    command.args(args).env("XDG_RUNTIME_DIR", std::env::temp_dir());
    command
}

/// Stdout of a run that succeeds.
fn success(args: &[&str]) -> Output {
    let output = tintype(args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What a run says that fails.
pub fn failure(args: &[&str]) -> String {
    sentence(&tintype(args).output().unwrap())
}

/// The one sentence on stderr of a run that failed: exit 1, no panic, and on stdout nothing or the same as JSON.
pub fn sentence(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let [line] = lines[..] else { panic!("wanted one sentence, found:\n{said}") };
    let sentence = line.strip_prefix("tintype: ").unwrap_or_else(|| panic!("who says so: {line}"));
    if !output.stdout.is_empty() {
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let [code, message] = ["code", "message"].map(|key| printed["error"][key].as_str().unwrap());
        assert_eq!(sentence, format!("{message} ({code})"));
        assert_eq!(printed, json!({"error": {"code": code, "message": message}}));
    }
    sentence.to_owned()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn manifest() -> Value {
    serde_json::from_slice(&std::fs::read(here("tests/golden/manifest.json")).unwrap()).unwrap()
}

/// Width, height and rgb bytes.
fn read_png(path: &Path) -> (u32, u32, Vec<u8>) {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    (info.width, info.height, bytes)
}

/// |got - want| / |want|, as the limits of tests/golden are meant.
fn relative_l2(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        got.iter().zip(want).map(|(&g, &w)| of(g.into(), w.into()).powi(2)).sum()
    };
    (sum(&|g, w| g - w) / sum(&|_, w| w)).sqrt()
}

/// A case of tests/golden drawn by the command: image, dump and report against the reference.
fn drawn_as_the_reference(case: &str, device: &str, more: &[&str]) {
    let case = &manifest()["cases"][case];
    let (out, model) = (Temp::new(), golden("sdxs-like"));
    let (png, dump) = (out.path("a.png"), out.path("a.safetensors"));
    let args = &case["args"];
    let [prompt, steps] =
        ["prompt", "num_inference_steps"].map(|k| args[k].to_string().trim_matches('"').to_owned());
    let [seed, guidance] = [&case["seed"], &args["guidance_scale"]].map(Value::to_string);
    let common = ["generate", &prompt, "--seed", &seed, "--steps", &steps, "--guidance", &guidance];
    let paths = [
        "--model",
        model.to_str().unwrap(),
        "--out",
        png.to_str().unwrap(),
        "--dump",
        dump.to_str().unwrap(),
    ];
    let rest = ["--size", "64x64", "--activations", "f32", "--device", device, "--json"];
    let output = success(&[&common[..], &paths, &rest, more].concat());

    // The report.
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let wanted = json!({"out": png, "prompt": prompt, "seed": case["seed"], "width": 64, "height": 64,
        "device": device, "steps": args["num_inference_steps"], "warnings": []});
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(report[key], *value, "{key}");
    }
    assert!(report["adapter"].as_str().is_some_and(|name| !name.is_empty()));
    for stage in ["load", "text", "denoise", "decode"] {
        assert!(report["timings"][stage].as_f64().is_some_and(|s| s > 0.0 && s < 600.0), "{stage}: {report}");
    }

    // The tensors.
    let limit = case["limits"]["f32"].as_f64().unwrap();
    let mut got = Tensors::parse(&std::fs::read(dump).unwrap());
    let file = case["file"].as_str().unwrap();
    let mut want = Tensors::parse(&std::fs::read(here("tests/golden").join(file)).unwrap());
    assert_eq!(got.0.len(), want.0.len());
    for want in &mut want.0 {
        let got = got.get(&want.name);
        assert_eq!(got.shape, want.shape, "{}", want.name);
        let error = relative_l2(&got.values(), &want.values());
        assert!(error <= limit, "{}: {error:.1e}, limit {limit:.1e}", want.name);
    }

    // The image, and that it is the dumped one.
    let (width, height, levels) = read_png(&png);
    assert_eq!((width, height), (64, 64));
    let reference = here("tests/golden").join(case["png"][0].as_str().unwrap());
    let off = levels.iter().zip(read_png(&reference).2).filter(|(a, b)| a.abs_diff(*b) > 1).count();
    let share = case["limits"]["image_levels"]["f32"].as_f64().unwrap();
    assert!(off as f64 <= (1.0 - share) * levels.len() as f64, "{off} values off by more than one level");
    let floats = got.get("image").values();
    let rounded =
        floats.iter().zip(&levels).filter(|(f, l)| (*f * 255.0 - f32::from(**l)).abs() > 0.51).count();
    assert_eq!(rounded, 0, "the image is not the rounded dump");
}

#[test]
fn one_step() {
    drawn_as_the_reference("pipe/sdxs_1step", "gpu", &[]);
    drawn_as_the_reference("pipe/sdxs_1step", "cpu", &[]);
}

/// Another scheduler than the model's own, and noise after every step.
#[test]
fn four_steps_of_lcm() {
    drawn_as_the_reference("pipe/sdxs_lcm_4step", "gpu", &["--scheduler", "lcm"]);
    drawn_as_the_reference("pipe/sdxs_lcm_4step", "cpu", &["--scheduler", "lcm"]);
}

/// Draws with the given arguments into a fresh folder; returns the image's bytes and stderr.
fn draw(more: &[&str]) -> (Vec<u8>, String) {
    let (out, model) = (Temp::new(), golden("sdxs-like"));
    let args = [&["generate", "a paper boat", "--model", model.to_str().unwrap()], more].concat();
    let output = tintype(&args).current_dir(&out.0).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(output.stdout.is_empty(), "without --json stdout is for nobody");
    let files: Vec<_> = std::fs::read_dir(&out.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files, ["out.png"], "the default name, and nothing beside it");
    (std::fs::read(out.path("out.png")).unwrap(), said)
}

#[test]
fn seeds() {
    let (one, said) = draw(&["--seed", "7"]);
    assert!(said.contains("out.png: 64x64, seed 7, 1 steps on "), "{said}");
    assert!(["load ", "text ", "denoise ", "decode "].iter().all(|w| said.contains(w)), "{said}");
    assert!(draw(&["--seed", "7"]).0 == one, "the same seed, another image");
    assert!(draw(&["--seed", "8"]).0 != one, "another seed, the same image");

    // Without a seed one is chosen, and told, so that the image can be had again.
    let (random, said) = draw(&[]);
    let seed = said.split("seed ").nth(1).and_then(|s| s.split(',').next()).expect("a seed on stderr");
    assert!(draw(&["--seed", seed]).0 == random, "seed {seed} does not give the image again");
}

#[test]
fn options_reach_the_picture() {
    let plain = draw(&["--seed", "7"]).0;
    let guided = draw(&["--seed", "7", "--guidance", "3"]).0;
    let negative = draw(&["--seed", "7", "--guidance", "3", "--negative", "a red fox"]).0;
    let steps = draw(&["--seed", "7", "--steps", "2"]).0;
    let q8 = draw(&["--seed", "7", "--weights", "q8"]).0;
    let pack16 = draw(&["--seed", "7", "--activations", "pack16"]).0;
    let all = [plain, guided, negative, steps, q8, pack16];
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b), "option {i} changed nothing");
    }
}

#[test]
fn an_overlong_prompt_is_drawn_and_told() {
    let long = format!("{}the end of it", "a red fox ".repeat(40));
    let model = golden("sdxs-like");
    let out = Temp::new();
    let png = out.path("a.png");
    let args = [
        "generate",
        &long,
        "--model",
        model.to_str().unwrap(),
        "--out",
        png.to_str().unwrap(),
        "--seed",
        "1",
    ];
    let output = success(&[&args[..], &["--json"]].concat());
    let said = text(&output.stderr);
    assert!(said.starts_with("tintype: the prompt has ") && said.contains("75 count; left out: "), "{said}");
    assert!(said.trim_end().ends_with("the end of it (prompt)"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["warnings"][0]["message"].as_str().is_some_and(|w| said.contains(w)), "{report}");
    assert!(png.exists());
}

/// Syntax of other tools is told, whichever prompt has it, and changes nothing of the tokens.
#[test]
fn syntax_that_is_not_run_is_told() {
    let (out, model) = (Temp::new(), golden("sdxs-like"));
    let draw = |prompt: &str, more: &[&str]| {
        let common = ["generate", prompt, "--seed", "1", "--json", "--device", "cpu", "--guidance", "2"];
        let model = ["--model", model.to_str().unwrap()];
        let args = [&common[..], &model, more].concat();
        let output = tintype(&args).current_dir(&out.0).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let warnings = report["warnings"].as_array().unwrap().clone();
        for warning in &warnings {
            assert_eq!(warning["code"], "prompt");
            let line = format!("tintype: {} (prompt)\n", warning["message"].as_str().unwrap());
            assert!(said.contains(&line), "{line}: {said}");
        }
        let messages = warnings.iter().map(|w| w["message"].as_str().unwrap().to_owned());
        (std::fs::read(out.path("out.png")).unwrap(), messages.collect::<Vec<_>>())
    };
    let prompt = "a (red:1.2) cat <lora:fur:0.8> [cat:dog:0.5]";
    let begins = |messages: &[String], found: &[&str]| {
        assert_eq!(messages.len(), found.len(), "{messages:?}");
        for (found, message) in found.iter().zip(messages) {
            assert!(message.starts_with(&format!("the prompt has {found}, which ")), "{message}");
        }
    };
    let never = r#""<lora:fur:0.8>", "[cat:dog:0.5]""#;
    let (plain, messages) = draw(prompt, &[]);
    begins(&messages, &[never, r#""(red:1.2)""#]);
    let (weighted, messages) = draw(prompt, &["--weighted"]);
    begins(&messages, &[never]);
    assert!(plain != weighted);
    let (_, messages) = draw("a cat", &["--negative", "embedding:ugly", "--weighted"]);
    begins(&messages, &[r#""embedding:ugly""#]);
    assert_eq!(draw("a (red:1.2) cat BREAK a dog", &["--weighted"]).1, [""; 0]);
}

#[test]
fn plan_as_json() {
    let model = golden("sd-turbo-like");
    let output = success(&["plan", "--model", model.to_str().unwrap(), "--size", "64x64", "--json"]);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = |v: &Value| -> Vec<String> { v.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&plan), ["decoder", "encoder", "text_encoder", "unet", "vae"]);
    let number = |part: &str, figure: &str| plan[part][figure].as_u64().unwrap();
    for (name, part) in plan.as_object().unwrap() {
        let wanted = [
            "bytes_moved",
            "dispatches",
            "executed_flops",
            "model_flops",
            "parameters",
            "peak_bytes",
            "weight_bytes",
        ];
        assert_eq!(keys(part), if name == "vae" { &wanted[4..5] } else { &wanted[..] });
        assert!(part.as_object().unwrap().values().all(|v| v.as_u64().is_some_and(|n| n > 0)), "{part}");
    }
    let halves = ["decoder", "encoder"].map(|half| number(half, "parameters"));
    assert_eq!(number("vae", "parameters"), halves[0] + halves[1]);
    // With --steps each dispatch, whose figures are those of the totals.
    let steps =
        success(&["plan", "--model", model.to_str().unwrap(), "--size", "64x64", "--json", "--steps"]).stdout;
    let steps: Value = serde_json::from_slice(&steps).unwrap();
    for figure in ["executed_flops", "bytes_moved"] {
        let each =
            steps["unet"]["steps"].as_array().unwrap().iter().map(|step| step[figure].as_u64().unwrap());
        assert_eq!(each.sum::<u64>(), number("unet", figure));
    }
    assert_eq!(steps["unet"]["steps"].as_array().unwrap().len() as u64, number("unet", "dispatches"));
    // The kernels are those of a table.
    let of = |tuning: &str| {
        let args =
            ["plan", "--model", model.to_str().unwrap(), "--size", "64x64", "--steps", "--tuning", tuning];
        text(&success(&args).stdout)
    };
    assert!(of("wide").contains("conv_tile") && !of("base").contains("conv_tile"));
    assert!(of("winograd").contains("winograd_tile") && !of("wide").contains("winograd_tile"));
    let refused = failure(&["plan", "--model", model.to_str().unwrap(), "--tuning", "fast"]);
    assert!(
        refused.contains("tuning: wanted base, lanes, wide, thin, narrow or winograd, found \"fast\""),
        "{refused}"
    );
    // For people: a line for each, and with --steps every dispatch.
    let output =
        text(&success(&["plan", "--model", model.to_str().unwrap(), "--size", "64x64", "--steps"]).stdout);
    for (name, part) in plan.as_object().unwrap() {
        // Parameters with their commas.
        let line = output.lines().find(|l| l.starts_with(&format!("{name} "))).expect(name);
        let parameters = line.split_whitespace().nth(1).unwrap();
        assert_eq!(parameters.replace(',', ""), part["parameters"].to_string(), "{line}");
        assert!(parameters.len() < 5 || parameters.as_bytes()[parameters.len() - 4] == b',', "{line}");
    }
    let dispatches: u64 = plan.as_object().unwrap().values().filter_map(|p| p["dispatches"].as_u64()).sum();
    assert_eq!(output.lines().filter(|l| l.starts_with("  ")).count() as u64 - 1, dispatches);
}

/// A manifest of one case beside the files that the case needs, and what `verify` makes of it.
fn verify(name: &str, case: &Value, change: impl FnOnce(&Temp)) -> Output {
    let set = Temp::new();
    set.write("manifest.json", json!({"cases": {name: case}}).to_string());
    if let Some(file) = case["file"].as_str() {
        set.write(file, std::fs::read(here("tests/golden").join(file)).unwrap());
    }
    change(&set);
    tintype(&["verify", set.0.to_str().unwrap(), "--filter", name, "--activations", "f32"]).output().unwrap()
}

#[test]
fn verify_passes_fails_and_skips() {
    let name = "sched/lcm_2";
    let case = &manifest()["cases"][name];
    let last = |output: &Output| text(&output.stdout).lines().last().unwrap().to_owned();

    let passed = verify(name, case, |_| {});
    assert_eq!((passed.status.code(), last(&passed).as_str()), (Some(0), "1 passed, 0 failed, 0 skipped"));

    // One number of the reference is another one.
    let file = case["file"].as_str().unwrap();
    let failed = verify(name, case, |set| {
        set.tensors(file, |tensors| {
            let tensor =
                tensors.0.iter_mut().find(|t| t.dtype == "F32" && t.name.contains("prev")).expect("a sample");
            let first = tensor.values()[0] + 1.0;
            tensor.bytes[..4].copy_from_slice(&first.to_le_bytes());
        });
    });
    assert_eq!((failed.status.code(), last(&failed).as_str()), (Some(1), "0 passed, 1 failed, 0 skipped"));
    assert!(text(&failed.stdout).contains(&format!("FAILED  {name}")), "{}", text(&failed.stdout));

    // A reference that is gone is a failure too, and nothing is wrong with saying which.
    let gone = verify(name, case, |set| set.remove(file));
    assert_eq!((gone.status.code(), last(&gone).as_str()), (Some(1), "0 passed, 1 failed, 0 skipped"));
    assert!(text(&gone.stdout).contains(file), "{}", text(&gone.stdout));

    // What is not built is skipped with its reason; alone it is no pass.
    let skipped = verify("music/score", &json!({"limits": {"f32": 1.0}}), |_| {});
    assert_eq!((skipped.status.code(), last(&skipped).as_str()), (Some(1), "0 passed, 0 failed, 1 skipped"));
    let row = text(&skipped.stdout);
    let row = row.lines().find(|l| l.starts_with("skipped")).expect("a row");
    assert!(row.contains("music/score") && row.contains("no case like"), "{row}");
}

#[test]
fn verify_filters_and_reports() {
    let set = here("tests/golden");
    let run = |filter: &str| {
        tintype(&["verify", set.to_str().unwrap(), "--json", "--filter", filter]).output().unwrap()
    };
    let output = run("sched/euler_*_2*");
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["cases"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|r| r["case"].as_str().unwrap()).collect();
    assert_eq!(names, ["sched/euler_leading_20", "sched/euler_trailing_2"]);
    assert!(
        rows.iter().all(|r| r["outcome"] == "passed" && r["seconds"].is_f64() && r["detail"].is_string())
    );
    assert_eq!([&report["passed"], &report["failed"], &report["skipped"]], [2, 0, 0]);
    // Nothing that matches is nothing that passed.
    assert_eq!(run("sched/none").status.code(), Some(1));
}
