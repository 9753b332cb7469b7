// Where what is kept is written, without a browser: its files are in memory here.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Keeper } from "../../dist/keeper.js";

/** A folder as far as a keeper looks at it. */
function folder() {
  const files = new Map();
  const handle = (name) => {
    const access = {
      getSize: () => (files.get(name) ?? Buffer.alloc(0)).length,
      truncate: (size) => files.set(name, Buffer.concat([files.get(name) ?? Buffer.alloc(0), Buffer.alloc(size)]).subarray(0, size)),
      read: (bytes, { at }) => Buffer.from(files.get(name).subarray(at, at + bytes.length)).copy(bytes),
      write: (bytes, { at }) => {
        const before = files.get(name) ?? Buffer.alloc(0);
        const after = Buffer.alloc(Math.max(before.length, at + bytes.length));
        before.copy(after);
        after.set(bytes, at);
        files.set(name, after);
        return bytes.length;
      },
      flush() {},
      close() {},
    };
    return { createSyncAccessHandle: async () => access };
  };
  return { getFileHandle: async (name) => handle(name) };
}

test("a file takes the place of an earlier one only where it is as long", async () => {
  const earlier = new Map([["unet/tintype.safetensors", [0, 10]], ["vae/tintype.safetensors", [10, 10]]]);
  for (const [lengths, places] of [
    [[10, 10], [0, 10]],
    [[15, 10], [20, 10]],
    [[10, 5], [0, 20]],
    [[12, 12], [20, 32]],
  ]) {
    const keeper = await Keeper.open(folder(), earlier, async () => {});
    const paths = [...earlier.keys()];
    paths.forEach((path, i) => {
      keeper.begin(path, lengths[i]);
      keeper.write(path, 0, new Uint8Array(lengths[i]).fill(i + 1));
    });
    for (const [i, path] of paths.entries()) {
      const file = await keeper.folder.open(path);
      assert.deepEqual([...(await file.read(100))], Array(lengths[i]).fill(i + 1), path);
    }
    const { files } = await keeper.finish("{}");
    assert.deepEqual(paths.map((path) => files[path][0]), places);
  }
});
