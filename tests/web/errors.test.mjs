// Everything that goes wrong is a rejected promise with a stable code and a sentence, and a generator that
// was there before goes on drawing the same images.

import assert from "node:assert/strict";
import { test } from "node:test";
import { golden, open, script, withFields, withHeader } from "./harness.mjs";

const MODEL = "/golden/models/sdxs-like/";
const UNET = "unet/diffusion_pytorch_model.fp16.safetensors";

const file = (path) => golden(`sdxs-like/${path}`);
const rename = (header, from, to) => {
  header[to] = header[from];
  delete header[from];
};
const unet = (edit) => withHeader(file(UNET), edit);
const breakOff = (response) => {
  response.writeHead(200, { "Content-Length": file(UNET).length });
  response.write(file(UNET).subarray(0, 50_000), () => response.destroy());
};

/** What is wrong, the file that is served damaged, the code, and a word that the sentence must have. */
const LOADS = [
  ["a folder without a model", "model_index.json", null, "not-found", "model_index.json"],
  ["no weights", UNET, null, "not-found", "unet/"],
  ["a truncated file", UNET, file(UNET).subarray(0, 100_000), "invalid-model", UNET],
  ["a file that is only a header's length", UNET, file(UNET).subarray(0, 8), "invalid-model", UNET],
  ["not a safetensors file", UNET, Buffer.from("<!doctype html>".repeat(100)), "invalid-model", UNET],
  ["a missing tensor", UNET, unet((header) => rename(header, "conv_in.bias", "conv_in.bios")), "invalid-model", "conv_in.bias"],
  ["overlapping ranges", UNET, unet((header) => header["conv_in.bias"].data_offsets[0]--), "invalid-model", UNET],
  ["a wrong shape", UNET, unet((header) => header["conv_in.weight"].shape.reverse()), "invalid-model", "conv_in.weight"],
  ["a config that is not JSON", "unet/config.json", Buffer.from("{"), "invalid-model", "unet/config.json"],
  ["another width in the config", "unet/config.json", withFields(file("unet/config.json"), { block_out_channels: [20, 40, 80] }), "invalid-model", "shape"],
  ["an unknown switch", "unet/config.json", withFields(file("unet/config.json"), { class_embed_type: "timestep" }), "unsupported", "class_embed_type"],
  ["a class that a terminal would obey", "vae/config.json", withFields(file("vae/config.json"), { _class_name: "\u001b]0;\u0007\n\u202e" }), "unsupported", "\\u001b]0;\\u0007\\n\\u{202e}"],
  ["a class with a long name", "vae/config.json", withFields(file("vae/config.json"), { _class_name: "y".repeat(10_000) }), "unsupported", "yyy ... "],
  ["a server that fails", "vae/config.json", (response) => response.writeHead(500).end(), "network", "500"],
  ["a connection that breaks off", UNET, breakOff, "network", UNET],
];

/** Options of `create` that are refused, the code, and a word of the sentence. */
const OPTIONS = [
  [{ weights: "q3" }, "invalid-option", "weights"],
  [{ weights: 8 }, "invalid-option", "weights"],
  [{ activations: "f64" }, "invalid-option", "activations"],
  [{ activations: "f16" }, "unsupported", "shader-f16"],
  [{ device: "tpu" }, "invalid-option", "device"],
  [{ device: 1 }, "invalid-option", "device"],
  [{ device: "cpu", activations: "pack16" }, "unsupported", "CPU"],
  [{ model: "http://[" }, "invalid-option", "model"],
  [{ imageInput: "yes" }, "invalid-option", "imageInput"],
  [{ controls: "http://[" }, "invalid-option", "controls"],
  [{ controls: ["/nowhere/"] }, "not-found", "/nowhere/"],
  [{ controls: "/golden/models/extras/controlnet/" }, "invalid-model", "ControlNet"],
  [{ controls: "/nowhere/control.safetensors" }, "not-found", "control.safetensors"],
  [{ controls: "/golden/models/extras/ip-adapter/ip-adapter.safetensors" }, "invalid-model", "ip-adapter.safetensors: wanted a ControlNet"],
  [{ adapters: "/golden/models/extras/t2i-adapter/" }, "invalid-model", "T2I-Adapter"],
  [{ ipAdapter: "/golden/models/extras/controlnet/" }, "not-found", "image_encoder"],
  [{ ipAdapter: ["/a/", "/b/"] }, "invalid-option", "ipAdapter"],
  [{ safetyChecker: "/nowhere/" }, "not-found", "/nowhere/"],
  [{ components: { unett: "/golden/models/sd15-like/unet/" } }, "invalid-option", "unett"],
  [{ components: { unet: "http://[" } }, "invalid-option", "components.unet"],
  [{ components: { unet: "/golden/models/sd15-like/unet/" } }, "invalid-model", "cross_attention_dim"],
  [{ loras: "http://[" }, "invalid-option", "loras"],
  [{ loras: "/nowhere.safetensors" }, "not-found", "nowhere.safetensors"],
];

