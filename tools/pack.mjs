// What is published, as target/package/tintype.tgz: dist/ as it was built last, and looked at, so that nothing is missing
// and nothing is in it that does not belong there.
//
//   node tools/pack.mjs

import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError, ROOT, main, must, say } from "./shell.mjs";

const FOLDER = join(ROOT, "target/package");
export const TARBALL = join(FOLDER, "tintype.tgz");
/** In every package. */
const NEEDED = ["package.json", "README.md", "LICENSE-APACHE", "LICENSE-MIT"];
/** What tools/build.mjs makes, beside what tsc makes of www/. */
const MADE = [
  ...["builtin.js", "builtin.d.ts", "builtin.bin", "clip.bin", "THIRD-PARTY-NOTICES.txt", "build.json"].map((name) => `dist/${name}`),
  ...["base/tintype.js", "base/tintype.d.ts", "base/tintype_bg.wasm", "relaxed/tintype_bg.wasm", ...["js", "d.ts"].map((ending) => `tokenizer/tintype_tokenizer.${ending}`), "tokenizer/tintype_tokenizer_bg.wasm"].map((file) => `dist/pkg/${file}`),
];

/** Packs, and resolves to the files: [{ path, size }]. */
export async function pack() {
  mkdirSync(FOLDER, { recursive: true });
  const output = await must("npm pack", "npm", ["pack", "--json", "--ignore-scripts", "--loglevel=error", "--pack-destination", FOLDER]);
  const [{ filename, files }] = Object.values(JSON.parse(output));
  rmSync(TARBALL, { force: true });
  renameSync(join(FOLDER, filename), TARBALL);
  const faults = faultsOf(files.map(({ path }) => path));
  if (faults.length > 0) throw new UserError(`The package is not as it should be:\n${faults.join("\n")}`);
  return files;
}

/** What is wrong with these files as those of the package. */
export function faultsOf(paths) {
  const scripts = readdirSync(join(ROOT, "www")).filter((name) => /\.ts$/.test(name) && !/\.d\.ts$/.test(name));
  const needed = [...NEEDED, ...MADE, ...scripts.flatMap((name) => [".js", ".d.ts"].map((ending) => `dist/${name.replace(/\.ts$/, ending)}`))];
  const allowed = new Set([...needed, "CHANGELOG.md"]);
  const named = entries().flatMap(({ files }) => files);
  const missing = new Set([...needed, ...named].filter((path) => !paths.includes(path)));
  return [...[...missing].map((path) => `${path} is missing`), ...paths.filter((path) => !allowed.has(path)).map((path) => `${path} does not belong there`)];
}

/** What package.json exports: [{ name, files }], of which the last is what is run. */
export function entries() {
  const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  return Object.entries(exports).map(([name, target]) => ({ name, files: Object.values(typeof target === "string" ? [target] : target).map((path) => path.slice(2)) }));
}

const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(async () => {
    if (!existsSync(join(ROOT, "dist/index.js"))) throw new UserError("dist/ is not there: npm run build");
    const files = await pack();
    for (const { path, size } of files) say(`${kilobytes(size).padStart(10)}  ${path}`);
    say(`${files.length} files, ${kilobytes(files.reduce((sum, { size }) => sum + size, 0))}: ${TARBALL}`);
  });
}
