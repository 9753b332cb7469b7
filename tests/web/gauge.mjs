// What a generator's worker holds, measured from outside while it works: its heap, the module's memory, its GPU's buffers.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../tools/shell.mjs";
import { script } from "./harness.mjs";

/** Between two samples, in milliseconds. */
const PERIOD = 100;

/** Makes the workers of a page count what they allocate: `served` is that of the page. */
export function count(served) {
  const counter = readFileSync(join(ROOT, "tests/web/gauge-worker.js"), "utf8");
  served.set("/gauge-worker.js", (response) => response.writeHead(200, { "Content-Type": "text/javascript" }).end(counter));
  served.set("/worker.js", script("worker.js", (text) => `import "./gauge-worker.js";\n${text}`));
  served.set("/runtime.js", script("runtime.js", (text) => text.replace("const memory = reserve();", "const memory = (self.gauge.memory = reserve());")));
}

/** Follows the workers that a page starts itself, which are those of generators: threads are started by these. */
export class Gauge {
  #session;
  #ids = new Map();
  #next = 1;
  /** The worker that is sampled: the last one. */
  #worker = null;
  #sampling = null;
  /** The most of everything that was seen since `begin`. */
  peaks = {};
  /** How many workers there are. */
  workers = 0;

  static async attach(page) {
    const gauge = new Gauge();
    gauge.#session = await page.context().newCDPSession(page);
    gauge.#session.on("Target.attachedToTarget", ({ sessionId }) => {
      gauge.#worker = sessionId;
      gauge.workers++;
    });
    gauge.#session.on("Target.detachedFromTarget", ({ sessionId }) => {
      if (gauge.#worker === sessionId) gauge.#worker = null;
      gauge.workers--;
      // What was asked of it has no answer.
      for (const [id, ask] of gauge.#ids) if (ask.sessionId === sessionId) gauge.#settle(id, null);
    });
    gauge.#session.on("Target.receivedMessageFromTarget", ({ message }) => {
      const { id, result } = JSON.parse(message);
      if (id) gauge.#settle(id, result ?? null);
    });
    await gauge.#session.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
    return gauge;
  }

  /** Begins to sample, from nothing. */
  begin() {
    this.peaks = {};
    let ended = false;
    const loop = async () => {
      while (!ended) {
        const begin = Date.now();
        await this.#sample();
        await new Promise((wake) => setTimeout(wake, Math.max(0, begin + PERIOD - Date.now())));
      }
    };
    const done = loop();
    this.#sampling = () => {
      ended = true;
      return done;
    };
  }

  /** Ends the sampling, with a last sample. Returns the peaks, in bytes, and what the worker counted. */
  async end() {
    await this.#sampling();
    const counted = await this.#sample();
    return { ...this.peaks, ...counted };
  }

  /** What the page's own heap holds when its garbage is collected, in bytes with its array buffers. */
  async page() {
    await this.#session.send("HeapProfiler.collectGarbage");
    const { usedSize, backingStorageSize } = await this.#session.send("Runtime.getHeapUsage");
    return usedSize + backingStorageSize;
  }

  async #sample() {
    const heap = await this.#ask("Runtime.getHeapUsage");
    const answer = await this.#ask("Runtime.evaluate", { expression: "self.gauge?.read()", returnByValue: true });
    const counted = answer?.result?.value;
    if (!heap || !counted) return {};
    const most = (key, value) => (this.peaks[key] = Math.max(this.peaks[key] ?? 0, value));
    most("used", heap.usedSize);
    most("backing", heap.backingStorageSize);
    most("heap", heap.usedSize + heap.backingStorageSize);
    most("wasm", counted.wasm);
    most("samples", (this.peaks.samples ?? 0) + 1);
    return counted;
  }

  /** The worker's answer, or null if there is none any more. */
  async #ask(method, params = {}) {
    const sessionId = this.#worker;
    if (!sessionId) return null;
    const id = this.#next++;
    const answer = new Promise((resolve) => this.#ids.set(id, { sessionId, resolve }));
    const message = JSON.stringify({ id, method, params });
    await this.#session.send("Target.sendMessageToTarget", { sessionId, message }).catch(() => this.#settle(id, null));
    return answer;
  }

  #settle(id, result) {
    this.#ids.get(id)?.resolve(result);
    this.#ids.delete(id);
  }
}
