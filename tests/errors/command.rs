//! What only the command can be asked for.

use super::{PROMPT, refused_by_command};
use crate::cli::{failure, sentence, text, tintype};
use crate::models::folder::{Temp, golden, here};

#[test]
fn options_that_are_no_numbers() {
    let model = golden("sdxs-like");
    for (args, words) in [
        (["--seed", "NaN"], ["NaN", "--seed"]),
        (["--seed", "1.5"], ["1.5", "--seed"]),
        (["--seed", "-1"], ["-1", "--seed"]),
        (["--steps", "-3"], ["-3", "wanted a whole number from 0"]),
        (["--guidance", "-2"], ["guidance: wanted a number from 0 to 100", "-2"]),
        (["--guidance", "-inf"], ["guidance: wanted", "-inf"]),
        (["--eta", "-.5"], ["eta: wanted a number from 0 to 1", "-0.5"]),
        (["--eta", "-1e-3"], ["eta: wanted", "-0.001"]),
        (["--eta", "zero"], ["--eta", "wanted a number"]),
        (["--clip-skip", "-1"], ["-1", "--clip-skip"]),
        (["--memory", "-5"], ["-5", "--memory"]),
        (["--size", "-64x64"], ["-64x64", "WIDTHxHEIGHT"]),
        (["--control-start", "-0.5"], ["--control <PATH>", "not provided"]),
        (["--steps", "many"], ["many", "--steps"]),
        (["--size", "64"], ["64", "WIDTHxHEIGHT"]),
        (["--size", "axb"], ["axb", "WIDTHxHEIGHT"]),
        (["--frobnicate", "1"], ["--frobnicate", "unexpected"]),
    ] {
        refused_by_command(args[0], &model, &args, &words);
    }
}

/// A number that may be negative is one, and one that may not is judged by its option.
#[test]
fn negative_numbers() {
    let model = golden("sd15-like");
    let picture = here("tests/golden/ref/pipe/sdxs_img2img.0.png");
    for (number, seen) in [("-1", "-1"), ("-.5", "-0.5"), ("-2.5e-1", "-0.25"), ("-nan", "NaN")] {
        let lora = ["--lora", "absent.safetensors", "--lora-scale", number];
        refused_by_command(number, &model, &lora, &["absent.safetensors"]);
        let image = ["--image", picture.to_str().unwrap(), "--strength", number];
        refused_by_command(number, &model, &image, &["strength: wanted a number above 0", seen]);
    }
}

#[test]
fn tunings() {
    let model = golden("sdxs-like");
    let refused = |more: &[&str], words: &[&str]| refused_by_command("tuning", &model, more, words);
    refused(
        &["--device", "gpu", "--tuning", "fast"],
        &[
            "tuning: wanted auto, measured, base, lanes, wide, thin, narrow or winograd, found \"fast\"",
            "(invalid-option)",
        ],
    );
    refused(&["--device", "cpu", "--tuning", "base"], &["tuning base: the CPU", "(unsupported)"]);
}

#[test]
fn adapters() {
    let model = golden("sdxs-like");
    refused_by_command(
        "adapter",
        &model,
        &["--adapter", "no such thing"],
        &["no such thing", "(no-adapter)"],
    );
    // Where there are other ways to a GPU than Vulkan, they are not for the test to close.
    if !cfg!(target_os = "linux") {
        return;
    }
    let out = Temp::new();
    let png = out.path("a.png");
    let draw = |more: &[&str]| {
        let common = ["generate", PROMPT, "--size", "8x8", "--model", model.to_str().unwrap()];
        let nothing = [("VK_DRIVER_FILES", "/dev/null"), ("VK_ICD_FILENAMES", "/dev/null")];
        let mut command = tintype(&[&common[..], &["--out", png.to_str().unwrap()], more].concat());
        command.envs(nothing).output().unwrap()
    };
    // What asks for a GPU gets no CPU.
    for more in [["--device", "gpu"], ["--activations", "pack16"]] {
        let sentence = crate::cli::sentence(&draw(&more));
        assert!(sentence.contains("there is no WebGPU adapter"), "{sentence}");
        assert!(sentence.ends_with("(no-adapter)"), "{sentence}");
    }
    let said = crate::cli::text(&draw(&[]).stderr);
    assert!(said.contains(" steps on CPU, ") && said.contains(" thread"), "{said}");
}

#[test]
fn places_that_cannot_be_written() {
    let (model, out) = (golden("sdxs-like"), Temp::new());
    let model = model.to_str().unwrap();
    out.write("file", "kept");
    std::fs::create_dir(out.path("folder")).unwrap();
    let draw = ["generate", PROMPT, "--model", model, "--size", "8x8", "--out"];
    for place in ["absent/a.png", "file/a.png", "folder"] {
        let place = out.path(place);
        let sentence = failure(&[&draw[..], &[place.to_str().unwrap()]].concat());
        assert!(sentence.contains(&format!("cannot write {}", place.display())), "{sentence}");
    }
    let mut left: Vec<_> = std::fs::read_dir(&out.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["file", "folder"], "something half-made stayed behind");
    assert_eq!(std::fs::read(out.path("file")).unwrap(), b"kept");
}

