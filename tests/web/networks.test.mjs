// Single networks in Chromium, on the GPU and on the CPU, against the reference library; and with them the page
// of bench/peers, which measures engines on such networks.

import assert from "node:assert/strict";
import { test } from "node:test";
import { manifest, open } from "./harness.mjs";

const CASES = [
  "unet/sd-turbo-like.blocks",
  "unet/sdxs-like.blocks",
  "unet/sd15-like.blocks",
  "unet/lcm-like.blocks",
  "unet/sdxl-like.blocks",
  "unet/sd15-inpaint9-like.blocks",
  "vae/sd-turbo-like.decode_blocks",
  "vae/sdxs-like.tiny",
  "vae/sdxl-like.decode_blocks",
  "vae/sd3-like.decode_blocks",
  "vae/taesd3-like.tiny",
  "text/text_encoder_h",
  "text/text_encoder_l",
];
const ENGINES = ["tintype-webgpu", "tintype-cpu"];

test("single networks agree with the reference", { timeout: 300_000 }, async (t) => {
  const { page } = await open(t, "/peers/");
  const call = (name, ...args) => page.evaluate(async ([name, args]) => (await import("/peers/page.js"))[name](...args), [name, args]);
  const { cases } = manifest();
  for (const name of CASES) {
    const { model, file, limits } = cases[name];
    // "extras/vae-sd3-like" is an autoencoder without a model around it.
    const [kind] = name.split("/");
    const component = kind === "text" ? model.split("/")[1] : kind;
    const address = (path) => new URL(`/golden/models/${path}/`, page.url()).href;
    await t.test(name, async () => {
      await call("open", `/golden/${file}`);
      let differences = {};
      for (const engine of ENGINES) {
        await call("load", engine, { folder: address("."), component, components: { [component]: address(model) } });
        let error;
        ({ error, differences } = await call("run", engine));
        assert.ok(error <= limits.f32, `${engine} is off by ${error}, the limit is ${limits.f32}`);
        // The second run takes the first one's session.
        assert.equal((await call("run", engine)).error, error, `${engine}, again`);
      }
      // Two devices never round alike: a difference of nothing would mean that one of them was compared with itself.
      const difference = differences[ENGINES[0]];
      assert.ok(difference > 0 && difference <= 2 * limits.f32, `they differ by ${difference}`);
      for (const engine of ENGINES) await call("end", engine);
    });
  }
});
