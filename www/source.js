// Where a model's files come from in a browser: a URL, read as a stream. The module calls open and read.

import { request } from "./request.js";

/** Pieces of a file that is kept are given to the browser in blobs of this size, which it may put on the disk. */
const BLOB_BYTES = 16 << 20;

export class Source {
  #base;
  /** Folders that take the place of the model's own, by the name of the component. */
  #components;
  #headers;
  /** Weights that were read to their end, by URL, for a source that keeps them: they may be wanted again. */
  #kept;

  constructor(base, { keep = false, components = {}, headers = {} } = {}) {
    this.#base = base;
    this.#components = new Map(Object.entries(components));
    this.#headers = headers;
    this.#kept = keep ? new Map() : null;
  }

  /** The folder, in a sentence for people. */
  describe() {
    return this.#base;
  }

  /** The file at `path` from byte `begin` on, or null if there is none. `fresh`: not from the browser's cache. */
  async open(path, begin = 0, fresh = false) {
    const url = this.#locate(path);
    const kept = this.#kept?.get(url.href);
    if (kept) return new File({ body: kept.slice(begin).stream(), at: begin, length: kept.size }, begin);
    // What lies elsewhere is not the model's own.
    const headers = url.href.startsWith(this.#base) ? this.#headers : {};
    const ask = (from) => request(url, { begin: from, fresh, headers });
    const answer = await ask(begin);
    if (!answer) return null;
    const keep = this.#kept && begin === 0 && url.pathname.endsWith(".safetensors");
    return new File(answer, begin, ask, keep && ((blob) => this.#kept.set(url.href, blob)));
  }

  #locate(path) {
    const [component, ...rest] = path.split("/");
    const own = this.#components.get(component);
    return own ? new URL(rest.join("/"), own) : new URL(path, this.#base);
  }
}

class File {
  #answer;
  #reader;
  /** Asks for the rest of the file, after its stream broke off. */
  #ask;
  /** What came with the last chunk beyond what was asked for. */
  #rest = new Uint8Array();
  /** Where in the file the next chunk of the stream begins, and the next byte that was not received yet. */
  #arrives;
  #received;
  /** Takes the file as a blob, once all of it has come. */
  #keep;
  #pieces = [];
  #held = 0;

  constructor(answer, begin, ask, keep) {
    this.length = answer.length;
    this.#received = begin;
    this.#ask = ask;
    this.#keep = keep;
    this.#take(answer);
  }

  /** The next bytes, at most `most` of them; none at the end of the file. */
  async read(most) {
    while (this.#rest.length === 0) {
      const { done, value, error } = await this.#reader.read().catch((error) => ({ error }));
      const early = done && this.length !== undefined && this.#arrives < this.length;
      if (error || early) await this.#resume(error?.message ?? "it ended early");
      else if (done) return this.#rest;
      else this.#receive(value);
    }
    const bytes = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(most);
    return bytes;
  }

  /** Ends the download, when not all of the file was wanted. */
  close() {
    this.#reader.cancel().catch(() => {});
  }

  #take(answer) {
    this.#answer = answer;
    this.#arrives = answer.at;
    this.#reader = answer.body.getReader();
  }

  #receive(value) {
    // A server that knows no ranges begins at the beginning again.
    this.#rest = value.subarray(Math.min(this.#received - this.#arrives, value.length));
    this.#arrives += value.length;
    this.#received += this.#rest.length;
    if (this.#keep) this.#record(this.#rest);
  }

  async #resume(why) {
    const { url, etag, resumed } = this.#answer;
    const broke = (how) =>
      Object.assign(new Error(`the download of ${url} broke off at byte ${this.#received}: ${how}`), { code: "network" });
    // Nothing came since the last time: it would break off here for good.
    if (resumed === this.#received) throw broke(why);
    const answer = await this.#ask(this.#received).catch((error) => {
      throw error.code === "network" ? broke(`${why}; then ${error.message}`) : error;
    });
    if (!answer) throw broke(`${why}; then the file was gone`);
    if (answer.length !== this.length || answer.etag !== etag) throw broke(`${why}; then it was another file`);
    this.#take({ ...answer, resumed: this.#received });
  }

  #record(value) {
    this.#pieces.push(value);
    this.#held += value.length;
    const whole = this.#received === this.length;
    if (this.#held < BLOB_BYTES && !whole) return;
    this.#pieces = [new Blob(this.#pieces)];
    this.#held = 0;
    if (whole) this.#keep(this.#pieces[0]);
  }
}
