// The GPUs: how Mesa compiles for each without having it, and the machine that the estimate imagines.

import * as agx from "./isa/agx.mjs";
import * as ir3 from "./isa/ir3.mjs";
import * as nak from "./isa/nak.mjs";
import * as rdna from "./isa/rdna.mjs";
import * as xe from "./isa/xe.mjs";

const LIBRARIES = "/usr/lib/x86_64-linux-gnu";
const shim = (name, icd, more, folder = LIBRARIES) => ({
  LD_PRELOAD: `${folder}/lib${name}_noop_drm_shim.so`,
  VK_DRIVER_FILES: `/usr/share/vulkan/icd.d/${icd}_icd.json`,
  ...more,
});

// Of a machine, all of one SIMD (a quarter of an SM or of an Apple core, a vector engine of Intel's):
//
// simds      that share what l1 and lds say
// lanes      that an FMA instruction serves in one clock
// l1, lds    bytes a clock of the first cache and of workgroup memory
// memory, local, constant    latencies in clocks
// waves      resident at most; registers, allocation: see rdna.mjs
// l2, l1size, line    bytes a clock from the second cache; bytes of the first, and of its lines
//
// Lanes, registers, waves, sizes, AMD's l1 and lds and NVIDIA's are documented or were measured by others. Every latency, l2,
// and l1 and lds of Apple, Adreno and Intel are guesses.
const rdna2 = { simds: 2, lanes: 32, l1: 64, lds: 128, memory: 300, local: 64, constant: 60, waves: 16, registers: 1024, allocation: { 32: 16, 64: 8 }, l2: 22, l1size: 16384, line: 128 };

// The driver's own checks of bounds are off (plain) where nobody pays for them as Mesa would: the kernels' clamps are in the code.
export const GPUS = {
  rdna2: {
    what: "Radeon RX 6800 (RADV, ACO)",
    tuning: "wide",
    isa: rdna,
    env: shim("amdgpu", "radeon", { AMDGPU_GPU_ID: "navi21" }),
    machine: rdna2,
    teraflops: 16.2,
    gigabytes: 512,
  },
  rdna3: {
    what: "Radeon RX 7900 XTX (RADV, ACO)",
    tuning: "wide",
    isa: rdna,
    env: shim("amdgpu", "radeon", { AMDGPU_GPU_ID: "navi31" }),
    machine: { ...rdna2, registers: 1536, allocation: { 32: 24, 64: 12 }, l2: 25, l1size: 32768 },
    // Without dual issue, as a share is of FMAs one at a time.
    teraflops: 30.7,
    gigabytes: 960,
  },
  ampere: {
    what: "NVIDIA GA102, RTX 3090 (NVK, NAK)",
    tuning: "wide",
    isa: nak,
    env: shim("nouveau", "nouveau", { NOUVEAU_CHIPSET: "0x172" }),
    plain: true,
    machine: { simds: 4, lanes: 32, l1: 128, lds: 128, memory: 250, local: 30, constant: 30, waves: 12, l2: 16, l1size: 98304, line: 32 },
    teraflops: 35.6,
    gigabytes: 936,
  },
  apple: {
    what: "Apple M1 (Honeykrisp, AGX)",
    tuning: "thin",
    isa: agx,
    env: shim("asahi", "asahi", { AGX_MESA_DEBUG: "shaders" }),
    plain: true,
    machine: { simds: 4, lanes: 32, l1: 64, lds: 64, memory: 300, local: 60, constant: 60, waves: 24, l2: 32, l1size: 8192, line: 64 },
    // The driver tells 0.
    wave: 32,
    teraflops: 2.6,
    gigabytes: 68,
  },
  adreno: {
    what: "Adreno 740 (Turnip, ir3)",
    tuning: "wide",
    isa: ir3,
    env: shim("freedreno", "freedreno", { FD_GPU_ID: "740" }),
    machine: { simds: 2, lanes: 64, l1: 64, lds: 64, memory: 300, local: 60, constant: 60, waves: 8, l2: 16, l1size: 8192, line: 64 },
    teraflops: 2.1,
    gigabytes: 67,
  },
  intel: {
    what: "Meteor Lake, Xe-LPG (ANV, brw)",
    tuning: "narrow",
    isa: xe,
    env: shim("intel", "intel", { INTEL_STUB_GPU_DEVICE_ID: "0x7d55" }, "/compilers"),
    machine: { simds: 16, lanes: 8, l1: 64, lds: 64, memory: 250, local: 60, constant: 60, waves: 7, l2: 32, l1size: 0, line: 64 },
    teraflops: 4.6,
    gigabytes: 90,
  },
};