/** Options that there are not: which call, the options, and the sentence. */
const UNKNOWN = [
  ["create", { wieghts: "q8" }, 'create: there is no option "wieghts", did you mean weights?'],
  ["create", { Weights: "q8" }, 'create: there is no option "Weights", did you mean weights?'],
  ["create", { "wasm-url": "/a.wasm" }, 'create: there is no option "wasm-url", did you mean wasmUrl?'],
  ["create", { steps: 4 }, 'create: there is no option "steps", it is one of generate'],
  ["create", { quantisation: "q8" }, 'create: there is no option "quantisation", there are model,'],
  ["create", { loras: { source: "/a.safetensors", weight: 0.5 } }, 'loras: there is no option "weight", there are source, scale'],
  ["create", { loras: ["/a.safetensors", { source: "/a.safetensors", scal: 0.5 }] }, 'loras: there is no option "scal", did you mean scale?'],
  ["create", { embeddings: { source: "/a.safetensors", scale: 0.5 } }, 'embeddings: there is no option "scale"'],
  ["create", { wasmUrl: { base: "/a.wasm", relaxd: "/b.wasm" } }, 'wasmUrl: there is no option "relaxd", did you mean relaxed?'],
  ["create", { components: { une: "/a/" } }, 'components: there is no option "une", did you mean unet?'],
  ["create", "builtin", "create: wanted an object of options, found builtin"],
  ["create", null, "create: wanted an object of options, found null"],
  ["estimate", { memroy: 5 }, 'estimate: there is no option "memroy", did you mean memory?'],
  ["availability", { ofline: true }, 'availability: there is no option "ofline", did you mean offline?'],
  ["generate", { negativeprompt: "blurry" }, 'generate: there is no option "negativeprompt", did you mean negativePrompt?'],
  ["generate", { step: 1 }, 'generate: there is no option "step", did you mean steps?'],
  ["generate", { weights: "q8" }, 'generate: there is no option "weights", it is one of create'],
  ["generate", { control: { image: 1, strength: 1 } }, 'control: there is no option "strength", there are image, scale, start, end'],
  ["generate", { adapter: [{ image: 1, start: 1 }] }, 'adapter: there is no option "start"'],
  ["generate", { imagePrompt: { img: 1 } }, 'imagePrompt: there is no option "img", there are image, scale'],
];

test("an option that there is not", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t);
  await page.evaluate(async (model) => {
    const { ImageGenerator } = await import("/index.js");
    const generator = await ImageGenerator.create({ model, device: "cpu", weights: undefined, unheardOf: undefined });
    window.calls = {
      create: (options) => ImageGenerator.create(options),
      estimate: (options) => ImageGenerator.estimate(options),
      generate: (options) => generator.generate("a boat", options),
      availability: async (options) => {
        const { state, code, reason } = await ImageGenerator.availability(options);
        throw Object.assign(new Error(reason), { code: state === "unavailable" ? code : state });
      },
    };
  }, MODEL);
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  for (const [call, options, sentence] of UNKNOWN) {
    await t.test(`${call} ${JSON.stringify(options)}`, async () => {
      const { code, message } = await page.evaluate(
        ([call, options]) => window.calls[call](options).then(() => ({ code: "accepted" }), ({ code, message }) => ({ code, message })),
        [call, options],
      );
      assert.equal(code, "invalid-option", message);
      assert.ok(message.startsWith(sentence), message);
    });
  }
  assert.deepEqual(requests, []);
});

