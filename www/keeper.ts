// Writing a model into the store, while the module loads it: what is written goes into `data`, in any order, and where
// it goes is remembered in `parts.json`, so that a pack whose load was interrupted goes on from what is there.

import type { ModelFile, ModelFolder, ModelKeeper } from "./folder.js";

/** Where a file is in `data`. */
export type Place = readonly [begin: number, bytes: number];
/** By path. */
type Places = ReadonlyMap<string, Place>;
/** Opens what is from byte `first` to `end`, `begin` bytes after its first. */
type OpenPlace = (path: string, first: number, end: number, begin: number) => ModelFile;
/** The bytes from one place of a file to another, of which some may be missing at the end. */
type ReadFront = (from: number, to: number) => Uint8Array;
type OpenRest = (at: number) => Promise<ModelFile | null>;
type MakeRoom = (bytes: number) => Promise<void>;

/** Of what is written beside the data. */
export const FORMAT = 1;

const DATA = "data";
const PARTS = "parts.json";
/** Pieces in which a kept file is read, into the same memory: as garbage it would not be collected in time. */
const PIECE = 1 << 20;
/** Bytes that wait in memory while room is made for them. */
const PATIENCE = 32 << 20;

/** Takes the files of a pack from the module, which calls begin and write and waits for neither. */
export class Keeper implements ModelKeeper {
  #handle!: FileSystemSyncAccessHandle;
  #parts!: FileSystemSyncAccessHandle;
  /** Where an earlier write has put files, and the bytes of `data` that it has left. */
  #earlier!: Places;
  #left!: number;
  #files = new Map<string, Place>();
  #end!: number;
  #piece = new Uint8Array(PIECE);
  #slab = new Uint8Array();
  /** Whether the source is a pack: its chunks are verified, wherever they come from. */
  #resumable = false;
  #makeRoom!: MakeRoom;
  /** Settles when there is room, or none. */
  #room: Promise<void> | null = null;
  #waiting: [at: number, bytes: Uint8Array][] = [];
  #held = 0;
  #failed: unknown = null;

  /** Opens the files in `folder`; `earlier` is as `partsOf` has it. `makeRoom(bytes)` removes other models. */
  static async open(folder: FileSystemDirectoryHandle, earlier: Places, makeRoom: MakeRoom): Promise<Keeper> {
    const keeper = new Keeper();
    keeper.#handle = await access(folder, DATA);
    keeper.#parts = await access(folder, PARTS);
    keeper.#earlier = earlier;
    keeper.#makeRoom = makeRoom;
    if (earlier.size === 0) keeper.#handle.truncate(0);
    keeper.#left = keeper.#handle.getSize();
    keeper.#end = Math.max(0, ...Array.from(earlier.values(), ([begin, bytes]) => begin + bytes));
    return keeper;
  }

