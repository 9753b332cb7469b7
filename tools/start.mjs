// `npm start`: builds what is missing, serves the page and prints its address.
// `npm start -- --prompt "a red circle" --seed 1 --out a.png`: the same page, driven in headless Chromium.

import { existsSync, statSync, writeFileSync } from "node:fs";
import { basename, resolve } from "node:path";
import { parseArgs } from "node:util";
import { build } from "./build.mjs";
import { serve } from "./serve.mjs";
import { DRIVE, setup } from "./setup.mjs";
import { UserError, main, say } from "./shell.mjs";

/** Options that are the page's own fields, by the names that the page knows them by. */
const FIELDS = ["prompt", "seed", "steps", "size", "guidance", "negative", "scheduler", "model", "device", "weights", "activations"];

const HELP = `npm start                                   serve the page
npm start -- --prompt TEXT [options]        write a picture

  --out FILE           where to write the PNG (out.png)
  --seed N             a whole number; another picture for each (random)
  --steps N            denoising steps
  --size WxH           in pixels, multiples of 8
  --model NAME         builtin, a folder in diffusers layout, or its URL
  --device NAME        auto, gpu or cpu
  --weights F          f32, f16 or q8
  --activations F      auto, f32, f16 or pack16
  --scheduler NAME     --guidance G     --negative TEXT
  --port N             of the server (8080 when serving, a free one for a picture)
  --gpu                let Chromium use this machine's GPU, not only its software one, for a picture
  --install            install system packages that are missing (as root)`;

main(async () => {
  const { values } = options();
  if (values.help) return say(HELP);
  await setup(values.prompt === undefined ? [] : DRIVE, values);
  await build(values);
  const mounts = {};
  if (values.model && values.model !== "builtin" && isFolder(values.model)) {
    mounts["/model/"] = resolve(values.model);
    values.model = "/model/";
  }
  if (values.prompt !== undefined) return draw(values, mounts);
  const { url } = await serveAt(values.port, mounts);
  say(`The page is at ${url}${hash(values)}\nCtrl+C ends the server.`);
});

/** On the port that was asked for, else on 8080 or, where that is taken, on a free one. */
function serveAt(port, mounts) {
  if (port !== undefined) return serve({ port: number(port), mounts, isolated: true });
  return serve({ port: 8080, mounts, isolated: true }).catch(() => serve({ mounts, isolated: true }));
}

function options() {
  const text = { type: "string" };
  const flag = { type: "boolean" };
  const known = Object.fromEntries([...FIELDS, "out", "port"].map((name) => [name, text]));
  try {
    return parseArgs({ options: { ...known, gpu: flag, install: flag, help: flag }, strict: true });
  } catch (error) {
    throw new UserError(`${error.message}\n\n${HELP}`);
  }
}

/** The page reads its fields from the address, so that a picture's address can be kept. */
function hash(values) {
  const fields = new URLSearchParams(FIELDS.filter((name) => values[name] !== undefined).map((name) => [name, values[name]]));
  return fields.size > 0 ? `/demo/#${fields}` : "/";
}

async function draw(values, mounts) {
  const out = values.out ?? "out.png";
  if (isFolder(out)) throw new UserError(`${out} is a folder, wanted the name of a PNG file.`);
  const { launch } = await import("./browser.mjs");
  const { url, close } = await serve({ port: number(values.port ?? "0"), mounts, isolated: true });
  const browser = await launch({ software: !values.gpu });
  try {
    const page = await browser.newPage();
    await page.goto(url + hash(values));
    await page.waitForFunction(() => document.body.dataset.state !== undefined);
    if (await page.evaluate(() => document.body.dataset.state === "idle")) await page.click("#generate");
    const { png, report } = await finished(page);
    writeFileSync(out, Buffer.from(png, "base64"));
    say(`${report}\nwrote ${basename(out) === out ? out : resolve(out)}`);
  } finally {
    await browser.close();
    close();
  }
}

/** Follows the page until it shows a picture or an error, printing what it says it is doing. */
async function finished(page) {
  let shown = "";
  const tell = (line) => {
    if (line === shown || line === "") return;
    shown = line;
    if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line}`);
    else say(line);
  };
  for (;;) {
    const { state, status, error } = await page.evaluate(() => ({
      state: document.body.dataset.state,
      status: document.querySelector("#status").textContent,
      error: document.querySelector("#error").textContent,
    }));
    if (state === "working") tell(status);
    else if (process.stdout.isTTY) process.stdout.write("\r\x1b[K");
    if (state === "failed") throw new UserError(error);
    if (state === "done") break;
    await new Promise((wake) => setTimeout(wake, 200));
  }
  // The image's own pixels, not a screenshot: the page draws it on a 2D canvas without scaling.
  return page.evaluate(() => ({
    png: document.querySelector("#picture").toDataURL("image/png").split(",")[1],
    report: [...document.querySelectorAll("#report dt")].map((dt) => `${dt.textContent} ${dt.nextSibling.textContent}`).join(", "),
  }));
}

const isFolder = (path) => !path.includes("://") && existsSync(path) && statSync(path).isDirectory();

function number(text) {
  if (!/^\d+$/.test(text)) throw new UserError(`--port must be a whole number, not "${text}".`);
  return Number(text);
}
