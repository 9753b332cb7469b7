// A model that comes in one file, such as the built-in one: fetched whole, then read from memory.

import { whole } from "./download.js";
import { Local } from "./files.js";
import type { ModelFolder } from "./folder.js";
import type { Net } from "./net.js";
import type { BundledModel } from "./types.js";

export class Bundle implements ModelFolder {
  #url: URL;
  #files: BundledModel["files"];
  #net: Net;
  #blob: Blob | null = null;

  constructor({ url, files }: { url: string; files: BundledModel["files"] }, net: Net) {
    [this.#url, this.#files, this.#net] = [new URL(url), files, net];
  }

  describe(): string {
    return this.#url.href;
  }

  /** A pack tells its hashes itself. */
  sha256(): null {
    return null;
  }

  /** Fetches it; `tell` gets the bytes so far and of all. */
  async fetch(tell: (loaded: number, total: number) => void): Promise<void> {
    const total = Math.max(0, ...Object.values(this.#files).map(([begin, bytes]) => begin + bytes));
    this.#blob = new Blob([await whole(this.#net, this.#url, total, (loaded) => tell(loaded, total))]);
  }

  async open(path: string, begin = 0): Promise<Local | null> {
    const place = this.#files[path];
    if (!place) return null;
    const [first, bytes] = place;
    return new Local(this.#blob!.slice(first, first + bytes), path, begin);
  }
}
