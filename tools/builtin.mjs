// The built-in model in bytes of a weight, as `tintype pack` writes it: packed by the module for browsers, which is there
// already when dist/ is built, so that nobody waits for the native command to be compiled.

import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ROOT } from "./shell.mjs";

/** By its path in the repository: the pack says of what it was made. */
const MODEL = "models/builtin";

/** Resolves to the files of the pack, [path, bytes] in the order of their paths. `pkg` has the module and its glue. */
export async function pack(pkg) {
  const module = await import(pathToFileURL(join(pkg, "tintype.js")));
  const memory = new WebAssembly.Memory({ initial: 256, maximum: 65536, shared: true });
  module.initSync({ module: new WebAssembly.Module(readFileSync(join(pkg, "tintype_bg.wasm"))), memory });
  let broken = null;
  module.onPanic((message) => (broken = message));
  const written = new Map();
  const keeper = {
    folder: folder((path) => written.get(path)?.values),
    begin: (path, bytes) => void written.set(path, { values: new Uint8Array(bytes) }),
    slab: (length) => new Uint8Array(length),
    write: (path, at, bytes) => written.get(path).values.set(bytes, at),
  };
  const source = folder((path) => {
    const file = join(ROOT, MODEL, path);
    return existsSync(file) && statSync(file).isFile() ? readFileSync(file) : undefined;
  });
  const options = { device: "cpu", weights: "q8", activations: "auto", imageInput: true, keeper };
  try {
    const generator = await module.Generator.create(source, options, () => {});
    const manifest = generator.manifest();
    if (manifest === undefined) throw new Error(generator.notKept());
    written.set("tintype.json", { values: Buffer.from(manifest) });
  } catch (error) {
    throw new Error(`The built-in model could not be packed: ${broken ?? error.message}`);
  }
  return [...written].map(([path, { values }]) => [path, values]).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** A model folder (www/folder.ts) of what `read` answers, bytes or undefined. */
function folder(read) {
  return {
    describe: () => MODEL,
    sha256: () => undefined,
    hashed: () => {},
    async open(path, begin = 0) {
      const bytes = read(path);
      if (bytes === undefined) return null;
      let at = begin;
      return {
        length: bytes.length,
        read: async (most) => bytes.subarray(at, (at = Math.min(at + most, bytes.length))),
        skip: async (count) => void (at += count),
        close() {},
      };
    },
  };
}
