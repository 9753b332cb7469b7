// What the figures of a measurement belong to.

import { readFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { UserError, ROOT, run } from "../../tools/shell.mjs";

/** { command, date, machine }; sets the number of threads of `options` to that of the browser if it is open. */
export async function machine(browser, options) {
  const load = loadavg()[0];
  const { browser: name, adapter, threads, isolated } = await browser.facts();
  if (!isolated) throw new Error("the page is not cross-origin isolated: no engine would have threads");
  if (options.gpu && /swiftshader|llvmpipe|none/i.test(adapter)) throw new UserError(`Chromium found no GPU here, only: ${adapter}.`);
  options.threads ||= threads;
  const ort = JSON.parse(readFileSync(join(ROOT, "node_modules/onnxruntime-web/package.json"), "utf8"));
  return {
    command: options.command,
    date: new Date().toISOString().slice(0, 10),
    rounds: options.rounds,
    gpu: options.gpu === true,
    machine: {
      cpu: cpus()[0].model.trim(),
      cores: cpus().length,
      memory: Math.round(totalmem() / 2 ** 30),
      load,
      browser: name,
      adapter,
      ort: ort.version,
      commit: await commit(),
    },
  };
}

/** The state of the tree that was measured. */
async function commit() {
  const { code, output } = await run("git", ["describe", "--always", "--dirty", "--exclude=*"]);
  return code === 0 ? output.trim() : "not in a repository";
}
