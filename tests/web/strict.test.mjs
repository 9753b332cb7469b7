// A page that takes scripts only from policies that it allows (Trusted Types), in its workers and their threads too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "../../tools/shell.mjs";
import { SCRIPT, cpuName, open } from "./harness.mjs";

const MODEL = "/golden/models/sdxs-like/";
const POLICY = "require-trusted-types-for 'script'; trusted-types";

/** Opens a page under a policy, which its workers have too, and notes what it has refused. */
async function strict(t, names, options) {
  const opened = await open(t, undefined, options);
  const header = { "Content-Security-Policy": `${POLICY} ${names}` };
  const worker = readFileSync(join(ROOT, "dist/worker.js"), "utf8");
  opened.served.set("/worker.js", (response) => response.writeHead(200, { ...header, "Content-Type": "text/javascript" }).end(worker));
  opened.served.set("/tests/strict.html", (response) => response.writeHead(200, { ...header, "Content-Type": "text/html" }).end(`<!doctype html><title>strict</title>${SCRIPT}`));
  await opened.page.goto(new URL("/tests/strict.html", opened.page.url()).href);
  return opened;
}

/** Draws in the page. Its address may be what `worker` is given, or nothing. */
const draw = (page, options = {}) =>
  page.evaluate(async (options) => {
    window.refused ??= [];
    addEventListener("securitypolicyviolation", ({ violatedDirective, sample }) => window.refused.push(`${violatedDirective} ${sample}`));
    const { Worker } = globalThis;
    const { ImageGenerator } = await import("/index.js");
    const generator = await ImageGenerator.create({ device: "cpu", ...options });
    const picture = await digest(await generator.generate("a boat", { seed: 1, steps: 1, width: 32, height: 32 }));
    await generator.dispose();
    return { drew: picture.length > 0, adapter: generator.adapter, refused: window.refused, own: globalThis.Worker === Worker };
  }, { model: MODEL, ...options }).catch((error) => ({ error: error.message }));

for (const isolated of [false, true]) {
  test(`a policy named tintype is enough${isolated ? ", for threads too" : ""}`, { timeout: 120_000 }, async (t) => {
    const { page, complaints } = await strict(t, "tintype", { isolated });
    const adapter = await cpuName(page, { isolated });
    // The package's own worker, and one by its address.
    for (const options of [{}, { worker: "/worker.js" }]) assert.deepEqual(await draw(page, options), { drew: true, adapter, refused: [], own: true });
    // The browser itself notes a file that a site or a model may lack.
    assert.deepEqual(complaints.filter((text) => !text.includes("404")), []);
  });
}

test("without that policy the page refuses the worker", { timeout: 60_000 }, async (t) => {
  const { page } = await strict(t, "'none'");
  assert.match((await draw(page)).error, /TrustedScriptURL/);
});
