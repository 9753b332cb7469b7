// Where a model's files come from in a browser, when they have addresses.

import { Download } from "./download.js";
import { Local, SAFETENSORS } from "./files.js";
import type { ModelFile, ModelFolder } from "./folder.js";
import type { Digests, Hub } from "./hub.js";
import { Net, failure } from "./net.js";

/** Pieces of a file that is kept are given to the browser in blobs of this size, which it may put on the disk. */
const BLOB_BYTES = 16 << 20;

interface SourceOptions {
  keep?: boolean;
  components?: Record<string, string>;
  /** What is known of the model's files beforehand: SHA-256 by path, in hexadecimal digits. */
  hashes?: Readonly<Record<string, string>>;
  net?: Net;
  hub?: Hub | null;
  /** Whether `digests` are wanted even of files that nothing is known of. */
  digest?: boolean;
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
  #digest: boolean;
  /** Components with a folder of their own of which nothing was asked for yet. */
  readonly unused: Set<string>;
  /** Of the files of the hub that were read whole. */
  readonly digests = new Map<string, Digests>();

  constructor(base: string, { keep = false, components = {}, hashes = {}, net = new Net(), hub = null, digest = false }: SourceOptions = {}) {
    [this.#base, this.#net, this.#hub, this.#digest] = [base, net, hub, digest];
    this.#components = new Map(Object.entries(components));
    this.unused = new Set(this.#components.keys());
    this.#hashes = new Map(Object.entries(hashes));
    this.#kept = keep ? new Map() : null;
  }

  describe(): string {
    return this.#base;
  }

  sha256(path: string): string | null {
    if (this.#own(path)) return null;
    const unknown = this.#digest && this.#hub && !this.#hub.verifies ? "" : null;
    return this.#hashes.get(path) ?? this.#hub?.sha256(path) ?? unknown;
  }

  hashed(path: string, sha256: string): void {
    this.digests.set(path, { "SHA-256": sha256 });
  }

  async open(path: string, begin = 0, fresh = false): Promise<ModelFile | null> {
    const kept = this.#kept?.get(path);
    if (kept) return new Local(kept, path, begin);
    const own = this.#own(path);
    if (own) this.unused.delete(path.split("/")[0]!);
    const url = own ?? (this.#hub ? await this.#hub.locate(path) : new URL(path, this.#base));
    const file = url && (await Download.open(this.#net, url, begin, fresh));
    if (!file || begin > 0) return file;
    // The address may ask for more behind the file's name.
    if (SAFETENSORS.test(url.pathname)) return this.#kept ? new Recorded(file, (blob) => this.#kept!.set(path, blob)) : file;
    return this.#hub && !own ? new Digested(file, (digests) => this.#check(path, digests)) : file;
  }

  /** What the module does for weights, which it reads whole only where it has to. */
  #check(path: string, digests: Digests): void {
    this.digests.set(path, digests);
    if (this.#hub!.compare([[path, digests]]).differs === null) return;
    throw failure("integrity", `${path} of ${this.#base} is damaged: its hash is ${digests["SHA-1"]} (sha256 ${digests["SHA-256"]}), which is not what the hub tells of it`);
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
    // Of some files only their end tells how long they are.
    const whole = this.#received === this.length || bytes.length === 0;
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

/** A small file, whose digests are told before its end is. */
class Digested implements ModelFile {
  #file: ModelFile;
  #tell: (digests: Digests) => void;
  #parts: Uint8Array<ArrayBuffer>[] = [];

  constructor(file: ModelFile, tell: (digests: Digests) => void) {
    [this.#file, this.#tell] = [file, tell];
  }

  get length(): number | undefined {
    return this.#file.length;
  }

  async read(most: number): Promise<Uint8Array> {
    const bytes = await this.#file.read(most);
    if (bytes.length > 0) this.#parts.push(bytes.slice());
    // There is no crypto outside of secure contexts.
    else if (globalThis.crypto?.subtle) this.#tell(await digestsOf(new Blob(this.#parts)));
    return bytes;
  }

  async skip(bytes: number): Promise<void> {
    while (bytes > 0) {
      const { length } = await this.read(bytes);
      if (length === 0) return;
      bytes -= length;
    }
  }

  close(): void {
    this.#file.close();
  }
}

/** Of a file's text git tells the hash with its kind and its length in front. */
async function digestsOf(blob: Blob): Promise<Digests> {
  const digest = async (name: keyof Digests, parts: BlobPart[]) => {
    const bytes = new Uint8Array(await crypto.subtle.digest(name, await new Blob(parts).arrayBuffer()));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  };
  return { "SHA-256": await digest("SHA-256", [blob]), "SHA-1": await digest("SHA-1", [`blob ${blob.size}\0`, blob]) };
}
