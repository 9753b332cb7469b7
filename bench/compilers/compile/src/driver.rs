//! A Vulkan driver, of which nothing is wanted but its compiler: it makes pipelines and tells what is in them
//! (`VK_KHR_pipeline_executable_properties`). None is ever run.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::null_mut;

use ash::khr::pipeline_executable_properties as executables;
use ash::vk;

use crate::spirv::Module;

pub struct Driver {
    pub name: String,
    device: ash::Device,
    executables: executables::Device,
    /// Whether the number of lanes can be asked for.
    sized: bool,
    // These must live as long as the device.
    _instance: ash::Instance,
    _entry: ash::Entry,
}

/// What a driver tells of a pipeline.
pub struct Told {
    pub statistics: Vec<(String, String)>,
    /// The machine's instructions, as text.
    pub code: Vec<u8>,
}

impl Driver {
    /// The first device; `robust` as wgpu asks for it, so that the driver checks bounds of buffers itself.
    pub fn new(robust: bool) -> Driver {
        // SAFETY: plain calls in the order that Vulkan wants; every pointer is to something that outlives the call.
        unsafe {
            let entry = ash::Entry::load().expect("no Vulkan loader");
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance = entry
                .create_instance(&vk::InstanceCreateInfo::default().application_info(&app), None)
                .expect("no Vulkan instance");
            let physical = *instance
                .enumerate_physical_devices()
                .expect("no Vulkan devices")
                .first()
                .expect("no Vulkan device");
            let name = text(&instance.get_physical_device_properties(physical).device_name);

            // Of what the device has, that which kernels use.
            let mut has11 = vk::PhysicalDeviceVulkan11Features::default();
            let mut has12 = vk::PhysicalDeviceVulkan12Features::default();
            let mut has13 = vk::PhysicalDeviceVulkan13Features::default();
            let mut has = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut has11)
                .push_next(&mut has12)
                .push_next(&mut has13);
            instance.get_physical_device_features2(physical, &mut has);
            let core = has.features;
            let sized = has13.subgroup_size_control == vk::TRUE;
            let features = vk::PhysicalDeviceFeatures::default()
                .robust_buffer_access(robust && core.robust_buffer_access == vk::TRUE)
                .shader_int16(core.shader_int16 == vk::TRUE);
            let mut want11 = vk::PhysicalDeviceVulkan11Features::default()
                .storage_buffer16_bit_access(has11.storage_buffer16_bit_access == vk::TRUE)
                .uniform_and_storage_buffer16_bit_access(
                    has11.uniform_and_storage_buffer16_bit_access == vk::TRUE,
                );
            let mut want12 = vk::PhysicalDeviceVulkan12Features::default()
                .shader_float16(has12.shader_float16 == vk::TRUE)
                .vulkan_memory_model(has12.vulkan_memory_model == vk::TRUE);
            let mut want13 = vk::PhysicalDeviceVulkan13Features::default()
                .subgroup_size_control(sized)
                .compute_full_subgroups(has13.compute_full_subgroups == vk::TRUE)
                .shader_zero_initialize_workgroup_memory(
                    has13.shader_zero_initialize_workgroup_memory == vk::TRUE,
                );
            let mut told = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                .pipeline_executable_info(true);
            let queues =
                [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let extensions = [executables::NAME.as_ptr()];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .enabled_features(&features)
                .push_next(&mut want11)
                .push_next(&mut want12)
                .push_next(&mut want13)
                .push_next(&mut told);
            let device = instance
                .create_device(physical, &info, None)
                .unwrap_or_else(|e| panic!("{name}: no device: {e}"));
            let executables = executables::Device::new(&instance, &device);
            Driver { name, device, executables, sized, _instance: instance, _entry: entry }
        }
    }

    /// `printed` is where goes what the driver prints: Apple's has no other way to show its code.
    pub fn compile(&self, module: &Module, subgroup: u32, printed: &Path) -> Result<Told, String> {
        let pipeline = captured(printed, || self.pipeline(module, subgroup)).map_err(|e| e.to_string())?;
        let told = self.told(pipeline).map_err(|e| e.to_string());
        // SAFETY: it was made by this device and is not used again.
        unsafe { self.device.destroy_pipeline(pipeline, None) };
        let mut told = told?;
        if told.code.is_empty() {
            told.code = fs::read(printed).map_err(|e| e.to_string())?;
        }
        let _ = fs::remove_file(printed);
        Ok(told)
    }

