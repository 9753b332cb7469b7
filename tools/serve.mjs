// A small static server for this machine only: folders mounted at URL prefixes, nothing cached.
//
//   node tools/serve.mjs [--port 8080] [--isolated] [/prefix/=folder ...]

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError, ROOT, main, say } from "./shell.mjs";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".txt": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
  ".png": "image/png",
  ".svg": "image/svg+xml",
};

/** The package as a page sees it, its page, and the built-in model as a folder. */
export const SITE = { "/": join(ROOT, "dist"), "/demo/": join(ROOT, "www/demo"), "/models/builtin/": join(ROOT, "models/builtin") };

/** What makes a page cross-origin isolated, which lets it have threads: on the page and on all that it loads. */
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

/**
 * Serves `mounts` ({ prefix: folder }, the longest prefix wins) on top of SITE. `answer(path, response, request)`
 * may take a request, of any method, for itself by returning true: tests serve damaged files so. `isolated` pages can
 * have threads.
 * Resolves to { url, close() }. Port 0 takes a free one.
 */
export function serve({ port = 0, mounts = {}, answer = () => false, isolated = false } = {}) {
  const table = Object.entries({ ...SITE, ...mounts }).sort(([a], [b]) => b.length - a.length);
  const server = createServer((request, response) => {
    if (isolated) response.setHeaders(new Map(Object.entries(ISOLATION)));
    handle(request, response, table, answer).catch((error) => {
      if (!response.headersSent) response.writeHead(500);
      response.end();
      console.error(`${request.url}: ${error.message}`);
    });
  });
  return new Promise((done, failed) => {
    server.once("error", (error) => {
      failed(error.code === "EADDRINUSE" ? new UserError(`Port ${port} is taken: choose another with --port.`) : error);
    });
    server.listen(port, "127.0.0.1", () => {
      const close = () => {
        server.closeAllConnections();
        server.close();
      };
      done({ url: `http://127.0.0.1:${server.address().port}`, close });
    });
  });
}

async function handle(request, response, table, answer) {
  response.setHeader("Cache-Control", "no-store");
  const path = decode(request.url);
  if (path === null) return end(response, 400);
  if (answer(path, response, request)) return;
  if (request.method !== "GET" && request.method !== "HEAD") return end(response, 405);
  if (path === "/") return response.writeHead(302, { Location: "/demo/" }).end();
  const file = locate(path, table);
  const info = file && (await stat(file).catch(() => null));
  if (!info?.isFile()) return end(response, 404);
  response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Content-Length": info.size });
  if (request.method === "HEAD") return response.end();
  createReadStream(file).on("error", () => response.destroy()).pipe(response);
}

function decode(url) {
  try {
    return decodeURIComponent(new URL(url, "http://localhost").pathname);
  } catch {
    return null;
  }
}

/** The file behind a path, or null if that would lead out of its folder. */
function locate(path, table) {
  const mount = table.find(([prefix]) => path.startsWith(prefix));
  if (!mount || path.includes("\0")) return null;
  const folder = resolve(mount[1]);
  const name = path.slice(mount[0].length);
  const file = resolve(folder, name.endsWith("/") || name === "" ? `${name}index.html` : name);
  return file.startsWith(folder + sep) ? file : null;
}

const end = (response, status) => response.writeHead(status, { "Content-Type": "text/plain" }).end(`${status}\n`);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main(async () => {
    const at = process.argv.indexOf("--port");
    const mounts = process.argv.filter((arg) => arg.startsWith("/") && arg.includes("/=")).map((arg) => arg.split("="));
    const { url } = await serve({ port: at > 0 ? Number(process.argv[at + 1]) : 8080, mounts: Object.fromEntries(mounts), isolated: process.argv.includes("--isolated") });
    say(url);
  });
}