  begin(path: string, bytes: number): void {
    const [first, length] = this.#earlier.get(path) ?? [];
    const begin = length === bytes ? first! : this.#end;
    this.#end = Math.max(this.#end, begin + bytes);
    this.#files.set(path, [begin, bytes]);
    if (this.#resumable) this.#remember();
  }

  /** Memory for the bytes of the next `write`. */
  slab(length: number): Uint8Array {
    if (this.#slab.length < length) this.#slab = new Uint8Array(length);
    return this.#slab.subarray(0, length);
  }

  write(path: string, at: number, bytes: Uint8Array): void {
    if (this.#failed) throw this.#failed;
    const begin = this.#files.get(path)![0] + at;
    if (!this.#room) {
      if (this.#put(begin, bytes)) return;
      this.#room = this.#retry();
    }
    this.#held += bytes.length;
    if (this.#held > PATIENCE) throw full();
    this.#waiting.push([begin, bytes.slice()]);
  }

  /**
   * `source` with what an earlier write has left in front of the files of a pack. Nothing of it is fetched again unless
   * it is damaged, which the module finds out.
   */
  over(source: ModelFolder): ModelFolder {
    return {
      describe: () => source.describe(),
      sha256: (path) => source.sha256(path),
      hashed: (path, sha256) => source.hashed?.(path, sha256),
      open: async (path, begin = 0, fresh = false) => {
        this.#resumable ||= path === "tintype.json";
        const [first = 0, length = 0] = (isPacked(path) && !fresh && this.#earlier.get(path)) || [];
        const left = Math.min(length, this.#left - first);
        if (begin >= left) return source.open(path, begin, fresh);
        return new Resumed(length, begin, left, (from, to) => this.#read(first + from, first + to), (at) => source.open(path, at));
      },
    };
  }

  /** What was written so far, as a folder that the module reads. */
  get folder(): Folder {
    const open: OpenPlace = (path, first, end, begin) => {
      let at = first + begin;
      const read = async (most: number) => {
        await this.#room;
        const bytes = this.#read(at, Math.min(end, at + most));
        at += bytes.length;
        return bytes;
      };
      const skip = async (bytes: number) => void (at = Math.min(end, at + bytes));
      return { length: end - first, read, skip, close() {} };
    };
    return new Folder("the kept model", this.#files, open);
  }

  /** Ends the write. Resolves to the files and the bytes of all. */
  async finish(manifest: string): Promise<{ bytes: number; files: Record<string, Place> }> {
    const text = new TextEncoder().encode(manifest);
    this.begin("tintype.json", text.length);
    this.write("tintype.json", 0, text);
    await this.#room;
    if (this.#failed) throw this.#failed;
    this.#handle.truncate(this.#end);
    this.#handle.flush();
    this.close();
    return { bytes: this.#end, files: Object.fromEntries(this.#files) };
  }

  /** Ends the write where it is. Resolves to whether a later one may go on from here. */
  close(): boolean {
    this.#handle.close();
    this.#parts.close();
    return this.#resumable;
  }

  /** At most a piece, which is good until the next one is read. */
  #read(from: number, to: number): Uint8Array {
    const bytes = this.#piece.subarray(0, to - from);
    return bytes.subarray(0, this.#handle.read(bytes, { at: from }));
  }

  /** False if the disk is full. */
  #put(at: number, bytes: Uint8Array): boolean {
    try {
      return this.#handle.write(bytes, { at }) === bytes.length;
    } catch (error) {
      if ((error as DOMException).name === "QuotaExceededError") return false;
      throw error;
    }
  }

  async #retry(): Promise<void> {
    try {
      await this.#makeRoom(Math.max(this.#held, this.#end - this.#handle.getSize()));
      // Nothing comes in between from here on.
      if (!this.#waiting.every((piece) => this.#put(...piece))) throw full();
    } catch (error) {
      this.#failed ??= error;
    }
    [this.#waiting, this.#held, this.#room] = [[], 0, null];
  }

  #remember(): void {
    const parts = { format: FORMAT, files: Object.fromEntries([...this.#earlier, ...this.#files]) };
    try {
      this.#parts.truncate(0);
      this.#parts.write(new TextEncoder().encode(JSON.stringify(parts)), { at: 0 });
    } catch {
      // Without it an interrupted load begins anew, and this one goes on.
    }
  }
}

/** A file whose front is here, and whose rest is opened when it is wanted. */
class Resumed implements ModelFile {
  readonly length: number;
  #at: number;
  /** How far its front goes. */
  #left: number;
  #read: ReadFront;
  #open: OpenRest;
  #rest: Pick<ModelFile, "read" | "close"> | null = null;

  constructor(length: number, begin: number, left: number, read: ReadFront, open: OpenRest) {
    this.length = length;
    this.#at = begin;
    this.#left = left;
    this.#read = read;
    this.#open = open;
  }

  async read(most: number): Promise<Uint8Array> {
    if (this.#at < this.#left) {
      const bytes = this.#read(this.#at, Math.min(this.#left, this.#at + most));
      this.#at += bytes.length;
      return bytes;
    }
    if (this.#at >= this.length) return new Uint8Array();
    // A file that is gone has ended.
    this.#rest ??= (await this.#open(this.#at)) ?? { read: async () => new Uint8Array(), close() {} };
    return this.#rest.read(most);
  }

  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; ) {
      const { length } = await this.read(Math.min(left, PIECE));
      if (length === 0) return;
      left -= length;
    }
  }

  close(): void {
    this.#rest?.close();
  }
}

/** Files inside one. */
export class Folder implements ModelFolder {
  #name: string;
  #files: Places;
  #open: OpenPlace;

  constructor(name: string, files: Places, open: OpenPlace) {
    [this.#name, this.#files, this.#open] = [name, files, open];
  }

  describe(): string {
    return this.#name;
  }

  /** Of a pack, the manifest tells the hashes. */
  sha256(): null {
    return null;
  }

  async open(path: string, begin = 0): Promise<ModelFile | null> {
    const place = this.#files.get(path);
    if (!place) return null;
    const [first, length] = place;
    return this.#open(path, first, first + length, begin);
  }
}

/** What an interrupted write has left in `folder`, by path; nothing if it cannot be gone on with. */
export async function partsOf(folder: FileSystemDirectoryHandle): Promise<Places> {
  return placesOf((await json(folder, PARTS))?.files) ?? new Map();
}

/** When an interrupted write that can be gone on with has begun its last file; 0 if there is none. */
export async function interrupted(folder: FileSystemDirectoryHandle): Promise<number> {
  const parts = await partsOf(folder);
  if (parts.size === 0) return 0;
  return (await (await folder.getFileHandle(PARTS)).getFile()).lastModified;
}

/** Whether `folder` has what a newer version of Tintype has written, which only that can judge. */
export async function isNewer(folder: FileSystemDirectoryHandle): Promise<boolean> {
  const all = await Promise.all(["entry.json", PARTS].map((name) => json(folder, name)));
  return all.some((said) => typeof said?.format === "number" && said.format > FORMAT);
}

/** Where files are; null for anything else. */
export function placesOf(files: unknown): Places | null {
  const places: [string, unknown][] = Object.entries(files ?? {});
  const isPlace = (place: unknown) => Array.isArray(place) && place.length === 2 && place.every((n) => Number.isSafeInteger(n) && n >= 0);
  return files && places.every(([, place]) => isPlace(place)) ? new Map(places as [string, Place][]) : null;
}

/** What a file of a folder has; null if there is none, or none that can be read. */
export async function json(folder: FileSystemDirectoryHandle, name: string): Promise<Record<string, unknown> | null> {
  const handle = await folder.getFileHandle(name).catch(() => null);
  // Another tab may replace the file between its opening and its reading, which then fails: the new one is read instead.
  for (let tries = 0; handle && tries < 20; tries++) {
    try {
      return JSON.parse(await (await handle.getFile()).text());
    } catch (error) {
      if (!(error instanceof DOMException)) break;
    }
  }
  return null;
}

const isPacked = (path: string) => path.endsWith("tintype.safetensors");

const full = () => new DOMException("the disk is full", "QuotaExceededError");

async function access(folder: FileSystemDirectoryHandle, name: string): Promise<FileSystemSyncAccessHandle> {
  return (await folder.getFileHandle(name, { create: true })).createSyncAccessHandle();
}
