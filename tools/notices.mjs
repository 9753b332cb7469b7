// The notices of the crates in the package's modules: every crate that cargo has compiled into them, with the licence texts
// that lie in its source. A text that several crates have is there once.

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { UserError, ROOT, must } from "./shell.mjs";

const RULE = "-".repeat(80);
/** How files with licence texts are called. */
const TEXTS = /^(licen[sc]e|copying|copyright|notice|unlicense)/i;
/** Where a compiler has its standard library, of which not every crate names its licence. */
const STANDARD = join("rustlib", "src", "rust", "library");
/** Licences whose text is known, for crates that name them and come without: the first that fits is taken. */
const KNOWN = [
  ["Apache-2.0", () => read(join(ROOT, "LICENSE-APACHE"))],
  ["MIT", (crate) => read(join(ROOT, "LICENSE-MIT")).replace(/^Copyright .*$/m, `Copyright (c) ${crate.authors ?? `the authors of ${crate.name}`}`)],
];

/**
 * The text, of what `cargo` builds: a { program, args, env } of each build that was done just now, so that all it does is to
 * say what the parts were.
 */
export async function notices(builds) {
  const messages = [];
  for (const { program, args, env } of builds) {
    const output = await must("Listing the crates", program, [...args, "-q", "--message-format=json"], { env });
    messages.push(...output.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line)));
  }
  const parts = messages.filter(({ reason, filenames, manifest_path }) => reason === "compiler-artifact" && filenames.some(isInModule) && !isOwn(dirname(manifest_path)));
  const crates = [...new Set(parts.map(({ manifest_path }) => manifest_path))].map(crateOf);
  if (crates.length === 0) throw new UserError("cargo names no crates of the module: there are no notices to write.");
  return textOf(crates.sort((a, b) => (titleOf(a) < titleOf(b) ? -1 : 1)));
}

/** What is compiled for the machine that builds, such as macros, is not. */
const isInModule = (file) => file.includes("wasm32-unknown-unknown");

/** The crates of this repository have its own licence. */
const isOwn = (folder) => folder === resolve(ROOT) || dirname(folder) === resolve(ROOT, "crates");

function crateOf(manifest) {
  const folder = dirname(manifest);
  const field = (name) => new RegExp(`^${name} = ["']([^"']*)["']`, "m").exec(read(manifest))?.[1];
  const authors = /^authors = \[([^\]]*)\]/m.exec(read(manifest))?.[1];
  // Crates of one repository may have it beside them.
  const texts = [folder, dirname(folder)].map(textsIn).find(({ length }) => length > 0);
  const standard = folder.includes(STANDARD) ? "MIT OR Apache-2.0" : undefined;
  const crate = {
    name: field("name") ?? basename(folder),
    version: field("version"),
    licence: field("license") ?? standard,
    repository: field("repository"),
    authors: authors && [...authors.matchAll(/"([^"]*)"/g)].map(([, author]) => author).join(", "),
  };
  return { ...crate, texts: texts ?? [usual(crate)] };
}

const textsIn = (folder) => readdirSync(folder).filter((file) => TEXTS.test(file) && !/\.(rs|toml)$/.test(file)).sort().map((file) => read(join(folder, file)));

function usual(crate) {
  const known = KNOWN.find(([name]) => crate.licence?.split(/ OR |\//).includes(name));
  if (!known) throw new UserError(`${titleOf(crate)} has no licence text, and its licence is ${crate.licence}: the package may not have it.`);
  return known[1](crate);
}

function textOf(crates) {
  const users = new Map();
  for (const crate of crates) for (const text of crate.texts) users.set(text, [...(users.get(text) ?? []), titleOf(crate)]);
  const line = (crate) => [titleOf(crate), crate.licence ?? "licence below", ...(crate.repository ? [crate.repository] : [])].join(", ");
  const begin = `The modules of this package, dist/pkg/*/*.wasm, have these crates in them:\n\n${crates.map(line).join("\n")}\n`;
  const vocabulary = `dist/clip.bin, CLIP's vocabulary:\n\n${read(join(ROOT, "models/clip/LICENSE"))}\n`;
  return [begin, ...[...users].map(([text, titles]) => `${titles.join(", ")}:\n\n${text}\n`), vocabulary].join(`\n${RULE}\n\n`);
}

const titleOf = ({ name, version }) => `${name} ${version}`;

/** Line ends and margins make no other text. */
function read(file) {
  if (!existsSync(file)) throw new UserError(`${file} is missing.`);
  return readFileSync(file, "utf8").replace(/\r\n/g, "\n").replace(/[ \t]+$/gm, "").trim();
}