/** Values that are not what was wanted, as JavaScript writes them. */
const VALUES = [
  ["create", () => ({ memory: "2GB" }), 'memory: wanted a whole number from 0, found "2GB"'],
  ["create", () => ({ memory: 1.5 }), "memory: wanted a whole number from 0, found 1.5"],
  ["create", () => ({ memory: Infinity }), "memory: wanted a whole number from 0, found Infinity"],
  ["create", () => ({ memory: 4n }), "memory: wanted a whole number from 0, found 4n"],
  ["create", () => ({ weights: null }), "weights: wanted a text, found null"],
  ["create", () => ({ imageInput: new Map() }), "imageInput: wanted true or false, found Map"],
  ["generate", () => ({ seed: 'a "b"' }), 'seed: wanted a whole number from 0, found "a \\"b\\""'],
  ["generate", () => ({ guidance: 1e21 + "" }), 'guidance: wanted a number, found "1e+21"'],
  ["generate", () => ({ steps: true }), "steps: wanted a whole number from 0, found true"],
  ["generate", () => ({ steps: new Date() }), "steps: wanted a whole number from 0, found Date"],
  ["generate", () => ({ steps: {} }), "steps: wanted a whole number from 0, found Object"],
  ["generate", () => ({ steps: Object.create(null) }), "steps: wanted a whole number from 0, found Object"],
  ["generate", () => ({ originalSize: [64] }), "originalSize: wanted two whole numbers, found [64]"],
  ["generate", () => ({ targetSize: [64, "b", null, [1], {}, NaN] }), 'targetSize: wanted two whole numbers, found [64, "b", null, Array, Object, NaN]'],
  ["generate", () => ({ cropTopLeft: new Array(1e5).fill(0) }), "cropTopLeft: wanted two whole numbers, found [0, 0, 0, 0, 0, 0, 0, 0]"],
  ["generate", () => ({ loraScales: "1" }), 'loraScales: wanted a list of numbers, found "1"'],
];

test("a wrong value is told as JavaScript writes it", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t);
  const found = await page.evaluate(async ([model, values]) => {
    const { ImageGenerator } = await import("/index.js");
    const generator = await ImageGenerator.create({ model, device: "cpu" });
    const calls = { create: (options) => ImageGenerator.create({ model, device: "cpu", ...options }), generate: (options) => generator.generate("a boat", options) };
    const messages = [];
    for (const [call, options] of values) messages.push(await calls[call]((0, eval)(options)()).then(() => "accepted", ({ code, message }) => `${code} ${message}`));
    return messages;
  }, [MODEL, VALUES.map(([call, options]) => [call, String(options)])]);
  assert.deepEqual(found, VALUES.map(([, , sentence]) => `invalid-option ${sentence}`));
});

test("a model that cannot be loaded", { timeout: 300_000 }, async (t) => {
  const { page, served } = await open(t);
  const refused = (options) =>
    page.evaluate(async (options) => {
      const { ImageGenerator, TintypeError } = await import("/index.js");
      const error = await ImageGenerator.create(options).then(() => new Error("it was accepted"), (error) => error);
      return { ours: error instanceof TintypeError, code: error.code, message: error.message };
    }, options);
  for (const [what, path, body, code, word] of LOADS) {
    await t.test(what, async () => {
      served.set(MODEL + path, body);
      const error = await refused({ model: MODEL });
      served.delete(MODEL + path);
      assertError(error, code, word);
    });
  }
  for (const [options, code, word] of OPTIONS) {
    await t.test(JSON.stringify(options), async () => assertError(await refused({ model: MODEL, ...options }), code, word));
  }
});

/** Requests that are refused: the options, the code, and a word of the sentence. */
const REQUESTS = [
  [{ seed: NaN }, "invalid-option", "seed"],
  [{ seed: -1 }, "invalid-option", "seed"],
  [{ seed: 1.5 }, "invalid-option", "seed"],
  [{ seed: "1" }, "invalid-option", "seed"],
  [{ steps: 0 }, "invalid-option", "steps"],
  [{ steps: NaN }, "invalid-option", "steps"],
  [{ steps: 2.5 }, "invalid-option", "steps"],
  [{ steps: 100_000 }, "invalid-option", "steps"],
  [{ width: 0 }, "invalid-option", "width"],
  [{ width: 63 }, "invalid-option", "width"],
  [{ height: 64.5 }, "invalid-option", "height"],
  [{ height: NaN }, "invalid-option", "height"],
  [{ width: Infinity }, "invalid-option", "width"],
  [{ width: 1e9 }, "invalid-option", "width"],
  [{ width: 8192, height: 8192 }, "limit-too-low", ""],
  [{ guidance: NaN }, "invalid-option", "guidance"],
  [{ guidance: -1 }, "invalid-option", "guidance"],
  [{ scheduler: "nonsense" }, "unsupported|invalid-option", "nonsense"],
  [{ negativePrompt: 7 }, "invalid-option", "negativePrompt"],
  [{ prompt: 7 }, "invalid-option", "prompt"],
  [{ prompt: undefined }, "invalid-option", "prompt"],
];

