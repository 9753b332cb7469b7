// The module with the tokenizers of large text encoders: fetched when one is made, the ids of texts, errors as the runtime
// knows them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { drawOnce, open } from "./harness.mjs";

const added = (id, content) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });
const words = { type: "Metaspace", replacement: "\u2581", prepend_scheme: "always", split: true };
const UNIGRAM = {
  version: "1.0",
  added_tokens: [added(0, "<pad>"), added(1, "</s>"), added(2, "<unk>")],
  normalizer: null,
  pre_tokenizer: words,
  decoder: words,
  model: { type: "Unigram", unk_id: 2, vocab: [["<pad>", 0], ["</s>", 0], ["<unk>", 0], ["\u2581", -2], ["\u2581red", -3], ["\u2581fox", -3.5]] },
};

test("its module is fetched with the first tokenizer, which gives ids, texts and errors", async (t) => {
  const { page } = await open(t);
  const found = await page.evaluate(async (json) => {
    const fetched = () => performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("tintype_tokenizer_bg.wasm")).length;
    const { tokenizers } = await import("/tokenizer.js");
    const make = tokenizers();
    const before = fetched();
    const bytes = (value) => new TextEncoder().encode(JSON.stringify(value));
    const made = await make(bytes(json), undefined, 100, "t/tokenizer.json");
    const ids = ["red fox", "", "red</s>x"].map((text) => [...made.encode(text)]);
    const rest = [made.decode(new Uint32Array([4, 5])), made.token(5), made.token(6), made.id("</s>"), made.id("cat")];
    const failed = (making) => making.then(() => null, ({ code, message }) => ({ code, message }));
    const wrong = await failed(make(bytes({}), undefined, 100, "t/tokenizer.json"));
    const pieces = await failed(make(undefined, new Uint8Array([0x12, 2, 0x18, 2]), 100, "t/spiece.model"));
    return { before, ids, rest, wrong, pieces, after: fetched() };
  }, UNIGRAM);
  assert.deepEqual([found.before, found.after], [0, 1]);
  assert.deepEqual(found.ids, [[4, 5], [], [4, 1, 3, 2]]);
  assert.deepEqual(found.rest, ["red fox", "\u2581fox", undefined, 1, undefined]);
  assert.equal(found.wrong.code, "invalid-model");
  assert.match(found.wrong.message, /^t\/tokenizer\.json is not a tokenizer: .*model/);
  assert.equal(found.pieces.code, "unsupported");
  assert.match(found.pieces.message, /^t\/spiece\.model: model_type: .*found BPE/);
});

test("a module that is not where it should be is an error of the network", async (t) => {
  const { page } = await open(t);
  const error = await page.evaluate(async () => {
    const { tokenizers } = await import("/tokenizer.js");
    return tokenizers("/nowhere.wasm")(new Uint8Array(), undefined, 0, "t").catch(({ code, message }) => ({ code, message }));
  });
  assert.equal(error.code, "network");
  assert.match(error.message, /^the module of tokenizers could not be loaded/);
});

test("a model whose tokenizer is not CLIP's takes it from there, one with CLIP's does without", { timeout: 120_000 }, async (t) => {
  const { page, served } = await open(t, undefined, { isolated: true });
  const fetched = [];
  const module = readFileSync(new URL("../../dist/pkg/tokenizer/tintype_tokenizer_bg.wasm", import.meta.url));
  served.set("/pkg/tokenizer/tintype_tokenizer_bg.wasm", (response, request) => {
    fetched.push(request.url);
    response.writeHead(200, { "Content-Type": "application/wasm" }).end(module);
  });
  // Its text encoder is CLIP's all the same: it takes any ids.
  const model = "/golden/models/sdxs-like/";
  const plain = await drawOnce(page, { model });
  assert.deepEqual([plain.message, fetched], [undefined, []]);
  const config = { tokenizer_class: "T5TokenizerFast", model_max_length: 77 };
  served.set(`${model}tokenizer/tokenizer.json`, JSON.stringify(UNIGRAM));
  served.set(`${model}tokenizer/tokenizer_config.json`, JSON.stringify(config));
  served.set(`${model}tokenizer/special_tokens_map.json`, "{}");
  const first = await drawOnce(page, { model });
  assert.deepEqual([first.message, fetched.length], [undefined, 1]);
  assert.notEqual(first.pixels, plain.pixels);
  // Nothing of it is known but "red": other tokens are another picture.
  served.set(`${model}tokenizer/tokenizer.json`, JSON.stringify(UNIGRAM).replace("red", "circle"));
  assert.notEqual((await drawOnce(page, { model })).pixels, first.pixels);
  served.set(`${model}tokenizer/tokenizer.json`, "{}");
  const { code, message } = await drawOnce(page, { model });
  assert.equal(code, "invalid-model");
  assert.match(message, /tokenizer\/tokenizer\.json is not a tokenizer/);
});
