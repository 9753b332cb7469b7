// Models that are kept on this device, as packs in the origin's private files. A model is a folder with two files:
// `data`, all files of its pack one after the other, and `entry.json`, which says where each is and is written last.
// Without it, what is there is the rest of a write that was interrupted, and is never used.

const ROOT = "tintype";
/** Pieces in which a kept file is read. */
const PIECE = 1 << 20;
const lock = (key) => `tintype ${key}`;

/** The models that are kept; null where the browser keeps nothing, as in some private windows. */
export async function openStore() {
  try {
    const root = await navigator.storage.getDirectory();
    return new Store(await root.getDirectoryHandle(ROOT, { create: true }));
  } catch {
    return null;
  }
}

/** The name under which a model is kept: what tells one load from another. */
export async function keyOf(facts) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(facts)));
  return Array.from(new Uint8Array(digest).subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Store {
  #root;

  constructor(root) {
    this.#root = root;
  }

  /** What is kept, the one that was used last first: { key, model, weights, bytes, created, used }. */
  async list() {
    const entries = [];
    for await (const [key, handle] of this.#root.entries()) {
      const entry = handle.kind === "directory" && (await readEntry(handle));
      if (entry) entries.push(factsOf(key, entry));
    }
    return entries.sort((a, b) => b.used.localeCompare(a.used));
  }

  /** Removes a model, unless it is being written or loaded: then resolves to false. */
  async delete(key) {
    return exclusively(key, async () => {
      await this.#root.removeEntry(key, { recursive: true }).catch(() => {});
    });
  }

  /** Removes all models that are not in use. */
  async clear() {
    for await (const key of this.#root.keys()) await this.delete(key);
  }

  /** A kept model, as a folder that the module reads, or null. It is not removed before `release()`. */
  async find(key) {
    const release = await hold(key, "shared");
    if (!release) return null;
    try {
      const folder = await this.#root.getDirectoryHandle(key);
      const entry = await readEntry(folder);
      if (!entry) throw new Error("not kept");
      const data = await (await folder.getFileHandle("data")).getFile();
      // Something else has shortened it.
      if (data.size !== entry.bytes) throw new Error("incomplete");
      await writeEntry(folder, { ...entry, used: new Date().toISOString() }).catch(() => {});
      return Object.assign(new Kept(entry, data), { release });
    } catch {
      release();
      return null;
    }
  }

  /** Writes a model, or null while another tab writes or reads it. */
  async keeper(key, facts) {
    const release = await own(key);
    if (!release) return null;
    try {
      const folder = await this.#root.getDirectoryHandle(key, { create: true });
      // What was kept is replaced, and what was interrupted is written anew.
      await folder.removeEntry("entry.json").catch(() => {});
      const handle = await (await folder.getFileHandle("data", { create: true })).createSyncAccessHandle();
      handle.truncate(0);
      return new Keeper({ root: this.#root, folder, key, facts, handle, release });
    } catch {
      release();
      return null;
    }
  }

  /** Removes what interrupted writes have left. */
  async sweep() {
    for await (const [key, handle] of this.#root.entries()) {
      if (handle.kind === "directory" && !(await readEntry(handle))) await this.delete(key);
    }
  }

  /** Makes room of so many bytes: removes what was used longest ago, but not `key`. */
  async evict(bytes, key) {
    for (const entry of (await this.list()).reverse()) {
      if (bytes <= 0) return;
      if (entry.key !== key && (await this.delete(entry.key))) bytes -= entry.bytes;
    }
  }
}

/** Takes the files of a pack from the module, which calls begin and write and waits for neither. */
export class Keeper {
  #place;
  /** By path: where it begins in `data`, and its bytes. */
  #files = new Map();
  #end = 0;

  constructor(place) {
    this.#place = place;
  }

  begin(path, bytes) {
    this.#files.set(path, [this.#end, bytes]);
    this.#end += bytes;
  }

  write(path, at, bytes) {
    const begin = this.#files.get(path)[0] + at;
    const written = this.#place.handle.write(bytes, { at: begin });
    if (written < bytes.length) throw new DOMException("the disk is full", "QuotaExceededError");
  }

  /** What was written so far, as a folder that the module reads. */
  get folder() {
    const { handle } = this.#place;
    const read = async (from, to) => {
      const bytes = new Uint8Array(to - from);
      return bytes.subarray(0, handle.read(bytes, { at: from }));
    };
    return new Folder("the kept model", this.#files, read);
  }

  /** Ends the write: from here on the model is kept. */
  async commit(manifest) {
    const { folder, facts, handle, release } = this.#place;
    const bytes = new TextEncoder().encode(manifest);
    this.begin("tintype.json", bytes.length);
    this.write("tintype.json", 0, bytes);
    handle.flush();
    handle.close();
    const now = new Date().toISOString();
    const entry = { format: 1, ...facts, bytes: this.#end, created: now, used: now, files: Object.fromEntries(this.#files) };
    await writeEntry(folder, entry);
    release();
  }

  /** Ends the write: nothing is kept. Resolves to the bytes that it had come to. */
  async abandon() {
    const { root, key, handle, release } = this.#place;
    handle.close();
    await root.removeEntry(key, { recursive: true }).catch(() => {});
    release();
    return this.#end;
  }
}

/** Files inside one, for the module: as class Source of source.js. */
class Folder {
  #name;
  #files;
  #read;

  constructor(name, files, read) {
    this.#name = name;
    this.#files = files;
    this.#read = read;
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
    const end = first + length;
    let at = first + begin;
    const read = async (most) => {
      const bytes = await this.#read(at, Math.min(end, at + Math.min(most, PIECE)));
      at += bytes.length;
      return bytes;
    };
    const skip = async (bytes) => void (at = Math.min(end, at + bytes));
    return { length, read, skip, close() {} };
  }
}

class Kept extends Folder {
  constructor(entry, data) {
    const files = new Map(Object.entries(entry.files));
    super(entry.model, files, async (from, to) => new Uint8Array(await data.slice(from, to).arrayBuffer()));
  }
}

const factsOf = (key, { model, weights, bytes, created, used }) => ({ key, model, weights, bytes, created, used });

/** What a folder says of itself; null if it is not whole, or of a version that this one does not know. */
async function readEntry(folder) {
  try {
    const file = await (await folder.getFileHandle("entry.json")).getFile();
    const entry = JSON.parse(await file.text());
    const { format, model, used, bytes, files } = entry;
    const whole = typeof model === "string" && typeof used === "string" && Number.isSafeInteger(bytes) && files;
    return format === 1 && whole ? entry : null;
  } catch {
    return null;
  }
}

async function writeEntry(folder, entry) {
  const file = await folder.getFileHandle("entry.json", { create: true });
  // Takes the place of the old one when it is closed, as a whole.
  const stream = await file.createWritable();
  await stream.write(JSON.stringify(entry));
  await stream.close();
}

/** Takes the lock of a model until the function that it resolves to is called; null if that means to wait. */
function hold(key, mode) {
  return new Promise((taken) => {
    const free = (held) => {
      if (!held) return void taken(null);
      return new Promise((release) => taken(release));
    };
    navigator.locks.request(lock(key), { mode, ifAvailable: true }, free).catch(() => taken(null));
  });
}

/** As `hold`, where this page itself may have let go of the lock just now. */
async function own(key) {
  const release = await hold(key, "exclusive");
  if (release) return release;
  await new Promise((done) => setTimeout(done, 100));
  return hold(key, "exclusive");
}

async function exclusively(key, work) {
  const release = await own(key);
  if (!release) return false;
  await work().finally(release);
  return true;
}
