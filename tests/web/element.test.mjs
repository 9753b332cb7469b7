// <tintype-image>: it draws what `generate` draws, says what it does to those who see it and to those who do not, shares
// its generator and lets it go, and needs nothing that a strict Content-Security-Policy refuses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Gauge } from "./gauge.mjs";
import { open, script } from "./harness.mjs";

const MODEL = "/golden/models/sdxs-like/";
const PROMPT = "a red circle on blue";
/** Long enough to be changed meanwhile. */
const SLOW = { width: 256, height: 256, steps: 30 };
/** What a generator outlives its last element by, and a little more, in milliseconds. */
const GRACE = 5000;
const MORE = 3000;

/** The browser itself notes a file that a site or a model may lack. */
const isGrave = (complaint) => !complaint.includes("404");
const wait = (ms) => new Promise((wake) => setTimeout(wake, ms));

/** Opens a page that has the element and notes of each what it said. */
async function stage(t, pageOptions) {
  const opened = await open(t, undefined, pageOptions);
  await opened.page.evaluate(async () => {
    await import("/element.js");
    /** Adds an element. Null is no attribute. */
    window.add = (attributes, before = () => {}) => {
      const element = document.createElement("tintype-image");
      element.heard = [];
      element.end = new Promise((resolve) => {
        for (const type of ["load", "error", "progress"]) {
          element.addEventListener(type, ({ detail }) => {
            const { stage, fraction, preview, code } = detail;
            element.heard.push({ type, stage, fraction, preview: preview && [preview.width, preview.height], code, ...window.look(element) });
            if (type !== "progress") resolve();
          });
        }
      });
      for (const [name, value] of Object.entries({ device: "cpu", ...attributes })) if (value !== null) element.setAttribute(name, value);
      before(element);
      document.body.append(element);
      return element;
    };
    /** What is to be seen of one, and heard. */
    window.look = (element) => {
      const find = (selector) => element.shadowRoot.querySelector(selector);
      const [canvas, progress, label, error] = ["image", "progress", "label", "error"].map((part) => find(`[part=${part}]`));
      const { width, height } = element.getBoundingClientRect();
      return {
        state: element.getAttribute("state"),
        matches: element.matches(`:state(${element.state})`),
        busy: canvas.getAttribute("aria-busy"),
        role: canvas.getAttribute("role"),
        name: canvas.getAttribute("aria-label"),
        bar: progress.checkVisibility() ? progress.value : null,
        label: label.textContent,
        error: error.textContent,
        box: [width, height],
        // Images are opaque, and a canvas is not.
        painted: canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[3] !== 0,
      };
    };
    window.pixels = (element) => {
      const canvas = element.shadowRoot.querySelector("canvas");
      return [canvas.width, canvas.height, ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data].join();
    };
    /** What a generator of the page's own draws. */
    window.wanted = async (create, prompt, options) => {
      const { ImageGenerator } = await import("/index.js");
      const generator = await ImageGenerator.create({ device: "cpu", ...create });
      const made = await generator.generate(prompt, options);
      generator.dispose();
      return [made.width, made.height, ...made.toImageData().data].join();
    };
  });
  return opened;
}

test("it draws what a generator draws, and says how far it is", { timeout: 120_000 }, async (t) => {
  const { page, complaints } = await stage(t);
  for (const [model, size] of [[null, {}], [MODEL, { width: 64, height: 32 }]]) {
    const found = await page.evaluate(async ([prompt, model, size]) => {
      const element = window.add({ prompt, model, seed: 5, ...size });
      while (element.state === "idle") await new Promise((changed) => new MutationObserver(changed).observe(element, { attributes: true }));
      const begin = window.look(element);
      await element.end;
      const wanted = await window.wanted(model ? { model } : {}, prompt, { seed: 5, ...size });
      const { seed } = element.picture;
      return { begin, heard: element.heard, end: window.look(element), same: window.pixels(element) === wanted, seed };
    }, [PROMPT, model, size]);
    const { begin, heard, end } = found;

    assert.deepEqual([begin.state, begin.busy, begin.bar, begin.painted, begin.matches], ["loading", "true", 0, false, true]);
    assert.deepEqual([end.state, end.busy, end.bar, end.error, end.matches], ["ready", "false", null, "", true]);
    assert.ok(found.same, "other pixels than those of generate");
    assert.equal(found.seed, 5);
    for (const { role, name } of [begin, end]) assert.deepEqual([role, name], ["img", PROMPT]);
    // The size is known, and nothing moves when the image comes.
    assert.deepEqual(begin.box, end.box);

    const news = heard.slice(0, -1);
    assert.deepEqual(heard.map(({ type }) => type).filter((type) => type !== "progress"), ["load"]);
    for (const state of ["loading", "drawing"]) {
      const shares = news.filter((each) => each.state === state).map(({ fraction }) => fraction);
      assert.ok(shares.length > 0, `no news while ${state}`);
      assert.deepEqual(shares, [...shares].sort((a, b) => a - b));
    }
    for (const { bar, fraction, label, busy } of news) assert.deepEqual([bar, busy, label !== ""], [fraction, "true", true]);
    assert.equal(news.at(-1).label, "Drawing");
  }
  assert.deepEqual(complaints.filter(isGrave), []);
});

