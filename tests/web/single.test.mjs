// A single file alone as a model: from an address, chosen, dropped; and what is refused.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { make } from "../full/single.mjs";
import { SCRIPT, open, withHeader } from "./harness.mjs";

/** Serves the files of a folder. */
function mount(served, folder, paths) {
  for (const path of paths) served.set(`/${path}`, readFileSync(join(folder, path)));
}

const FILES = ["single.safetensors", ...["model_index.json", "scheduler/scheduler_config.json", "unet/config.json", "vae/config.json", "text_encoder/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json"].map((path) => `folder/${path}`)];

test("a single file alone", { timeout: 300_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "tintype-single-"));
  t.after(() => rmSync(folder, { recursive: true }));
  make(folder, { narrow: true });
  const { page, served } = await open(t);
  mount(served, folder, FILES);
  const asked = [];
  const watch = (path) => {
    const body = served.get(path) ?? readFileSync(new URL(`../../dist${path}`, import.meta.url));
    served.set(path, (response) => (asked.push(path), response.writeHead(200, { "Content-Length": body.length }).end(body)));
  };
  for (const path of ["/single.safetensors", "/clip.bin"]) watch(path);
  const input = '<!doctype html><input type="file" multiple><p id="place">drop here</p>' + SCRIPT;
  served.set("/input.html", (response) => response.writeHead(200, { "Content-Type": "text/html" }).end(input));
  await page.goto(new URL("/input.html", page.url()).href);
  await page.evaluate(() => {
    window.drawn = async (model, more = {}) => {
      const { ImageGenerator } = await import("/index.js");
      const generator = await ImageGenerator.create({ device: "cpu", weights: "f16", model: await model, ...more });
      const picture = await generator.generate("a cat, on mars!", { seed: 3, steps: 2, width: 64, height: 64 });
      generator.dispose();
      return { pixels: await digest(picture), warnings: generator.warnings };
    };
  });
  const drawn = (model, more = "{}") => page.evaluate(`window.drawn(${model}, ${more}).catch((error) => error.code + ": " + error.message)`);
  const { pixels } = await drawn("'/folder/'");
  assert.ok(pixels);
  assert.deepEqual(asked, []);

  await t.test("from an address draws as its folder does", async () => {
    assert.deepEqual(await drawn("'/single.safetensors'"), { pixels, warnings: [] });
    // Its header, then once all of it, whose networks are read one after the other.
    assert.deepEqual(asked.sort(), ["/clip.bin", "/single.safetensors", "/single.safetensors"]);
    assert.deepEqual(await drawn("new URL('/single.safetensors?download=true', location)"), { pixels, warnings: [] });
    assert.equal(asked.filter((path) => path === "/single.safetensors").length, 4);
    // It may change there, and nobody tells its hash: so it is not kept unless that is asked for.
    served.set("/models/single.safetensors", served.get("/single.safetensors"));
    assert.deepEqual(await drawn("'models/single.safetensors'"), { pixels, warnings: [] });
    assert.deepEqual(await page.evaluate(async () => (await import("/index.js")).ImageGenerator.cache.list()), []);
  });
  await t.test("that was chosen or dropped", async () => {
    await page.setInputFiles("input", join(folder, "single.safetensors"));
    assert.deepEqual(await drawn("document.querySelector('input').files"), { pixels, warnings: [] });
    await page.evaluate(() => {
      const place = document.getElementById("place");
      place.ondragover = (event) => event.preventDefault();
      place.ondrop = (event) => {
        event.preventDefault();
        window.result = window.drawn(event.dataTransfer);
      };
    });
    // The package is there before the drop, whose files can be read only while the event lasts.
    await page.evaluate(async () => {
      const { ImageGenerator } = await import("/index.js");
      window.drawn = async (model) => {
        const generator = await ImageGenerator.create({ device: "cpu", weights: "f16", model });
        const picture = await generator.generate("a cat, on mars!", { seed: 3, steps: 2, width: 64, height: 64 });
        return { pixels: await digest(picture), warnings: generator.warnings };
      };
    });
    const session = await page.context().newCDPSession(page);
    const { x, y, height } = await page.locator("#place").boundingBox();
    const data = { items: [], files: [join(folder, "single.safetensors")], dragOperationsMask: 1 };
    for (const type of ["dragEnter", "dragOver", "drop"]) {
      await session.send("Input.dispatchDragEvent", { type, x: x + 5, y: y + height / 2, data });
    }
    assert.deepEqual(await page.evaluate(() => window.result), { pixels, warnings: [] });
  });
  await t.test("its needs are known from its header", async () => {
    const estimate = (model) => page.evaluate(`import("/index.js").then(({ ImageGenerator }) => ImageGenerator.estimate({ model: ${model} }))`);
    const { fitting, savings, ...needs } = await estimate("'/single.safetensors'");
    assert.deepEqual({ fitting, savings, ...needs }, await estimate("'/folder/'"));
    assert.ok(needs.f16.weights > 5e6);
  });
  await t.test("what it lacks comes from elsewhere, or is named", async () => {
    const bare = mkdtempSync(join(tmpdir(), "tintype-single-"));
    t.after(() => rmSync(bare, { recursive: true }));
    make(bare, { narrow: true, skip: ["vae"] });
    served.set("/bare.safetensors", readFileSync(join(bare, "single.safetensors")));
    const said = await page.evaluate(() => window.drawn("/bare.safetensors").catch((error) => `${error.code}: ${error.message}`));
    assert.match(said, /^not-found: bare.safetensors has no vae: .*named by components\.vae/);
    const drawn = (model) => page.evaluate(`(async () => {
      const { ImageGenerator } = await import("/index.js");
      const generator = await ImageGenerator.create({ device: "cpu", weights: "f16", model: ${model}, components: { vae: "/folder/vae/" } });
      return await digest(await generator.generate("a cat, on mars!", { seed: 3, steps: 2, width: 64, height: 64 }));
    })()`);
    assert.equal(await drawn("'/bare.safetensors'"), pixels);
    await page.setInputFiles("input", join(bare, "single.safetensors"));
    assert.equal(await drawn("document.querySelector('input').files"), pixels);
  });
  await t.test("it is kept as a pack, which wants neither it nor the vocabulary", async () => {
    asked.length = 0;
    const drawn = (options) => page.evaluate(async (options) => {
      const { ImageGenerator } = await import("/index.js");
      const generator = await ImageGenerator.create({ device: "cpu", weights: "f16", model: "/single.safetensors", ...options });
      const pixels = await digest(await generator.generate("a cat, on mars!", { seed: 3, steps: 2, width: 64, height: 64 }));
      generator.dispose();
      return { pixels, warnings: generator.warnings };
    }, options);
    assert.deepEqual(await drawn({ cache: true }), { pixels, warnings: [] });
    const before = asked.length;
    assert.deepEqual(await drawn({ offline: true }), { pixels, warnings: [] });
    assert.equal(asked.length, before);
  });
  await t.test("what it predicts is told where it is a guess", async () => {
    // The same tensors as those of SD 2.x: projections that are layers.
    const linear = withHeader(readFileSync(join(folder, "single.safetensors")), (header) => {
      for (const [name, entry] of Object.entries(header)) if (/proj_(in|out)\.weight$/.test(name) && entry.shape.length === 4) entry.shape = entry.shape.slice(0, 2);
    });
    served.set("/two.safetensors", linear);
    const [warning, ...more] = await page.evaluate(async () => {
      const { ImageGenerator } = await import("/index.js");
      return (await ImageGenerator.create({ device: "cpu", weights: "f16", model: "/two.safetensors" })).warnings;
    });
    assert.deepEqual([warning.code, more.length], ["configuration", 0]);
    assert.match(warning.message, /two\.safetensors.*v_prediction is a guess/);
  });
  await t.test("pickles are refused, wherever they are named", async () => {
    const refused = (options) => page.evaluate(async (options) => {
      const { ImageGenerator } = await import("/index.js");
      return ImageGenerator.create({ device: "cpu", ...options }).then(() => "drawn", (error) => `${error.code}: ${error.message}`);
    }, options);
    const cases = [{ model: "/a/model.ckpt" }, { model: "/folder/", singleFile: "/a/model.pt" }, { model: "/folder/", loras: ["/model.pth"] }, { model: "/folder/", embeddings: "/model.bin" }, { model: "/folder/", controls: "/model.pth" }];
    for (const options of cases) assert.match(await refused(options), /^unsupported: .*model\.\w+ is a pickle file.*convert it/);
    served.set("/disguised.safetensors", Buffer.concat([Buffer.from("PK\x03\x04"), Buffer.alloc(100)]));
    assert.match(await refused({ model: "/disguised.safetensors" }), /^unsupported: disguised\.safetensors is a pickle file/);
    const old = ["old.ckpt", "old.yaml"].map((name) => ({ name, mimeType: "application/octet-stream", buffer: Buffer.alloc(8) }));
    await page.setInputFiles("input", old);
    const said = await page.evaluate(() => import("/index.js").then(({ ImageGenerator }) => ImageGenerator.create({ model: document.querySelector("input").files }).catch((error) => `${error.code}: ${error.message}`)));
    assert.match(said, /^unsupported: model: old\.ckpt is a pickle file/);
  });
});
