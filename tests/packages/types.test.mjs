// The types of the packed tarball, as a strict page reads them: every example of README.md compiles, and so do the examples
// that are TypeScript, without the types of WebGPU or of anything else that a page may lack.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { ROOT, run } from "../../tools/shell.mjs";
import { SITES, install } from "./consumers.mjs";

const FOLDER = join(SITES, "types");

/** What is there in the pages of README.md. */
const PAGE = `
declare const canvas: { getContext(kind: "2d"): CanvasRenderingContext2D } & HTMLCanvasElement;
declare const bar: HTMLProgressElement;
declare const input: { files: FileList };
declare const file: File, cat: File, chair: File;
declare const edges: ImageData;
declare const model: string;
declare const generator: import("tintype").ImageGenerator;
declare function download(blob: Blob, name: string): void;
`;

/** What the types must refuse; each line that they take is an error itself. */
const WRONG = `
import { ImageGenerator, TintypeError, models } from "tintype";
import builtin from "tintype/builtin";

const generator = await ImageGenerator.create({ model: builtin });
// @ts-expect-error
await ImageGenerator.create({ device: "tpu" });
// @ts-expect-error
await ImageGenerator.create({ modle: "builtin" });
// @ts-expect-error
await generator.generate();
// @ts-expect-error
await generator.generate("a boat", { seed: "1" });
// @ts-expect-error
generator.nothing;
// @ts-expect-error
generator.weights = "f32";
// @ts-expect-error
const code: "wrong" = new TintypeError("network", "a sentence").code;
// @ts-expect-error
const [{ name }]: number[] = models;

const { image, pictures } = await generator.generate("a boat", {
  onProgress(progress) {
    // @ts-expect-error
    progress.step;
    if (progress.stage === "step") progress.step.toFixed();
  },
});
const bitmaps: ImageBitmap[] = [image, ...pictures.map(({ image }) => image)];
await using another = generator;
export { bitmaps, another, code, name };
`;

/** The least that bundlers' templates have. */
const OPTIONS = { target: "es2022", lib: ["es2022", "dom", "dom.iterable"], types: [], strict: true, skipLibCheck: false, noEmit: true };
/** What the AI SDK's own types want of a page: those of Node. */
const SDK = { types: ["node"], skipLibCheck: true };
const RESOLUTIONS = { bundler: { module: "esnext", moduleResolution: "bundler" }, nodenext: { module: "nodenext", moduleResolution: "nodenext" } };

before(async () => {
  await install();
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  const write = (name, text) => writeFileSync(join(FOLDER, name), text);
  write("package.json", '{ "type": "module" }');
  write("page.d.ts", PAGE);
  write("wrong.ts", WRONG);
  cpSync(join(ROOT, "examples/vite/page.ts"), join(FOLDER, "vite.ts"));
  for (const { line, text } of blocks()) write(`${/from "ai"/.test(text) ? "sdk" : "readme"}-line-${line}.ts`, text);
});

for (const [name, resolution] of Object.entries(RESOLUTIONS)) {
  test(`README.md and the examples compile, with resolution "${name}"`, { timeout: 120_000 }, async () => {
    const compile = async (kind, options, files) => {
      const config = `tsconfig.${kind}-${name}.json`;
      writeFileSync(join(FOLDER, config), JSON.stringify({ compilerOptions: { ...OPTIONS, ...resolution, ...options }, ...files }));
      const { code, output } = await run(process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "-p", config], { cwd: FOLDER });
      assert.equal(code, 0, output);
    };
    await compile("pages", {}, { include: ["*.ts"], exclude: ["sdk-*.ts"] });
    await compile("sdk", SDK, { include: ["sdk-*.ts", "page.d.ts"] });
  });
}

test("README.md has examples", () => {
  assert.ok(blocks().length > 3);
});

/** The blocks of README.md that are scripts, each a module of its own: one that goes on from another imports the same. */
function blocks() {
  const text = readFileSync(join(ROOT, "README.md"), "utf8");
  return [...text.matchAll(/^```(?:js|ts)\n(.*?)^```$/gms)].map(({ index, 1: code }) => {
    const line = text.slice(0, index).split("\n").length + 1;
    const imports = /from "tintype"/.test(code) ? "" : 'import { ImageGenerator } from "tintype";';
    return { line, text: `${imports}\n${code}` };
  });
}
