// `npm test`: everything that must hold, in order, a line a group. All groups run even after a failure.
//
//   npm test                      everything
//   npm test -- format web        some groups
//   npm test -- --install         may install system packages (as root), as CI=true does

import { readFileSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { build } from "./build.mjs";
import * as find from "./find.mjs";
import { mutants } from "./mutant-list.mjs";
import { TEST, setup } from "./setup.mjs";
import { UserError, ROOT, main, run, say, seconds } from "./shell.mjs";

const VERIFY = join(ROOT, "target/release/tintype");

/** Vulkan without a GPU. */
const LAVAPIPE = () => find.onlyDriver(find.lavapipe());
const SWIFTSHADER = () => find.onlyDriver(find.swiftshader());

/** Groups that run two at a time: software adapters compile kernels on one core. */
const PAIRED = /^golden-/;

/** In this order; a group is a command, or a function that resolves to { passed, failed, output }. */
const GROUPS = {
  format: ["cargo", ["fmt", "--all", "--check", "--", "--color=never"]],
  lint: ["cargo", ["clippy", "-q", "--locked", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]],
  native: ["cargo", ["test", "-q", "--locked", "--release"], LAVAPIPE],
  "session-swiftshader": ["cargo", ["test", "-q", "--locked", "--release", "--test", "native", "session::"], SWIFTSHADER],
  binary: ["cargo", ["build", "-q", "--locked", "--release"]],
  // With other features of what it depends on.
  text: ["cargo", ["test", "-q", "--locked", "--release", "-p", "tintype-text"]],
  "golden-f32-cpu": [VERIFY, ["verify", "tests/golden", "--device", "cpu"], LAVAPIPE],
  // The longest ones first.
  ...verify("f32", "swiftshader", SWIFTSHADER),
  ...verify("pack16", "swiftshader", SWIFTSHADER),
  ...verify("f16", "lavapipe", LAVAPIPE),
  ...verify("pack16", "lavapipe", LAVAPIPE),
  ...verify("f32", "lavapipe", LAVAPIPE),
  module,
  scripts,
  web: inNode("tests/web", 2),
  // One after the other: they install into one folder.
  packages: inNode("tests/packages", 1),
};

/** So many files at a time, the longest ones first, so that none is left to run alone. */
function inNode(folder, concurrency) {
  const files = readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(".test.mjs")).map((name) => join(folder, name));
  const sizes = new Map(files.map((file) => [file, statSync(join(ROOT, file)).size]));
  files.sort((a, b) => sizes.get(b) - sizes.get(a));
  return [process.execPath, ["--test", `--test-concurrency=${concurrency}`, "--test-reporter=tap", ...files]];
}

function verify(activations, name, env) {
  const args = ["verify", "tests/golden", "--device", "gpu", "--activations", activations];
  return { [`golden-${activations}-${name}`]: [VERIFY, args, env] };
}

main(async () => {
  const begin = Date.now();
  const args = process.argv.slice(2);
  const wanted = args.filter((arg) => !arg.startsWith("--"));
  const unknown = wanted.find((name) => !Object.keys(GROUPS).some((group) => group.startsWith(name)));
  if (unknown) throw new UserError(`There is no group "${unknown}". Groups: ${Object.keys(GROUPS).join(", ")}.`);
  const names = Object.keys(GROUPS).filter((group) => wanted.length === 0 || wanted.some((name) => group.startsWith(name)));
  await setup(TEST, { install: args.includes("--install") });

  const total = { passed: 0, failed: 0 };
  const rows = new Map();
  const one = async (name) => {
    const started = Date.now();
    const { passed, failed, output } = await group(GROUPS[name]);
    const row = `${passed} passed, ${failed} failed (${seconds(started)})`;
    if (failed > 0) say(output.trimEnd());
    rows.set(name, `${failed > 0 ? "FAILED" : "ok    "} ${name}: ${row}`);
    say(`[${rows.size}/${names.length}] ${name}: ${row}`);
    total.passed += passed;
    total.failed += failed;
  };
  for (let at = 0; at < names.length; ) {
    const paired = PAIRED.test(names[at]) ? names.slice(at).filter((name) => PAIRED.test(name)).length : 1;
    const together = names.slice(at, (at += paired));
    say(`${together.join(", ")} ...`);
    // Each lane takes the next one.
    const lane = async () => {
      for (let name; (name = together.shift()); ) await one(name);
    };
    await Promise.all([lane(), lane()]);
  }
  say(`\n${names.map((name) => rows.get(name)).join("\n")}\n\nin ${seconds(begin)}\n${total.passed} passed, ${total.failed} failed`);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
});

