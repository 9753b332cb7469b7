// The page uses only the package, as anybody's page would. document.body.dataset.state is "idle", "working",
// "done", "failed" or "cancelled": for whoever drives the page.

import { ImageGenerator } from "../index.js";
import { list, showKept } from "./kept.js";
import { Start } from "./start.js";

const $ = (id) => document.getElementById(id);
const form = $("form");
const fields = form.elements;

/** What the page says of each stage. */
const STAGES = { download: "Loading the model", verify: "Loading the model", compile: "Preparing the device", text: "Reading the prompt", step: "Drawing", decode: "Developing" };

const start = new Start(fields, (error) => state("failed", "", error.message));
showKept();
let generator = null;
/** The settings that `generator` was made with. */
let made = "";
let abort = null;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!abort) generate();
});
$("cancel").addEventListener("click", () => abort?.abort());
document.addEventListener("keydown", (event) => event.key === "Escape" && abort?.abort());

addEventListener("hashchange", readAddress);
readAddress();

async function generate() {
  abort = new AbortController();
  const common = { signal: abort.signal, onProgress: progress };
  state("working", "Starting");
  const outcome = await draw(common).then(() => ["done", "Done"], explain);
  abort = null;
  state(...outcome);
}

async function draw(common) {
  const wanted = options();
  Object.assign(wanted, start.options(wanted, number("strength")));
  await load(common);
  const made = await generator.generate(fields.prompt.value, { ...wanted, ...common });
  show(await start.finish(made.toImageData()), made);
}

function explain(error) {
  // After these the generator cannot draw any more; the next press makes a new one.
  if (["device-lost", "internal", "disposed"].includes(error.code)) forget();
  return error.name === "AbortError" ? ["cancelled", "Cancelled"] : ["failed", "", error.message];
}

/** Makes the generator at the first press, and again when the model, the device or its precision changed. */
async function load(common) {
  const settings = { model: fields.model.value };
  for (const name of ["device", "weights", "activations"]) settings[name] = chosen(name);
  // An image needs the autoencoder's encoder; once it is there it does no harm.
  settings.imageInput = start.isOpen || (generator !== null && JSON.parse(made).imageInput);
  const wanted = JSON.stringify(settings);
  if (generator && made === wanted) return;
  forget();
  generator = await ImageGenerator.create({ ...settings, ...common });
  made = wanted;
  if ($("kept").open) list();
}

function forget() {
  generator?.dispose();
  generator = null;
}

/** What the fields say; an empty one leaves the choice to the package. */
function options() {
  const size = chosen("size");
  if (size && !/^\d+x\d+$/.test(size)) throw new Error(`size must be WIDTHxHEIGHT, such as 256x256, not "${size}"`);
  const [width, height] = size?.split("x").map(Number) ?? [];
  return {
    seed: number("seed"),
    steps: number("steps"),
    width,
    height,
    guidance: number("guidance"),
    negativePrompt: chosen("negative"),
    scheduler: chosen("scheduler"),
  };
}

const chosen = (name) => fields[name].value || undefined;

/** An unreadable number looks like an empty field: it must not pass for one. */
function number(name) {
  if (fields[name].validity.badInput) throw new Error(`${name} must be a number`);
  return chosen(name) && Number(chosen(name));
}

function progress({ stage, fraction, step, steps }) {
  $("progress").value = fraction;
  const name = STAGES[stage];
  const detail = step ? `, step ${step} of ${steps}` : "";
  if ($("status").textContent !== name + detail) $("status").textContent = name + detail;
}

function state(word, status = "", error = "") {
  document.body.dataset.state = word;
  $("status").textContent = status;
  $("error").textContent = error;
  $("cancel").disabled = word !== "working";
  $("progress").value = word === "done" ? 1 : 0;
}

function show(pixels, { seed, timings, adapter, warnings }) {
  const canvas = $("picture");
  [canvas.width, canvas.height] = [pixels.width, pixels.height];
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.setAttribute("aria-label", `${fields.prompt.value}, seed ${seed}`);
  const rows = [["seed", seed], ["size", `${pixels.width}x${pixels.height}`]];
  for (const [stage, ms] of Object.entries(timings)) rows.push([stage, `${(ms / 1000).toFixed(2)} s`]);
  rows.push(["device", adapter], ...[...generator.warnings, ...warnings].map((warning) => ["note", warning]));
  $("report").replaceChildren(...rows.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

/** Fields in the address, after the #: a link to a picture. They never reach a server. */
function readAddress() {
  let wrong = "";
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    // A page cannot choose a visitor's file.
    if (!(name in fields) || fields[name].type === "file") continue;
    fields[name].value = value;
    // A field that cannot hold the value drops it.
    if (fields[name].value !== value) wrong ||= `${name} cannot be "${value}"`;
  }
  state(wrong ? "failed" : "idle", "", wrong);
}