test("what is read out", { timeout: 120_000 }, async (t) => {
  const { page } = await stage(t);
  await page.evaluate(async ([prompt, model]) => {
    const all = [{ alt: "a sign" }, { alt: "" }, {}].map((more) => window.add({ prompt, model, ...more }));
    await Promise.all(all.map(({ end }) => end));
  }, [PROMPT, MODEL]);
  const images = await page.getByRole("img").evaluateAll((all) => all.map((image) => image.getAttribute("aria-label")));
  assert.deepEqual(images, ["a sign", PROMPT], "an image with an empty text is decoration");
  assert.equal(await page.getByRole("img", { name: "a sign" }).count(), 1);
  assert.deepEqual(await page.getByRole("status").allTextContents(), Array(3).fill("The image is drawn."));
  assert.equal(await page.getByRole("progressbar").count(), 0);

  await page.evaluate(([slow, prompt]) => window.add({ id: "slow", prompt, ...slow }), [SLOW, PROMPT]);
  await page.getByRole("progressbar", { name: "Drawing" }).waitFor();
  // The text for those who do not see it can change without another image.
  await page.evaluate(() => (document.querySelector("tintype-image").alt = "another sign"));
  await page.getByRole("img", { name: "another sign" }).waitFor();
  assert.equal(await page.evaluate(() => document.querySelector("tintype-image").heard.filter(({ type }) => type === "load").length), 1);
});

test("what goes wrong is said, and can be put right", { timeout: 120_000 }, async (t) => {
  const { page, served } = await stage(t);
  const found = await page.evaluate(async ([prompt, model]) => {
    const { TintypeError } = await import("/index.js");
    const element = window.add({ prompt, model: "/nowhere/" });
    const errors = [];
    element.onerror = ({ detail }) => errors.push([detail instanceof TintypeError, detail.code]);
    await element.end;
    const wrong = window.look(element);
    const noFile = await element.toBlob().catch(({ name }) => name);
    element.model = model;
    await new Promise((resolve) => (element.onload = resolve));
    const right = window.look(element);
    element.width = 63;
    await new Promise((resolve) => element.addEventListener("error", resolve));
    return { errors, wrong, noFile, right, size: window.look(element), picture: element.picture };
  }, [PROMPT, MODEL]);
  assert.deepEqual(found.errors, [[true, "not-found"], [true, "invalid-option"]]);
  assert.match(found.wrong.error, /model_index\.json/);
  assert.deepEqual([found.wrong.state, found.wrong.busy, found.wrong.bar, found.wrong.painted, found.noFile], ["error", "false", null, false, "InvalidStateError"]);
  assert.deepEqual([found.right.state, found.right.error, found.right.painted], ["ready", "", true]);
  assert.match(found.size.error, /width/);
  assert.deepEqual([found.size.painted, found.picture], [false, null], "an image of another request is still there");
  assert.match(await page.getByRole("alert").textContent(), /width/);

  // A model that was not there is asked for again.
  served.set(`${MODEL}model_index.json`, null);
  const id = await page.evaluate(async ([prompt, model]) => {
    const element = window.add({ id: "again", prompt, model, weights: "q8" });
    await element.end;
    return element.state;
  }, [PROMPT, MODEL]);
  assert.equal(id, "error");
  served.delete(`${MODEL}model_index.json`);
  const state = await page.evaluate(async () => {
    const element = document.getElementById("again");
    element.redraw();
    await new Promise((resolve) => (element.onload = resolve));
    return element.state;
  });
  assert.equal(state, "ready");
});

