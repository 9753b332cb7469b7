//! Links and checks every kernel variant of `kernels/variants.txt`, and writes the table and the `Params`
//! structs that the runtime uses. A broken kernel breaks the build, with the file, the variant and the message.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

#[path = "src/link.rs"]
mod link;
#[path = "src/list.rs"]
mod list;

use list::Variant;

/// Where the WGSL is, for everybody to see.
const KERNELS: &str = "../../kernels";

/// What every WebGPU device offers (the defaults of the specification); kernels stay below.
const MAX_INVOCATIONS: u32 = 256;
const MAX_WORKGROUP_BYTES: u32 = 16 * 1024;
const MAX_STORAGE_BUFFERS: usize = 7;

/// What the runtime must know of a checked variant.
struct Facts {
    workgroup: [u32; 3],
    accesses: Vec<&'static str>,
    params: Vec<(String, &'static str)>,
}

fn main() {
    println!("cargo::rerun-if-changed={KERNELS}");
    println!("cargo::rerun-if-changed=src/link.rs");
    println!("cargo::rerun-if-changed=src/list.rs");
    let mut table = String::from("pub static VARIANTS: &[Variant] = &[\n");
    let mut structs: BTreeMap<String, Vec<(String, &'static str)>> = BTreeMap::new();
    for variant in list::variants(Path::new(KERNELS)) {
        let facts = check(&variant);
        row(&mut table, &variant, &facts);
        let known = structs.entry(variant.kernel.clone()).or_insert_with(|| facts.params.clone());
        assert!(*known == facts.params, "kernels/{}.wgsl: variants differ in Params", variant.kernel);
    }
    table += "];\n";
    for (kernel, fields) in structs {
        let name: String =
            kernel.split('_').map(|w| w[..1].to_uppercase() + &w[1..]).collect::<String>() + "Params";
        writeln!(table, "/// `Params` of kernels/{kernel}.wgsl.").unwrap();
        writeln!(
            table,
            "#[repr(C)]\n#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]"
        )
        .unwrap();
        writeln!(table, "pub struct {name} {{").unwrap();
        for (field, kind) in fields {
            writeln!(table, "    pub {field}: {kind},").unwrap();
        }
        table += "}\n";
    }
    fs::write(Path::new(&env::var("OUT_DIR").unwrap()).join("kernels.rs"), table).unwrap();
}

/// A file of kernels.
fn read(name: &str) -> String {
    list::read(Path::new(KERNELS), name)
}

/// Compiles the variant with naga, then checks what naga lets pass.
fn check(v: &Variant) -> Facts {
    let at = format!("kernels/{}.wgsl, variant '{}'", v.kernel, v.name);
    let libraries: Vec<String> = v.libraries.iter().map(|l| read(&format!("lib/{l}.wgsl"))).collect();
    let constants: Vec<(&str, u32)> = v.constants.iter().map(|(n, c)| (n.as_str(), *c)).collect();
    let source = link::link(
        &read(&format!("{}.wgsl", v.kernel)),
        &libraries.iter().map(String::as_str).collect::<Vec<_>>(),
        &constants,
    );
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{at}:\n{}", e.emit_to_string(&source)));
    let info = naga::valid::Validator::new(
        naga::valid::ValidationFlags::all(),
        naga::valid::Capabilities::SHADER_FLOAT16 | naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32,
    )
    .validate(&module)
    .unwrap_or_else(|e| panic!("{at}:\n{}", e.emit_to_string(&source)));

    let [entry] = &module.entry_points[..] else { panic!("{at}: one entry point a file") };
    assert!(entry.name == v.kernel, "{at}: the entry point must be called {}", v.kernel);
    let invocations: u32 = entry.workgroup_size.iter().product();
    assert!(invocations <= MAX_INVOCATIONS, "{at}: {invocations} invocations, at most {MAX_INVOCATIONS}");

    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let mut workgroup_bytes = 0;
    let mut accesses = BTreeMap::new();
    let mut params = Vec::new();
    for (handle, global) in module.global_variables.iter() {
        let used = !info.get_entry_point(0)[handle].is_empty();
        match global.space {
            naga::AddressSpace::WorkGroup => workgroup_bytes += layouter[global.ty].size,
            naga::AddressSpace::Storage { access } => {
                let binding = global.binding.unwrap_or_else(|| panic!("{at}: a buffer without a binding"));
                assert!(binding.group == 0, "{at}: only group 0 is used");
                assert!(used, "{at}: binding {} is never used", binding.binding);
                let write = access.contains(naga::StorageAccess::STORE);
                accesses.insert(binding.binding, if write { "Access::ReadWrite" } else { "Access::Read" });
            }
            naga::AddressSpace::Uniform => params = fields(&module, global.ty, &at),
            _ => {}
        }
    }
    assert!(workgroup_bytes <= MAX_WORKGROUP_BYTES, "{at}: {workgroup_bytes} bytes of workgroup memory");
    assert!(accesses.len() <= MAX_STORAGE_BUFFERS, "{at}: {} storage buffers", accesses.len());
    assert!(
        accesses.keys().copied().eq(1..=accesses.len() as u32),
        "{at}: bindings must be 0 (Params) and 1, 2, ... without gaps"
    );
    assert!(
        params.first().is_some_and(|f| f == &("first".to_owned(), "u32")),
        "{at}: Params begins with first: u32"
    );
    Facts { workgroup: entry.workgroup_size, accesses: accesses.into_values().collect(), params }
}

/// The scalars of `Params`, which must lie without padding so that the Rust struct is the same bytes.
fn fields(module: &naga::Module, ty: naga::Handle<naga::Type>, at: &str) -> Vec<(String, &'static str)> {
    let naga::TypeInner::Struct { members, .. } = &module.types[ty].inner else {
        panic!("{at}: the uniform must be a struct")
    };
    let mut fields = Vec::new();
    for (i, member) in members.iter().enumerate() {
        let kind = match module.types[member.ty].inner {
            naga::TypeInner::Scalar(naga::Scalar { kind: naga::ScalarKind::Uint, width: 4 }) => "u32",
            naga::TypeInner::Scalar(naga::Scalar { kind: naga::ScalarKind::Float, width: 4 }) => "f32",
            _ => panic!("{at}: Params holds u32 and f32 only"),
        };
        assert!(member.offset == 4 * i as u32, "{at}: Params is not dense");
        fields.push((member.name.clone().unwrap(), kind));
    }
    fields
}

/// A text without comments, empty lines and indentation: every visitor of a page loads it. Repetitions stay for the linker.
fn bare(text: &str) -> String {
    let lines = text.lines().map(str::trim).map(|line| match line {
        _ if line.starts_with("//# repeat ") || line == "//# end" => line,
        _ => line.split("//").next().unwrap_or_default().trim(),
    });
    lines.filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
}

fn row(table: &mut String, v: &Variant, facts: &Facts) {
    let include = |path: String| format!("{:?}", bare(&read(&format!("{path}.wgsl"))));
    let libraries: Vec<String> = v.libraries.iter().map(|l| include(format!("lib/{l}"))).collect();
    let constants: Vec<String> = v.constants.iter().map(|(n, c)| format!("(\"{n}\", {c})")).collect();
    writeln!(
        table,
        "Variant {{ kernel: \"{}\", name: \"{}\", workgroup: {:?}, bindings: &[{}], params_size: {}, \
         needs_f16: {}, text: {}, libraries: &[{}], constants: &[{}] }},",
        v.kernel,
        v.name,
        facts.workgroup,
        facts.accesses.join(", "),
        facts.params.len() * 4,
        v.libraries.iter().any(|l| l == "elem_f16"),
        include(v.kernel.clone()),
        libraries.join(", "),
        constants.join(", "),
    )
    .unwrap();
}
