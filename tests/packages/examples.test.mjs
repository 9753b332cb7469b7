// The examples, installed from the packed tarball and built by their own scripts: each draws in Chromium, without a
// complaint, and all draw the same to the bit, which is what the native command draws.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "../../tools/browser.mjs";
import { serve } from "../../tools/serve.mjs";
import { ROOT, must } from "../../tools/shell.mjs";
import { cpuName } from "../web/harness.mjs";
import { MODULES, SITES, copy, examples, install } from "./consumers.mjs";

const PROMPT = "a green tree on a yellow background";
const SEED = 4;
/** Of the values, the share that is within one level of the native picture's: rounding is another in another compiler's SIMD. */
const WITHIN = 0.999;

/** What is served of each example; others are served as they are. */
const BUILT = { vite: "dist", nextjs: "out" };
const CPU = "?device=cpu";

let browser = null;
/** By what drew it, the bytes of each picture. */
const drawn = new Map();

before(async () => {
  await install();
  browser = await launch();
});
after(() => browser?.close());

for (const name of examples()) {
  test(`${name} draws`, { timeout: 180_000 }, async (t) => {
    const folder = await copy(name);
    // Threads are not needed, and are there where the page allows them.
    for (const isolated of [false, true]) {
      const site = await open(t, name, folder, { isolated });
      const page = await site.page(CPU);
      const picture = await draw(page);
      assert.equal(picture.adapter, await cpuName(page, { isolated }));
      assert.deepEqual(site.complaints, []);
      drawn.set(`${name}${isolated ? ", isolated" : ""}`, picture);
    }
  });
}

test("plain draws without being told on what", { timeout: 60_000 }, async (t) => {
  // Chromium has only a GPU in software here, instead of which the CPU is taken.
  const site = await open(t, "plain", join(SITES, "plain"));
  drawn.set("plain, device auto", await draw(await site.page("")));
  assert.deepEqual(site.complaints, []);
});

test("vite draws from its development server", { timeout: 120_000 }, async (t) => {
  const { createServer } = await import(join(MODULES, "vite/dist/node/index.js"));
  const noIcon = { name: "no-icon", configureServer: ({ middlewares }) => void middlewares.use("/favicon.ico", (_, response) => response.writeHead(204).end()) };
  // What is installed lies beside the example, not in it.
  const server = { host: "127.0.0.1", port: 0, fs: { allow: [SITES] }, watch: null };
  const vite = await createServer({ root: join(SITES, "vite"), logLevel: "error", server, plugins: [noIcon] });
  t.after(() => vite.close());
  await vite.listen();
  const site = visit(t, vite.resolvedUrls.local[0]);
  drawn.set("vite, development", await draw(await site.page(CPU)));
  assert.deepEqual(site.complaints, []);
});

test("all of them draw the same, and what the native command draws", { timeout: 120_000 }, async (t) => {
  const { pixels: first, size } = drawn.get("plain");
  assert.ok(new Set(first).size > 20, "hardly any colours");
  for (const [name, { pixels }] of drawn) assert.ok(pixels.equals(first), `${name} draws another image: ${share(pixels, first)} of the values are the same to one level`);
  assert.equal(drawn.size, 2 * examples().length + 2);
  const native = await nativePicture(t);
  assert.deepEqual(native.size, size);
  const within = share(native.pixels, first);
  t.diagnostic(`within one level of the native image: ${(100 * within).toFixed(3)} %`);
  assert.ok(within >= WITHIN, `within one level of the native image: ${(100 * within).toFixed(3)} %`);
});

test("a policy that forbids the module is noticed", { timeout: 60_000 }, async (t) => {
  const site = await open(t, "csp", join(SITES, "csp"), { editPolicy: (policy) => policy.replace(" 'wasm-unsafe-eval'", "") });
  const page = await site.page(CPU);
  await page.click("button");
  await page.waitForSelector("body[data-state=failed]");
  assert.match(await page.textContent("[role=alert]"), /Content Security Policy/i);
  assert.ok(site.complaints.some((text) => /blocked .*wasm-eval/.test(text)), site.complaints.join("\n"));
});

