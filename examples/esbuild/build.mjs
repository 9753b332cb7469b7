// esbuild leaves `new URL("...", import.meta.url)` as it is, and copies nothing: the worker is bundled as an entry of its
// own, and the module's two builds and the built-in model are put beside it.

import { build } from "esbuild";
import { copyFileSync } from "node:fs";

await build({
  entryPoints: { page: "page.js", worker: "tintype/worker" },
  outdir: "dist",
  bundle: true,
  splitting: true,
  format: "esm",
  minify: true,
});
const copy = (from, to) => copyFileSync(new URL(from), `dist/${to}`);
copy(import.meta.resolve("tintype/runtime.wasm"), "runtime.wasm");
copy(import.meta.resolve("tintype/runtime-relaxed.wasm"), "runtime-relaxed.wasm");
copy(new URL("./builtin.bin", import.meta.resolve("tintype/builtin")), "builtin.bin");
