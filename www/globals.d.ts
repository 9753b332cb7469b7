// What browsers have and TypeScript's library of pages lacks: files that are read and written at once, in workers, and
// policies for scripts.

interface FileSystemSyncAccessHandle {
  /** Bytes that were read; fewer than asked for at the end of the file. */
  read(buffer: Uint8Array, options?: { at?: number }): number;
  /** Bytes that were written. */
  write(buffer: Uint8Array, options?: { at?: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

interface FileSystemFileHandle {
  createSyncAccessHandle(): Promise<FileSystemSyncAccessHandle>;
}

interface ScriptPolicy {
  createScriptURL(url: string): unknown;
}

/** Trusted Types, where there are any. */
declare var trustedTypes: { createPolicy(name: string, rules: { createScriptURL(url: string): string }): ScriptPolicy } | undefined;