#[test]
fn plans_of_what_is_not_there() {
    let model = golden("sdxs-like");
    let model = model.to_str().unwrap();
    for (args, words) in [
        (&["--model", "no/such/folder"][..], &["no/such/folder", "config.json", "(not-found)"][..]),
        (&["--model", "README.md"], &["README.md", "JSON", "(invalid-model)"]),
        (&["--model", model, "--size", "60x64"], &["width", "60", "(invalid-option)"]),
        (&["--model", model, "--activations", "f64"], &["activations", "f64", "(invalid-option)"]),
        (&["--model", model, "--weights", "q2"], &["weights", "q2", "(invalid-option)"]),
        (&[], &["--model"]),
    ] {
        let sentence = failure(&[&["plan"], args].concat());
        assert!(words.iter().all(|w| sentence.contains(w)), "{words:?}: {sentence}");
    }
}

#[test]
fn references_that_are_not_there() {
    let sentence = failure(&["verify", "no/such/set"]);
    assert!(
        ["no/such/set", "manifest.json", "(not-found)"].iter().all(|w| sentence.contains(w)),
        "{sentence}"
    );
    let set = Temp::new();
    set.write("manifest.json", "{");
    let sentence = failure(&["verify", set.0.to_str().unwrap()]);
    assert!(sentence.contains("manifest.json") && sentence.ends_with("(invalid-model)"), "{sentence}");
}

/// `tintype plan | head -1` is no accident.
#[test]
#[cfg(unix)]
fn a_reader_that_leaves() {
    use std::process::Stdio;
    let model = golden("sd-turbo-like");
    let mut command = tintype(&["plan", "--model", model.to_str().unwrap(), "--steps"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
}

/// What loading warned of is told once, before the image, and also where none comes of it: the error does not know whose
/// value it was.
#[test]
fn warnings_of_loading_are_told_with_and_without_a_picture() {
    let (model, out) = (Temp::model("sdxs-like"), Temp::new());
    const TOKENS: &str = "text_model.embeddings.token_embedding.weight";
    // The vector of "!" at the end of a word, the first behind those of bytes within one, is not a number.
    model.tensors("text_encoder/model.safetensors", |tensors| {
        let tensor = tensors.0.iter_mut().find(|t| t.name == TOKENS).unwrap();
        let row = tensor.bytes.len() / tensor.shape[0];
        tensor.bytes[256 * row..257 * row].fill(0xff);
    });
    for (prompt, drawn) in [("a", true), ("!", false)] {
        let png = out.path("a.png");
        let args = ["generate", prompt, "--device", "cpu", "--model", model.0.to_str().unwrap()];
        let output = tintype(&[&args[..], &["--out", png.to_str().unwrap()]].concat()).output().unwrap();
        let said = text(&output.stderr);
        let [first, last] = said.lines().collect::<Vec<_>>()[..] else { panic!("wanted two lines: {said}") };
        assert!(first.contains(TOKENS) && first.ends_with("(not-finite)"), "{said}");
        assert_eq!((output.status.success(), last.ends_with("(not-finite)")), (drawn, !drawn), "{said}");
        assert_eq!(png.exists(), drawn);
        let _ = std::fs::remove_file(png);
    }
    let [model, pack] = [&model.0, &out.path("pack")].map(|path| path.to_str().unwrap().to_owned());
    let packed = tintype(&["pack", "--weights", "f16", "--model", &model, "--out", &pack]).output().unwrap();
    let said = text(&packed.stderr);
    assert!(packed.status.success() && said.lines().next().unwrap().contains(TOKENS), "{said}");
}

/// A folder in the place of a component is never left out in silence.
#[test]
fn components_beside_what_has_none() {
    let (sd15, out) = (golden("sd15-like"), Temp::new());
    let [vae, config, unet] = ["vae", "unet/config.json", "unet"].map(|path| sd15.join(path));
    let [vae, config, unet] = [&vae, &config, &unet].map(|path| path.to_str().unwrap());
    let pack = out.path("pack");
    let pack = ["pack", "--weights", "f16", "--out", pack.to_str().unwrap()];
    for (command, model) in
        [(&["generate", PROMPT][..], "builtin"), (&pack, "builtin"), (&["plan"], config), (&["plan"], unet)]
    {
        let said = failure(&[command, &["--model", model, "--vae", vae]].concat());
        let wanted =
            format!("--vae: wanted a model whose components can be replaced, found {model} (invalid-option)");
        assert_eq!(said, wanted);
    }
    assert!(std::fs::read_dir(&out.0).unwrap().next().is_none());
}

/// A name without a folder is one of the current folder, however its ending is written.
#[test]
fn a_bare_name_that_is_not_there() {
    let model = Temp::model("sd15-like");
    for args in [
        &["inspect", "x.SafeTensors"][..],
        &["plan", "--model", "x.SafeTensors"],
        &["generate", PROMPT, "--device", "cpu", "--model", "x.SafeTensors"],
        &["generate", PROMPT, "--device", "cpu", "--model", ".", "--single-file", "x.SafeTensors"],
    ] {
        let said = sentence(&tintype(args).current_dir(&model.0).output().unwrap());
        assert_eq!(said, "x.SafeTensors does not exist in . (not-found)", "{args:?}");
    }
}

#[test]
fn a_size_of_other_commands_is_judged_too() {
    let model = golden("sd15-like");
    for command in ["plan", "bench"] {
        let said = failure(&[command, "--model", model.to_str().unwrap(), "--size", "-64x64"]);
        assert!(said.contains("-64x64") && said.contains("WIDTHxHEIGHT"), "{said}");
    }
}
