// Mesa's compilers: the root folder they live in, and what they make of WGSL, kept by what it was made from.

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { ROOT, UserError, must, run, step } from "../../tools/shell.mjs";
import { GPUS } from "./gpus.mjs";

const HERE = join(ROOT, "bench/compilers");
const OUT = join(ROOT, "target/compilers");
/** A Debian with Mesa, see root.sh. Within it everything of ours is in one folder. */
const MESA = join(OUT, "root");
const INSIDE = "/compilers";
const OURS = join(MESA, INSIDE);
const COMPILE = join(OUT, "cargo/release/compile");

const hash = (bytes) => createHash("sha256").update(bytes).digest("hex").slice(0, 24);

/** Makes what is missing of the root folder and of the program in it, and resolves to Mesa's version and the program's path there. */
export async function setUp(gpus) {
  if (process.getuid?.() !== 0) throw new UserError("The compilers live in a root folder of their own, so this must be run as root.");
  mkdirSync(OUT, { recursive: true });
  if (!existsSync(OURS)) await step("Mesa's root folder", () => must("Making it", join(HERE, "root.sh"), [MESA]));
  const shim = join(OURS, "libintel_noop_drm_shim.so");
  if (gpus.includes("intel") && !existsSync(shim)) {
    await step("the shim of Intel's driver, from Mesa's source", () => must("Building it", join(HERE, "intel-shim.sh"), [MESA]));
  }
  const cargo = ["build", "--locked", "--release", "--manifest-path", join(HERE, "compile/Cargo.toml"), "--target-dir", join(OUT, "cargo")];
  await step("cargo", () => must("The build", "cargo", cargo));
  // By its hash, so that two runs of different programs do not meet.
  const program = join(INSIDE, `compile-${hash(readFileSync(COMPILE))}`);
  if (!existsSync(join(MESA, program))) copyFileSync(COMPILE, join(MESA, program));
  const version = await must("Asking for Mesa's version", "chroot", [MESA, "dpkg-query", "-W", "-f", "${Version}", "mesa-vulkan-drivers"]);
  return { version: version.trim(), program };
}

/** Every variant of a folder of kernels: [{ id, kernel, name, source }]; of the project's, or as they were at a commit. */
export async function variants({ folder = join(ROOT, "kernels"), commit = null } = {}) {
  const linked = join(OUT, "linked");
  rmSync(linked, { recursive: true, force: true });
  mkdirSync(linked, { recursive: true });
  if (commit) {
    const before = join(OUT, "before");
    rmSync(before, { recursive: true, force: true });
    mkdirSync(before, { recursive: true });
    await must(`Reading kernels/ of ${commit}`, "git", ["archive", "-o", join(before, "kernels.tar"), commit, "kernels"]);
    await must("Unpacking them", "tar", ["-xf", join(before, "kernels.tar"), "-C", before]);
    folder = join(before, "kernels");
  }
  await must("Linking the kernels", COMPILE, ["link", folder, linked]);
  return readdirSync(linked).sort().map((file) => variant(join(linked, file)));
}

/** A WGSL file as a variant: KERNEL.NAME.wgsl. */
export function variant(file) {
  if (!existsSync(file)) throw new UserError(`There is no ${file}.`);
  const id = basename(file).replace(/\.wgsl$/, "");
  const [kernel, ...values] = id.split(".");
  return { id, kernel, name: values.join("."), source: readFileSync(file, "utf8") };
}

/**
 * What a GPU's driver tells of each variant: [{ ...variant, told, code }], told as { statistic: value } and code as text; or
 * { ...variant, error }. What was compiled before, of the same text by the same program and driver, is not compiled again.
 */
export async function compile(gpu, { version, program }, all, { subgroup = 0 } = {}) {
  const { env, plain } = GPUS[gpu];
  const [inputs, outputs] = [join("in"), join("out", version, gpu)];
  for (const folder of [inputs, outputs]) mkdirSync(join(OURS, folder), { recursive: true });
  const options = [...(plain ? ["--plain"] : []), ...(subgroup ? ["--subgroup", String(subgroup)] : [])];
  // A process a variant, with the same memory every time: some compilers (ir3) let addresses decide, or what malloc left there.
  const same = ["setarch", "-R", "env", "-i", "GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.mmap_max=0:glibc.malloc.perturb=255", "NODEVICE_SELECT=1", "MESA_SHADER_CACHE_DISABLE=1", ...Object.entries(env).map((pair) => pair.join("="))];
  const keyed = all.map((v) => ({ ...v, key: hash([program, ...same, ...options, v.source].join("\n")) }));
  const path = ({ key }, ending) => join(OURS, outputs, `${key}.${ending}`);
  const made = (v) => existsSync(path(v, "stats")) || existsSync(path(v, "error"));
  const missing = [...new Map(keyed.filter((v) => !made(v)).map((v) => [v.key, v])).values()];

  const one = async (v) => {
    const input = join(inputs, `${v.key}.wgsl`);
    writeFileSync(join(OURS, input), v.source);
    const command = [program, "run", join(INSIDE, outputs), join(INSIDE, input), ...options];
    const { code, output } = await run("chroot", [MESA, ...same, ...command]);
    if (made(v)) return;
    if (output.includes("no Vulkan")) throw new UserError(`${gpu}: ${output}`);
    writeFileSync(path(v, "error"), `the driver ended with ${code ?? "a signal"}: ${output.slice(-1000)}`);
  };
  const worker = async () => {
    for (let v = missing.shift(); v; v = missing.shift()) await one(v);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return keyed.map((v) => {
    if (existsSync(path(v, "error"))) return { ...v, error: readFileSync(path(v, "error"), "utf8") };
    const lines = readFileSync(path(v, "stats"), "utf8").split("\n").filter((line) => line.includes("="));
    const told = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
    return { ...v, told, code: readFileSync(path(v, "asm"), "latin1") };
  });
}