    fn pipeline(&self, module: &Module, subgroup: u32) -> Result<vk::Pipeline, vk::Result> {
        let bindings: Vec<_> = module
            .bindings
            .iter()
            .map(|&(number, storage)| {
                let kind = if storage {
                    vk::DescriptorType::STORAGE_BUFFER
                } else {
                    vk::DescriptorType::UNIFORM_BUFFER
                };
                vk::DescriptorSetLayoutBinding::default()
                    .binding(number)
                    .descriptor_count(1)
                    .descriptor_type(kind)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let entry = CString::new(module.entry.as_str()).unwrap();
        let mut lanes =
            vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo::default().required_subgroup_size(subgroup);
        // SAFETY: as in `new`. What is not destroyed here ends with the process, which makes one pipeline.
        unsafe {
            let code = vk::ShaderModuleCreateInfo::default().code(&module.words);
            let shader = self.device.create_shader_module(&code, None)?;
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [self.device.create_descriptor_set_layout(&set, None)?];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = self.device.create_pipeline_layout(&layout, None)?;
            let mut stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(shader)
                .name(&entry);
            if subgroup > 0 && self.sized {
                stage = stage.push_next(&mut lanes);
            }
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags)];
            let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &info, None);
            made.map(|pipelines| pipelines[0]).map_err(|(_, e)| e)
        }
    }

    fn told(&self, pipeline: vk::Pipeline) -> Result<Told, vk::Result> {
        let mut told = Told { statistics: vec![], code: vec![] };
        // SAFETY: as in `new`.
        let all = unsafe {
            let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
            self.executables.get_pipeline_executable_properties(&info)?
        };
        for (index, executable) in all.iter().enumerate() {
            told.statistics.push(("wave".to_owned(), executable.subgroup_size.to_string()));
            let info =
                vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(index as u32);
            // SAFETY: as in `new`; the format says which field of the union is set.
            for s in unsafe { self.executables.get_pipeline_executable_statistics(&info)? } {
                let value = unsafe {
                    match s.format {
                        vk::PipelineExecutableStatisticFormatKHR::BOOL32 => s.value.b32.to_string(),
                        vk::PipelineExecutableStatisticFormatKHR::INT64 => s.value.i64.to_string(),
                        vk::PipelineExecutableStatisticFormatKHR::UINT64 => s.value.u64.to_string(),
                        _ => s.value.f64.to_string(),
                    }
                };
                told.statistics.push((text(&s.name), value));
            }
            if let Some(code) = self.code(&info) {
                told.code = code;
            }
        }
        Ok(told)
    }

    /// The representation that is called an assembly.
    fn code(&self, info: &vk::PipelineExecutableInfoKHR<'_>) -> Option<Vec<u8>> {
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let device = self.device.handle();
        // SAFETY: as in `new`; the first call counts, the second tells sizes, the third fills what is as large as it said.
        unsafe {
            let mut count = 0;
            let _ = get(device, info, &mut count, null_mut());
            let mut all = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            let _ = get(device, info, &mut count, all.as_mut_ptr());
            let mut texts: Vec<Vec<u8>> = all.iter().map(|r| vec![0; r.data_size]).collect();
            for (representation, text) in all.iter_mut().zip(&mut texts) {
                representation.p_data = text.as_mut_ptr().cast();
            }
            let _ = get(device, info, &mut count, all.as_mut_ptr());
            let at = all.iter().position(|r| text(&r.name).to_lowercase().contains("assembly"))?;
            let mut code = texts.swap_remove(at);
            code.truncate(code.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
            Some(code)
        }
    }
}

fn text(name: &[c_char]) -> String {
    // SAFETY: Vulkan's names end with a zero.
    unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
}

unsafe extern "C" {
    fn dup(descriptor: c_int) -> c_int;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn close(descriptor: c_int) -> c_int;
    fn fflush(stream: *mut c_void) -> c_int;
}

/// Runs `work` with what C prints going to a file.
fn captured<T>(file: &Path, work: impl FnOnce() -> T) -> T {
    let file = File::create(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    // SAFETY: the descriptors are open; a null stream stands for all.
    unsafe {
        let before = dup(1);
        dup2(file.as_raw_fd(), 1);
        let result = work();
        fflush(null_mut());
        dup2(before, 1);
        close(before);
        result
    }
}
