//! Where the command writes: what is there keeps its kind, its mode and its names, and nothing is begun that could not be
//! written in the end.
#![cfg(unix)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::cli::{sentence, text, tintype};
use crate::models::folder::{Temp, golden};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The command, not yet run, that draws a small image in this folder.
fn draw(folder: &Temp, more: &[&str]) -> Command {
    let model = golden("sdxs-like");
    let common = ["generate", "a boat", "--seed", "1", "--size", "16x16", "--device", "cpu", "--model"];
    let mut command = tintype(&[&common[..], &[model.to_str().unwrap()], more].concat());
    command.current_dir(&folder.0);
    command
}

fn drawn(folder: &Temp, more: &[&str]) -> Output {
    let output = draw(folder, more).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{more:?}: {}", text(&output.stderr));
    output
}

fn is_png(path: &Path) -> bool {
    fs::read(path).unwrap().starts_with(PNG)
}

fn names(folder: &Temp) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(&folder.0).unwrap().map(|e| name(e.unwrap())).collect();
    names.sort();
    names
}

/// What the folder has, so that any change shows.
fn refused(folder: &Temp, more: &[&str]) -> String {
    let before = names(folder);
    let said = sentence(&draw(folder, more).output().unwrap());
    assert_eq!(names(folder), before, "{more:?}");
    said
}

