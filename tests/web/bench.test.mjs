// bench/page in Chromium, on the smallest thing that has a name, on both devices in turns.

import assert from "node:assert/strict";
import { test } from "node:test";
import { open } from "./harness.mjs";

test("the page measures as the command does", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t, "/bench/", { isolated: true });
  const settings = ["gpu", "cpu"].map((device) => ({ name: device, device, weights: "f32" }));
  const request = { models: ["taesd"], size: [64, 64], filter: "taesd/decoder*", rounds: 1 };
  const { report, lines } = await page.evaluate(async ([settings, request]) => {
    const lines = [];
    const report = await (await import("/bench/page.js")).bench(settings, request, (line) => lines.push(line));
    return { report, lines };
  }, [settings, request]);
  assert.deepEqual(report.settings, ["gpu", "cpu"]);
  assert.equal(lines.length, report.rows.length + 2);
  const whole = report.rows.at(-1);
  assert.equal(whole.name, "taesd/decoder");
  for (const { best, ratio, share } of report.rows) assert.ok(best.every((s) => s > 0) && ratio > 0 && share.every((s) => s > 0));
  t.diagnostic(lines.at(-1));
  const error = await page.evaluate(async () => (await import("/bench/page.js")).bench([{}], { models: ["sd9"] }, () => {}).catch((e) => e.message));
  assert.match(error, /wanted one of sd-turbo.*found "sd9"/);
});
