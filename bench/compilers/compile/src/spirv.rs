//! WGSL to SPIR-V as wgpu does it: every index clamped, loops counted so that none is endless.

use naga::AddressSpace::{Storage, Uniform, WorkGroup};
use naga::back::spv;
use naga::proc::BoundsCheckPolicy::{Restrict, Unchecked};
use naga::valid::{Capabilities, ValidationFlags, Validator};

pub struct Module {
    pub words: Vec<u32>,
    pub entry: String,
    pub invocations: u32,
    pub workgroup_bytes: u32,
    /// Numbers of group 0, and whether each is a storage buffer or else a uniform one.
    pub bindings: Vec<(u32, bool)>,
}

pub fn compile(source: &str) -> Result<Module, String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let capabilities =
        Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SUBGROUP;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| e.emit_to_string(source))?;
    let [entry] = &module.entry_points[..] else { return Err("wanted one entry point".to_owned()) };

    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: naga::proc::BoundsCheckPolicies {
            index: Restrict,
            buffer: Restrict,
            image_load: Unchecked,
            binding_array: Unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::Native,
        force_loop_bounding: true,
        ..Default::default()
    };
    let pipeline =
        spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: entry.name.clone() };
    let words = spv::write_vec(&module, &info, &options, Some(&pipeline)).map_err(|e| e.to_string())?;

    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let globals = || module.global_variables.iter().map(|(_, global)| global);
    let workgroup = globals().filter(|g| matches!(g.space, WorkGroup));
    let mut bindings: Vec<(u32, bool)> = globals()
        .filter(|g| matches!(g.space, Storage { .. } | Uniform))
        .filter_map(|g| Some((g.binding.as_ref()?.binding, matches!(g.space, Storage { .. }))))
        .collect();
    bindings.sort_unstable();
    Ok(Module {
        words,
        entry: entry.name.clone(),
        invocations: entry.workgroup_size.iter().product(),
        workgroup_bytes: workgroup.map(|g| layouter[g.ty].size).sum(),
        bindings,
    })
}
