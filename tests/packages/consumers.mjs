// What the tests of the package share: it is packed and installed as a stranger would, beside copies of the examples and
// all that those need, in target/examples.

import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TARBALL, pack } from "../../tools/pack.mjs";
import { ROOT, must } from "../../tools/shell.mjs";

const EXAMPLES = join(ROOT, "examples");
export const SITES = join(ROOT, "target/examples");
export const MODULES = join(SITES, "node_modules");

/** The names of the examples. */
export const examples = () => readdirSync(EXAMPLES, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name);

/** The package.json of an example; one that has none is a page alone. */
export function description(name) {
  const path = join(EXAMPLES, name, "package.json");
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : {};
}

/** Packs and installs, if that is not done yet. */
export async function install() {
  await pack();
  const dependencies = Object.assign({}, ...examples().map((name) => ({ ...description(name).dependencies, ...description(name).devDependencies })));
  const wanted = { private: true, type: "module", dependencies: { ...dependencies, tintype: `file:${TARBALL}` } };
  const stamp = join(SITES, ".installed");
  const text = JSON.stringify({ wanted, tarball: createHash("sha256").update(readFileSync(TARBALL)).digest("hex") });
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === text) return;
  mkdirSync(SITES, { recursive: true });
  writeFileSync(join(SITES, "package.json"), JSON.stringify(wanted));
  // A package of the same version counts as installed, whatever is in it.
  for (const name of ["tintype", ".package-lock.json"]) rmSync(join(MODULES, name), { recursive: true, force: true });
  const flags = ["--prefer-offline", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"];
  await must("Installing what the examples need", "npm", ["install", ...flags], { cwd: SITES, limit: 180 });
  writeFileSync(stamp, text);
}

/** A fresh copy of an example, built by its own script if it has one. Resolves to the folder. */
export async function copy(name) {
  const folder = join(SITES, name);
  rmSync(folder, { recursive: true, force: true });
  // Not what somebody has installed and built in there.
  cpSync(join(EXAMPLES, name), folder, { recursive: true, filter: (path) => !/[/\\](node_modules|dist|out|\.next)$/.test(path) });
  if (description(name).scripts?.build) {
    const env = { NEXT_TELEMETRY_DISABLED: "1", NODE_ENV: "production" };
    await must(`Building ${name}`, "npm", ["run", "--silent", "build"], { cwd: folder, env, limit: 120 });
  }
  return folder;
}
