// What a visitor loads of each entry of the package, gzipped file by file as servers send them, without what a page asks
// for later. The runtime, which is all but the weights, has a limit.
//
//   node tools/size.mjs

import { existsSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { UserError, ROOT, main, say } from "./shell.mjs";

/** Of the page's scripts, the worker's and one build of the module. */
export const MOST_BYTES = 1_000_000;

const WASM = { base: "pkg/base/tintype_bg.wasm", relaxed: "pkg/relaxed/tintype_bg.wasm" };

/** The rows of the table: [{ name, files, bytes, most? }]. Entries that are not there yet have none. */
export function sizes(dist = join(ROOT, "dist")) {
  const row = (name, files, most) => ({ name, files: files.length, bytes: files.reduce((sum, file) => sum + gzipped(join(dist, file)), 0), most });
  const [page, worker] = ["index.js", "worker.js"].map((entry) => pulled(dist, entry));
  const scripts = [...new Set([...page, ...worker])];
  const entries = ["element.js", "ai-sdk.js"].filter((entry) => existsSync(join(dist, entry)));
  return [
    row("tintype", page),
    ...entries.map((entry) => row(`tintype/${entry.slice(0, -3)}, with tintype`, pulled(dist, entry))),
    row("tintype/worker, scripts", worker),
    ...Object.entries(WASM).map(([build, wasm]) => row(`tintype/worker, ${build}`, [...worker, wasm])),
    ...Object.entries(WASM).map(([build, wasm]) => row(`the runtime, ${build}`, [...scripts, wasm], MOST_BYTES)),
    row("tokenizers beyond CLIP's", ["pkg/tokenizer/tintype_tokenizer_bg.wasm"]),
    row("of a single file, CLIP's vocabulary", ["clip.bin"]),
    row("tintype/builtin, with its weights", [...pulled(dist, "builtin.js"), "builtin.bin"]),
  ];
}

/** The script and all that it imports before it runs, by their paths from `dist`. */
export function pulled(dist, entry, found = new Set()) {
  if (found.has(entry)) return [...found];
  found.add(entry);
  for (const [, path] of readFileSync(join(dist, entry), "utf8").matchAll(/^(?:import|export)\b[^"'=;(]*["'](\.\.?\/[^"']+)["'];$/gm)) {
    pulled(dist, posix.join(dirname(entry), path), found);
  }
  return [...found];
}

const gzipped = (file) => gzipSync(readFileSync(file), { level: 9 }).length;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(async () => {
    const rows = sizes();
    for (const { name, files, bytes, most } of rows) {
      say(`${name.padEnd(36)} ${String(files).padStart(3)} files ${bytes.toLocaleString("en").padStart(12)} bytes${most ? `, at most ${most.toLocaleString("en")}` : ""}`);
    }
    const large = rows.filter(({ bytes, most }) => bytes > most);
    if (large.length > 0) throw new UserError(`Too large: ${large.map(({ name }) => name).join(", ")}.`);
  });
}
