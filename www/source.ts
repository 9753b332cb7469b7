// @ts-nocheck
// Where a model's files come from in a browser. The module calls describe, sha256 and open, and of a file read, skip
// and close.

import { Download } from "./download.js";
import { Local } from "./files.js";
import type { Hub } from "./hub.js";
import { Net } from "./net.js";

/** Pieces of a file that is kept are given to the browser in blobs of this size, which it may put on the disk. */
const BLOB_BYTES = 16 << 20;

export class Source {
  #base;
  /** The hub that has the model, which knows more of it than its address. */
  #hub;
  #net;
  /** Folders that take the place of the model's own, by the name of the component. */
  #components;
  /** Weights that were read to their end, by path, for a source that keeps them: they may be wanted again. */
  #kept;

  constructor(base: string, { keep = false, components = {}, net = new Net(), hub = null }: { keep?: boolean; components?: Record<string, string>; net?: Net; hub?: Hub | null } = {}) {
    [this.#base, this.#net, this.#hub] = [base, net, hub];
    this.#components = new Map(Object.entries(components));
    this.#kept = keep ? new Map() : null;
  }

  /** The folder, in a sentence for people. */
  describe() {
    return this.#base;
  }

  /** The hash that the file must have, in hex, or null. Known once the file is open. */
  sha256(path) {
    return this.#own(path) ? null : (this.#hub?.sha256(path) ?? null);
  }

  /** The file at `path` from byte `begin` on, or null if there is none. `fresh`: not from the browser's cache. What its `read`
   * returns is good until the next one. */
  async open(path, begin = 0, fresh = false) {
    const kept = this.#kept?.get(path);
    if (kept) return new Local(kept, path, begin);
    const url = this.#own(path) ?? (this.#hub ? await this.#hub.locate(path) : new URL(path, this.#base));
    const file = url && (await Download.open(this.#net, url, begin, fresh));
    const keep = file && this.#kept && begin === 0 && path.endsWith(".safetensors");
    return keep ? new Recorded(file, (blob) => this.#kept.set(path, blob)) : file;
  }

  /** The address of a file whose component has a folder of its own. */
  #own(path) {
    const [component, ...rest] = path.split("/");
    const folder = this.#components.get(component);
    return folder ? new URL(rest.join("/"), folder) : null;
  }
}

/** A file that is taken as a blob, once all of it has come. */
class Recorded {
  #file;
  #keep;
  #blobs = [];
  /** What comes after them. */
  #bytes = new Uint8Array(BLOB_BYTES);
  #held = 0;
  #received = 0;

  constructor(file, keep) {
    [this.#file, this.#keep] = [file, keep];
  }

  get length() {
    return this.#file.length;
  }

  async read(most) {
    const bytes = await this.#file.read(Math.min(most, BLOB_BYTES - this.#held));
    this.#bytes.set(bytes, this.#held);
    this.#held += bytes.length;
    this.#received += bytes.length;
    const whole = this.#received === this.length;
    if (this.#held < BLOB_BYTES && !whole) return bytes;
    this.#blobs = [new Blob([...this.#blobs, this.#bytes.subarray(0, this.#held)])];
    this.#held = 0;
    if (whole) this.#keep(this.#blobs[0]);
    return bytes;
  }

  /** What is left out now may be wanted later. */
  async skip(bytes) {
    while (bytes > 0) {
      const { length } = await this.read(Math.min(bytes, 1 << 20));
      if (length === 0) return;
      bytes -= length;
    }
  }

  close() {
    this.#file.close();
  }
}
