// What browsers have in workers and TypeScript's library of pages lacks: files that are read and written at once.

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
