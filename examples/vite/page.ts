// Draws what the form says: shows how much is done, then the image or what went wrong. document.body.dataset.state is
// "idle", "working", "done" or "failed", and `result` what was drawn: for whoever drives the page.

import { ImageGenerator, type CreateOptions, type Progress } from "tintype";

const form = document.querySelector("form")!;
const bar = document.querySelector("progress")!;
const error = document.querySelector<HTMLElement>("#error")!;
const canvas = document.querySelector("canvas")!;
/** "gpu" or "cpu", as in page.html?device=cpu. */
const device = (new URLSearchParams(location.search).get("device") ?? "auto") as CreateOptions["device"];
const onProgress = ({ fraction }: Progress) => (bar.value = fraction);
let generator: ImageGenerator | null = null;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(form);
  const [prompt, seed] = [String(fields.get("prompt")), Number(fields.get("seed"))];
  state("working");
  try {
    // The first time the model is loaded; afterwards the same generator draws every image.
    generator ??= await ImageGenerator.create({ device, onProgress });
    const result = await generator.generate(prompt, { seed, onProgress });
    [canvas.width, canvas.height] = [result.width, result.height];
    canvas.getContext("2d")!.drawImage(result.image, 0, 0);
    canvas.ariaLabel = `${prompt}, seed ${result.seed}`;
    Object.assign(globalThis, { result });
    state("done");
  } catch (reason) {
    state("failed", (reason as Error).message);
  }
});

function state(word: "idle" | "working" | "done" | "failed", message = "") {
  document.body.dataset.state = word;
  error.textContent = message;
  form.querySelector("button")!.disabled = word === "working";
}

state("idle");
