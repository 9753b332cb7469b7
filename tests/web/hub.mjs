// A server that behaves like the hub: addresses of repositories answer with a redirect to another origin that expires,
// files come in ranges, pages of others may read them. What goes wrong is said by `faults`.

import { createHash } from "node:crypto";
import { createReadStream, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream";
import { serve } from "../../tools/serve.mjs";

const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Headers": "authorization, range, x-secret",
  "Cross-Origin-Resource-Policy": "cross-origin",
};

/** What scripts of other origins may see of an answer, beside what they always may. */
const EXPOSED = "Content-Range, Content-Length, ETag, Retry-After";

/** The commit of every repository. */
export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/**
 * Serves `repos` ({ "name/repo": folder }). Resolves to { url, log, api, faults }: `log` has { path, begin, end, sent,
 * authorization, secret } of every answer with a file's bytes, or { path, revision, resolved: true, authorization, secret }
 * of a redirect; `seen` has { path, authorization, secret } of every request; `api` has the revisions that were asked for, and none is told while it is null; `tell(response)` may
 * answer in its place, and returns true then. `exposed` is what other origins may see. `faults` maps a path in
 * its repository to a function of { response, place, size, bytes, begin, end }, of which the last two are the range. It returns true if
 * it has answered; or bytes, which are sent in place of the file's. `hashes` has those of a repository's weights by their
 * paths, where these are too large to be read at every request.
 */
export async function hub(t, repos, hashes = {}) {
  const log = [];
  const faults = new Map();
  /** Redirects that are good for one answer. */
  const tickets = new Map();
  const site = { log, faults, seen: [], api: [], tell: () => false, exposed: EXPOSED };
  const answer = (path, response, request) => {
    for (const [name, value] of Object.entries(CORS)) response.setHeader(name, value);
    response.setHeader("Access-Control-Expose-Headers", site.exposed);
    if (request.method === "OPTIONS") return response.writeHead(204).end();
    const authorization = request.headers.authorization;
    const secret = request.headers["x-secret"];
    site.seen.push({ path, authorization, secret });
    const [, known, asked] = path.match(/^\/api\/models\/([^/]+\/[^/]+)\/revision\/(.+)$/) ?? [];
    if (known) {
      site.api?.push(asked);
      if (site.tell(response)) return true;
      if (!site.api || !repos[known]) return response.writeHead(404).end();
      return response.end(JSON.stringify({ sha: COMMIT, siblings: siblings(repos[known], hashes[known]) }));
    }
    const [, repo, revision, file] = path.match(/^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/) ?? [];
    if (repo) {
      log.push({ path: file, revision, resolved: true, authorization, secret });
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
    return send(path.split("/").slice(3).join("/"), place, response, request, { authorization, secret });
  };
  function send(path, place, response, request, credentials) {
    const { size } = statSync(place);
    const [, from, to] = request.headers.range?.match(/^bytes=(\d+)-(\d*)$/) ?? [];
    const begin = Number(from ?? 0);
    const end = Math.min(size, to ? Number(to) + 1 : size);
    const entry = { path, begin, end, sent: 0, ...credentials };
    log.push(entry);
    const { write } = response;
    response.write = (chunk, ...rest) => {
      entry.sent += chunk.length;
      return write.call(response, chunk, ...rest);
    };
    response.setHeader("ETag", `"${size}"`);
    const how = { response, place, size, begin, end, ranged: from !== undefined };
    const done = faults.get(path)?.({ ...how, get bytes() { return readFileSync(place); } });
    if (done === true) return true;
    if (done) {
      begun({ ...how, size: done.length, end: Math.min(end, done.length) });
      response.write(done.subarray(begin, end));
      response.end();
      return true;
    }
    begun(how);
    // A reader that goes away is no error here.
    if (end > begin) pipeline(createReadStream(place, { start: begin, end: end - 1 }), response, () => {});
    else response.end();
    return true;
  }
  const server = await serve({ answer });
  t.after(() => server.close());
  return Object.assign(site, { url: `${server.url}/` });
}

/** What the hub tells of the files of a repository: of the large ones their hashes, of others git's. */
function siblings(folder, hashes) {
  const files = readdirSync(folder, { recursive: true }).filter((path) => statSync(join(folder, path)).isFile());
  const sha256 = (path) => hashes?.[path] ?? createHash("sha256").update(readFileSync(join(folder, path))).digest("hex");
  return files.map((path) => ({ rfilename: path, ...(path.endsWith(".safetensors") ? { lfs: { sha256: sha256(path) } } : { blobId: blobId(readFileSync(join(folder, path))) }) }));
}

/** git's hash of a file. */
export const blobId = (bytes) => createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

/** Begins the answer to a request for a file, or for a range of it. */
export function begun({ response, size, begin, end, ranged }) {
  const head = { "Content-Type": "application/octet-stream", "Content-Length": end - begin };
  if (ranged) head["Content-Range"] = `bytes ${begin}-${end - 1}/${size}`;
  response.writeHead(ranged ? 206 : 200, head);
}

/** A fault: sends what was asked for up to byte `at` of the file, and breaks off; not if the answer has no such byte. */
export function cut(how, at) {
  if (at < how.begin || at >= how.end) return false;
  begun(how);
  how.response.flushHeaders();
  const destroy = () => setTimeout(() => how.response.destroy(), 20);
  if (at === how.begin) destroy();
  else createReadStream(how.place, { start: how.begin, end: at - 1 }).on("end", destroy).pipe(how.response, { end: false });
  return true;
}

/** Random numbers that are the same in every run. */
export function random(seed) {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}
