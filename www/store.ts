// Models that are kept on this device, as packs in the origin's private files. A model is a folder with two files:
// `data`, all files of its pack one after the other, and `entry.json`, which says where each is and is written last.
// Without it, what is there is the rest of a write that was interrupted, and is never used unverified. What a newer version
// of Tintype has written is neither read nor changed, and goes only when all is cleared.

import { Local } from "./files.js";
import type { Digests } from "./hub.js";
import { FORMAT, Folder, Keeper, interrupted, isNewer, json, partsOf, placesOf, type Place } from "./keeper.js";
import type { KeptModel } from "./types.js";

const ROOT = "tintype";
/** An interrupted load may go on for so long, in milliseconds; then what it has left is removed. */
const DAY = 24 * 60 * 60 * 1000;
const lock = (key: string) => `tintype ${key}`;

/** What `entry.json` says. */
interface Entry extends Omit<KeptModel, "key"> {
  format: number;
  /** Whether it took the place of "auto" weights that were too large for the device. */
  instead?: boolean;
  files: Record<string, Place>;
  /** Of the files that it was made of, where nobody has told what they should be. */
  digests?: Record<string, Digests>;
}

/** What is known of the files that a model was made of. */
export type Provenance = Pick<Entry, "verified" | "commit" | "digests">;

/** Lets go of a lock. */
type Release = () => void;
/** The rest of what is kept of a model beside its files. `confirm` says what came to be known of them. */
interface About {
  weights: string;
  provenance: Provenance;
  confirm(provenance: Provenance): Promise<void>;
  release: Release;
}
/** A kept model: it is not removed before it is released. */
export type Kept = Folder & About;

/** What is told of a model beforehand. */
type Facts = Pick<Entry, "model" | "instead">;

/** What a write needs to go on and to end. */
interface Writing {
  keeper: Keeper;
  folder: FileSystemDirectoryHandle;
  facts: Facts;
  release: Release;
  remove(): Promise<void>;
}

/** The models that are kept; null where the browser keeps nothing, as in some private windows. */
export async function openStore(): Promise<Store | null> {
  try {
    const root = await navigator.storage.getDirectory();
    return new Store(await root.getDirectoryHandle(ROOT, { create: true }));
  } catch {
    return null;
  }
}