test("another prompt draws another image; the old call ends, and no other one", { timeout: 120_000 }, async (t) => {
  const { page } = await stage(t);
  const started = [];
  page.on("worker", (worker) => started.push(worker));
  const found = await page.evaluate(async ([slow, prompt]) => {
    const { ImageGenerator } = await import("/index.js");
    const generator = await ImageGenerator.create({ device: "cpu" });
    const calls = [];
    const spy = {
      generate(prompt, options) {
        const made = generator.generate(prompt, options);
        made.then(() => calls.push([prompt, "drawn"]), ({ name }) => calls.push([prompt, name]));
        return made;
      },
    };
    const changed = window.add({ prompt, seed: 5, ...slow });
    const other = window.add({ prompt: "a green square", seed: 6 });
    // In time: they have not begun to load one of their own.
    changed.generator = other.generator = spy;
    await new Promise((resolve) => changed.addEventListener("progress", resolve, { once: true }));
    // One image is drawn of several changes, and of those that change nothing none.
    changed.prompt = "a yellow";
    changed.prompt = "a yellow circle";
    for (const name of ["width", "height", "steps"]) changed.removeAttribute(name);
    await Promise.all([changed.end, other.end]);
    changed.prompt = "a yellow circle";
    changed.seed = 5;
    await new Promise((wake) => setTimeout(wake, 50));
    const first = window.pixels(changed) === (await window.wanted({}, "a yellow circle", { seed: 5 }));
    const second = window.pixels(other) === (await window.wanted({}, "a green square", { seed: 6 }));
    const loads = changed.heard.filter(({ type }) => type !== "progress").map(({ type }) => type);

    // Without a prompt there is no image.
    changed.prompt = "";
    await new Promise((wake) => setTimeout(wake, 50));
    const none = window.look(changed);
    generator.dispose();
    return { calls, first, second, loads, none };
  }, [SLOW, PROMPT]);
  assert.deepEqual(found.calls.map(String).sort(), ["a green square,drawn", "a red circle on blue,AbortError", "a yellow circle,drawn"]);
  assert.deepEqual([found.first, found.second], [true, true]);
  assert.equal(started.length, 3, "other workers than those of the page's own generators");
  assert.deepEqual(found.loads, ["load"]);
  assert.deepEqual([found.none.state, found.none.painted, found.none.name], ["idle", false, null]);
});

test("elements that ask for the same share a generator, and the last one frees it", { timeout: 120_000 }, async (t) => {
  const { page } = await stage(t);
  const gauge = await Gauge.attach(page);
  const started = [];
  page.on("worker", (worker) => started.push(worker));
  const add = (ids, more = {}) =>
    page.evaluate(async ([ids, prompt, model, more]) => {
      const all = ids.map((id) => window.add({ id, prompt, model, ...more }));
      await Promise.all(all.map(({ end }) => end));
      return all.map(({ state }) => state);
    }, [ids, PROMPT, MODEL, more]);
  const remove = (...ids) => page.evaluate((ids) => ids.forEach((id) => document.getElementById(id).remove()), ids);

  assert.deepEqual(await add(["a", "b"]), ["ready", "ready"]);
  assert.equal(gauge.workers, 1);
  assert.deepEqual(await add(["c"], { weights: "q8" }), ["ready"]);
  assert.equal(gauge.workers, 2);

  // The first one goes, and one is moved, which changes nothing.
  await remove("a");
  await page.evaluate(() => document.body.append(document.getElementById("b")));
  await wait(GRACE + MORE);
  assert.equal(gauge.workers, 2);
  const heard = await page.evaluate(() => document.getElementById("b").heard.filter(({ type }) => type === "load").length);
  assert.equal(heard, 1);

  // One that takes the place of the last one takes its generator, too.
  await remove("b", "c");
  await wait(GRACE - MORE);
  assert.deepEqual(await add(["d"]), ["ready"]);
  await wait(GRACE);
  assert.deepEqual([gauge.workers, started.length], [1, 2]);
  await remove("d");
  await wait(GRACE + MORE);
  assert.equal(gauge.workers, 0);
});

