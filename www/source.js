// Where a model's files come from in a browser: a URL, read as a stream. The module calls open and read.

/** A failure with a code that reaches the caller as it is. */
const network = (message) => Object.assign(new Error(message), { code: "network" });

export class Source {
  #base;

  constructor(base) {
    this.#base = base;
  }

  /** The folder, in a sentence for people. */
  describe() {
    return this.#base;
  }

  /** The file at `path`, or null if there is none. */
  async open(path) {
    const url = new URL(path, this.#base);
    const response = await fetch(url).catch((error) => {
      throw network(`could not fetch ${url}: ${error.message}`);
    });
    if (response.status === 404 || response.status === 410) return null;
    if (!response.ok) throw network(`could not fetch ${url}: the server answered ${response.status}`);
    return new File(url, response);
  }
}

class File {
  #url;
  #reader;
  /** What came with the last chunk beyond what was asked for. */
  #rest = new Uint8Array();

  constructor(url, response) {
    this.#url = url;
    this.#reader = response.body.getReader();
    // The length of a compressed answer is not that of the file.
    const plain = !response.headers.get("content-encoding");
    const length = plain ? response.headers.get("content-length") : null;
    this.length = length === null ? undefined : Number(length);
  }

  /** The next bytes, at most `most` of them; none at the end of the file. */
  async read(most) {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#reader.read().catch((error) => {
        throw network(`the download of ${this.#url} broke off: ${error.message}`);
      });
      if (done) return this.#rest;
      this.#rest = value;
    }
    const bytes = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(most);
    return bytes;
  }

  /** Ends the download, when not all of the file was wanted. */
  close() {
    this.#reader.cancel().catch(() => {});
  }
}
