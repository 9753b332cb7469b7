// Streams are read into one buffer where the browser can do that: gigabytes of garbage are not collected in time.

const CHUNK_BYTES = 128 << 10;

/** The chunks of a stream, in the order in which they come. */
export class Chunks {
  #reader: ReadableStreamBYOBReader | ReadableStreamDefaultReader<Uint8Array>;
  /** Null for a stream that cannot be read into one. */
  #buffer: ArrayBuffer | null = null;
  #ended = false;

  constructor(stream: ReadableStream<Uint8Array>) {
    try {
      this.#reader = stream.getReader({ mode: "byob" });
      this.#buffer = new ArrayBuffer(CHUNK_BYTES);
    } catch {
      // Not a stream of bytes, such as one that the caller's fetch has made.
      this.#reader = stream.getReader();
    }
  }

  /** The next one, which is good until the one after it is asked for; null at the end. */
  async next(): Promise<Uint8Array | null> {
    if (this.#ended) return null;
    const { done, value } = await (this.#buffer ? this.#reader.read(new Uint8Array(this.#buffer)) : (this.#reader as ReadableStreamDefaultReader<Uint8Array>).read());
    this.#ended = done;
    if (done) return null;
    if (this.#buffer) this.#buffer = value.buffer as ArrayBuffer;
    return value;
  }

  cancel(): void {
    this.#reader.cancel().catch(() => {});
  }
}
