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

test("an image by keyboard alone", { timeout: 300_000 }, async (t) => {
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
  assert.ok(new Set(values).size > 20, "the image is flat");
  assert.ok(values.every((value, i) => i % 4 < 3 || value === 255), "the image is not opaque");
  assert.equal(await page.getAttribute("#picture", "aria-label"), "a paper boat, seed 7");
  const report = await text(page, "report");
  for (const word of ["seed7", "size64x64", "denoise", "decode", "deviceCPU, 1 thread"]) assert.match(report, new RegExp(word));
  assert.equal(await text(page, "status"), "Done");

  // Enter in the prompt draws again; the same seed gives the same image.
  await page.focus("#prompt");
  await page.evaluate(() => (document.body.dataset.state = "asked"));
  await page.keyboard.press("Enter");
  await settled(page, "done", "failed");
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

/** Draws a picture; the state may be settled from the one before, and may be so again before anybody looks. */
async function generate(page) {
  await page.evaluate(() => (document.body.dataset.state = "asked"));
  await page.click("#generate");
  await settled(page, "done", "failed");
  assert.equal(await text(page, "error"), "");
}

/** A PNG that the page gets as a file: a red circle on blue, as the built-in model would draw it. */
const upload = (page) =>
  page.evaluate(async () => {
    const canvas = new OffscreenCanvas(96, 96);
    const context = canvas.getContext("2d");
    context.fillStyle = "rgb(40 60 200)";
    context.fillRect(0, 0, 96, 96);
    context.fillStyle = "rgb(210 30 40)";
    context.arc(48, 48, 26, 0, 7);
    context.fill();
    window.original = [...context.getImageData(0, 0, 96, 96).data];
    const files = new DataTransfer();
    files.items.add(new File([await canvas.convertToBlob()], "circle.png", { type: "image/png" }));
    const input = document.getElementById("file");
    input.files = files.files;
    input.dispatchEvent(new Event("change"));
    await new Promise((resolve) => new MutationObserver(resolve).observe(document.getElementById("start"), { attributes: true }));
    return window.original;
  });
/** Mean differences of the picture from `original`, of the pixels that `where` takes. */
const change = (values, original, where) => {
  const off = values.flatMap((value, i) => (i % 4 < 3 && where((i >> 2) % 96, Math.floor(i / 4 / 96)) ? [Math.abs(value - original[i])] : []));
  return { mean: off.reduce((sum, value) => sum + value, 0) / off.length, worst: Math.max(...off), share: off.filter((value) => value > 0).length / off.length };
};
/** Where the canvas is red from the mask: 0 to 1 a pixel. */
const veil = (page, original) =>
  page.evaluate((original) => {
    const { data } = document.getElementById("mask").getContext("2d").getImageData(0, 0, 96, 96);
    // Blue of 200 becomes 104 under the whole veil of 0.6 of 60 of blue, wherever the image is blue.
    return original.flatMap((value, i) => (i % 4 === 2 ? [(value - data[i]) / ((value - 60) * 0.6)] : []));
  }, original);

test("from an image: a mask painted by pointer and by keyboard, with a soft edge", { timeout: 300_000 }, async (t) => {
  const { page, complaints } = await open(t, "/demo/#seed=3&prompt=a+yellow+star+on+a+green+background");
  assert.ok(await page.isHidden("#mask"));
  const original = await upload(page);
  assert.deepEqual(await page.evaluate(() => [document.getElementById("mask").width, document.getElementById("mask").height]), [96, 96]);

  // An image alone: all of it is made anew, as far as strength says.
  await page.fill("[name=strength]", "0.5");
  await generate(page);
  const whole = change((await pixels(page)).values, original, () => true);
  assert.ok(whole.share > 0.9, `${whole.share} of it changed`);

  // A stroke by pointer along the top, in the canvas's own pixels.
  await page.fill("[name=strength]", "");
  await page.fill("[name=brush]", "20");
  await page.fill("[name=feather]", "12");
  await page.locator("#mask").scrollIntoViewIfNeeded();
  const box = await page.locator("#mask").boundingBox();
  const to = (x, y) => page.mouse.move(box.x + (x * box.width) / 96, box.y + (y * box.height) / 96);
  const stroke = async (...places) => {
    await to(...places[0]);
    await page.mouse.down();
    for (const place of places.slice(1)) await to(...place);
    await page.mouse.up();
  };
  await stroke([0, 10], [40, 10], [96, 10]);
  let shown = await veil(page, original);
  const row = (y) => shown[y * 96 + 4];
  assert.ok(row(10) > 0.95, `under the stroke ${row(10)}`);
  assert.ok(Math.abs(row(40)) < 0.02, `far from it ${row(40)}`);
  const edge = [...Array(30).keys()].map(row).filter((value) => value > 0.05 && value < 0.95);
  assert.ok(edge.length >= 6, `an edge of ${edge.length} pixels`);
  await page.fill("[name=feather]", "0");
  shown = await veil(page, original);
  assert.ok([...Array(30).keys()].map(row).filter((value) => value > 0.05 && value < 0.95).length <= 1, "a sharp edge is soft");
  await page.fill("[name=feather]", "12");

  // Only what is painted changes, and what lies at the edge is a mixture.
  await generate(page);
  const { values } = await pixels(page);
  const painted = change(values, original, (_, y) => y < 14);
  const kept = change(values, original, (_, y) => y > 32);
  assert.ok(painted.mean > 20, `under the mask it changed by ${painted.mean}`);
  assert.equal(kept.worst, 0, "what is not painted changed");

  // By keyboard: undone, then painted with Space held while the brush moves, then erased and cleared.
  await page.focus("#mask");
  await page.keyboard.press("Control+z");
  assert.match(await text(page, "painted"), /nothing is painted/);
  for (let i = 0; i < 9; i++) await page.keyboard.press("ArrowLeft");
  const share = async () => Number((await text(page, "painted")).match(/Brush at \d+, \d+; (\d+) % is painted/)?.[1]);
  await page.keyboard.down("Space");
  const dab = await share();
  assert.ok(dab >= 2, `one touch of the brush painted ${dab} %`);
  for (let i = 0; i < 4; i++) await page.keyboard.press("ArrowDown");
  await page.keyboard.up("Space");
  assert.ok((await share()) > dab, "a line is no more than one touch");
  await page.keyboard.press("Shift+ArrowLeft");
  const before = await text(page, "painted");
  await page.check("[value=erase]");
  await page.focus("#mask");
  await page.keyboard.press("Space");
  assert.notEqual(await text(page, "painted"), before);
  await page.click("#clear");
  assert.match(await text(page, "painted"), /nothing is painted/);
  await page.click("#undo");
  assert.doesNotMatch(await text(page, "painted"), /nothing is painted/);

  // Without the image it is as before.
  await page.click("#remove");
  assert.ok(await page.isHidden("#mask"));
  await generate(page);
  assert.deepEqual(complaints, []);
});

test("what is not masked comes out as the autoencoder makes it", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t, "/demo/");
  const original = await upload(page);
  const [made, coded] = await page.evaluate(async (original) => {
    const { ImageGenerator } = await import("/index.js");
    const image = new ImageData(new Uint8ClampedArray(original), 96, 96);
    const generator = await ImageGenerator.create({ imageInput: true });
    const draw = async (width, height) => {
      const mask = new OffscreenCanvas(96, 96);
      const context = mask.getContext("2d");
      context.fillStyle = "white";
      context.fillRect(0, 0, width, height);
      const result = await generator.generate("a yellow star on a green background", { seed: 3, image, mask });
      return [...result.toImageData().data];
    };
    // A third of it is masked, and a corner, far from which there is nothing but the autoencoder.
    return [await draw(32, 96), await draw(8, 8)];
  }, original);
  const far = (x) => x > 48;
  const [inside, outside, error] = [change(made, original, (x) => x < 28), change(made, original, far), change(coded, original, far)];
  t.diagnostic(`inside it changed by ${inside.mean.toFixed(1)}, outside by ${outside.mean.toFixed(1)}, by the autoencoder alone ${error.mean.toFixed(1)}`);
  assert.ok(inside.mean > 20, `inside it changed by ${inside.mean}`);
  assert.ok(error.mean < 15, `the autoencoder is off by ${error.mean}`);
  assert.ok(Math.abs(outside.mean - error.mean) < 1, `outside it changed by ${outside.mean}, by the autoencoder alone ${error.mean}`);
});

