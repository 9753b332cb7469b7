// A repository of the hub: what its revision is called may move, its commit never does and is asked for once.

import { Chunks } from "./chunks.js";
import { failure, type Failure, type Net } from "./net.js";
import type { Repository } from "./options.js";
import { Patience, Tries, passes, waitOf, type Fault } from "./patience.js";

/** The list of a repository's files may have so many bytes: as many as an index of shards (crates/weights/src/limits.rs). */
const LIST_BYTES = 64 << 20;

/** What the hub says of a revision. A mirror may say anything. */
interface Revision {
  sha?: unknown;
  siblings?: unknown;
}

interface Sibling {
  rfilename?: unknown;
  blobId?: unknown;
  lfs?: { sha256?: unknown } | null;
}

/** The digests of a file, by the names that crypto has for them; of text in a repository it tells git's own. */
export type Digests = { "SHA-256": string; "SHA-1"?: string };

/** What has come of comparing files with the hub's hashes. `differs` is the first one that is another. */
type Comparison = { differs: string | null; compared: number };

export class Hub {
  #place: Repository;
  #net: Net;
  #pinned: Promise<string | null> | undefined;
  /** The files of the commit and their hashes, if the hub told: what is not among them is not asked for. */
  #files: Map<string, string | null> | null = null;
  /** Why nothing can be verified. */
  #silence: string | null = null;

  /** The address of the hub ends with a slash. */
  constructor(place: Repository, net: Net) {
    [this.#place, this.#net] = [place, net];
  }

  /** The address of the file at `path`, or null if there is none. Redirects of such an address expire, it does not. */
  async locate(path: string): Promise<URL | null> {
    const { hub, repo, revision } = this.#place;
    const commit = await this.commit();
    if (this.#files && !this.#files.has(path)) return null;
    return new URL(`${repo}/resolve/${encodeURIComponent(commit ?? revision)}/${path}`, hub);
  }

  /** The commit, or null of a mirror that has nothing but files. After a failure it is asked `tries` times more; with 0 the first one is thrown. */
  commit(tries?: number): Promise<string | null> {
    this.#pinned ??= this.#pin(new Tries(tries)).catch((error) => {
      this.#pinned = undefined;
      throw error;
    });
    return this.#pinned;
  }

  /** Whether it has told hashes. Known, as all that follows, once it has answered. */
  get verifies(): boolean {
    return this.#files !== null;
  }

  /** Why nothing can be verified, in a sentence for people; null where it can. */
  get silence(): string | null {
    return this.#silence;
  }

  /** The hash that the hub tells of a large file, or null. */
  sha256(path: string): string | null {
    const hash = this.#files?.get(path);
    return hash?.length === 64 ? hash : null;
  }

  /** Compares files that were read with what the hub tells of them. */
  compare(files: Iterable<readonly [path: string, digests: Digests]>): Comparison {
    let compared = 0;
    for (const [path, digests] of files) {
      const hash = this.#files?.get(path);
      const found = hash && digests[hash.length === 64 ? "SHA-256" : "SHA-1"];
      if (!found) continue;
      compared++;
      if (found !== hash) return { differs: path, compared };
    }
    return { differs: null, compared };
  }

  async #pin(tries: Tries): Promise<string | null> {
    const { hub, repo, revision } = this.#place;
    const url = new URL(`api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`, hub);
    const { signal } = this.#net;
    for (;;) {
      try {
        return await this.#ask(url);
      } catch (error) {
        if (await tries.again(error as Fault, false, signal)) continue;
        if (signal?.aborted) throw failure("disposed", "the load was ended");
        const { code, message } = error as Failure;
        if (typeof code === "string") throw error;
        const words = "the option baseUrl is for servers that have files alone";
        throw failure("network", `could not ask ${hub} for the commit and the hashes of ${repo} at ${revision} (${url}): ${message}; ${words}`);
      }
    }
  }

  async #ask(url: URL): Promise<string | null> {
    const { hub, repo, revision } = this.#place;
    const patience = new Patience(this.#net.signal);
    try {
      const answer = await patience.of(this.#net.get(url, { signal: patience.signal }));
      const { status, headers } = answer;
      if (status === 404 || status === 405) {
        this.#silence = `${hub} answered ${status} when it was asked for the commit and the hashes of ${repo} at ${revision}`;
        return null;
      }
      if (status === 401 || status === 403) {
        const words = "if it is gated or private, accept its licence where it is published and pass the option headers with your token; otherwise there may be no such repository";
        throw Object.assign(failure("access", `could not fetch ${url}: the server answered ${status}; ${words}`), { final: true });
      }
      if (status !== 200) throw Object.assign(new Error(`it answered ${status}`), { final: !passes(status), wait: waitOf(headers) });
      return this.#read(await text(answer.body, patience));
    } finally {
      patience.end();
    }
  }

  #read(text: string): string {
    const wrong = (wanted: string) => Object.assign(new Error(`wanted ${wanted}, found ${JSON.stringify(text.slice(0, 40))}`), { final: true });
    let revision: Revision | null;
    try {
      revision = JSON.parse(text);
    } catch {
      throw wrong("JSON");
    }
    const { sha, siblings } = revision ?? {};
    if (typeof sha !== "string" || !/^[0-9a-f]{40}$/.test(sha)) throw wrong('"sha", the 40 digits of a commit');
    const files = (Array.isArray(siblings) ? (siblings as Sibling[]) : []).filter((file) => typeof file?.rfilename === "string");
    if (files.length > 0) this.#files = new Map(files.map((file) => [file.rfilename as string, hashOf(file)]));
    else this.#silence = `${this.#place.hub} has no list of the files of ${this.#place.repo}`;
    return sha;
  }
}

/** The sha256 of a large file, in 64 digits, or git's hash of another one, in 40. */
function hashOf({ blobId, lfs }: Sibling): string | null {
  const hash = (value: unknown, digits: number) => (typeof value === "string" && value.length === digits && /^[0-9a-f]+$/.test(value) ? value : null);
  return lfs ? hash(lfs.sha256, 64) : hash(blobId, 40);
}

/** What a stream has, as a text that is held to the limit while it comes. */
async function text(body: ReadableStream<Uint8Array> | null, patience: Patience): Promise<string> {
  if (!body) return "";
  const [chunks, decoder] = [new Chunks(body), new TextDecoder()];
  try {
    let [text, bytes] = ["", 0];
    for (let chunk; (chunk = await patience.of(chunks.next())); ) {
      bytes += chunk.length;
      if (bytes > LIST_BYTES) throw Object.assign(new Error(`wanted at most ${LIST_BYTES} bytes, found more`), { final: true });
      text += decoder.decode(chunk, { stream: true });
    }
    return text + decoder.decode();
  } finally {
    chunks.cancel();
  }
}