async function group(how) {
  if (typeof how === "function") return how().catch((error) => ({ passed: 0, failed: 1, output: error.message }));
  const [program, args, env = () => ({})] = how;
  const { code, output } = await run(program, args, { env: env() });
  const { passed, failed } = count(output);
  // A command that counts nothing is one check; one that fails has a failure, whatever it counted.
  if (code === 0) return { passed: passed || 1, failed, output };
  return { passed, failed: Math.max(failed, 1), output };
}

/** Adds up the closing lines of cargo test, of `tintype verify` and of node's runner. */
function count(output) {
  const add = (pattern) => [...output.matchAll(pattern)].reduce((sum, [, n]) => sum + Number(n), 0);
  return {
    passed: add(/^test result: .*?(\d+) passed;/gm) + add(/^(\d+) passed, \d+ failed/gm) + add(/^# pass (\d+)$/gm),
    failed: add(/^test result: .*? (\d+) failed;/gm) + add(/^\d+ passed, (\d+) failed/gm) + add(/^# fail (\d+)$/gm),
  };
}

async function module() {
  await build({ strict: true });
  return { passed: 1, failed: 0, output: "" };
}

/** What a script imports from another one that does not export it: nothing that is parsed alone shows that. */
function missing(file) {
  const imports = readFileSync(join(ROOT, file), "utf8").matchAll(/^import \{([^}]*)\} from "(\.[^"]+)"/gm);
  return [...imports].flatMap(([, names, from]) => {
    const text = readFileSync(join(ROOT, dirname(file), from), "utf8");
    const wanted = names.split(",").map((name) => name.trim().split(" as ")[0]).filter(Boolean);
    const has = (name) => new RegExp(`^export (?:(?:async )?function\\*? |const |let |class )${name}\\b|^export \\{[^}]*\\b${name}\\b`, "m").test(text);
    return wanted.filter((name) => !has(name)).map((name) => `${file}: ${from} exports no ${name}`);
  });
}

/** Every script parses, those that `module` has built too; the package can be imported where there is no browser, the lock names no server, and every mutant fits the code. */
async function scripts() {
  const faults = [];
  const examples = readdirSync(join(ROOT, "examples"), { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => `examples/${name}`);
  const files = ["dist", "www/demo", "tools", "crates/cpu/examples", "tests/web", "tests/packages", "bench", "bench/compilers", "bench/gpu", "bench/page", "bench/peers", ...examples].flatMap((dir) =>
    readdirSync(join(ROOT, dir)).filter((name) => /\.m?js$/.test(name)).map((name) => join(dir, name)),
  );
  for (const file of files) {
    const { code, output } = await run(process.execPath, ["--check", file]);
    if (code !== 0) faults.push(output);
    // Pages of the package and of examples stand elsewhere when they run.
    if (/^(tools|tests|bench|crates)/.test(file)) faults.push(...missing(file));
  }
  const { ImageGenerator } = await import("../dist/index.js");
  const error = await ImageGenerator.create().catch((error) => error);
  if (error.code !== "no-browser") faults.push(`ImageGenerator.create outside a browser: wanted no-browser, found ${error}`);
  if (/"resolved"/.test(readFileSync(join(ROOT, "package-lock.json"), "utf8"))) faults.push("package-lock.json names addresses");
  try {
    mutants();
  } catch (error) {
    faults.push(error.message);
  }
  return { passed: files.length + 3 - faults.length, failed: faults.length, output: faults.join("\n") };
}
