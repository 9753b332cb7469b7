// TAEF2's published weights in Chromium, on the GPU and on the CPU: a picture encoded, and decoded again.
//
//   TINTYPE_GOLDEN=DIR node --test tests/published/taef2.test.mjs
//
// DIR has `taef2_encoder.safetensors`, `taef2_decoder.safetensors` and `reference.safetensors`: "in.image" from 0 to 1, and
// "out.latents" and "out.image" as torch makes them. `tintype verify DIR` is the same for the command.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { GOLDEN, open } from "../web/harness.mjs";

const LIMIT = 2e-5;
const HALVES = {
  encodes: [{ encoder: true }, { "in.sample": "in.image", "out.sample": "out.latents" }],
  decodes: [{}, { "in.z": "out.latents", "out.sample": "out.image" }],
};

test("TAEF2 with its published weights", { timeout: 600_000 }, async (t) => {
  const { page, served } = await open(t, "/peers/");
  const call = (name, ...args) => page.evaluate(async ([name, args]) => (await import("/peers/page.js"))[name](...args), [name, args]);
  const reference = tensors(readFileSync(join(GOLDEN, "reference.safetensors")));
  const folder = new URL("/golden/", page.url()).href;
  for (const [name, [half, names]] of Object.entries(HALVES)) {
    served.set(`/${name}.safetensors`, file(Object.fromEntries(Object.entries(names).map(([ours, theirs]) => [ours, reference[theirs]]))));
    await call("open", `/${name}.safetensors`);
    for (const engine of ["tintype-webgpu", "tintype-cpu"]) {
      await t.test(`${name} a picture, ${engine}`, async (t) => {
        await call("load", engine, { folder, component: "vae", alone: true, levels: name === "decodes", ...half });
        const { error } = await call("run", engine);
        await call("end", engine);
        t.diagnostic(`off by ${error.toExponential(2)}`);
        assert.ok(error <= LIMIT, `off by ${error}`);
      });
    }
  }
});

/** The tensors of a safetensors file of f32. */
function tensors(bytes) {
  const data = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, data));
  delete header.__metadata__;
  return Object.fromEntries(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [begin, end] }]) => {
      assert.equal(dtype, "F32", name);
      return [name, { shape, bytes: bytes.subarray(data + begin, data + end) }];
    }),
  );
}

/** A safetensors file of these. */
function file(all) {
  let end = 0;
  const entries = Object.entries(all).map(([name, { shape, bytes }]) => [name, { dtype: "F32", shape, data_offsets: [end, (end += bytes.length)] }]);
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, ...Object.values(all).map(({ bytes }) => bytes)]);
}
