// Where a model's files come from in a browser, when they have addresses.

import { Download } from "./download.js";
import { Local } from "./files.js";
import type { ModelFile, ModelFolder } from "./folder.js";
import type { Hub } from "./hub.js";
import { Net } from "./net.js";

/** Pieces of a file that is kept are given to the browser in blobs of this size, which it may put on the disk. */
const BLOB_BYTES = 16 << 20;

interface SourceOptions {
  keep?: boolean;
  components?: Record<string, string>;
  /** What is known of the model's files beforehand: SHA-256 by path, in hexadecimal digits. */
  hashes?: Readonly<Record<string, string>>;
  net?: Net;
  hub?: Hub | null;
}

export class Source implements ModelFolder {
  #base: string;
  /** The hub that has the model, which knows more of it than its address. */
  #hub: Hub | null;
  #net: Net;
  #hashes: Map<string, string>;
  /** Folders that take the place of the model's own, by the name of the component. */
  #components: Map<string, string>;
  /** Weights that were read to their end, by path, for a source that keeps them: they may be wanted again. */
  #kept: Map<string, Blob> | null;

  constructor(base: string, { keep = false, components = {}, hashes = {}, net = new Net(), hub = null }: SourceOptions = {}) {
    [this.#base, this.#net, this.#hub] = [base, net, hub];
    this.#components = new Map(Object.entries(components));
    this.#hashes = new Map(Object.entries(hashes));
    this.#kept = keep ? new Map() : null;
  }

  describe(): string {
    return this.#base;
  }

  sha256(path: string): string | null {
    return this.#own(path) ? null : (this.#hashes.get(path) ?? this.#hub?.sha256(path) ?? null);
  }

  async open(path: string, begin = 0, fresh = false): Promise<ModelFile | null> {
    const kept = this.#kept?.get(path);
    if (kept) return new Local(kept, path, begin);
    const url = this.#own(path) ?? (this.#hub ? await this.#hub.locate(path) : new URL(path, this.#base));
    const file = url && (await Download.open(this.#net, url, begin, fresh));
    const keep = file && this.#kept && begin === 0 && path.endsWith(".safetensors");
    return keep ? new Recorded(file, (blob) => this.#kept!.set(path, blob)) : file;
  }

  /** Whether the file's component has a folder of its own. */
  has(path: string): boolean {
    return this.#own(path) !== null;
  }

  /** The address of a file whose component has a folder of its own. */
  #own(path: string): URL | null {
    const [component, ...rest] = path.split("/") as [string, ...string[]];
    const folder = this.#components.get(component);
    return folder ? new URL(rest.join("/"), folder) : null;
  }
}

/** A file that is taken as a blob, once all of it has come. */
class Recorded implements ModelFile {
  #file: ModelFile;
  #keep: (blob: Blob) => void;
  /** What came before, as one blob: none at the beginning. */
  #blobs: Blob[] = [];
  /** What comes after them. */
  #bytes = new Uint8Array(BLOB_BYTES);
  #held = 0;
  #received = 0;

  constructor(file: ModelFile, keep: (blob: Blob) => void) {
    [this.#file, this.#keep] = [file, keep];
  }

  get length(): number | undefined {
    return this.#file.length;
  }

  async read(most: number): Promise<Uint8Array> {
    const bytes = await this.#file.read(Math.min(most, BLOB_BYTES - this.#held));
    this.#bytes.set(bytes, this.#held);
    this.#held += bytes.length;
    this.#received += bytes.length;
    const whole = this.#received === this.length;
    if (this.#held < BLOB_BYTES && !whole) return bytes;
    this.#blobs = [new Blob([...this.#blobs, this.#bytes.subarray(0, this.#held)])];
    this.#held = 0;
    if (whole) this.#keep(this.#blobs[0]!);
    return bytes;
  }

  /** What is left out now may be wanted later. */
  async skip(bytes: number): Promise<void> {
    while (bytes > 0) {
      const { length } = await this.read(Math.min(bytes, 1 << 20));
      if (length === 0) return;
      bytes -= length;
    }
  }

  close(): void {
    this.#file.close();
  }
}
