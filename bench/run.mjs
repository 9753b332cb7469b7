// `npm run bench`: everything that is worth knowing of a machine's GPU in about ten minutes, natively and in the
// browser. Prints tables, and writes all figures to target/bench.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { build } from "../tools/build.mjs";
import { launch } from "../tools/browser.mjs";
import { serve } from "../tools/serve.mjs";
import { BUILD, DRIVE, setup } from "../tools/setup.mjs";
import { UserError, ROOT, main, run, say, step } from "../tools/shell.mjs";

const HELP = `npm run bench -- [options]

  --only native|browser   (both)
  --filter GLOB           rows, such as "sd-turbo/unet/conv*" (*)
  --model A,B             of sd-turbo, sd15, sdxl, taesd (all)
  --size WxH              of the picture (512x512)
  --device gpu|cpu|auto   (gpu)
  --limit S               seconds after which a step is not measured again (1)
  --tuning A,B            these tables of kernels beside "base", in f16 with q8, in place of weights and storages
  --software              let Chromium use its own software GPU`;

/** What is measured in turns: a plain setting and what changes in the second one. */
const COMPARISONS = {
  "q8 beside f16": [{ weights: "f16" }, { weights: "q8" }],
  "packed halves beside f32": [{ activations: "f32" }, { activations: "pack16" }],
};

/** Each of some tables of kernels beside those that every GPU runs well. */
const tables = (names) =>
  Object.fromEntries(names.map((name) => [`${name} beside base`, ["base", name].map((tuning) => ({ tuning, weights: "q8", activations: "auto" }))]));

const OUT = join(ROOT, "target/bench");

main(async () => {
  const options = read(process.argv.slice(2));
  if (options.help) return say(HELP);
  mkdirSync(OUT, { recursive: true });
  const places = { native, browser };
  for (const place of options.only ? [options.only] : Object.keys(places)) {
    for (const [name, settings] of Object.entries(options.tuning ? tables(options.tuning.split(",")) : COMPARISONS)) {
      // A CPU computes in f32 only.
      if (options.device === "cpu" && settings.some((s) => s.activations && !s.tuning)) continue;
      say(`\n${place}: ${name}`);
      const file = join(OUT, `${place}, ${name}.json`);
      await places[place](settings, options, file);
      say(`wrote ${file}`);
    }
  }
});

async function native([first, second], { filter, models, size, device, limit }, file) {
  const cargo = ["build", "--locked", "--release", "--bin", "tintype"];
  await step("cargo", async () => {
    const { code, output } = await run("cargo", cargo);
    if (code !== 0) throw new UserError(output);
  });
  const flags = Object.entries(first).flatMap(([key, value]) => [`--${key}`, value]);
  const versus = Object.entries(second).map(([key, value]) => `${key}=${value}`).join(",");
  const args = ["bench", "--device", device, "--filter", filter, "--size", size.join("x"), "--limit", String(limit)];
  args.push(...flags, "--versus", versus, "--json", file, ...models.flatMap((model) => ["--model", model]));
  const { code } = await run(join(ROOT, "target/release/tintype"), args, { show: true });
  if (code !== 0) throw new UserError("The native bench failed.");
}

async function browser(settings, { filter, models, size, device, limit, software }, file) {
  // bench/on-a-gpu.sh has built it, maybe elsewhere.
  const built = process.env.TINTYPE_PREBUILT !== undefined;
  await setup(built ? DRIVE : [...BUILD, ...DRIVE]);
  if (!built) await build();
  const server = await serve({ mounts: { "/bench/": join(ROOT, "bench/page") }, isolated: true });
  const chromium = await launch({ software });
  try {
    const page = await chromium.newPage();
    await page.exposeFunction("tell", say);
    await page.goto(`${server.url}/bench/`);
    const named = settings.map((setting) => ({ name: setting.tuning ?? Object.values(setting).join(" "), device, ...setting }));
    const request = { filter, models, size, limit };
    const report = await page.evaluate(
      async ([settings, request]) => (await import("/bench/page.js")).bench(settings, request, window.tell),
      [named, request],
    );
    writeFileSync(file, JSON.stringify(report, null, 1));
  } finally {
    await chromium.close();
    server.close();
  }
}

function read(args) {
  const string = (value) => ({ type: "string", ...(value && { default: value }) });
  const boolean = { type: "boolean", default: false };
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        help: boolean,
        only: string(),
        filter: string("*"),
        model: string("sd-turbo,sd15,sdxl,taesd"),
        size: string("512x512"),
        device: string("gpu"),
        limit: string("1"),
        tuning: string(),
        software: boolean,
      },
    }));
  } catch (error) {
    throw new UserError(error.message);
  }
  const { model, size, limit, only, ...rest } = values;
  if (only && !["native", "browser"].includes(only)) throw new UserError(`--only: wanted native or browser, found ${only}.`);
  const sides = size.split("x").map(Number);
  if (sides.length !== 2 || !sides.every((side) => side > 0)) throw new UserError(`--size: wanted WIDTHxHEIGHT, found ${size}.`);
  return { ...rest, only, models: model.split(","), size: sides, limit: Number(limit) };
}