test("a request that cannot be served", { timeout: 300_000 }, async (t) => {
  const { page } = await open(t);
  await prepare(page);
  for (const [options, code, word] of REQUESTS) {
    await t.test(describe(options), async () => {
      const { error, same } = await page.evaluate(async (options) => {
        const { prompt, ...rest } = { prompt: "a boat", width: 32, height: 32, ...options };
        const error = await window.generator.generate(prompt, rest).then(() => new Error("it was accepted"), (error) => error);
        return { error: { ours: true, code: error.code, message: error.message }, same: (await window.picture()) === window.first };
      }, options);
      assertError(error, code, word);
      assert.ok(same, "the next image is another one");
    });
  }
});

test("syntax of other tools in a prompt", { timeout: 300_000 }, async (t) => {
  const { page } = await open(t);
  await prepare(page);
  const warnings = await page.evaluate(async () => {
    const options = { seed: 1, width: 32, height: 32, guidance: 2 };
    const drawn = (prompt, more) => window.generator.generate(prompt, { ...options, ...more });
    const all = [
      await drawn("a (red:1.2) boat <lora:sea:0.8>", { negativePrompt: "[a|b]" }),
      await drawn("a (red:1.2) boat <lora:sea:0.8>", { weighted: true }),
      await drawn("a red boat, 16:9"),
    ];
    return all.map(({ warnings }) => warnings);
  });
  const begins = (found) => ({ code: "prompt", message: `the prompt has "${found}", which ` });
  const beginnings = warnings.map((all) => all.map(({ code, message }) => ({ code, message: message.replace(/(?<=, which ).*/, "") })));
  assert.deepEqual(beginnings, [["[a|b]", "<lora:sea:0.8>", "(red:1.2)"], ["<lora:sea:0.8>"], []].map((found) => found.map(begins)));
});

/**
 * Requests with pictures that are refused: which generator, the options, the code, and a word of the sentence. They are
 * made in the page, where `p` makes ImageData of a size, as large as the picture if it is not given.
 */
