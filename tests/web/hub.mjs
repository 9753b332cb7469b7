// A server that behaves like the hub: addresses of repositories answer with a redirect to another origin that expires,
// files come in ranges, pages of others may read them. What goes wrong is said by `faults`.

import { createReadStream, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream";
import { serve } from "../../tools/serve.mjs";

const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Headers": "authorization, range",
  "Access-Control-Expose-Headers": "Content-Range, Content-Length, ETag",
  "Cross-Origin-Resource-Policy": "cross-origin",
};

/**
 * Serves `repos` ({ "name/repo": folder }). Resolves to { url, log, faults, close }: `log` has { path, begin, sent,
 * authorization } of every answer with a file's bytes, or { path, resolved: true, authorization } of a redirect;
 * `faults` maps a path in its repository to a function of { response, bytes, begin }. It returns true if it has answered; or bytes, which are sent in place of the file's.
 */
export async function hub(t, repos) {
  const log = [];
  const faults = new Map();
  /** Redirects that are good for one answer. */
  const tickets = new Map();
  const answer = (path, response, request) => {
    for (const [name, value] of Object.entries(CORS)) response.setHeader(name, value);
    if (request.method === "OPTIONS") return response.writeHead(204).end();
    const authorization = request.headers.authorization;
    const [, repo, file] = path.match(/^\/([^/]+\/[^/]+)\/resolve\/[^/]+\/(.+)$/) ?? [];
    if (repo) {
      log.push({ path: file, resolved: true, authorization });
      const place = join(repos[repo] ?? "/nowhere", file);
      if (!statSync(place, { throwIfNoEntry: false })?.isFile()) return response.writeHead(404).end();
      const ticket = `/signed/${tickets.size}/${file}`;
      tickets.set(ticket, place);
      // The same server by another name is another origin.
      return response.writeHead(302, { Location: `${server.url.replace("127.0.0.1", "localhost")}${ticket}` }).end();
    }
    const place = tickets.get(path);
    if (!place) return response.writeHead(403).end();
    tickets.set(path, null);
    return send(path.split("/").slice(3).join("/"), place, response, request, authorization);
  };
  function send(path, place, response, request, authorization) {
    const begin = Number(request.headers.range?.match(/^bytes=(\d+)-$/)?.[1] ?? 0);
    const entry = { path, begin, sent: 0, authorization };
    log.push(entry);
    const { write } = response;
    response.write = (chunk, ...rest) => {
      entry.sent += chunk.length;
      return write.call(response, chunk, ...rest);
    };
    const { size } = statSync(place);
    response.setHeader("ETag", `"${size}"`);
    const fault = faults.get(path);
    const bytes = fault && readFileSync(place);
    const done = fault?.({ response, bytes, begin });
    if (done === true) return true;
    const length = done ? done.length : size;
    const head = { "Content-Type": "application/octet-stream", "Content-Length": length - begin };
    if (request.headers.range) head["Content-Range"] = `bytes ${begin}-${length - 1}/${length}`;
    response.writeHead(request.headers.range ? 206 : 200, head);
    if (done) {
      response.write(done.subarray(begin));
      response.end();
      return true;
    }
    // Files may be larger than what can be held at once. A reader that goes away is no error here.
    pipeline(createReadStream(place, { start: begin }), response, () => {});
    return true;
  }
  const server = await serve({ answer });
  t.after(() => server.close());
  return { url: `${server.url}/`, log, faults };
}

/** A fault: sends the rest of the file up to byte `end`, and breaks off. */
export function cut({ response, bytes, begin }, end) {
  const range = { "Content-Range": `bytes ${begin}-${bytes.length - 1}/${bytes.length}` };
  response.writeHead(begin > 0 ? 206 : 200, { "Content-Length": bytes.length - begin, ...(begin > 0 ? range : {}) });
  response.write(bytes.subarray(begin, end), () => setTimeout(() => response.destroy(), 20));
  return true;
}
