// `npm run test:mutants`: does a test fail when the code is wrong? Applies each edit of tests/mutants.txt alone,
// in a copy of the tree, and runs the check that must catch it. Prints the survivors; exit 1 if there are any.
//
//   npm run test:mutants                 all
//   npm run test:mutants -- conv unet    those whose file or check contains one of the words

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as find from "./find.mjs";
import { mutants as all } from "./mutant-list.mjs";
import { setup } from "./setup.mjs";
import { UserError, ROOT, main, run, say, seconds } from "./shell.mjs";

const TREE = join(ROOT, "target/mutants/tree");
const TARGET = join(ROOT, "target/mutants/build");

/** The ways to check: how to build it, and how to run it. */
const CHECKS = {
  // `test [-p CRATE] FILTER`: the tests, of all crates or of one, whose names contain FILTER.
  test: (args) => ({
    build: ["cargo", ["test", "--locked", "--profile", "mutants", "--no-run"]],
    run: ["cargo", ["test", "--locked", "--profile", "mutants", ...args]],
  }),
  // `verify GLOB [option ...]`: the cases of tests/golden that match; on the adapter unless told otherwise.
  verify: ([glob, ...more]) => ({
    build: ["cargo", ["build", "--locked", "--profile", "mutants"]],
    run: [join(TARGET, "mutants/tintype"), ["verify", "tests/golden", "--filter", glob, ...(more.includes("--device") ? [] : ["--device", "gpu"]), ...more]],
  }),
  // `swiftshader GLOB`: the same on SwiftShader, which has kernels of its own.
  swiftshader: ([glob]) => ({ ...CHECKS.verify([glob]), driver: find.swiftshader }),
  "swiftshader-test": (args) => ({ ...CHECKS.test(args), driver: find.swiftshader }),
  // `web FILE [NAME-PATTERN]`: the tests of tests/web/FILE, or those whose names match; of the package, only the scripts are built.
  web: ([file, ...pattern]) => ({
    build: [process.execPath, ["node_modules/typescript/bin/tsc", "-p", "www"]],
    run: [process.execPath, ["--test", "--test-reporter=tap", ...(pattern.length > 0 ? [`--test-name-pattern=${pattern.join(" ")}`] : []), `tests/web/${file}`]],
  }),
};

main(async () => {
  const words = process.argv.slice(2);
  const mutants = all().filter((m) => words.length === 0 || words.some((word) => `${m.file} ${m.check}`.includes(word)));
  if (mutants.length === 0) throw new UserError("No mutant matches.");
  await setup(["vulkan", "lavapipe", "swiftshader"]);
  copyTree();
  if (mutants.some(({ check }) => check.startsWith("web "))) linkPackage();

  // A check that fails anyway would kill everything.
  for (const check of new Set(mutants.map((m) => m.check))) {
    process.stdout.write(`unchanged: ${check} ... `);
    const { word, output } = await judge(check);
    say(word === "survived" ? "passes" : word);
    if (word !== "survived") throw new UserError(`${output.slice(-4000)}\n"${check}" must pass on the tree as it is.`);
  }

  const survivors = [];
  for (const [at, mutant] of mutants.entries()) {
    const begin = Date.now();
    process.stdout.write(`[${at + 1}/${mutants.length}] ${name(mutant)} ... `);
    const { word } = await withEdit(mutant, () => judge(mutant.check));
    say(`${word} (${seconds(begin)})`);
    if (word !== "killed") survivors.push(`${word}: ${name(mutant)}\n  - ${mutant.find}\n  + ${mutant.replace}`);
  }
  if (survivors.length > 0) {
    say(`\nNot killed:\n${survivors.join("\n")}`);
    process.exitCode = 1;
  }
  say(`\n${mutants.length - survivors.length} killed, ${survivors.length} not killed`);
});

const name = ({ line, file, check }) => `mutants.txt:${line} ${file} (${check})`;

async function withEdit({ file, find: text, replace }, work) {
  const path = join(TREE, file);
  const before = readFileSync(path, "utf8");
  writeFileSync(path, before.replace(text, () => replace));
  try {
    return await work();
  } finally {
    writeFileSync(path, before);
  }
}

/** "killed": it builds and the check fails. What does not build has not been tested, and counts as not killed. */
async function judge(check) {
  const [kind, ...args] = check.split(" ");
  const how = CHECKS[kind](args);
  const icd = (how.driver ?? find.lavapipe)();
  const env = { CARGO_TARGET_DIR: TARGET, CARGO_INCREMENTAL: "1", ...find.onlyDriver(icd) };
  const built = await run(...how.build, { cwd: TREE, env });
  if (built.code !== 0) return { word: "does not build", output: built.output };
  // A mutant may also hang, which a user would notice too.
  const { code, output } = await run(...how.run, { cwd: TREE, env, limit: 900 });
  const ran = /^test result: \w+\. [1-9]|^[1-9]\d* passed|^\d+ passed, [1-9]|^# pass [1-9]/m.test(output);
  if (code === 0 && !ran) return { word: "nothing ran", output };
  return { word: code === 0 ? "survived" : "killed", output };
}

/** What git would commit, with unchanged files left alone so that cargo builds only what changed. */
function copyTree() {
  const list = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" });
  const files = list.split("\0").filter((file) => file && existsSync(join(ROOT, file)));
  const before = join(TREE, ".files");
  const gone = existsSync(before) ? readFileSync(before, "utf8").split("\0").filter((file) => !files.includes(file)) : [];
  for (const file of gone) rmSync(join(TREE, file), { force: true });
  for (const file of files) {
    const [from, to] = [join(ROOT, file), join(TREE, file)];
    if (existsSync(to) && readFileSync(to).equals(readFileSync(from))) continue;
    mkdirSync(dirname(to), { recursive: true });
    cpSync(from, to);
  }
  writeFileSync(before, files.join("\0"));
}

/** What the scripts are built and run with, as `npm run build` made it here: it does not change with them. */
function linkPackage() {
  const built = ["pkg", "builtin.bin", "builtin.js", "builtin.d.ts"].map((name) => `dist/${name}`);
  for (const part of [...built, "node_modules", "target/release/tintype"]) {
    if (!existsSync(join(ROOT, part))) throw new UserError(`There is no ${part}: run \`npm run build\` first.`);
    const to = join(TREE, part);
    mkdirSync(dirname(to), { recursive: true });
    rmSync(to, { recursive: true, force: true });
    symlinkSync(join(ROOT, part), to);
  }
}
