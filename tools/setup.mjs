// Finds what is needed, or installs it, with a line for each thing. Runs before there is a node_modules,
// so it imports nothing but what comes with Node.
//
//   node tools/setup.mjs [--install]     everything that `npm test` needs

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as find from "./find.mjs";
import { UserError, ROOT, main, must, run, say, step } from "./shell.mjs";

/** Things that only a system's package manager can bring: how to look, and Debian's packages. */
const SYSTEM = {
  browser: { what: "Chromium", look: find.chromium, packages: ["chromium"] },
  firefox: { what: "Firefox", look: find.firefox, packages: ["firefox-esr"] },
  lavapipe: { what: "lavapipe (Vulkan without a GPU)", look: find.lavapipe, packages: ["mesa-vulkan-drivers"] },
  swiftshader: { what: "SwiftShader (another)", look: find.swiftshader, packages: ["chromium"] },
  vulkan: { what: "the Vulkan loader", look: find.vulkanLoader, packages: ["libvulkan1"] },
  wasm: {
    what: "the source of Rust's standard library",
    look: find.wasmCargo,
    packages: ["rustc-web", "cargo-web", "rust-web-src", "lld"],
  },
};

/** What each command needs. */
export const BUILD = ["wasm", "bindgen", "modules"];
export const DRIVE = ["browser", "modules"];
export const TEST = [...BUILD, ...DRIVE, "firefox", "vulkan", "lavapipe", "swiftshader"];

/** Brings every thing in `needs`, or throws a sentence that says what to install. */
export async function setup(needs, { install = false } = {}) {
  if (needs.includes("wasm")) {
    if (!find.program("cargo")) throw new UserError("Rust is missing: install it with rustup (https://rustup.rs), then try again.");
    await rustSource();
  }
  await system(needs.filter((need) => need in SYSTEM), install);
  if (needs.includes("bindgen")) await bindgen();
  if (needs.includes("modules") && !find.nodeModules()) {
    await step("set-up: npm packages", () => must("Installing the npm packages", "npm", ["ci", "--no-audit", "--no-fund"]));
  }
}

/** rustup's way, which is everybody's but that of machines that cannot download: hence the time limit. */
async function rustSource() {
  if ((await find.wasmCargo()) || !find.program("rustup")) return;
  const add = () => run("rustup", ["component", "add", "rust-src"], { limit: 30 });
  const outcome = ({ code }) => (code === 0 ? "done" : "not to be had");
  await step("set-up: the source of Rust's standard library, from rustup", add, outcome);
}

async function system(needs, install) {
  const missing = [];
  for (const need of needs) if (!(await SYSTEM[need].look())) missing.push(need);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.flatMap((need) => SYSTEM[need].packages))];
  const names = missing.map((need) => SYSTEM[need].what).join(", ");
  const root = process.getuid?.() === 0;
  if (!root || !find.program("apt-get") || !(install || process.env.CI === "true")) {
    const rustup = missing.includes("wasm") ? " (or: rustup component add rust-src)" : "";
    throw new UserError(`Missing: ${names}. Install with: sudo apt-get install ${packages.join(" ")}${rustup}`);
  }
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  await step("set-up: list of system packages", () => must("Reading the list of packages", "apt-get", ["update", "-q"], { env }));
  await step(`set-up: ${names}`, () =>
    must("Installing packages", "apt-get", ["install", "-y", "-q", "--no-install-recommends", ...packages], { env }),
  );
  for (const need of missing) {
    if (!(await SYSTEM[need].look())) throw new UserError(`Still missing after installing ${packages.join(" ")}: ${SYSTEM[need].what}.`);
  }
}

/**
 * Only the program that we use, not optimised: it runs for seconds, and takes a third of the time to build. Its own lock may
 * name versions that a mirror of crates lacks, and does not decide what is in the package.
 */
async function bindgen() {
  if (await find.wasmBindgen()) return;
  const version = find.locked("wasm-bindgen");
  if (!version) throw new UserError("Cargo.lock does not name wasm-bindgen: run `cargo generate-lockfile`.");
  const args = ["install", "wasm-bindgen-cli", "--version", version, "--no-default-features"];
  args.push("--bin", "wasm-bindgen", "--root", join(ROOT, "target/tools"));
  await step(`set-up: wasm-bindgen ${version}`, () =>
    must("Building wasm-bindgen", "cargo", args, { env: { CARGO_PROFILE_RELEASE_OPT_LEVEL: "0" } }),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(async () => {
    await setup(TEST, { install: process.argv.includes("--install") });
    say("Everything that is needed is here.");
  });
}
