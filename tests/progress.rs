//! What a caller is told: while models load the bytes of all files together, then the share of a whole call.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;
use tintype::device::Device;
use tintype::error::Code;
use tintype::host::Cancel;
use tintype::pipeline::{Additions, FileIn, Image, LoadOptions, Pipeline, Preview, Request, Stage, Watch};
use tintype::weights::{DiskFolder, Folder, Hooks};

use crate::models::folder::{Temp, golden};
use crate::models::single::whole_file;
use crate::models::tensors::Tensors;

type Reports = Vec<(u64, u64)>;

fn load(folder: &dyn Folder, additions: &Additions<'_>) -> Reports {
    let reports = RefCell::new(vec![]);
    let progress = |read, total: Option<u64>| reports.borrow_mut().push((read, total.expect("a total")));
    let options = LoadOptions::parse("f32", "f32").unwrap();
    let hooks = Hooks { progress: &progress, ..Hooks::NONE };
    block_on(Pipeline::load_with(&Device::Cpu, folder, additions, &options, hooks)).unwrap();
    reports.into_inner()
}

/// Neither goes back nor beyond what is expected, and ends at `bytes`. Returns what was expected at first.
fn check(reports: &Reports, bytes: u64) -> u64 {
    assert!(reports.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{reports:?}");
    assert!(reports.iter().all(|(read, total)| read <= total), "{reports:?}");
    assert_eq!(reports.last(), Some(&(bytes, bytes)));
    let early = reports.iter().position(|(read, total)| read == total);
    assert_eq!(early.map(|at| reports[at].0), Some(bytes), "all seems read before it is");
    assert_eq!(reports[0].0, 0);
    reports[0].1
}

/// Of tensor data, in the weights below a folder.
fn data(path: &Path) -> u64 {
    let below = |folder: &Path| -> u64 {
        fs::read_dir(folder).unwrap().map(|entry| data(&entry.unwrap().path())).sum()
    };
    if path.is_dir() {
        return below(path);
    }
    if path.extension().is_none_or(|end| end != "safetensors") {
        return 0;
    }
    let bytes = fs::read(path).unwrap();
    bytes.len() as u64 - 8 - u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn extra(name: &str) -> PathBuf {
    golden("extras").join(name)
}

#[test]
fn a_load_counts_all_files_together() {
    let [model, control, adapter, ip_adapter, safety, lora] =
        ["", "controlnet", "t2i-adapter", "ip-adapter", "safety_checker", "lora"]
            .map(|name| if name.is_empty() { golden("sd15-like") } else { extra(name) });
    let loras = DiskFolder::new(&lora);
    let path = "pytorch_lora_weights.safetensors";
    let folders = [&model, &control, &adapter, &ip_adapter, &safety].map(DiskFolder::new);
    let [folder, a, b, c, d] = &folders;
    let additions = Additions {
        loras: vec![(FileIn { folder: &loras, path }, 1.0)],
        controls: vec![FileIn::whole(a)],
        adapters: vec![FileIn::whole(b)],
        ip_adapter: Some(FileIn::whole(c)),
        safety_checker: Some(d),
        ..Additions::default()
    };
    // Files of other IP-Adapters lie there too.
    let image = ["image_encoder", "ip-adapter.safetensors"].map(|name| data(&ip_adapter.join(name)));
    let others = [&model, &control, &adapter, &safety, &lora.join(path)].map(|p| data(p));
    let known = image.iter().chain(&others).sum();
    // A LoRA's size is known when it is begun, before any data; the rest is what configurations declare.
    let first = check(&load(folder, &additions), known);
    assert!(first.abs_diff(known) < known / 50, "{first} of {known}");
}

/// It is read once for each network, and counts once.
#[test]
fn a_single_file_counts_once() {
    let folder = DiskFolder::new(golden("sd-turbo-like"));
    let bytes = Tensors(whole_file()).bytes();
    let temp = Temp::new();
    temp.write("single.safetensors", &bytes);
    let single = DiskFolder::new(&temp.0);
    let file = FileIn { folder: &single, path: "single.safetensors" };
    let additions = Additions { single_file: Some(file), ..Additions::default() };
    let reports = load(&folder, &additions);
    let (all, last) = (data(&temp.0), reports.last().unwrap().0);
    // Each of three readings counts as a third, rounded down.
    assert!(all - last < 3, "{last} of {all}");
    assert_eq!(check(&reports, last), last);
}

/// Whenever it is asked, the load ends there, and nothing more is told.
#[test]
fn a_load_can_be_cancelled() {
    let folder = DiskFolder::new(golden("sdxs-like"));
    let options = LoadOptions::parse("f32", "f32").unwrap();
    let total = check(&load(&folder, &Additions::default()), data(&golden("sdxs-like")));
    for share in [0, total / 3, total / 10 * 9] {
        let read = Cell::new(0);
        let progress = |now, _| {
            assert!(read.get() <= share, "{now} bytes after {}", read.get());
            read.set(now);
        };
        let cancelled = || read.get() >= share;
        let hooks = Hooks { progress: &progress, cancelled: &cancelled, ..Hooks::NONE };
        let e = block_on(Pipeline::load(&Device::Cpu, &folder, &options, hooks)).err();
        assert_eq!(e.map(|e| e.code), Some(Code::Cancelled), "from {share} bytes on");
    }
}

/// The stages of a call, each with its last fraction.
fn stages(pipeline: &Pipeline, request: &Request, previews: bool) -> Vec<(String, f64)> {
    let seen: RefCell<Vec<(String, f64)>> = RefCell::default();
    let progress = |stage: Stage, fraction: f64| {
        let mut seen = seen.borrow_mut();
        let before = seen.last().map_or(0.0, |(_, fraction)| *fraction);
        assert!((before..=1.0).contains(&fraction), "{stage:?}: {fraction} after {before}");
        let name = match stage {
            Stage::Compile { .. } => "compile".to_owned(),
            Stage::Text => "text".to_owned(),
            Stage::Step { step, steps } => format!("step {step} of {steps}"),
            Stage::Decode => "decode".to_owned(),
        };
        match seen.last_mut() {
            Some((last, at)) if *last == name => *at = fraction,
            _ => seen.push((name, fraction)),
        }
    };
    let preview = |_: &Image, _: usize, _: usize| {};
    let preview: Option<&Preview<'_>> = if previews { Some(&preview) } else { None };
    let watch = Watch { cancel: Cancel::default(), progress: &progress, preview, dump: None };
    block_on(pipeline.generate(request, &watch)).unwrap();
    seen.into_inner()
}

/// Steps are alike; a preview of a tiny decoder takes as long as decoding.
#[test]
fn a_call_is_divided_by_its_work() {
    let folder = DiskFolder::new(golden("sdxs-like"));
    let options = LoadOptions::parse("f32", "f32").unwrap();
    let pipeline = block_on(Pipeline::load(&Device::Cpu, &folder, &options, Hooks::NONE)).unwrap();
    let request = Request { steps: Some(2), size: Some([64, 64]), ..Request::new("a fox", 1) };
    for previews in [false, true] {
        let seen = stages(&pipeline, &request, previews);
        let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["text", "step 0 of 2", "step 1 of 2", "decode"]);
        let [text, first, second, decode] = [0, 1, 2, 3].map(|i| seen[i].1);
        assert_eq!(decode, 1.0);
        assert!(text > 0.0, "{seen:?}");
        let preview = if previews { decode - second } else { 0.0 };
        assert!(((first - text) - (second - first) - preview).abs() < 1e-9, "{seen:?}");
    }
}

/// Nothing is compiled twice: neither what was compiled ahead, nor at another size.
#[test]
fn compiling_ahead_leaves_nothing_to_compile() {
    let device = block_on(Device::open("gpu", "f32", None, None)).unwrap();
    let folder = DiskFolder::new(golden("sdxs-like"));
    let options = LoadOptions::parse("f32", "f32").unwrap();
    let pipeline = block_on(Pipeline::load(&device, &folder, &options, Hooks::NONE)).unwrap();
    let asked = Cell::new(0);
    let cancelled = || asked.replace(asked.get() + 1) == 2;
    let e = block_on(pipeline.compile(&|_, _| {}, &cancelled)).unwrap_err();
    assert_eq!((e.code, asked.get()), (Code::Cancelled, 3));

    let seen = RefCell::new(vec![]);
    block_on(pipeline.compile(&|done, count| seen.borrow_mut().push((done, count)), &|| false)).unwrap();
    let count = seen.borrow()[0].1;
    assert!(count > 5, "{count} kernels");
    assert_eq!(*seen.borrow(), (0..=count).map(|done| (done, count)).collect::<Vec<_>>());

    let request = Request { size: Some([64, 64]), ..Request::new("a fox", 1) };
    let names: Vec<String> = stages(&pipeline, &request, true).into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["text", "step 0 of 1", "decode"]);

    let fresh = block_on(Device::open("gpu", "f32", None, None)).unwrap();
    let pipeline = block_on(Pipeline::load(&fresh, &folder, &options, Hooks::NONE)).unwrap();
    let seen = stages(&pipeline, &request, false);
    assert_eq!(seen[0], ("compile".to_owned(), 0.1));
    assert_eq!(seen.last().unwrap().1, 1.0);
}