/** The name under which a model is kept: what tells one load from another. */
export async function keyOf(facts: unknown): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(facts)));
  return Array.from(new Uint8Array(digest).subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Store {
  #root: FileSystemDirectoryHandle;

  constructor(root: FileSystemDirectoryHandle) {
    this.#root = root;
  }

  /** What is kept, the one that was used last first. */
  async list(): Promise<KeptModel[]> {
    const entries: KeptModel[] = [];
    for (const [key, folder] of await this.#folders()) {
      const entry = await readEntry(folder);
      if (entry) entries.push(factsOf(key, entry));
    }
    return entries.sort((a, b) => b.used.localeCompare(a.used));
  }

  /** Removes a model, unless it is being written or loaded: then resolves to false. */
  async delete(key: string): Promise<boolean> {
    return exclusively(await own(key), () => this.#remove(key));
  }

  /** Removes all models that are not in use. */
  async clear(): Promise<void> {
    for (const [key] of await this.#folders()) await this.delete(key);
  }

  /** Whether a model is kept, or is kept `instead` of "auto" weights. */
  async has(key: string, instead = false): Promise<boolean> {
    const folder = await this.#root.getDirectoryHandle(key).catch(() => null);
    const entry = folder && (await readEntry(folder));
    return entry !== null && (!instead || entry.instead === true);
  }

  /** Whether a newer version of Tintype keeps something there. */
  async isNewer(key: string): Promise<boolean> {
    const folder = await this.#root.getDirectoryHandle(key).catch(() => null);
    return folder !== null && isNewer(folder);
  }

  /** Whether a model is kept; `written` while some tab writes it. */
  async state(key: string): Promise<"yes" | "written" | "no"> {
    const folder = await this.#root.getDirectoryHandle(key).catch(() => null);
    if (!folder) return "no";
    if (await readEntry(folder)) return "yes";
    const { held = [] } = await navigator.locks.query();
    return held.some(({ name, mode }) => name === lock(key) && mode === "exclusive") ? "written" : "no";
  }

  /**
   * A kept model, as a folder that the module reads, or null. It is not removed before `release()`. From now on it is kept
   * `instead` of "auto" weights if that is said.
   */
  async find(key: string, instead = false): Promise<Kept | null> {
    const release = await hold(key, "shared");
    if (!release) return null;
    try {
      const folder = await this.#root.getDirectoryHandle(key);
      const entry = await readEntry(folder);
      if (!entry) throw new Error("not kept");
      const data = await (await folder.getFileHandle("data")).getFile();
      // Something else has shortened it.
      if (data.size !== entry.bytes) throw new Error("incomplete");
      const now = { ...entry, ...(instead && { instead }), used: new Date().toISOString() };
      const confirm = (provenance?: Provenance) => writeEntry(folder, { ...now, ...provenance }).catch(() => {});
      await confirm();
      const open = (path: string, first: number, end: number, begin: number) => new Local(data.slice(first, end), path, begin);
      return Object.assign(new Folder(entry.model, placesOf(entry.files)!, open), { weights: entry.weights, provenance: entry, confirm, release });
    } catch {
      release();
      return null;
    }
  }

  /** Writes a model, as Write says, or null while another tab writes or reads it, or where a newer version has one. */
  async keeper(key: string, facts: Facts): Promise<Write | null> {
    const release = await own(key);
    if (!release) return null;
    try {
      const folder = await this.#root.getDirectoryHandle(key, { create: true });
      if (await isNewer(folder)) throw new Error("not ours");
      const damaged = await readEntry(folder);
      const earlier = damaged ? placesOf(damaged.files)! : await partsOf(folder);
      // What was kept is replaced.
      await folder.removeEntry("entry.json").catch(() => {});
      const keeper = await Keeper.open(folder, earlier, (bytes) => this.makeRoom(bytes, key));
      return new Write({ keeper, folder, facts, release, remove: () => this.#remove(key) });
    } catch {
      release();
      return null;
    }
  }

  /** Removes what interrupted writes have left longer ago than `age` milliseconds. */
  async sweep(age = DAY): Promise<void> {
    for (const [key, folder] of await this.#folders()) {
      if (await readEntry(folder)) continue;
      await exclusively(await hold(key, "exclusive"), async () => {
        // Another tab may have ended its write just now.
        if ((await readEntry(folder)) || (await isNewer(folder)) || Date.now() - (await interrupted(folder)) < age) return;
        await this.#remove(key);
      });
    }
  }

  /** Makes room of so many bytes: removes what was used longest ago and no tab uses, but not `key`; nothing in vain. */
  async makeRoom(bytes: number, key: string): Promise<void> {
    await this.sweep(0);
    const others = (await this.list()).filter((entry) => entry.key !== key).reverse();
    if (others.reduce((sum, entry) => sum + entry.bytes, 0) < bytes) return;
    for (const other of others) {
      if (bytes <= 0) return;
      const removed = await exclusively(await hold(other.key, "exclusive"), () => this.#remove(other.key));
      if (removed) bytes -= other.bytes;
    }
  }

  async #remove(key: string): Promise<void> {
    await this.#root.removeEntry(key, { recursive: true }).catch((error: DOMException) => {
      if (error.name !== "NotFoundError") throw error;
    });
  }

  /** All at once: they change while they are looked at. */
  async #folders(): Promise<[key: string, folder: FileSystemDirectoryHandle][]> {
    const folders: [string, FileSystemDirectoryHandle][] = [];
    for await (const [key, handle] of this.#root.entries()) if (handle.kind === "directory") folders.push([key, handle as FileSystemDirectoryHandle]);
    return folders;
  }
}

/** A model that is being written. One of these ends it. */
class Write {
  #place: Writing;

  constructor(place: Writing) {
    this.#place = place;
  }

  /** What the module writes to. */
  get keeper(): Keeper {
    return this.#place.keeper;
  }

  /** All is there: from here on the model is kept. */
  async commit(manifest: string, provenance: Provenance): Promise<void> {
    const { keeper, folder, facts, release } = this.#place;
    const written = await keeper.finish(manifest);
    const { weights } = (JSON.parse(manifest) as { recipe: { weights: string } }).recipe;
    const now = new Date().toISOString();
    await writeEntry(folder, { format: FORMAT, ...facts, ...provenance, weights, created: now, used: now, ...written });
    release();
  }

  /** The load was interrupted: what is there of a pack stays for the next one, for a day. */
  async suspend(): Promise<void> {
    if (!this.#place.keeper.close()) return this.abandon();
    this.#place.release();
  }

  /** Nothing is kept. */
  async abandon(): Promise<void> {
    const { keeper, remove, release } = this.#place;
    keeper.close();
    await remove().catch(() => {});
    release();
  }
}

const factsOf = (key: string, { model, weights, bytes, verified, commit, created, used }: Entry): KeptModel =>
  ({ key, model, weights, bytes, verified: verified === true, commit: commit ?? null, created, used });

/** What a folder says of itself; null if it is not whole, or of a version that this one does not know. */
async function readEntry(folder: FileSystemDirectoryHandle): Promise<Entry | null> {
  const entry = await json(folder, "entry.json");
  const { format, model, used, bytes, files } = entry ?? {};
  const whole = typeof model === "string" && typeof used === "string" && Number.isSafeInteger(bytes) && placesOf(files);
  return format === FORMAT && whole ? (entry as unknown as Entry) : null;
}

async function writeEntry(folder: FileSystemDirectoryHandle, entry: Entry): Promise<void> {
  const file = await folder.getFileHandle("entry.json", { create: true });
  // Takes the place of the old one when it is closed, as a whole.
  const stream = await file.createWritable();
  await stream.write(JSON.stringify(entry));
  await stream.close();
}

/** Takes the lock of a model until the function that it resolves to is called; null if that means to wait. */
function hold(key: string, mode: LockMode): Promise<Release | null> {
  return new Promise((taken) => {
    const free = (held: Lock | null): Promise<void> | void => {
      if (!held) return void taken(null);
      return new Promise<void>((release) => taken(release));
    };
    navigator.locks.request(lock(key), { mode, ifAvailable: true }, free).catch(() => taken(null));
  });
}

/** As `hold`, where this page itself may have let go of the lock just now. */
async function own(key: string): Promise<Release | null> {
  const release = await hold(key, "exclusive");
  if (release) return release;
  await new Promise((done) => setTimeout(done, 100));
  return hold(key, "exclusive");
}

/** Does the work and lets go of the lock; whether there was one, and the work was done. */
async function exclusively(release: Release | null, work: () => Promise<unknown>): Promise<boolean> {
  if (!release) return false;
  return work().then(() => true, () => false).finally(release);
}
