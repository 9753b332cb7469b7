// docs/api is what typedoc makes of the comments in www/ now.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, must } from "../../tools/shell.mjs";

test("docs/api is up to date: npm run docs", { timeout: 120_000 }, async (t) => {
  const out = mkdtempSync(join(tmpdir(), "tintype-docs-"));
  t.after(() => rmSync(out, { recursive: true }));
  await must("typedoc", process.execPath, [join(ROOT, "node_modules/typedoc/bin/typedoc"), "--options", "www/typedoc.json", "--out", out]);
  const read = (folder) => Object.fromEntries(readdirSync(folder).sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
  assert.deepEqual(read(join(ROOT, "docs/api")), read(out));
});
