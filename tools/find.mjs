// What of the tools is on this machine. Nothing here installs anything or starts a download.

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { ROOT, run } from "./shell.mjs";

const TARGET = "wasm32-unknown-unknown";

/** The path of a program: of the first name that PATH has, or a path that exists. */
export function program(...names) {
  for (const name of names.filter(Boolean)) {
    const places = name.includes("/") ? [name] : (process.env.PATH ?? "").split(delimiter).map((dir) => join(dir, name));
    const found = places.find(existsSync);
    if (found) return found;
  }
  return null;
}

const firstFile = (dir, pattern) => {
  if (!existsSync(dir)) return null;
  const name = readdirSync(dir).find((file) => pattern.test(file));
  return name ? join(dir, name) : null;
};

export const chromium = () =>
  program(
    process.env.CHROMIUM,
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  );

export const firefox = () =>
  program(process.env.FIREFOX, "firefox-esr", "firefox", "/Applications/Firefox.app/Contents/MacOS/firefox");

/** The drivers that let a machine without a GPU run Vulkan: Mesa's, and the one inside Chromium. */
export const lavapipe = () => firstFile("/usr/share/vulkan/icd.d", /^lvp_icd\..*json$/);
export const swiftshader = () => firstFile("/usr/lib/chromium", /^vk_swiftshader_icd\.json$/);
export const vulkanLoader = () =>
  ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
    .map((dir) => firstFile(dir, /^libvulkan\.so\.1$/))
    .find(Boolean) ?? null;

/** The environment in which the Vulkan loader sees the driver of this file and no other. */
export const onlyDriver = (icd) => (icd ? { VK_DRIVER_FILES: icd, VK_ICD_FILENAMES: icd } : {});

/**
 * How to build the library of a package for wasm here: { program, args, env, sysroot }, or null. No ready-made standard library has threads, so
 * it is built from its source: rustup's, or else Debian's with Debian's compiler.
 */
export async function wasmCargo(name = "tintype") {
  for (const [program, rustc] of [["cargo", "rustc"], ["/usr/bin/cargo", "/usr/bin/rustc"]]) {
    const { code, output } = await run(rustc, ["--print", "sysroot"]);
    const rustlib = join(output.trim(), "lib/rustlib");
    if (code !== 0 || !existsSync(join(rustlib, "src/rust/library/std"))) continue;
    // -Z needs this of a stable compiler.
    const env = { RUSTC: rustc, RUSTC_BOOTSTRAP: "1" };
    if (!hasLinker(rustlib)) {
      env.CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER = wasmLinker();
      if (!env.CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER) continue;
    }
    return { program, sysroot: output.trim(), env, args: ["build", "--locked", "--profile", "wasm", "--lib", "-p", name, "--target", TARGET, "-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"] };
  }
  return null;
}

/** rustup's compiler brings its linker, Debian's does not. */
const hasLinker = (rustlib) => readdirSync(rustlib).some((host) => existsSync(join(rustlib, host, "bin/rust-lld")));
const wasmLinker = () => program("wasm-ld", "wasm-ld-14", "wasm-ld-16", "wasm-ld-19");

/** The version of a crate in Cargo.lock. */
export function locked(crate) {
  const lock = readFileSync(join(ROOT, "Cargo.lock"), "utf8");
  return lock.match(new RegExp(`name = "${crate}"\\nversion = "([^"]+)"`))?.[1] ?? null;
}

/** wasm-bindgen's command at exactly the version of the crate: any other refuses to work. */
export async function wasmBindgen() {
  for (const path of [program(join(ROOT, "target/tools/bin/wasm-bindgen")), program("wasm-bindgen")]) {
    if (!path) continue;
    const { output } = await run(path, ["--version"]);
    if (output.trim().split(" ")[1] === locked("wasm-bindgen")) return path;
  }
  return null;
}

export const nodeModules = () =>
  ["playwright-core", "binaryen", "publint", "@arethetypeswrong/cli"].every((name) => existsSync(join(ROOT, "node_modules", name, "package.json")));
