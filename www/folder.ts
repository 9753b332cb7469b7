// What the module sees of a model: a folder, the files that it opens there, and where it writes what is to be kept. It
// calls them by these names (src/web/source.rs).

/** Where a model's files come from. */
export interface ModelFolder {
  /** The folder, in a sentence for people. */
  describe(): string;
  /**
   * The hash that the file must have, in hex, or null. Known once the file is open. Empty where it is not known, but is to
   * be told.
   */
  sha256(path: string): string | null;
  /** Is told the hash of a file that was read whole. Only asked of a folder whose `sha256` has said something. */
  hashed?(path: string, sha256: string): void;
  /** The file at `path` from byte `begin` on, or null if there is none. `fresh`: not from the browser's cache. */
  open(path: string, begin?: number, fresh?: boolean): Promise<ModelFile | null>;
}

/** A file, read forward. */
export interface ModelFile {
  /** Bytes of the whole file, where that is known. */
  readonly length: number | undefined;
  /** The next bytes, at most `most` of them, which are good until more are asked for; none at the end of the file. */
  read(most: number): Promise<Uint8Array>;
  /** Leaves out the next bytes. */
  skip(bytes: number): Promise<void>;
  close(): void;
}

/** Where a pack is written while it is loaded. Nothing of it is waited for. */
export interface ModelKeeper {
  begin(path: string, bytes: number): void;
  /** Memory for the bytes of the next `write`. */
  slab(length: number): Uint8Array;
  write(path: string, at: number, bytes: Uint8Array): void;
  /** What was written so far. */
  readonly folder: ModelFolder;
}
