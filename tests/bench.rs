//! `tintype bench`: what it measures, and what it holds against its figures.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::{failure, text, tintype};
use crate::models::folder::Temp;

/// The smallest thing that has a name: the tiny autoencoder, which has convolutions only.
const TINY: [&str; 9] =
    ["bench", "--model", "taesd", "--size", "64x64", "--rounds", "1", "--filter", "taesd/decoder*"];

/// Runs it on a device. Returns whether it succeeded, its lines and its figures.
fn bench(device: &str, more: &[&str]) -> (bool, Vec<String>, Value) {
    let temp = Temp::new();
    let file = temp.path("figures.json");
    let mut args = TINY.to_vec();
    args.extend(["--device", device, "--json", file.to_str().unwrap()]);
    args.extend(more);
    let output = tintype(&args).output().unwrap();
    let figures = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    (output.status.success(), text(&output.stdout).lines().map(str::to_owned).collect(), figures)
}

#[test]
fn figures_agree_with_one_another() {
    for (device, encodes) in [("gpu", 1), ("cpu", 0)] {
        let (ok, lines, figures) = bench(device, &[]);
        assert!(ok && lines[0].contains("peaks"), "{lines:?}");
        let rows = figures["rows"].as_array().unwrap();
        assert_eq!(lines.len(), rows.len() + 1, "{lines:?}");
        let peaks = &figures["peaks"][0];
        assert!(
            peaks["f32_flops"].as_f64().unwrap() > 1e8 && peaks["bytes"].as_f64().unwrap() > 1e7,
            "{peaks}"
        );
        let figure = |row: &Value, name: &str| row[name][0].as_f64().unwrap();
        let (whole, steps) = rows.split_last().unwrap();
        assert_eq!(whole["name"], "taesd/decoder");
        // What the steps compute, counted as often as there are such steps, is what the network computes.
        let flops =
            |row: &Value| figure(row, "gflops") * figure(row, "best") * row["count"].as_f64().unwrap();
        let sum: f64 = steps.iter().map(flops).sum();
        assert!((sum / flops(whole) - 1.0).abs() < 1e-9, "{sum} of {}", flops(whole));
        for row in rows {
            assert!(figure(row, "best") > 0.0 && figure(row, "best") <= figure(row, "median"), "{row}");
            assert!(figure(row, "share") > 0.0, "{row}");
            assert!(row["ratio"].is_null(), "{row}");
        }
        assert_eq!(whole["encode"].as_array().unwrap().len(), encodes);
    }
}

#[test]
fn two_settings_in_turns() {
    let (ok, _, figures) = bench("gpu", &["--weights", "f32", "--versus", "device=cpu"]);
    assert!(ok);
    for row in figures["rows"].as_array().unwrap() {
        let median = |i: usize| row["median"][i].as_f64().unwrap();
        assert!((row["ratio"].as_f64().unwrap() / (median(0) / median(1)) - 1.0).abs() < 1e-9, "{row}");
    }
}

/// A file of claims, in a folder that must outlive it.
fn claims(list: &Value) -> (Temp, PathBuf) {
    let temp = Temp::new();
    let path = temp.path("claims.json");
    std::fs::write(&path, list.to_string()).unwrap();
    (temp, path)
}

#[test]
fn claims_hold_or_break() {
    let list = json!([
        {"row": "taesd/decoder", "figure": "gflops", "at_least": 1e-6},
        {"row": "taesd/decoder/conv*", "figure": "share", "at_least": 1e6},
        {"row": "nothing", "figure": "share", "at_least": 0.0},
        {"row": "taesd/decoder", "figure": "ratio", "at_least": 0.0},
    ]);
    let (_temp, path) = claims(&list);
    let (ok, lines, figures) = bench("cpu", &["--assert", path.to_str().unwrap()]);
    let broken: Vec<&String> = lines.iter().filter(|l| l.starts_with("broken: ")).collect();
    let rows = figures["rows"].as_array().unwrap();
    let convolutions =
        rows.iter().filter(|r| r["name"].as_str().unwrap().starts_with("taesd/decoder/conv")).count();
    assert!(!ok);
    assert_eq!(broken.len(), convolutions + 2, "{broken:?}");
    let (_temp, path) = claims(&json!([list[0]]));
    assert!(bench("cpu", &["--assert", path.to_str().unwrap()]).0);
}

/// What does not fit on a device is no reason to lose the other figures.
#[test]
fn what_does_not_fit_is_left_out() {
    let args = ["bench", "--device", "gpu", "--model", "taesd", "--size", "8192x8192", "--rounds", "1"];
    let output = tintype(&args).output().unwrap();
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains("taesd/decoder is left out: decoder: one tensor needs "), "{said}");
    // Nothing was measured at all.
    assert!(!output.status.success() && told.trim_end().ends_with("(limit-too-low)"), "{told}");
}

#[test]
fn mistakes_are_told() {
    let with = |more: &[&str]| failure(&[&["bench", "--device", "cpu", "--model", "taesd"], more].concat());
    assert!(with(&["--versus", "colour=red"]).contains("versus: wanted weights="));
    assert!(with(&["--assert", "no/such/file"]).contains("could not read no/such/file"));
    let (_temp, path) = claims(&json!([{"row": "*", "figure": "share"}]));
    assert!(with(&["--assert", path.to_str().unwrap()]).contains("at_least"));
}
