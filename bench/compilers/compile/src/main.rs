//! Kernels as drivers compile them.
//!
//!   compile link KERNELS OUT            every variant of KERNELS/variants.txt, linked: OUT/KERNEL.NAME.wgsl
//!   compile run OUT FILE [options]      of a WGSL file what the first Vulkan device's driver tells: OUT/STEM.stats,
//!                                       `name=value` lines, and OUT/STEM.asm, its code; or OUT/STEM.error
//!
//! Options: `--plain`, the driver does not check bounds of buffers itself; `--subgroup N`, so many lanes.
//! Mesa's drivers compile for GPUs that are not there, so this runs where their shims are: see run.mjs.

mod driver;
#[path = "../../../../crates/kernels/src/link.rs"]
mod link;
#[path = "../../../../crates/kernels/src/list.rs"]
mod list;
mod spirv;

use std::fs;
use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["link", kernels, out] => link(Path::new(kernels), Path::new(out)),
        ["run", out, file, ref options @ ..] => run(Path::new(out), Path::new(file), options),
        _ => panic!("wanted: compile link KERNELS OUT, or compile run OUT FILE"),
    }
}

fn link(kernels: &Path, out: &Path) {
    for v in list::variants(kernels) {
        let libraries: Vec<String> =
            v.libraries.iter().map(|l| list::read(kernels, &format!("lib/{l}.wgsl"))).collect();
        let libraries: Vec<&str> = libraries.iter().map(String::as_str).collect();
        let constants: Vec<(&str, u32)> = v.constants.iter().map(|(n, c)| (n.as_str(), *c)).collect();
        let source = link::link(&list::read(kernels, &format!("{}.wgsl", v.kernel)), &libraries, &constants);
        let name = if v.name.is_empty() { v.kernel } else { format!("{}.{}", v.kernel, v.name) };
        write(out, &name, "wgsl", source.as_bytes());
    }
}

fn run(out: &Path, file: &Path, options: &[&str]) {
    let (mut plain, mut subgroup) = (false, 0);
    let mut options = options.iter();
    while let Some(&option) = options.next() {
        match option {
            "--plain" => plain = true,
            "--subgroup" => subgroup = options.next().and_then(|n| n.parse().ok()).expect("--subgroup N"),
            other => panic!("there is no {other}"),
        }
    }
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let source = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let driver = driver::Driver::new(!plain);
    let made = spirv::compile(&source).and_then(|module| {
        let told = driver.compile(&module, subgroup, &out.join(format!("{stem}.log")))?;
        Ok((module, told))
    });
    match made {
        Ok((module, told)) => {
            let own = [
                ("device", driver.name),
                ("workgroup", module.invocations.to_string()),
                ("workgroup bytes", module.workgroup_bytes.to_string()),
            ];
            let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
            let lines = own.chain(told.statistics).map(|(name, value)| format!("{name}={value}\n"));
            // The statistics come last: where they are, all is.
            write(out, stem, "asm", &told.code);
            write(out, stem, "stats", lines.collect::<String>().as_bytes());
        }
        Err(message) => write(out, stem, "error", message.as_bytes()),
    }
}

fn write(out: &Path, stem: &str, ending: &str, bytes: &[u8]) {
    let path = out.join(format!("{stem}.{ending}"));
    fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
