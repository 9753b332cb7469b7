// The page's side of bench: what run.mjs calls, and the form for people.

/** Resolves to the report. `settings` and `request` as src/web/bench.rs has them; `tell` gets each line. */
export function bench(settings, request, tell) {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data: { port, line, report, error } }) => {
      // On the port a thread says that it broke.
      if (port) port.onmessage = ({ data: { fatal } }) => reject(new Error(fatal));
      else if (line !== undefined) tell(line);
      else if (error) reject(new Error(error));
      else resolve(JSON.parse(report));
    };
    worker.onerror = (event) => reject(new Error(event.message ?? "the worker could not be loaded"));
    worker.postMessage({ settings, request: JSON.stringify(request) });
  }).finally(() => worker.terminate());
}

const form = document.querySelector("form");
const lines = document.querySelector("#lines");
const json = document.querySelector("#json");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { filter, size, device } = Object.fromEntries(new FormData(form));
  const button = form.querySelector("button");
  const say = (line) => lines.append(`${line}\n`);
  button.disabled = true;
  json.hidden = true;
  lines.textContent = "";
  try {
    const report = await bench([{ device }], { filter, size: [Number(size), Number(size)] }, say);
    json.href = URL.createObjectURL(new Blob([JSON.stringify(report, null, 1)], { type: "application/json" }));
    json.hidden = false;
  } catch (error) {
    say(error.message);
  }
  button.disabled = false;
});
