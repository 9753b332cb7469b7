// @ts-nocheck
// Writing a model into the store, while the module loads it: what is written goes into `data`, in any order, and where
// it goes is remembered in `parts.json`, so that a pack whose load was interrupted goes on from what is there.

const DATA = "data";
const PARTS = "parts.json";
/** Pieces in which a kept file is read, into the same memory: as garbage it would not be collected in time. */
const PIECE = 1 << 20;
/** Bytes that wait in memory while room is made for them. */
const PATIENCE = 32 << 20;

/** Takes the files of a pack from the module, which calls begin and write and waits for neither. */
export class Keeper {
  #handle;
  #parts;
  /** Where an earlier write has put files, and the bytes of `data` that it has left. */
  #earlier;
  #left;
  /** By path: where it begins in `data`, and its bytes. */
  #files = new Map();
  #end;
  #piece = new Uint8Array(PIECE);
  #slab = new Uint8Array();
  /** Whether the source is a pack: its chunks are verified, wherever they come from. */
  #resumable = false;
  #makeRoom;
  /** Settles when there is room, or none. */
  #room = null;
  #waiting = [];
  #held = 0;
  #failed = null;

  /** Opens the files in `folder`; `earlier` is as `partsOf` has it. `makeRoom(bytes)` removes other models. */
  static async open(folder, earlier, makeRoom) {
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

  begin(path, bytes) {
    const [first, length] = this.#earlier.get(path) ?? [];
    const begin = length === bytes ? first : this.#end;
    this.#end = Math.max(this.#end, begin + bytes);
    this.#files.set(path, [begin, bytes]);
    if (this.#resumable) this.#remember();
  }

  /** Memory for the bytes of the next `write`. */
  slab(length) {
    if (this.#slab.length < length) this.#slab = new Uint8Array(length);
    return this.#slab.subarray(0, length);
  }

  write(path, at, bytes) {
    if (this.#failed) throw this.#failed;
    const begin = this.#files.get(path)[0] + at;
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
  over(source) {
    return {
      describe: () => source.describe(),
      sha256: (path) => source.sha256(path),
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
  get folder() {
    const open = (path, first, end, begin) => {
      let at = first + begin;
      const read = async (most) => {
        await this.#room;
        const bytes = this.#read(at, Math.min(end, at + most));
        at += bytes.length;
        return bytes;
      };
      const skip = async (bytes) => void (at = Math.min(end, at + bytes));
      return { length: end - first, read, skip, close() {} };
    };
    return new Folder("the kept model", this.#files, open);
  }

  /** Ends the write. Resolves to the files and the bytes of all. */
  async finish(manifest) {
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
  close() {
    this.#handle.close();
    this.#parts.close();
    return this.#resumable;
  }

  /** At most a piece, which is good until the next one is read. */
  #read(from, to) {
    const bytes = this.#piece.subarray(0, to - from);
    return bytes.subarray(0, this.#handle.read(bytes, { at: from }));
  }

  /** False if the disk is full. */
  #put(at, bytes) {
    try {
      return this.#handle.write(bytes, { at }) === bytes.length;
    } catch (error) {
      if (error.name === "QuotaExceededError") return false;
      throw error;
    }
  }

  async #retry() {
    try {
      await this.#makeRoom(Math.max(this.#held, this.#end - this.#handle.getSize()));
      // Nothing comes in between from here on.
      if (!this.#waiting.every((piece) => this.#put(...piece))) throw full();
    } catch (error) {
      this.#failed ??= error;
    }
    [this.#waiting, this.#held, this.#room] = [[], 0, null];
  }

  #remember() {
    const parts = { files: Object.fromEntries([...this.#earlier, ...this.#files]) };
    try {
      this.#parts.truncate(0);
      this.#parts.write(new TextEncoder().encode(JSON.stringify(parts)), { at: 0 });
    } catch {
      // Without it an interrupted load begins anew, and this one goes on.
    }
  }
}

/** A file whose front is here, and whose rest is opened when it is wanted. */
class Resumed {
  #at;
  #left;
  #read;
  #open;
  #rest = null;

  constructor(length, begin, left, read, open) {
    this.length = length;
    this.#at = begin;
    this.#left = left;
    this.#read = read;
    this.#open = open;
  }

  async read(most) {
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

  async skip(bytes) {
    for (let left = bytes; left > 0; ) {
      const { length } = await this.read(Math.min(left, PIECE));
      if (length === 0) return;
      left -= length;
    }
  }

  close() {
    this.#rest?.close();
  }
}

/** Files inside one, for the module: as class Source of source.js. */
export class Folder {
  #name;
  #files;
  #open;

  /** `files` has [first byte, bytes] by path; `open(path, first, end, begin)` opens one, `begin` bytes after its first. */
  constructor(name, files, open) {
    [this.#name, this.#files, this.#open] = [name, files, open];
  }

  describe() {
    return this.#name;
  }

  /** Of a pack, the manifest tells the hashes. */
  sha256() {
    return null;
  }

  async open(path, begin = 0) {
    const place = this.#files.get(path);
    if (!place) return null;
    const [first, length] = place;
    return this.#open(path, first, first + length, begin);
  }
}

/** What an interrupted write has left in `folder`, by path; nothing if it cannot be gone on with. */
export async function partsOf(folder) {
  return placesOf((await json(folder, PARTS))?.files) ?? new Map();
}

/** When an interrupted write that can be gone on with has begun its last file; 0 if there is none. */
export async function interrupted(folder) {
  const parts = await partsOf(folder);
  if (parts.size === 0) return 0;
  return (await (await folder.getFileHandle(PARTS)).getFile()).lastModified;
}

/** Where files are, [begin, bytes] by path; null for anything else. */
export function placesOf(files) {
  const places = Object.entries(files ?? {});
  const isPlace = (place) => Array.isArray(place) && place.length === 2 && place.every((n) => Number.isSafeInteger(n) && n >= 0);
  return files && places.every(([, place]) => isPlace(place)) ? new Map(places) : null;
}

/** What a file of a folder has; null if there is none, or none that can be read. */
export async function json(folder, name) {
  try {
    return JSON.parse(await (await (await folder.getFileHandle(name)).getFile()).text());
  } catch {
    return null;
  }
}

const isPacked = (path) => path.endsWith("tintype.safetensors");

const full = () => new DOMException("the disk is full", "QuotaExceededError");

async function access(folder, name) {
  return (await folder.getFileHandle(name, { create: true })).createSyncAccessHandle();
}
