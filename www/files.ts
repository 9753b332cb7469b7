// Models whose files are already here: picked or dropped in the page, read in the worker.

import { Chunks } from "./chunks.js";
import type { ModelFile, ModelFolder } from "./folder.js";
import { failure } from "./net.js";
import type { BundledModel, CreateOptions } from "./types.js";

/** Files that a page was given, as `model` may have them. */
type Chosen = Exclude<NonNullable<CreateOptions["model"]>, string | URL | BundledModel>;
/** By path. */
type Found = Map<string, File>;

/** Whether `model` is files and no address. */
export const isFiles = (model: unknown): model is Chosen => model !== null && typeof model === "object" && !(model instanceof URL);

/**
 * All files of a model folder, { path: File }, with paths inside it. `model` is a list of files from an input with
 * `webkitdirectory`, a FileSystemDirectoryHandle, or the DataTransfer of a drop, which is read before this returns.
 */
export async function gather(model: Chosen): Promise<Record<string, File>> {
  const found: Found = new Map();
  if (globalThis.FileSystemDirectoryHandle && model instanceof FileSystemDirectoryHandle) await walkHandle(model, "", found);
  else if (globalThis.DataTransfer && model instanceof DataTransfer) {
    const entries = Array.from(model.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean) as FileSystemEntry[];
    await Promise.all(entries.map((entry) => walkEntry(entry, "", found)));
  } else for (const file of Array.from(model as ArrayLike<File>)) found.set(file.webkitRelativePath || file.name, file);
  return Object.fromEntries(inside(found));
}

/** The names of files that weights are read from. */
export const SAFETENSORS = /\.safetensors$/i;

/** The only weights among files that are no model's folder: a single file alone. */
export function single(files: Record<string, File>): string | undefined {
  const weights = Object.keys(files).filter((path) => SAFETENSORS.test(path));
  return "model_index.json" in files || weights.length !== 1 ? undefined : weights[0];
}

/** The paths from the folder on that has the model in it, which may lie in others. */
function inside(found: Found): [string, File][] {
  const depth = (path: string) => path.split("/").length;
  const indexes = [...found.keys()].filter((path) => path.split("/").at(-1) === "model_index.json");
  const index = indexes.sort((a, b) => depth(a) - depth(b))[0] ?? "";
  const prefix = index.slice(0, index.length - "model_index.json".length);
  const own = [...found].filter(([path]) => path.startsWith(prefix));
  return own.map(([path, file]) => [path.slice(prefix.length), file]);
}

async function walkHandle(folder: FileSystemDirectoryHandle, before: string, found: Found): Promise<void> {
  for await (const [name, handle] of folder.entries()) {
    if (handle.kind === "directory") await walkHandle(handle as FileSystemDirectoryHandle, `${before}${name}/`, found);
    else found.set(before + name, await (handle as FileSystemFileHandle).getFile());
  }
}

async function walkEntry(entry: FileSystemEntry, before: string, found: Found): Promise<void> {
  const path = before + entry.name;
  if (entry.isFile) return void found.set(path, await new Promise<File>((done, failed) => (entry as FileSystemFileEntry).file(done, failed)));
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // A hundred at a time.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((done, failed) => reader.readEntries(done, failed));
    if (entries.length === 0) return;
    for (const inner of entries) await walkEntry(inner, `${path}/`, found);
  }
}

/** A folder of such files. What another folder has of components, `others`, takes the place of its own. */
export class Files implements ModelFolder {
  #files: Found;
  #others: (ModelFolder & { has(path: string): boolean }) | null;

  constructor(files: Record<string, File>, others: (ModelFolder & { has(path: string): boolean }) | null = null) {
    this.#files = new Map(Object.entries(files));
    this.#others = others;
  }

  describe(): string {
    return `the ${this.#files.size} files that were chosen`;
  }

  sha256(): null {
    return null;
  }

  async open(path: string, begin = 0): Promise<ModelFile | null> {
    if (this.#others?.has(path)) return this.#others.open(path, begin);
    const file = this.#files.get(path);
    return file ? new Local(file, path, begin) : null;
  }
}

/** A file that is here already, read forward. */
export class Local implements ModelFile {
  readonly length: number;
  #blob: Blob;
  #path: string;
  #at: number;
  #chunks: Chunks | null = null;
  /** Of the last chunk. */
  #rest: Uint8Array = new Uint8Array();

  constructor(blob: Blob, path: string, begin = 0) {
    [this.#blob, this.#path, this.#at] = [blob, path, begin];
    this.length = blob.size;
  }

  async read(most: number): Promise<Uint8Array> {
    if (this.#rest.length === 0) this.#rest = (await this.#next()) ?? new Uint8Array();
    const bytes = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(bytes.length);
    this.#at += bytes.length;
    return bytes;
  }

  async skip(bytes: number): Promise<void> {
    this.#at += bytes;
    if (bytes <= this.#rest.length) this.#rest = this.#rest.subarray(bytes);
    else this.close();
  }

  /** Another `read` begins anew. */
  close(): void {
    this.#chunks?.cancel();
    [this.#chunks, this.#rest] = [null, new Uint8Array()];
  }

  #next(): Promise<Uint8Array | null> {
    this.#chunks ??= new Chunks(this.#blob.slice(this.#at).stream());
    return this.#chunks.next().catch((error: Error) => {
      throw failure("network", `could not read ${this.#path}: ${error.message}`);
    });
  }
}
