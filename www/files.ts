// @ts-nocheck
// Models whose files are already here: picked or dropped in the page, read in the worker.

import { Chunks } from "./chunks.js";
import { failure } from "./net.js";

/** Whether `model` is files and no address. */
export const isFiles = (model) => model !== null && typeof model === "object" && !(model instanceof URL);

/**
 * All files of a model folder, { path: File }, with paths inside it. `model` is a list of files from an input with
 * `webkitdirectory`, a FileSystemDirectoryHandle, or the DataTransfer of a drop, which is read before this returns.
 */
export async function gather(model) {
  const found = new Map();
  if (globalThis.FileSystemDirectoryHandle && model instanceof FileSystemDirectoryHandle) await walkHandle(model, "", found);
  else if (globalThis.DataTransfer && model instanceof DataTransfer) {
    const entries = Array.from(model.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
    await Promise.all(entries.map((entry) => walkEntry(entry, "", found)));
  } else for (const file of Array.from(model)) found.set(file.webkitRelativePath || file.name, file);
  return Object.fromEntries(inside(found));
}

/** The paths from the folder on that has the model in it, which may lie in others. */
function inside(found) {
  const depth = (path) => path.split("/").length;
  const indexes = [...found.keys()].filter((path) => path.split("/").at(-1) === "model_index.json");
  const index = indexes.sort((a, b) => depth(a) - depth(b))[0] ?? "";
  const prefix = index.slice(0, index.length - "model_index.json".length);
  const own = [...found].filter(([path]) => path.startsWith(prefix));
  return own.map(([path, file]) => [path.slice(prefix.length), file]);
}

async function walkHandle(folder, before, found) {
  for await (const [name, handle] of folder.entries()) {
    if (handle.kind === "directory") await walkHandle(handle, `${before}${name}/`, found);
    else found.set(before + name, await handle.getFile());
  }
}

async function walkEntry(entry, before, found) {
  const path = before + entry.name;
  if (entry.isFile) return void found.set(path, await new Promise((done, failed) => entry.file(done, failed)));
  const reader = entry.createReader();
  // A hundred at a time.
  for (;;) {
    const entries = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (entries.length === 0) return;
    for (const inner of entries) await walkEntry(inner, `${path}/`, found);
  }
}

/** A folder of such files, for the module: as class Source of source.js. */
export class Files {
  #files;

  constructor(files) {
    this.#files = new Map(Object.entries(files));
  }

  describe() {
    return `the ${this.#files.size} files that were chosen`;
  }

  sha256() {
    return null;
  }

  async open(path, begin = 0) {
    const file = this.#files.get(path);
    return file ? new Local(file, path, begin) : null;
  }
}

/** A file that is here already, read forward. */
export class Local {
  #blob;
  #path;
  #at;
  #chunks = null;
  /** Of the last chunk. */
  #rest = new Uint8Array();

  constructor(blob, path, begin = 0) {
    [this.#blob, this.#path, this.#at] = [blob, path, begin];
    this.length = blob.size;
  }

  async read(most) {
    if (this.#rest.length === 0) this.#rest = (await this.#next()) ?? new Uint8Array();
    const bytes = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(bytes.length);
    this.#at += bytes.length;
    return bytes;
  }

  async skip(bytes) {
    this.#at += bytes;
    if (bytes <= this.#rest.length) this.#rest = this.#rest.subarray(bytes);
    else this.close();
  }

  /** Another `read` begins anew. */
  close() {
    this.#chunks?.cancel();
    [this.#chunks, this.#rest] = [null, new Uint8Array()];
  }

  #next() {
    this.#chunks ??= new Chunks(this.#blob.slice(this.#at).stream());
    return this.#chunks.next().catch((error) => {
      throw failure("network", `could not read ${this.#path}: ${error.message}`);
    });
  }
}
