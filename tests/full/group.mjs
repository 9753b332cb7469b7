// One model with one kind of weights: fetched from a hub by headless Chromium, drawn with, kept, and loaded again; beside
// the native command's image.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, must } from "../../tools/shell.mjs";
import { Gauge, count } from "../web/gauge.mjs";
import { open } from "../web/harness.mjs";
import { cut, hub } from "../web/hub.mjs";
import { MODELS, model } from "./models.mjs";

const TINTYPE = join(ROOT, "target/release/tintype");
const PROMPT = "a red fox in the snow";
const SEED = 7;
/** Of the picture that is drawn again after the model was loaded from what was kept. */
const SMALL = 64;

/**
 * Runs a group ({ model, weights, device, steps, and size, if a picture is wanted }) and resolves to what was measured,
 * in bytes and seconds. `tell` gets sentences about what it does.
 */
export async function measure(group, tell) {
  const made = model(group.model, (done, all) => tell(`making the checkpoint: ${Math.floor((100 * done) / all)} %`));
  tell("the native image");
  const picture = group.size && (await native(made.folder, group));
  const ends = [];
  try {
    return await inChromium({ after: (end) => ends.push(end) }, made, picture, group, tell);
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

/** The native command's picture, on the CPU, as PNG. */
async function native(folder, { model, weights, size, steps }) {
  const out = join(ROOT, `target/full/${model}-${weights}.png`);
  const how = ["--model", folder, "--weights", weights, "--seed", SEED, "--steps", steps, "--size", `${size}x${size}`];
  await must("The native command", TINTYPE, ["generate", PROMPT, ...how.map(String), "--device", "cpu", "--out", out]);
  return readFileSync(out);
}

async function inChromium(t, { folder, hashes }, picture, group, tell) {
  const { repo } = MODELS[group.model];
  const { page, served } = await open(t, undefined, { isolated: true });
  const { url, log, faults } = await hub(t, { [repo]: folder }, { [repo]: hashes });
  count(served);
  served.set("/tests/native.png", picture);
  await roomy(page);
  const gauge = await Gauge.attach(page);
  /** Runs `work` in the page, and measures the worker meanwhile. */
  const measured = async (work, ...args) => {
    gauge.begin();
    const begin = Date.now();
    let [result, seconds, held] = [];
    try {
      result = await page.evaluate(work, ...args);
      seconds = (Date.now() - begin) / 1000;
    } finally {
      // Whatever came of it: the sampling keeps the process alive.
      held = await gauge.end();
    }
    return { ...result, begin, seconds, ...held };
  };
  const { weights, decoderWeights, device } = group;
  const options = { model: repo, hub: url, weights, decoderWeights, device, activations: "f32" };

  tell("loading");
  const [path] = Object.keys(hashes).filter((name) => name.startsWith("unet/"));
  faults.set(path, failing());
  const load = await measured(create, options);
  if (load.warnings.length > 0) throw new Error(`the load warns: ${JSON.stringify(load.warnings)}`);
  const fetched = log.filter(({ sent }) => sent !== undefined);
  const found = { load: { ...load, stages: stages(load) }, fetched };
  if (picture) {
    tell("drawing");
    found.picture = await measured(compare, { prompt: PROMPT, seed: SEED, steps: group.steps, size: group.size });
    found.small = await page.evaluate(digest, { prompt: PROMPT, seed: SEED, size: SMALL });
  }
  await page.evaluate(() => window.generator.dispose());
  tell("loading what was kept");
  log.length = 0;
  found.again = await measured(create, { ...options, offline: true });
  found.asked = log.length;
  if (picture) found.smallAgain = await page.evaluate(digest, { prompt: PROMPT, seed: SEED, size: SMALL });
  found.kept = await page.evaluate(async () => (await import("/index.js")).ImageGenerator.cache.size());
  return found;
}

/** A private window, as this page is in, may keep a twentieth of the machine's memory or a little more: by chance too little. */
async function roomy(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(page.url()).origin, quotaSize: 2 ** 33 });
}

/** What goes wrong once each: a busy server, a connection that breaks in the middle of a range. */
function failing() {
  let [answers, broken] = [0, false];
  return (how) => {
    if (++answers === 3) return how.response.writeHead(503, { "Retry-After": "1" }).end(), true;
    if (broken || how.begin < how.size / 2) return false;
    return (broken = cut(how, Math.floor((how.begin + how.end) / 2)));
  };
}

/** Seconds of a load: until the first weights are asked for, then those of each part. */
function stages({ begin, begun, seconds }) {
  const times = [["start", begin], ...begun, ["", begin + seconds * 1000]];
  return Object.fromEntries(times.slice(0, -1).map(([part, at], i) => [part, (times[i + 1][1] - at) / 1000]));
}

/** Runs in the page. */
async function create(options) {
  const { ImageGenerator } = await import("/index.js");
  window.generator = await ImageGenerator.create(options);
  const { device, adapter, warnings } = window.generator;
  return { device, adapter, warnings };
}

/** Runs in the page: a picture, value by value beside the native one. */
export async function compare({ prompt, size, ...options }) {
  const generated = await window.generator.generate(prompt, { ...options, width: size, height: size });
  const made = generated.toImageData();
  const blob = await (await fetch("/tests/native.png")).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const wanted = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const colours = (data) => data.filter((_, i) => i % 4 !== 3);
  const [ours, theirs] = [colours(made.data), colours(wanted.data)];
  const off = Array.from(theirs, (value, i) => Math.abs(value - ours[i]));
  const mean = theirs.reduce((a, b) => a + b, 0) / theirs.length;
  return {
    timings: generated.timings,
    sizes: [made.width, made.height, wanted.width, wanted.height],
    within: off.filter((each) => each <= 1).length / off.length,
    worst: off.reduce((a, b) => Math.max(a, b), 0),
    deviation: Math.sqrt(theirs.reduce((a, b) => a + (b - mean) ** 2, 0) / theirs.length),
  };
}

/** Runs in the page: what tells one small picture from another. */
async function digest({ prompt, size, seed }) {
  const picture = await window.generator.generate(prompt, { seed, steps: 1, width: size, height: size });
  const hash = await crypto.subtle.digest("SHA-256", picture.toImageData().data);
  return Array.from(new Uint8Array(hash)).join();
}
