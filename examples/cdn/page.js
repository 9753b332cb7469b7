// Draws what the form says: shows how much is done, then the image or what went wrong. document.body.dataset.state is
// "idle", "working", "done" or "failed", and `result` what was drawn: for whoever drives the page.

import { ImageGenerator } from "https://cdn.example/tintype/dist/index.js";

const [form, bar, error, canvas] = ["form", "progress", "#error", "canvas"].map((name) => document.querySelector(name));
/** "gpu" or "cpu", as in page.html?device=cpu. */
const device = new URLSearchParams(location.search).get("device") ?? "auto";
const onProgress = ({ fraction }) => (bar.value = fraction);
let generator = null;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const [prompt, seed] = [form.elements.prompt.value, Number(form.elements.seed.value)];
  state("working");
  try {
    // The first time the model is loaded; afterwards the same generator draws every image.
    generator ??= await ImageGenerator.create({ device, onProgress });
    const result = await generator.generate(prompt, { seed, onProgress });
    [canvas.width, canvas.height] = [result.width, result.height];
    canvas.getContext("2d").drawImage(result.image, 0, 0);
    canvas.ariaLabel = `${prompt}, seed ${result.seed}`;
    Object.assign(globalThis, { result });
    state("done");
  } catch (reason) {
    state("failed", reason.message);
  }
});

function state(word, message = "") {
  document.body.dataset.state = word;
  error.textContent = message;
  form.querySelector("button").disabled = word === "working";
}

state("idle");
