// The page as people use it: by keyboard, with what it shows and says.

import assert from "node:assert/strict";
import { test } from "node:test";
import { open } from "./harness.mjs";

const SMALL = "/demo/#model=/golden/models/sdxs-like/&size=64x64&steps=1";

const settled = (page, ...states) => page.waitForFunction((states) => states.includes(document.body.dataset.state), states, { timeout: 240_000 });
const text = (page, id) => page.evaluate((id) => document.getElementById(id).textContent, id);
const pixels = (page) =>
  page.evaluate(() => {
    const canvas = document.getElementById("picture");
    return { width: canvas.width, height: canvas.height, values: [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data] };
  });

test("a picture by keyboard alone", { timeout: 300_000 }, async (t) => {
  const { page, complaints } = await open(t, SMALL);
  // The prompt has the focus already; what stands in it is replaced.
  await page.keyboard.press("Control+A");
  await page.keyboard.type("a paper boat");
  await page.keyboard.press("Tab");
  await page.keyboard.type("7");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "generate");
  await page.keyboard.press("Enter");
  await settled(page, "done", "failed");
  assert.equal(await text(page, "error"), "");

  const { width, height, values } = await pixels(page);
  assert.deepEqual([width, height], [64, 64]);
  assert.ok(new Set(values).size > 20, "the picture is flat");
  assert.ok(values.every((value, i) => i % 4 < 3 || value === 255), "the picture is not opaque");
  assert.equal(await page.getAttribute("#picture", "aria-label"), "a paper boat, seed 7");
  const report = await text(page, "report");
  for (const word of ["seed7", "size64x64", "denoise", "decode", "deviceCPU, 1 thread"]) assert.match(report, new RegExp(word));
  assert.equal(await text(page, "status"), "Done");

  // Enter in the prompt draws again; the same seed gives the same picture.
  await page.focus("#prompt");
  await page.keyboard.press("Enter");
  await settled(page, "working");
  await settled(page, "done");
  assert.deepEqual((await pixels(page)).values, values);
  assert.deepEqual(complaints, []);
});

test("the built-in model draws what the words say", { timeout: 300_000 }, async (t) => {
  const { page, complaints } = await open(t, "/demo/#seed=1");
  assert.equal(await page.inputValue("#prompt"), "a red circle on a blue background");
  await page.click("#generate");
  await settled(page, "done", "failed");
  assert.equal(await text(page, "error"), "");
  const { values } = await pixels(page);
  const is = { red: ([r, g, b]) => r > 130 && g < 90 && b < 90, blue: ([r, g, b]) => b > 130 && r < 90 };
  const share = (colour) => {
    let found = 0;
    for (let i = 0; i < values.length; i += 4) found += is[colour](values.slice(i, i + 3));
    return found / (values.length / 4);
  };
  assert.ok(is.blue(values.slice(0, 3)), `the corner is ${values.slice(0, 3)}`);
  assert.ok(share("blue") > 0.3, `${share("blue")} of it is blue`);
  assert.ok(share("red") > 0.03, `${share("red")} of it is red`);
  assert.deepEqual(complaints, []);
});

test("cancelled by Escape and by the button, then drawn", { timeout: 300_000 }, async (t) => {
  const { page, complaints } = await open(t, SMALL.replace("steps=1", "steps=50&device=gpu"));
  for (const cancel of [() => page.keyboard.press("Escape"), () => page.click("#cancel")]) {
    await page.click("#generate");
    await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Drawing"));
    await cancel();
    await settled(page, "cancelled");
    assert.equal(await text(page, "status"), "Cancelled");
  }
  await page.fill("#steps", "1");
  await page.click("#generate");
  await settled(page, "done");
  assert.deepEqual(complaints, []);
});

test("mistakes are said in a sentence, and mended", { timeout: 300_000 }, async (t) => {
  const { page, complaints } = await open(t, SMALL);
  for (const [field, value, word] of [["#steps", "0", "steps"], ["[name=size]", "63x64", "width"], ["[name=size]", "big", "size"], ["[name=model]", "/nowhere/", "model_index.json"]]) {
    const before = await page.inputValue(field);
    await page.evaluate(() => (document.querySelector("details").open = true));
    await page.fill(field, value);
    await page.click("#generate");
    await settled(page, "failed");
    assert.match(await text(page, "error"), new RegExp(word));
    await page.fill(field, before);
  }
  await page.click("#generate");
  await settled(page, "done");
  assert.equal(await text(page, "error"), "");
  // The browser itself notes the missing file.
  assert.deepEqual(complaints.filter((line) => !line.includes("404")), []);
});

test("the address fills the fields, and says what it cannot", async (t) => {
  const { page } = await open(t, "/demo/#prompt=a+red+boat&seed=5&scheduler=nonsense");
  await settled(page, "failed");
  assert.equal(await page.inputValue("#prompt"), "a red boat");
  assert.equal(await page.inputValue("#seed"), "5");
  assert.match(await text(page, "error"), /scheduler/);
});

test("every field has a label", async (t) => {
  const { page } = await open(t, "/demo/");
  const unlabelled = await page.evaluate(() =>
    [...document.querySelectorAll("input, select, progress")].filter((field) => !field.labels?.[0]?.textContent.trim()).map((field) => field.name || field.id),
  );
  assert.deepEqual(unlabelled, []);
});