/** Serves an example, and resolves to what `visit` makes of it. */
async function open(t, name, folder, { isolated = false, editPolicy = (policy) => policy } = {}) {
  const cdn = name === "cdn" ? await serve({ mounts: { "/tintype/": join(MODULES, "tintype") }, answer: shared }) : null;
  // The address that stands for another origin.
  const moved = (text) => (cdn ? text.replaceAll("https://cdn.example", cdn.url) : text);
  const policy = editPolicy(moved(policyOf(folder)));
  const answer = (path, response, request) => {
    if (policy) response.setHeader("Content-Security-Policy", `${policy}; report-uri /violations`);
    if (path === "/violations") {
      request.setEncoding("utf8").on("data", (text) => site.complaints.push(`blocked ${text}`));
      response.writeHead(204).end();
    } else if (path === "/favicon.ico") response.writeHead(204).end();
    else if (cdn && path === "/page.js") response.writeHead(200, { "Content-Type": "text/javascript" }).end(moved(readFileSync(join(folder, "page.js"), "utf8")));
    else return false;
    return true;
  };
  const mounts = { "/": join(folder, BUILT[name] ?? ""), "/node_modules/": MODULES };
  const server = await serve({ mounts, answer, isolated });
  t.after(() => [server, cdn].forEach((each) => each?.close()));
  const site = visit(t, `${server.url}/index.html`);
  return site;
}

/** Pages of one address: { page(query), complaints }, with what the console says of any of them. */
function visit(t, address) {
  const complaints = [];
  const page = async (query) => {
    const page = await browser.newPage();
    t.after(() => page.close());
    page.setDefaultTimeout(60_000);
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(address + query);
    await page.waitForSelector("body[data-state=idle]");
    return page;
  };
  return { page, complaints };
}

/** What a host of files allows pages of all origins. */
const shared = (_, response) => void response.setHeader("Access-Control-Allow-Origin", "*");

/** The policy of an example, in the form that hosts of static files read; empty if it has none. */
function policyOf(folder) {
  const file = join(folder, "_headers");
  return existsSync(file) ? /Content-Security-Policy: (.+)/.exec(readFileSync(file, "utf8"))[1] : "";
}

/** Fills in the page's form and waits for the picture. */
async function draw(page) {
  await page.fill("input[name=prompt]", PROMPT);
  await page.fill("input[name=seed]", String(SEED));
  await page.evaluate(() => {
    globalThis.fractions = [];
    const bar = document.querySelector("progress");
    new MutationObserver(() => globalThis.fractions.push(bar.value)).observe(bar, { attributes: true });
  });
  await page.click("button");
  await page.waitForSelector("body[data-state=done], body[data-state=failed]");
  assert.equal(await page.textContent("[role=alert]"), "");
  const found = await page.evaluate(() => {
    const { width, height, data } = globalThis.result.toImageData();
    const canvas = document.querySelector("canvas");
    const shown = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    const { seed, device, adapter } = globalThis.result;
    return { pixels: [...data], shown: shown.every((value, i) => value === data[i]), size: [width, height], alt: canvas.ariaLabel, fractions: globalThis.fractions, seed, device, adapter };
  });
  assert.equal(found.seed, SEED);
  assert.equal(found.device, "cpu");
  assert.equal(found.alt, `${PROMPT}, seed ${SEED}`);
  assert.ok(found.shown, "the canvas shows something else");
  // It is told of two calls, and goes back where the second begins.
  const { fractions } = found;
  const back = fractions.filter((fraction, i) => fraction < fractions[i - 1]);
  assert.ok(fractions.length > 4 && fractions.at(-1) === 1 && back.length <= 1, `progress: ${fractions}`);
  return { ...found, pixels: Buffer.from(found.pixels) };
}

/** The same request of the native command, with the weights that the package's model has. */
async function nativePicture(t) {
  const command = join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "release/tintype");
  const [model, out] = ["q8", "native.png"].map((name) => join(SITES, name));
  mkdirSync(SITES, { recursive: true });
  rmSync(model, { recursive: true, force: true });
  await must("Packing", command, ["pack", "--model", join(ROOT, "models/builtin"), "--weights", "q8", "--out", model]);
  await must("Drawing", command, ["generate", PROMPT, "--seed", String(SEED), "--model", model, "--device", "cpu", "--out", out]);
  const page = await browser.newPage();
  t.after(() => page.close());
  const found = await page.evaluate(async (png) => {
    const bitmap = await createImageBitmap(await (await fetch(png)).blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return { pixels: [...context.getImageData(0, 0, bitmap.width, bitmap.height).data], size: [bitmap.width, bitmap.height] };
  }, `data:image/png;base64,${readFileSync(out, "base64")}`);
  return { ...found, pixels: Buffer.from(found.pixels) };
}

/** Of the values, the share that differs by one level at most. */
const share = (a, b) => a.filter((value, i) => Math.abs(value - b[i]) <= 1).length / Math.max(a.length, b.length);
