// The browser of a measurement, and the page in it. It is started when it is needed: an engine that was
// stopped may leave the GPU busy for minutes, so the whole browser ends with it.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { launch } from "../../tools/browser.mjs";
import { PLACE, Page, launch as launchFirefox } from "../../tools/firefox.mjs";
import { serve } from "../../tools/serve.mjs";
import { UserError, ROOT } from "../../tools/shell.mjs";
import { CASES } from "./report.mjs";

/** Seconds that one call may take in Firefox. */
const CALL = 600;

export class Browser {
  #options;
  #server;
  #browser;
  #page;
  /** Rejects when the page crashes. */
  #broken;
  /** The case that the page has open, and the engines that it has loaded. */
  #open = null;
  #loaded = new Set();

  constructor(options) {
    this.#options = options;
  }

  /** What the page knows of the browser and the machine. */
  async facts() {
    await this.#start();
    const { agent, ...facts } = await this.#call("facts");
    const name = this.#options.browser === "firefox" ? agent.match(/Firefox\/[\d.]+/)[0].replace("/", " ") : `Chromium ${this.#browser.version()}`;
    return { browser: name, ...facts };
  }

  /**
   * A run of `engine` on case `name`, which is { loaded, seconds, error, differences }; or { loaded, stopped } after
   * `limit` seconds. A `warm` engine that had to be loaded anew has a run before it that does not count.
   */
  async run(name, engine, warm, limit) {
    await this.#start();
    if (this.#open !== name) {
      await this.#call("open", `/made/${CASES[name].folder}.safetensors`);
      this.#open = name;
    }
    let loaded = {};
    if (!this.#loaded.has(engine)) {
      const { seconds, ...about } = await this.#call("load", engine, this.#task(CASES[name]));
      loaded = { load: seconds, ...about };
      this.#loaded.add(engine);
      if (warm) await this.#call("run", engine);
    }
    const result = await within(this.#call("run", engine), limit);
    if (!result) await this.close();
    return result ? { loaded, ...result } : { loaded, stopped: limit };
  }

  async close() {
    await this.#browser?.close();
    this.#server?.close();
    this.#browser = this.#server = this.#page = undefined;
    this.#open = null;
    this.#loaded.clear();
  }

  /** What each engine loads, under the names that export.py gives. */
  #task({ folder, weights }) {
    const { threads } = this.#options;
    const onnx = weights ? `/made/${folder}.${weights}.onnx` : `/made/${folder}.onnx`;
    return { folder: `${this.#server.url}/made/`, component: folder, weights, onnx, data: weights && `${onnx}.data`, threads };
  }

  async #start() {
    if (this.#browser) return;
    const { models, gpu } = this.#options;
    for (const { folder } of this.#options.case.map((name) => CASES[name])) {
      if (!existsSync(join(models, `${folder}.safetensors`))) {
        throw new UserError(`${models} has no ${folder}: make it with bench/peers/export.py.`);
      }
    }
    const ort = join(ROOT, "node_modules/onnxruntime-web/dist");
    if (!existsSync(ort)) throw new UserError("onnxruntime-web is missing: run npm ci.");
    const mounts = { "/peers/": join(ROOT, "bench/peers"), "/made/": models, "/ort/": ort };
    const firefox = this.#options.browser === "firefox" ? new Page({ limit: CALL }) : null;
    const answer = (path, response, request) => firefox?.answer(path, response, request) ?? false;
    this.#server = await serve({ isolated: true, mounts, answer });
    await (firefox ? this.#firefox(firefox) : this.#chromium(gpu));
  }

  async #chromium(gpu) {
    this.#browser = await launch({ software: !gpu });
    this.#page = await this.#browser.newPage();
    this.#broken = new Promise((_, reject) => this.#page.once("crash", () => reject(new Error("the page crashed"))));
    this.#broken.catch(() => {});
    await this.#page.goto(`${this.#server.url}/peers/`);
  }

  async #firefox(page) {
    this.#browser = launchFirefox(this.#server.url + PLACE);
    this.#page = page;
    // A Firefox that ends is an error of the call that goes on.
    this.#broken = new Promise(() => {});
    await page.open(this.#browser);
  }

  /** A function of page.js. It ends with an error too when the page or the browser breaks. */
  #call(name, ...args) {
    const call = async ([name, args]) => (await import("/peers/page.js"))[name](...args);
    return Promise.race([this.#page.evaluate(call, [name, args]), this.#broken]);
  }
}

/** The promise, or null when `seconds` have passed. */
async function within(promise, seconds) {
  if (seconds === Infinity) return promise;
  // What it says once nobody waits any more is of no interest.
  promise.catch(() => {});
  let timer;
  const late = new Promise((wake) => (timer = setTimeout(wake, seconds * 1e3, null)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
