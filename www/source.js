// Where a model's files come from in a browser: a URL, read as a stream. The module calls open and read.

/** A failure with a code that reaches the caller as it is. */
const network = (message) => Object.assign(new Error(message), { code: "network" });

/** Pieces of a file that is kept are given to the browser in blobs of this size, which it may put on the disk. */
const BLOB_BYTES = 16 << 20;

export class Source {
  #base;
  /** Folders that take the place of the model's own, by the name of the component. */
  #components;
  /** Weights that were read to their end, by URL, for a source that keeps them: they may be wanted again. */
  #kept;

  constructor(base, { keep = false, components = {} } = {}) {
    this.#base = base;
    this.#components = new Map(Object.entries(components));
    this.#kept = keep ? new Map() : null;
  }

  /** The folder, in a sentence for people. */
  describe() {
    return this.#base;
  }

  /** The file at `path`, or null if there is none. */
  async open(path) {
    const url = this.#locate(path);
    const kept = this.#kept?.get(url.href);
    if (kept) return new File(url, kept.stream(), kept.size);
    const response = await fetch(url).catch((error) => {
      throw network(`could not fetch ${url}: ${error.message}`);
    });
    if (response.status === 404 || response.status === 410) return null;
    if (!response.ok) throw network(`could not fetch ${url}: the server answered ${response.status}`);
    // The length of a compressed answer is not that of the file.
    const plain = !response.headers.get("content-encoding");
    const length = plain ? response.headers.get("content-length") : null;
    const keep = this.#kept && url.pathname.endsWith(".safetensors") && ((blob) => this.#kept.set(url.href, blob));
    return new File(url, response.body, length === null ? undefined : Number(length), keep);
  }

  #locate(path) {
    const [component, ...rest] = path.split("/");
    const own = this.#components.get(component);
    return own ? new URL(rest.join("/"), own) : new URL(path, this.#base);
  }
}

class File {
  #url;
  #reader;
  /** What came with the last chunk beyond what was asked for. */
  #rest = new Uint8Array();
  /** Takes the file as a blob, once all of it has come. */
  #keep;
  #pieces = [];
  #held = 0;
  #received = 0;

  constructor(url, stream, length, keep) {
    this.#url = url;
    this.#reader = stream.getReader();
    this.length = length;
    this.#keep = keep;
  }

  /** The next bytes, at most `most` of them; none at the end of the file. */
  async read(most) {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#reader.read().catch((error) => {
        throw network(`the download of ${this.#url} broke off: ${error.message}`);
      });
      if (done) return this.#rest;
      this.#rest = value;
      if (this.#keep) this.#record(value);
    }
    const bytes = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(most);
    return bytes;
  }

  /** Ends the download, when not all of the file was wanted. */
  close() {
    this.#reader.cancel().catch(() => {});
  }

  #record(value) {
    this.#pieces.push(value);
    this.#held += value.length;
    this.#received += value.length;
    const whole = this.#received === this.length;
    if (this.#held < BLOB_BYTES && !whole) return;
    this.#pieces = [new Blob(this.#pieces)];
    this.#held = 0;
    if (whole) this.#keep(this.#pieces[0]);
  }
}
