// A repository of the hub: what its revision is called may move, its commit never does and is asked for once.

import type { Net } from "./net.js";
import type { Repository } from "./options.js";

/** How long the hub may take to say what there is; in milliseconds. */
const PATIENCE = 10_000;

/** What the hub says of a revision. A mirror may say anything. */
interface Revision {
  sha: string;
  siblings?: { rfilename: string; lfs?: { sha256: string } | null }[];
}

export class Hub {
  #place: Repository;
  #net: Net;
  #pinned: Promise<string | null> | undefined;
  /** The files of the commit and their hashes, if the hub told: what is not among them is not asked for. */
  #files: Map<string, string | null> | null = null;

  /** The address of the hub ends with a slash. */
  constructor(place: Repository, net: Net) {
    [this.#place, this.#net] = [place, net];
  }

  /** The address of the file at `path`, or null if there is none. Redirects of such an address expire, it does not. */
  async locate(path: string): Promise<URL | null> {
    const { hub, repo, revision } = this.#place;
    const commit = await (this.#pinned ??= this.#pin());
    if (this.#files && !this.#files.has(path)) return null;
    return new URL(`${repo}/resolve/${encodeURIComponent(commit ?? revision)}/${path}`, hub);
  }

  /** The hash that the hub tells of a large file, or null. Known once a file was located. */
  sha256(path: string): string | null {
    return this.#files?.get(path) ?? null;
  }

  /** The commit, or null: a mirror may have nothing but files, and what is wrong is said where they are opened. */
  async #pin(): Promise<string | null> {
    const { hub, repo, revision } = this.#place;
    const url = new URL(`api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`, hub);
    try {
      const answer = await this.#net.get(url, { signal: AbortSignal.timeout(PATIENCE) });
      const { sha, siblings } = JSON.parse(await new Response(answer.body).text()) as Revision;
      if (!/^[0-9a-f]{40}$/.test(sha)) return null;
      if (siblings && siblings.length > 0) this.#files = new Map(siblings.map((file) => [file.rfilename, file.lfs?.sha256 ?? null]));
      return sha;
    } catch {
      return null;
    }
  }
}