test("a file that is no image is said to be none", { timeout: 60_000 }, async (t) => {
  const { page } = await open(t, "/demo/");
  await page.setInputFiles("#file", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("notes") });
  await settled(page, "failed");
  assert.match(await text(page, "error"), /notes.txt is not an image/);
  assert.ok(await page.isHidden("#mask"));
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

test("the models that are kept", { timeout: 120_000 }, async (t) => {
  const { page, complaints } = await open(t, SMALL);
  const create = (weights) =>
    page.evaluate(async (weights) => {
      const { ImageGenerator } = await import("/index.js");
      (await ImageGenerator.create({ model: "/golden/models/sdxs-like/", cache: true, device: "cpu", weights })).dispose();
    }, weights);
  await page.click("#kept summary");
  await page.waitForFunction(() => document.getElementById("taken").textContent === "No models are kept.");
  assert.equal(await page.isVisible("#empty"), false);
  for (const weights of ["q8", "q4", "f16"]) await create(weights);
  await page.click("#kept summary");
  await page.click("#kept summary");
  const button = (weights) => page.getByRole("button", { name: `Delete golden/models/sdxs-like, ${weights}` });
  const left = (count) => page.waitForFunction((count) => document.querySelectorAll("#models li").length === count, count);
  await left(3);
  assert.match(await text(page, "taken"), /^3 kept, \d+\.\d MB\.$/);
  assert.match(await text(page, "models"), /^golden\/models\/sdxs-like, f16: \d+\.\d MB, last used /);
  // By keyboard; the focus stays in the list.
  await button("q4").focus();
  await page.keyboard.press("Enter");
  await left(2);
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "SUMMARY");
  assert.equal(await button("q4").count(), 0);
  // One that another tab loads.
  await page.evaluate(async () => {
    const { cache } = (await import("/index.js")).ImageGenerator;
    const [, { key }] = await cache.list();
    const { openStore } = await import("/store.js");
    globalThis.kept = await (await openStore()).find(key);
  });
  await button("q8").click();
  await page.waitForFunction(() => document.getElementById("taken").textContent.startsWith("golden/models/sdxs-like, q8 is in use"));
  await left(2);
  await page.evaluate(() => globalThis.kept.release());
  await page.click("#empty");
  await left(0);
  assert.equal(await text(page, "taken"), "No models are kept.");
  assert.deepEqual(complaints, []);
});