const PICTURES = [
  ["plain", (p) => ({ image: p() }), "invalid-option", "image"],
  ["image", () => ({ image: 5 }), "invalid-image", "image: wanted an image, found 5"],
  ["image", () => ({ image: null }), "invalid-image", "image: wanted an image, found null"],
  ["image", () => ({ image: "/golden/ref/inputs/init_40x48.png" }), "invalid-image", "image: wanted an image"],
  ["image", () => ({ image: {} }), "invalid-image", "image: wanted an image, found Object"],
  ["image", () => ({ image: new Blob(["<!doctype html>"]) }), "invalid-image", "image: wanted an image, found Blob"],
  ["image", () => ({ image: new OffscreenCanvas(0, 8) }), "invalid-image", "image: wanted an image, found OffscreenCanvas"],
  ["image", (p) => ({ image: p(), mask: "white" }), "invalid-image", "mask: wanted an image"],
  ["image", (p) => ({ image: p(), mask: p(8, 8) }), "invalid-option", "mask: wanted the image's size, 40x48, found 8x8"],
  ["image", (p) => ({ mask: p() }), "invalid-option", "mask: wanted an image"],
  ["image", (p) => ({ image: p(), strength: 0 }), "invalid-option", "strength"],
  ["image", (p) => ({ image: p(), strength: 1.5 }), "invalid-option", "strength"],
  ["image", (p) => ({ image: p(), strength: NaN }), "invalid-option", "strength"],
  ["image", (p) => ({ image: p(), strength: "1" }), "invalid-option", "strength"],
  ["image", (p) => ({ image: p(), steps: 2, strength: 0.1 }), "invalid-option", "strength"],
  ["image", () => ({ strength: 0.5 }), "invalid-option", "strength: wanted an image"],
  ["image", (p) => ({ control: { image: p() } }), "invalid-option", "a ControlNet, none was loaded"],
  ["image", (p) => ({ adapter: [{ image: p() }] }), "invalid-option", "a T2I-Adapter, none was loaded"],
  ["image", (p) => ({ imagePrompt: { image: p() } }), "invalid-option", "an IP-Adapter, none was loaded"],
  ["image", () => ({ safety: "flag" }), "invalid-option", "a safety checker, none was loaded"],
  ["image", () => ({ safety: "perhaps" }), "invalid-option", "perhaps"],
  ["image", () => ({ safety: true }), "invalid-option", "safety: wanted a text"],
  ["plain", () => ({ eta: NaN }), "invalid-option", "eta: wanted a number from 0 to 1, found NaN"],
  ["plain", () => ({ eta: 2 }), "invalid-option", "eta"],
  ["plain", () => ({ guidanceRescale: 2 }), "invalid-option", "guidance rescale: wanted a number from 0 to 1, found 2"],
  ["plain", () => ({ clipSkip: 99 }), "invalid-option", "clip"],
  ["plain", () => ({ clipSkip: 0.5 }), "invalid-option", "clipSkip"],
  ["plain", () => ({ weighted: "yes" }), "invalid-option", "weighted"],
  ["plain", () => ({ prompt2: 2 }), "invalid-option", "prompt2"],
  ["plain", () => ({ originalSize: [64] }), "invalid-option", "originalSize"],
  ["plain", () => ({ targetSize: [64, NaN] }), "invalid-option", "targetSize"],
  ["plain", () => ({ cropTopLeft: "0,0" }), "invalid-option", "cropTopLeft"],
  ["plain", () => ({ loraScales: [1] }), "invalid-option", "LoRA"],
  ["control", (p) => ({ control: p() }), "invalid-image", "control.image: wanted an image, found undefined"],
  ["control", () => ({ control: null }), "invalid-image", "control.image"],
  ["control", (p) => ({ control: [{ image: p() }, { image: p() }] }), "invalid-option", "found 2"],
  ["control", (p) => ({ control: { image: p(), scale: NaN } }), "invalid-option", "control scale"],
  ["control", (p) => ({ control: { image: p(), scale: "1" } }), "invalid-option", "scale"],
  ["control", (p) => ({ control: { image: p(), start: 0.8, end: 0.2 } }), "invalid-option", "control"],
  ["control", (p) => ({ control: { image: p(), start: NaN } }), "invalid-option", "control"],
  ["control", (p) => ({ control: { image: p() }, guessMode: 1 }), "invalid-option", "guessMode"],
  ["prompt", (p) => ({ imagePrompt: [{ image: p() }] }), "invalid-image", "imagePrompt.image"],
  ["prompt", (p) => ({ imagePrompt: { image: p(), scale: Infinity } }), "invalid-option", "image prompt scale"],
];
/** What the generators of that table are created with. */
const GENERATORS = {
  plain: {},
  image: { imageInput: true },
  control: { controls: "/golden/models/extras/controlnet/" },
  prompt: { ipAdapter: "/golden/models/extras/ip-adapter/" },
};

test("a request with images that cannot be served", { timeout: 300_000 }, async (t) => {
  const { page } = await open(t, undefined, { isolated: true });
  await page.evaluate(async (generators) => {
    const { ImageGenerator } = await import("/index.js");
    window.generators = {};
    for (const [name, options] of Object.entries(generators)) {
      window.generators[name] = await ImageGenerator.create({ model: "/golden/models/sd15-like/", device: "cpu", ...options });
    }
    window.draw = (name, options) => window.generators[name].generate("a boat", { seed: 1, steps: 1, width: 40, height: 48, ...options });
    window.picture = async (name) => (await window.draw(name)).toImageData().data.join();
    window.first = {};
    for (const name of Object.keys(generators)) window.first[name] = await window.picture(name);
  }, GENERATORS);
  for (const [name, options, code, word] of PICTURES) {
    await t.test(`${name}: ${options}`, async () => {
      const { error, same } = await page.evaluate(async ([name, options]) => {
        const { TintypeError } = await import("/index.js");
        const picture = (width = 40, height = 48) => new ImageData(width, height);
        const error = await window.draw(name, (0, eval)(options)(picture)).then(() => new Error("it was accepted"), (error) => error);
        const same = (await window.picture(name)) === window.first[name];
        return { error: { ours: error instanceof TintypeError, code: error.code, message: error.message }, same };
      }, [name, String(options)]);
      assertError(error, code, word);
      assert.ok(same, "the next image is another one");
    });
  }
});