test("one that is removed while it loads or draws leaves nothing behind", { timeout: 120_000 }, async (t) => {
  const { page, complaints } = await stage(t);
  const gauge = await Gauge.attach(page);
  const found = await page.evaluate(async ([prompt, slow]) => {
    const all = ["loading", "drawing"].map((state) => window.add({ prompt, weights: state === "loading" ? "q4" : "q8", ...slow }));
    for (const [at, state] of ["loading", "drawing"].entries()) {
      while (all[at].state !== state) await new Promise((wake) => setTimeout(wake, 1));
      all[at].remove();
    }
    await new Promise((wake) => setTimeout(wake, 100));
    return all.map((element) => [element.state, element.heard.filter(({ type }) => type !== "progress").length]);
  }, [PROMPT, SLOW]);
  assert.deepEqual(found, [["idle", 0], ["idle", 0]]);
  await wait(GRACE + MORE);
  assert.equal(gauge.workers, 0);
  assert.deepEqual(complaints.filter(isGrave), []);
});

test("a lazy one waits until it comes near", { timeout: 120_000 }, async (t) => {
  const { page } = await stage(t);
  const gauge = await Gauge.attach(page);
  const look = () => page.evaluate(() => document.querySelector("tintype-image").state);
  await page.evaluate(([prompt, model]) => {
    const space = document.createElement("div");
    space.style.height = "5000px";
    document.body.append(space);
    window.add({ prompt, model, loading: "lazy" });
  }, [PROMPT, MODEL]);
  await wait(500);
  assert.deepEqual([await look(), gauge.workers], ["idle", 0]);
  await page.evaluate(() => scrollTo(0, 5000));
  await page.evaluate(() => document.querySelector("tintype-image").end);
  assert.deepEqual([await look(), gauge.workers], ["ready", 1]);
});

test("previews, where they are asked for", { timeout: 120_000 }, async (t) => {
  const { page } = await stage(t);
  const { heard, closed, same, asked } = await page.evaluate(async (prompt) => {
    const { ImageGenerator } = await import("/index.js");
    const generator = await ImageGenerator.create({ device: "cpu" });
    const previews = [];
    const asked = [];
    /** Shows one that is white, whatever is drawn, where it is asked to. */
    const white = {
      async generate(prompt, options) {
        asked.push(options.preview);
        const preview = await createImageBitmap(new ImageData(new Uint8ClampedArray(12 * 12 * 4).fill(255), 12, 12));
        if (options.preview) options.onProgress({ stage: "step", step: 1, steps: 2, fraction: 0.5, preview: previews[previews.push(preview) - 1] });
        return generator.generate(prompt, options);
      },
    };
    const give = (element) => (element.generator = white);
    const all = [{}, { preview: "" }].map((more) => window.add({ prompt, seed: 5, ...more }, give));
    await Promise.all(all.map(({ end }) => end));
    generator.dispose();
    const same = window.pixels(all[0]) === window.pixels(all[1]);
    return { heard: all.map(({ heard }) => heard), closed: previews.map(({ width }) => width), same, asked };
  }, PROMPT);
  assert.deepEqual(asked, [false, true]);
  const painted = (heard) => heard.filter(({ type, painted }) => type === "progress" && painted).length;
  assert.equal(painted(heard[0]), 0);
  assert.ok(painted(heard[1]) > 0, "nothing was painted before the end");
  // The white one, then those that the generator itself has.
  const sizes = heard[1].flatMap(({ preview }) => preview ?? []);
  assert.deepEqual(sizes.slice(0, 2), [12, 12]);
  assert.ok(sizes.length > 2 && sizes.slice(2).every((size) => size === 128), String(sizes));
  assert.deepEqual(closed, [0], "the preview was not closed");
  // It has the place of the image, and does not change it.
  assert.equal(new Set(heard.flat().map(({ box }) => box.join())).size, 1);
  assert.ok(same);
});

test("an image comes without motion for those who want none", { timeout: 120_000 }, async (t) => {
  const { page } = await stage(t);
  const running = (reducedMotion) =>
    page.emulateMedia({ reducedMotion }).then(() =>
      page.evaluate(async ([prompt, model]) => {
        const element = window.add({ prompt, model });
        const animations = () => element.shadowRoot.getAnimations().length;
        await element.end;
        const first = animations();
        element.redraw();
        await new Promise((resolve) => (element.onload = resolve));
        element.remove();
        return first;
      }, [PROMPT, MODEL]),
    );
  assert.equal(await running("no-preference"), 1);
  assert.equal(await running("reduce"), 0);
});

