// A model that comes in one file, such as the built-in one: fetched whole, then read from memory.

import { Download } from "./download.js";
import { Local } from "./files.js";
import type { ModelFolder } from "./folder.js";
import { failure, type Net } from "./net.js";
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
    const file = await Download.open(this.#net, this.#url);
    if (!file) throw failure("not-found", `could not fetch ${this.#url}: there is no such file`);
    const bytes = new Uint8Array(total);
    let loaded = 0;
    for (let chunk; (chunk = await file.read(total + 1)).length > 0; tell(loaded, total)) {
      if (loaded + chunk.length > total) {
        file.close();
        throw failure("integrity", `${this.#url} is longer than the ${total} bytes that it should have`);
      }
      bytes.set(chunk, loaded);
      loaded += chunk.length;
    }
    if (loaded < total) throw failure("network", `the download of ${this.#url} broke off at byte ${loaded} of ${total}`);
    this.#blob = new Blob([bytes]);
  }

  async open(path: string, begin = 0): Promise<Local | null> {
    const place = this.#files[path];
    if (!place) return null;
    const [first, bytes] = place;
    return new Local(this.#blob!.slice(first, first + bytes), path, begin);
  }
}