test("aborted", { timeout: 300_000 }, async (t) => {
  const { page, served } = await open(t);
  await t.test("before the loading", async () => assert.equal(await page.evaluate(abortLoad, { model: MODEL, at: "before" }), "mine"));
  await t.test("as the loading begins", async () => assert.equal(await page.evaluate(abortLoad, { model: MODEL, at: "begin" }), "mine"));
  await t.test("while a file is loaded", async () => {
    const closed = new Promise((resolve) => {
      served.set(MODEL + UNET, (response) => {
        response.writeHead(200, { "Content-Length": file(UNET).length });
        response.write(file(UNET).subarray(0, 1_000_000));
        // The rest never comes.
        response.on("close", resolve);
      });
    });
    assert.equal(await page.evaluate(abortLoad, { model: MODEL, at: 0.34 }), "mine");
    await closed;
    served.delete(MODEL + UNET);
  });

  await prepare(page);
  await abortAtEachStage(t, page);
  await t.test("a call that waits leaves the queue, the others are served in order", async () => {
    const order = await page.evaluate(async () => {
      const abort = new AbortController();
      const order = [];
      const call = (name, signal) =>
        window.generator.generate("a boat", { seed: 1, width: 32, height: 32, signal }).then(() => order.push(name), (error) => order.push(`${name} ${error.name}`));
      const calls = [call("first"), call("second", abort.signal), call("third")];
      abort.abort();
      await Promise.all(calls);
      return order;
    });
    assert.deepEqual(order, ["second AbortError", "first", "third"]);
  });
  await t.test("disposed while it draws", async () => {
    const codes = await page.evaluate(async () => {
      const code = (promise) => promise.then(() => "accepted", (error) => error.code);
      const running = code(window.generator.generate("a boat", { steps: 50 }));
      const waiting = code(window.generator.generate("a boat"));
      setTimeout(() => window.generator.dispose(), 300);
      const codes = [await running, await waiting, await code(window.generator.generate("a boat"))];
      window.generator.dispose();
      return codes;
    });
    assert.deepEqual(codes, ["disposed", "disposed", "disposed"]);
  });
});

for (const isolated of [true, false]) {
  test(`aborted on the CPU, ${isolated ? "with threads" : "with one thread"}`, { timeout: 300_000 }, async (t) => {
    const { page } = await open(t, undefined, { isolated });
    await prepare(page, "cpu");
    await abortAtEachStage(t, page);
  });
}

async function abortAtEachStage(t, page) {
  for (const stage of ["before", "begin", "sent", "text", "step", "decode"]) {
    await t.test(`the drawing: ${stage}`, async () => {
      const { reason, answers, same } = await page.evaluate(abortDrawing, stage);
      assert.equal(reason, "mine");
      assert.ok(same, "the next image is another one");
      // The work itself ended, not only the promise; the first two never reach the worker.
      assert.deepEqual(answers, stage === "before" || stage === "begin" ? [] : ["cancelled"]);
    });
  }
}

test("a panic inside the module", { timeout: 120_000 }, async (t) => {
  const { page, served } = await open(t);
  // More bytes than the module asked for: a mistake of our own, that only this test makes.
  served.set("/download.js", script("download.js", (text) => text.replace("= this.#rest.subarray(0, most)", "= this.#rest")));
  const error = await page.evaluate(async (model) => {
    const { ImageGenerator } = await import("/index.js");
    const error = await ImageGenerator.create({ model }).catch((error) => error);
    return { ours: true, code: error.code, message: error.message };
  }, MODEL);
  assertError(error, "internal", "panicked at src");
});

test("a thread that breaks", { timeout: 120_000 }, async (t) => {
  const { page, served } = await open(t, undefined, { isolated: true });
  served.set("/runtime.js", script("runtime.js", (text) => text.replace("runThread(job)", "runThread(0)")));
  const code = await page.evaluate(async (model) => {
    const { ImageGenerator } = await import("/index.js");
    const generator = await ImageGenerator.create({ model, device: "cpu" });
    // It may take a moment until it is known; whatever goes on then ends with it.
    for (;;) await generator.generate("a boat", { width: 32, height: 32 });
  }, MODEL).catch((error) => error.message);
  assert.match(code, /an internal error/);
});