test("attributes are properties, even those that were set before the script came", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t);
  const found = await page.evaluate(async ([prompt, model]) => {
    document.body.innerHTML = '<tintype-image device="cpu"></tintype-image>';
    const [element] = document.body.children;
    Object.assign(element, { prompt, model, seed: 7, negativePrompt: "fog", preview: true });
    await import("/element.js");
    await new Promise((resolve) => (element.onload = resolve));
    const blob = await element.toBlob("image/webp");
    const text = await (await element.toBlob()).text();
    // A second copy of the script finds the element defined.
    const again = await import("/element.js?again").then(() => "", String);
    const attributes = Object.fromEntries([...element.attributes].map(({ name, value }) => [name, value]));
    const { seed, steps, preview, alt } = element;
    Object.assign(element, { seed: null, preview: false });
    return { attributes, seed, steps, preview, alt, left: element.getAttributeNames(), type: blob.type, text, again };
  }, [PROMPT, MODEL]);
  assert.deepEqual(found.attributes, { device: "cpu", prompt: PROMPT, model: MODEL, seed: "7", "negative-prompt": "fog", preview: "", state: "ready" });
  assert.deepEqual([found.seed, found.steps, found.preview, found.alt], [7, null, true, ""]);
  assert.deepEqual(found.left.filter((name) => ["seed", "preview"].includes(name)), []);
  assert.deepEqual([found.type, found.again], ["image/webp", ""]);
  assert.match(found.text, /Negative prompt: fog/);
});

test("where there are no elements, it can be imported without effect", { timeout: 120_000 }, async () => {
  const { TintypeImage } = await import("../../dist/element.js");
  assert.equal(typeof TintypeImage, "function");
});

test("a page with a strict Content-Security-Policy, which is one line", { timeout: 120_000 }, async (t) => {
  const { page, served, complaints } = await open(t);
  const policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; img-src 'self'; style-src 'self'";
  const headers = (type) => ({ "Content-Type": type, "Content-Security-Policy": policy });
  const html = `<!doctype html><title>test</title><script type="module" src="/element.js"></script>
    <tintype-image prompt="${PROMPT}" seed="5" device="cpu" preview></tintype-image>
    <script type="module" src="/tests/strict.js"></script>`;
  served.set("/tests/strict.html", (response) => response.writeHead(200, headers("text/html")).end(html));
  served.set("/tests/strict.js", (response) => response.writeHead(200, headers("text/javascript")).end("document.querySelector('tintype-image').onerror = ({ detail }) => console.error(detail.message);"));
  // A worker has the policy of its own script.
  const worker = script("worker.js", (text) => `${text}\n`);
  served.set("/worker.js", (response) => worker(Object.assign(response, { writeHead: ((write) => (code, more) => write.call(response, code, { ...more, ...headers("text/javascript") }))(response.writeHead) })));
  await page.goto(new URL("/tests/strict.html", page.url()).href);
  await page.waitForFunction(() => ["ready", "error"].includes(document.querySelector("tintype-image").state));
  const found = await page.evaluate(() => {
    const { state, shadowRoot } = document.querySelector("tintype-image");
    const canvas = shadowRoot.querySelector("canvas");
    const painted = canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3];
    return { state, painted, display: getComputedStyle(canvas).display, styles: [...shadowRoot.querySelectorAll("[style], style")].length };
  });
  assert.deepEqual(found, { state: "ready", painted: 255, display: "block", styles: 0 });
  assert.deepEqual(complaints.filter(isGrave), []);
});

test("a blank number is none", { timeout: 60_000 }, async (t) => {
  const { page } = await stage(t);
  const found = await page.evaluate(async ([prompt, model]) => {
    const blank = { seed: "", steps: " ", width: "\t", height: "\n", guidance: "  " };
    // Nothing would be drawn with no steps, or in no pixels.
    const element = window.add({ prompt, model, ...blank, width: "32", height: "32" });
    await element.end;
    const read = document.createElement("tintype-image");
    for (const [name, value] of Object.entries(blank)) read.setAttribute(name, value);
    return { state: element.state, error: window.look(element).error, steps: element.picture?.steps > 0, read: Object.keys(blank).map((name) => read[name]) };
  }, [PROMPT, MODEL]);
  assert.deepEqual(found, { state: "ready", error: "", steps: true, read: [null, null, null, null, null] });
});
