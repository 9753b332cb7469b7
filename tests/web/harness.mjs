// What the browser tests share: a page of headless Chromium or Firefox on a server of its own, and files served damaged.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "../../tools/browser.mjs";
import { PLACE, Page, launch as launchFirefox } from "../../tools/firefox.mjs";
import { serve } from "../../tools/serve.mjs";
import { ROOT } from "../../tools/shell.mjs";

/** Calls that a test aborts at moments of its own; with TINTYPE_ABORTS=50, as many as were once tried, it takes minutes. */
export const ABORTS = Number(process.env.TINTYPE_ABORTS ?? 10);

/** The table of kernels that images on a GPU are drawn with: tiles take a GPU in software minutes to compile. */
export const TUNING = process.env.TINTYPE_TUNING;

/** Another set of the same form can be named in the environment. */
export const GOLDEN = process.env.TINTYPE_GOLDEN ?? join(ROOT, "tests/golden");
/** Python writes infinities, which JSON does not have; nothing here reads them. */
export const manifest = () => {
  const text = readFileSync(join(GOLDEN, "manifest.json"), "utf8");
  return JSON.parse(text.replace(/: (-?Infinity|NaN)\b/g, ": null").replace(/\[-?Infinity\b/g, "[null"));
};

/** What pages have of these tests: `digest`, which tells pictures apart. */
export const SCRIPT = `<script>
  const digest = async (picture) => Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", picture.toImageData().data))).join();
</script>`;

/** The bytes of a file of a golden model. */
export const golden = (path) => readFileSync(join(GOLDEN, "models", path));

/** A script of the package after `edit`, as an entry of `served`. */
export function script(path, edit) {
  const text = readFileSync(join(ROOT, "dist", path), "utf8");
  const edited = edit(text);
  if (edited === text) throw new Error(`${path} has nothing to edit any more`);
  return (response) => reply(response, edited, "text/javascript");
}

/** How the CPU of a page that was opened with these options is called. */
export async function cpuName(page, { isolated = false, relaxed = true }) {
  const threads = isolated ? Math.min(await page.evaluate(() => navigator.hardwareConcurrency), 16) : 1;
  return `CPU, ${threads} thread${threads > 1 ? "s" : ""}${relaxed ? ", relaxed SIMD" : ""}`;
}

/**
 * A server of all that tests load. `served` maps paths to what is answered in place of the file: bytes, null (no such
 * file) or a function of the response and the request. `page` is Firefox's, if it is the browser.
 */
async function site({ isolated = false, page }) {
  const served = new Map();
  const answer = (path, response, request) => {
    if (path === "/tests/blank.html") return reply(response, `<!doctype html><title>test</title>${SCRIPT}`, "text/html");
    if (page?.answer(path, response, request)) return true;
    if (!served.has(path)) return false;
    const body = served.get(path);
    if (typeof body === "function") body(response, request);
    else if (body === null) response.writeHead(404).end();
    else reply(response, body, "application/octet-stream");
    return true;
  };
  const mounts = { "/golden/": GOLDEN, "/peers/": join(ROOT, "bench/peers"), "/bench/": join(ROOT, "bench/page") };
  return { served, server: await serve({ mounts, answer, isolated }) };
}

/**
 * Opens `path` in a new browser, with `served` of its site. Closed when the test `t` ends.
 * Options: an `isolated` page can have threads; not `relaxed` hides relaxed SIMD; others are the browser's.
 */
export async function open(t, path = "/tests/blank.html", options = {}) {
  const { isolated, relaxed = true, ...browserOptions } = options;
  const { served, server } = await site({ isolated });
  if (!relaxed) served.set("/runtime.js", script("runtime.js", (text) => text.replace("WebAssembly.validate(", "false && $&")));
  const browser = await launch(browserOptions);
  const page = await browser.newPage();
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  t.after(async () => {
    await browser.close();
    server.close();
  });
  await page.goto(server.url + path);
  return { page, served, complaints, browser };
}

/** As `open` in a new Firefox, on a blank page. Of the page there is only `evaluate`. */
export async function openFirefox(t, options = {}) {
  const page = new Page({ head: SCRIPT });
  const { served, server } = await site({ ...options, page });
  t.after(() => server.close());
  const firefox = launchFirefox(server.url + PLACE);
  t.after(() => firefox.close());
  await page.open(firefox);
  return { page, served };
}

function reply(response, body, type) {
  response.writeHead(200, { "Content-Type": type, "Content-Length": Buffer.byteLength(body) }).end(body);
  return true;
}

/** A safetensors file with another header: `edit` changes the parsed one. Offsets count from the data. */
export function withHeader(file, edit) {
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + length));
  edit(header);
  const text = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([size, text, file.subarray(8 + length)]);
}

/** A JSON file with `changes` laid over it. */
export const withFields = (file, changes) => Buffer.from(JSON.stringify({ ...JSON.parse(file), ...changes }));

/** Of a generator of the built-in model on the CPU, or of what `options` say: a digest of one picture and the warnings of the loading, or the error. */
export const drawOnce = (page, options) =>
  page.evaluate(async (options) => {
    const { ImageGenerator } = await import("/index.js");
    try {
      const generator = await ImageGenerator.create({ model: "/models/builtin/", device: "cpu", ...options });
      const picture = await generator.generate("a red circle on blue", { seed: 5, steps: 1 });
      generator.dispose();
      return { pixels: await digest(picture), warnings: generator.warnings };
    } catch (error) {
      return { code: error.code ?? error.name, message: error.message };
    }
  }, options);
