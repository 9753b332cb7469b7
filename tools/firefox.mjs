// Headless Firefox with WebGPU, for tests and measurements, and no program to drive it: it starts on a page that asks the
// server for work, one function after another, and brings what came of each with the next question.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as find from "./find.mjs";
import { UserError } from "./shell.mjs";

const PREFERENCES = {
  "dom.webgpu.enabled": true,
  "dom.webgpu.workers.enabled": true,
  "gfx.webgpu.ignore-blocklist": true,
  // What the page and its workers complain about belongs to the output.
  "devtools.console.stdout.content": true,
  // No pages of its own.
  "browser.aboutwelcome.enabled": false,
  "browser.preonboarding.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.homepage_override.mstone": "ignore",
  "browser.startup.page": 0,
  "datareporting.policy.dataSubmissionEnabled": false,
  "termsofuse.bypassNotification": true,
  // Nothing to tell, to ask or to fetch.
  "app.normandy.enabled": false,
  "app.update.auto": false,
  "browser.search.update": false,
  "datareporting.healthreport.uploadEnabled": false,
  "dom.push.connection.enabled": false,
  "extensions.systemAddon.update.enabled": false,
  "extensions.update.enabled": false,
  "media.gmp-manager.updateEnabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "toolkit.telemetry.unified": false,
  // What would leave the machine all the same, names included, goes to a proxy that is not there; its own addresses
  // need none.
  "network.proxy.type": 1,
  "network.proxy.socks": "127.0.0.1",
  "network.proxy.socks_port": 9,
  "network.proxy.socks5_remote_dns": true,
  "network.proxy.allow_bypass": false,
  "network.proxy.failover_direct": false,
  // A page may be busy for long, and processes kept in waiting would only take its time.
  "dom.max_script_run_time": 0,
  "dom.ipc.processPrelaunch.enabled": false,
};

/** In seconds: the first start on a slow machine, and one function in the page unless another limit is given. */
const START = 60;
const WORK = 60;
/** Characters of Firefox's output in a message. */
const TAIL = 4000;

/**
 * Starts Firefox on `url`, with a folder of its own for all that it writes, and with lavapipe for its only GPU: the same
 * on every machine. Returns { until, close }: what waits for it, and what ends it with all its processes.
 */
export function launch(url) {
  const program = find.firefox();
  if (!program) throw new UserError("Firefox is missing: install it, or name it in the variable FIREFOX.");
  const icd = find.lavapipe();
  if (!icd) throw new UserError("lavapipe is missing, Firefox's GPU in software: install mesa-vulkan-drivers.");

  const home = mkdtempSync(join(tmpdir(), "tintype-firefox-"));
  const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`);
  writeFileSync(join(home, "user.js"), lines.join(""));
  const own = { HOME: home, TMPDIR: home, XDG_CONFIG_HOME: join(home, "config"), XDG_CACHE_HOME: join(home, "cache") };
  const env = { ...process.env, ...own, ...find.onlyDriver(icd), MOZ_CRASHREPORTER_DISABLE: "1" };
  // It leads a group of its own, so that what it starts ends with it.
  const options = { env, detached: true, stdio: ["ignore", "pipe", "pipe"] };
  const child = spawn(program, ["--headless", "--no-remote", "--profile", home, url], options);

  let output = "";
  const take = (chunk) => (output += chunk);
  child.stdout.setEncoding("utf8").on("data", take);
  child.stderr.setEncoding("utf8").on("data", take);
  const kill = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It had ended, or never begun.
    }
  };
  const remove = () => rmSync(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  const letGo = atOurEnd(() => {
    kill();
    remove();
  });
  const ended = new Promise((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code, signal) => resolve(signal ?? `exit ${code}`));
  });

  const failure = (message) => new Error(`${message}. What Firefox (${program}) said:\n${output.slice(-TAIL).trim() || "nothing"}`);

  /** What `promise` resolves to; or an error when Firefox ends, or after `limit` seconds. */
  async function until(promise, what, limit) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(failure(`${what} took more than ${limit} s`)), limit * 1000);
    });
    const over = ended.then((how) => {
      throw failure(`${what}: Firefox ended (${how})`);
    });
    return Promise.race([promise, late, over]).finally(() => clearTimeout(timer));
  }

  async function close() {
    kill();
    await ended;
    letGo();
    remove();
  }

  return { until, close };
}

/** Calls `end` when this process ends, unless it is told before to let go. */
function atOurEnd(end) {
  const stop = () => process.exit(1);
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  process.once("exit", end);
  for (const signal of signals) process.once(signal, stop);
  return () => {
    process.off("exit", end);
    for (const signal of signals) process.off(signal, stop);
  };
}

/** The page's side: it brings what it has to say, and does what it is told, for good. It runs in the page. */
async function serve() {
  // JSON has no word for these, and null would be less than any limit.
  const number = (_, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value);
  let said = {};
  for (;;) {
    const response = await fetch("/firefox/work", { method: "POST", body: JSON.stringify(said, number) });
    const { work, argument } = await response.json();
    try {
      said = { result: await (0, eval)(`(${work})`)(argument) };
    } catch (error) {
      said = { error: `${error}\n${error.stack ?? ""}` };
    }
  }
}

const PAGE = `<!doctype html><meta charset="utf-8"><title>test</title><script type="module">(${serve})()</script>`;

/** Where the page is on a server whose requests `Page.answer` sees. */
export const PLACE = "/firefox/";

/** The server's side of that page. */
export class Page {
  #firefox = null;
  #head;
  #limit;
  /** The page's request that waits for work. */
  #waiting;
  #arrived;
  #next = this.#expect();

  /** `head`: more of the page, in HTML. `limit`: seconds that one function may take. */
  constructor({ head = "", limit = WORK } = {}) {
    this.#head = head;
    this.#limit = limit;
  }

  /** Resolves when the page has come up in `firefox`. */
  async open(firefox) {
    this.#firefox = firefox;
    await this.#said("opening the page", START);
  }

  /** Runs a function in the page: it stands alone, and what it takes and returns is plain data. */
  async evaluate(work, argument) {
    this.#next = this.#expect();
    this.#waiting.end(JSON.stringify({ work: String(work), argument }));
    const { result, error } = await this.#said("a function in the page", this.#limit);
    if (error) throw new Error(`in Firefox: ${error}`);
    return result;
  }

  /** Takes the requests of the page for itself: the page, and what it asks for. */
  answer(path, response, request) {
    if (path === PLACE) response.setHeader("Content-Type", "text/html").end(PAGE + this.#head);
    else if (path === `${PLACE}work`) this.#receive(request, response);
    else return false;
    return true;
  }

  async #receive(request, response) {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) body += chunk;
    response.setHeader("Content-Type", "application/json");
    this.#waiting = response;
    this.#arrived(JSON.parse(body));
  }

  #expect() {
    return new Promise((resolve) => (this.#arrived = resolve));
  }

  #said(what, limit) {
    return this.#firefox.until(this.#next, what, limit);
  }
}