#[test]
fn a_file_keeps_its_mode_and_its_names() {
    let folder = Temp::new();
    for name in ["mode.png", "target.png", "one.png", "picture.png.partial"] {
        folder.write(name, "old");
    }
    fs::set_permissions(folder.path("mode.png"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("target.png", folder.path("link.png")).unwrap();
    symlink("later.png", folder.path("dangling.png")).unwrap();
    fs::hard_link(folder.path("one.png"), folder.path("two.png")).unwrap();
    let before = names(&folder);
    for name in ["mode.png", "link.png", "dangling.png", "one.png", "picture.png"] {
        drawn(&folder, &["--out", name]);
        assert!(is_png(&folder.path(name)), "{name}");
    }
    assert_eq!(fs::metadata(folder.path("mode.png")).unwrap().mode() & 0o777, 0o640);
    for (link, target) in [("link.png", "target.png"), ("dangling.png", "later.png")] {
        assert_eq!(fs::read_link(folder.path(link)).unwrap(), Path::new(target));
        assert!(is_png(&folder.path(target)), "{target}");
    }
    assert!(is_png(&folder.path("two.png")));
    assert_eq!(fs::read(folder.path("picture.png.partial")).unwrap(), b"old", "somebody else's");
    let mut after = before;
    after.extend(["later.png", "picture.png"].map(str::to_owned));
    after.sort();
    assert_eq!(names(&folder), after);
    // As long as a name can be.
    drawn(&folder, &["--out", &"n".repeat(255)]);
}

#[test]
fn what_is_no_file_is_written_to() {
    let folder = Temp::new();
    let output = drawn(&folder, &["--out", "/dev/stdout"]);
    assert!(output.stdout.starts_with(PNG));
    drawn(&folder, &["--out", "/dev/null"]);
    // Behind what a file has already, as the shell's >> wants it.
    folder.write("all", "first");
    let all = fs::OpenOptions::new().append(true).open(folder.path("all")).unwrap();
    let status = draw(&folder, &["--out", "/dev/stdout"]).stdout(all).status().unwrap();
    let all = fs::read(folder.path("all")).unwrap();
    assert!(status.success() && all.starts_with(b"first") && all[5..] == output.stdout);

    // A file is one wherever it is.
    let shared = Path::new("/dev/shm");
    if shared.is_dir() {
        let file = shared.join(format!("tintype-test-{}.png", std::process::id()));
        for _ in 0..2 {
            drawn(&folder, &["--out", file.to_str().unwrap()]);
        }
        let found = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(found == output.stdout);
    }

    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let child = draw(&folder, &["--out", "pipe"]).stderr(Stdio::null()).spawn().unwrap();
    let mut got = vec![];
    fs::File::open(&pipe).unwrap().read_to_end(&mut got).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(got, output.stdout);
    assert_eq!(names(&folder), ["all", "pipe"]);
    let said = sentence_of_json(&draw(&folder, &["--out", "/dev/stdout", "--json"]).output().unwrap());
    assert!(said.contains("--json: wanted stdout for itself"), "{said}");
}

#[test]
fn places_are_looked_at_before_the_model() {
    let folder = Temp::new();
    folder.write("file", "kept");
    fs::create_dir(folder.path("folder")).unwrap();
    symlink("around", folder.path("around")).unwrap();
    for option in ["--out", "--dump"] {
        for place in ["folder", "folder/", "new/", "absent/a.png", "file/a.png", "around", "folder/.."] {
            // Of two models the last counts: this one is nowhere, and nobody has looked for it yet.
            let args = ["generate", "a boat", "--model", "nowhere", option, place];
            let said = sentence(&tintype(&args).current_dir(&folder.0).output().unwrap());
            assert!(said.starts_with(&format!("{option}: cannot write {place}: ")), "{said}");
            assert!(said.ends_with(" (invalid-option)"), "{said}");
        }
    }
    assert_eq!(fs::read(folder.path("file")).unwrap(), b"kept");
    assert_eq!(names(&folder), ["around", "file", "folder"]);
}

#[test]
fn two_outputs_are_two_files() {
    let folder = Temp::new();
    fs::create_dir(folder.path("in")).unwrap();
    folder.write("one", "old");
    symlink("a.png", folder.path("link")).unwrap();
    symlink(".", folder.path("here")).unwrap();
    fs::hard_link(folder.path("one"), folder.path("two")).unwrap();
    let absolute = folder.path("a.png");
    for (out, dump) in [
        ("a.png", "a.png"),
        ("a.png", "./a.png"),
        ("in/../a.png", "a.png"),
        ("a.png", "link"),
        ("link", "here/a.png"),
        ("a.png", absolute.to_str().unwrap()),
        ("one", "two"),
    ] {
        let said = refused(&folder, &["--out", out, "--dump", dump]);
        let wanted = format!("--dump: wanted another file than --out's, found {dump} (invalid-option)");
        assert_eq!(said, wanted);
    }
    drawn(&folder, &["--out", "a.png", "--dump", "in/a.png"]);
}

/// The sentence of a run that failed, which is on stdout too.
fn sentence_of_json(output: &Output) -> String {
    assert!(!output.stdout.is_empty(), "nothing on stdout");
    sentence(output)
}

#[test]
fn errors_are_json_where_results_are() {
    for (args, code) in [
        (&["generate", "x", "--json", "--model", "nowhere"][..], "not-found"),
        (&["generate", "x", "--json", "--guidance", "-2", "--model", "nowhere"], "not-found"),
        (&["generate", "x", "--seed", "-1", "--json"], "invalid-option"),
        (&["generate", "--json"], "invalid-option"),
        (&["generate", "x", "--frobnicate", "--json"], "invalid-option"),
        (&["plan", "--json", "--model", "nowhere"], "not-found"),
        (&["verify", "nowhere", "--json"], "not-found"),
    ] {
        let said = sentence_of_json(&tintype(args).output().unwrap());
        assert!(said.ends_with(&format!(" ({code})")), "{said}");
    }
    // To measure, it names a file; behind two dashes it is a prompt.
    for args in [&["bench", "--json", "file", "--frobnicate"][..], &["generate", "--seed=-1", "--", "--json"]]
    {
        let output = tintype(args).output().unwrap();
        assert!(!sentence(&output).is_empty() && output.stdout.is_empty(), "{args:?}");
    }
}

/// A device that takes nothing, where systems have one.
#[test]
#[cfg(target_os = "linux")]
fn full_and_closed_streams() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let folder = Temp::new();
    let run = |more: &[&str], change: &dyn Fn(&mut Command)| {
        let mut command = draw(&folder, more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        // Nobody reads what is dropped here.
        if more.contains(&"--model") {
            drop((child.stdout.take(), child.stderr.take()));
        }
        let output = child.wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = run(&["--json"], &|command| _ = command.stdout(full()));
    assert!(code == Some(1) && said.contains("cannot write stdout: "), "{said}");
    let (code, said) = run(&[], &|command| _ = command.stdout(full()));
    assert!(code == Some(0) && said.contains("out.png: 16x16"), "{said}");
    assert_eq!(run(&["--json"], &|command| _ = command.stderr(full())).0, Some(0));
    assert_eq!(run(&["--steps", "-1"], &|command| _ = command.stderr(full())).0, Some(1));
    assert_eq!(run(&["--json", "--steps", "-1"], &|command| _ = command.stdout(full())).0, Some(1));
    let model = golden("sdxs-like");
    let closed = |more: &[&str]| {
        let model = ["--json", "--model", model.to_str().unwrap()];
        let mut command = tintype(&[&["generate", "a boat", "--device", "cpu"], &model[..], more].concat());
        let mut child =
            command.current_dir(&folder.0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        child.wait().unwrap().code()
    };
    assert_eq!(closed(&[]), Some(0));
    assert_eq!(closed(&["--steps", "-1"]), Some(1));
}

/// What a file calls itself, a path or an argument, is for nobody's terminal to obey.
#[test]
fn names_are_printed_without_control_characters() {
    let model = Temp::model("sdxs-like");
    let evil = "\u{1b}]0;evil\u{7}\u{1b}[31m\u{202e}";
    model.set("scheduler/scheduler_config.json", &[("_class_name", Some(evil.into()))]);
    let folder = Temp::new();
    let more = ["--model", model.0.to_str().unwrap()];
    let args = [&["generate", "a boat", "--device", "cpu", "--json"], &more[..]].concat();
    let said = sentence_of_json(&tintype(&args).current_dir(&folder.0).output().unwrap());
    let shown = r"\u{1b}]0;evil\u{7}\u{1b}[31m\u{202e}";
    assert!(
        said.contains("evil") && !said.contains(char::is_control) && !said.contains('\u{202e}'),
        "{said}"
    );
    let said = refused(&folder, &["--out", &format!("{evil}/a.png")]);
    assert!(said.contains(&format!("cannot write {shown}/a.png")), "{said}");
    let said = refused(&folder, &[&format!("--{evil}")]);
    assert!(said.starts_with("unexpected argument") && !said.contains(char::is_control), "{said}");
    let output = drawn(&folder, &["--out", evil]);
    assert!(text(&output.stderr).starts_with(&format!("{shown}: 16x16")), "{}", text(&output.stderr));
}

#[test]
fn messages_are_short() {
    let folder = Temp::new();
    let said = refused(&folder, &["--scheduler", &"s".repeat(10_000)]);
    assert!(said.starts_with("there is no scheduler \"sss") && said.contains("sss ... "), "{said}");
    assert_eq!(said.strip_suffix(" (invalid-option)").unwrap().chars().count(), 500);
    let long = format!("[{}|b]", "a".repeat(10_000));
    let output = drawn(&folder, &["--json", &format!("--negative={long}"), "--guidance", "2"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let messages: Vec<&str> =
        report["warnings"].as_array().unwrap().iter().map(|w| w["message"].as_str().unwrap()).collect();
    assert!(messages.iter().any(|m| m.chars().count() == 500), "{messages:?}");
    for message in messages {
        assert!(message.chars().count() <= 500 && text(&output.stderr).contains(message), "{message}");
    }
}