test("a lost device", { timeout: 120_000 }, async (t) => {
  const { page, browser } = await open(t);
  await prepare(page);
  await page.evaluate((model) => {
    window.outcome = window.generator.generate("a boat", { steps: 50, onProgress: () => (window.drawing = true) });
    window.outcome.catch(() => {});
  });
  await page.waitForFunction(() => window.drawing);
  await (await browser.newBrowserCDPSession()).send("Browser.crashGpuProcess");
  const code = (call) => page.evaluate(`(${call})().then(() => "accepted", (error) => error.code)`);
  assert.equal(await code("() => window.outcome"), "device-lost");
  // The next call takes the GPU as it is after the crash.
  assert.equal(await code('() => window.generator.generate("a boat", { width: 32, height: 32 })'), "accepted");
});

test("a browser without WebGPU that was asked for", { timeout: 60_000 }, async (t) => {
  const { page } = await open(t, undefined, { webgpu: false });
  for (const options of [{ device: "gpu" }, { activations: "pack16" }]) {
    const error = await page.evaluate(async (options) => {
      const { ImageGenerator } = await import("/index.js");
      const error = await ImageGenerator.create(options).catch((error) => error);
      return { ours: true, code: error.code, message: error.message };
    }, { model: MODEL, ...options });
    assertError(error, "no-webgpu|no-adapter", "WebGPU");
  }
});

function assertError({ ours, code, message }, wanted, word) {
  assert.ok(wanted.split("|").includes(code), `wanted ${wanted}, found ${code}: ${message}`);
  assert.ok(ours, "not a TintypeError");
  assert.ok(message.includes(word), `"${message}" does not name ${word}`);
  // As people write it, and not as a debugger prints it.
  assert.doesNotMatch(message, /JsValue|Some\(|\bNone\b|\w \{ \w+: /);
  assert.ok([...message].length <= 500 && !/[\u0000-\u001f\u007f-\u009f\u202e]/.test(message), `"${message}" is no short sentence`);
}

const describe = (options) =>
  Object.entries(options).map(([key, value]) => `${key} ${typeof value === "string" ? JSON.stringify(value) : value}`).join(", ");

/** Gives the page a generator, `picture()` that draws a small one as text, and what it drew first. */
async function prepare(page, device = "gpu") {
  await page.evaluate(async ({ model, device }) => {
    // What the worker answers can be seen here: an early rejection must not hide that it went on.
    window.answers = [];
    const Real = (window.Real ??= window.Worker);
    window.Worker = class extends Real {
      constructor(...args) {
        super(...args);
        this.addEventListener("message", ({ data }) => !data.news && window.answers.push(data.error?.code ?? "result"));
      }
    };
    const { ImageGenerator } = await import("/index.js");
    window.generator = await ImageGenerator.create({ model, device });
    window.picture = async () => {
      const made = await window.generator.generate("a boat", { seed: 1, width: 32, height: 32 });
      return made.toImageData().data.join();
    };
    window.first = await window.picture();
  }, { model: MODEL, device });
}

/** Runs in the page. `at` is a moment, or the fraction of the download from which on to abort. */
async function abortLoad({ model, at }) {
  const { ImageGenerator } = await import("/index.js");
  const abort = new AbortController();
  if (at === "before") abort.abort("mine");
  const onProgress = ({ fraction }) => fraction >= at && abort.abort("mine");
  const made = ImageGenerator.create({ model, signal: abort.signal, onProgress });
  if (at === "begin") abort.abort("mine");
  return made.then(() => "accepted", (reason) => reason);
}

/** Runs in the page: what the promise rejected with, what the worker answered, and whether the next picture is right. */
async function abortDrawing(stage) {
  const abort = new AbortController();
  window.answers.length = 0;
  if (stage === "before") abort.abort("mine");
  const onProgress = (news) => news.stage === stage && abort.abort("mine");
  // Large enough that every stage takes several submits.
  const work = window.generator.generate("a boat", { seed: 2, steps: 2, width: 256, height: 256, signal: abort.signal, onProgress });
  if (stage === "begin") abort.abort("mine");
  if (stage === "sent") setTimeout(() => abort.abort("mine"));
  const reason = await work.then(() => "accepted", (reason) => reason);
  const same = (await window.picture()) === window.first;
  // The last answer is that of the image just made.
  return { reason, answers: window.answers.slice(0, -1), same };
}
