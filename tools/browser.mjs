// Headless Chromium with WebGPU, for tests and for `npm start -- --prompt`.

import * as find from "./find.mjs";
import { UserError } from "./shell.mjs";

const QUIET = ["--disable-background-networking", "--no-first-run", "--disable-sync", "--disable-component-update"];

/**
 * `software` takes Chromium's own software GPU even where there is a real one: the same on every machine.
 * Without `webgpu` there is no adapter.
 */
export async function launch({ software = true, webgpu = true } = {}) {
  const { chromium } = await import("playwright-core");
  const executablePath = find.chromium();
  if (!executablePath) throw new UserError("Chromium is missing: install it, or name it in the variable CHROMIUM.");
  const args = ["--no-sandbox", ...QUIET, ...(webgpu ? ["--enable-unsafe-webgpu"] : ["--disable-gpu", "--disable-software-rasterizer"])];
  if (webgpu && software) args.push("--use-webgpu-adapter=swiftshader");
  return chromium.launch({ executablePath, args });
}
