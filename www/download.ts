// A file behind a URL, read forward. Large files come as ranges, several at a time and handed on in order; what
// breaks off goes on at the byte where it broke.

import { Chunks } from "./chunks.js";
import type { ModelFile } from "./folder.js";
import { failure, type Answer, type Failure, type Net } from "./net.js";
import { Patience, Tries, passes, waitOf, type Fault } from "./patience.js";

/** Of a large file this much is asked for at once, and waits in memory at most. */
const RANGE_BYTES = 8 << 20;
/** Ranges that are on their way together. */
const RANGES = 3;
/** A small file waits in this much. */
const SMALL_BYTES = 64 << 10;

/** What the answers have said of a file: they must agree. */
interface Facts {
  length: number | undefined;
  etag: string | null;
  modified: string | null;
  ranged: boolean;
}

interface Range {
  begin: number;
  end: number;
  /** Whether the server is asked for these bytes alone. */
  ranged: boolean;
  fresh: boolean;
  grow(): void;
}

/** What has come, and the byte of the file where it begins. */
interface Chunk {
  at: number;
  bytes: Uint8Array;
}

/** Memory of finished ranges, for the next ones: as garbage it would not be collected in time. */
const spare: Uint8Array[] = [];

/** Lets go of memory that only further downloads would use. */
export function rest(): void {
  spare.length = 0;
}

export class Download implements ModelFile {
  #net!: Net;
  #url!: URL;
  #fresh!: boolean;
  /** The ranges on their way, in order; the first holds the next byte, unless a skip went beyond it. */
  #pieces: Piece[] = [];
  #at!: number;
  /** The byte after the last one that was asked for. */
  #asked!: number;
  /** What came with the last chunk beyond what was asked for. */
  #rest: Uint8Array = new Uint8Array();

  /** The file at `url` from byte `begin` on, or null if there is none. */
  static async open(net: Net, url: URL, begin = 0, fresh = false): Promise<Download | null> {
    const file = new Download();
    [file.#net, file.#url, file.#fresh, file.#at] = [net, url, fresh, begin];
    const ranged = begin > 0 || url.pathname.endsWith(".safetensors");
    const first = file.#ask(begin, ranged ? begin + RANGE_BYTES : Infinity, ranged);
    return (await first.opened) ? file : null;
  }

  /** Bytes of the whole file, where that is known. */
  get length(): number | undefined {
    return this.facts.length;
  }

  readonly facts: Facts = { length: undefined, etag: null, modified: null, ranged: false };

  /** The next bytes, at most `most` of them, which are good until more are asked for; none at the end of the file. */
  async read(most: number): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      const piece = this.#ahead();
      if (!piece) return this.#rest;
      const chunk = await piece.next();
      if (!chunk) {
        // Of a file without a length, this is the end.
        if (piece.end === Infinity) return this.#rest;
        this.#pieces.shift()!.close();
        continue;
      }
      // A skip may have gone beyond it.
      this.#rest = chunk.bytes.subarray(Math.min(chunk.bytes.length, this.#at - chunk.at));
    }
    const bytes = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(most);
    this.#at += bytes.length;
    return bytes;
  }

  /** Leaves out the next bytes. Ranges that hold nothing else are not asked for, or given up. */
  async skip(bytes: number): Promise<void> {
    const near = Math.min(bytes, this.#rest.length);
    this.#rest = this.#rest.subarray(near);
    this.#at += bytes;
    while (this.#pieces.length > 0 && this.#pieces[0]!.end <= this.#at) this.#pieces.shift()!.close();
  }

  /** Ends the download, when not all of the file was wanted. */
  close(): void {
    for (const piece of this.#pieces) piece.close();
    this.#pieces = [];
    this.#asked = Infinity;
  }

  /** The range of the next byte, when those after it were asked for; nothing at the end. */
  #ahead(): Piece | undefined {
    const { length = -1 } = this;
    this.#asked = Math.max(this.#asked, this.#at);
    while (this.#pieces.length < RANGES && this.#asked < length) {
      this.#ask(this.#asked, Math.min(this.#asked + RANGE_BYTES, length), true);
    }
    return this.#pieces[0];
  }

  #ask(begin: number, end: number, ranged: boolean): Piece {
    const grow = () => (this.#asked = Infinity);
    const piece = new Piece(this.#net, this.#url, this.facts, { begin, end, ranged, fresh: this.#fresh, grow });
    this.#pieces.push(piece);
    this.#asked = end;
    return piece;
  }
}

/** All of a file of the package, which has `total` bytes. `tell` gets how many of them have come. */
export async function whole(net: Net, url: URL, total: number, tell: (loaded: number) => void = () => {}): Promise<Uint8Array<ArrayBuffer>> {
  const file = await Download.open(net, url);
  if (!file) throw failure("not-found", `could not fetch ${url}: there is no such file`);
  const bytes = new Uint8Array(total);
  let loaded = 0;
  for (let chunk; (chunk = await file.read(total + 1)).length > 0; tell(loaded)) {
    if (loaded + chunk.length > total) {
      file.close();
      throw failure("integrity", `${url} is longer than the ${total} bytes that it should have`);
    }
    bytes.set(chunk, loaded);
    loaded += chunk.length;
  }
  if (loaded < total) throw failure("network", `the download of ${url} broke off at byte ${loaded} of ${total}`);
  return bytes;
}

/** Bytes from `begin` to `end` of a file, fetched at once and kept until they are read. */
class Piece {
  /** The byte after the last one; of a file whose length is not known, infinity. */
  end: number;
  #net: Net;
  #url: URL;
  #facts: Facts;
  #ranged: boolean;
  #cache: RequestCache;
  /** Called when this turns out to be all of the file: the server knows no ranges. */
  #grow: () => void;
  #begin: number;
  /** The next byte that is to come. */
  #at: number;
  /** Holds what has come, from byte `#base` of the file on. */
  #room: Uint8Array | null = null;
  #base: number;
  /** The next byte to hand on; what came before byte `#used` is not needed any more. */
  #next: number;
  #used: number;
  #done = false;
  #error: unknown = null;
  #abort = new AbortController();
  #arrived: () => void = () => {};
  #drained: () => void = () => {};
  /** Resolves, once the first answer is there, to whether there is such a file. */
  opened: Promise<boolean>;
  #open!: { resolve(there: boolean): void; reject(error: unknown): void };

  constructor(net: Net, url: URL, facts: Facts, { begin, end, ranged, fresh, grow }: Range) {
    [this.#net, this.#url, this.#facts, this.#ranged, this.#grow] = [net, url, facts, ranged, grow];
    // Weights are too large to be kept by the browser as well.
    this.#cache = ranged ? "no-store" : fresh ? "reload" : "default";
    this.#begin = this.#base = this.#at = this.#next = this.#used = begin;
    this.end = end;
    this.opened = new Promise((resolve, reject) => (this.#open = { resolve, reject }));
    this.opened.catch(() => {});
    const ended = () => this.#end();
    if (net.signal?.aborted) ended();
    else {
      net.signal?.addEventListener("abort", ended, { signal: this.#abort.signal });
      this.#fill();
    }
  }

  /** The next bytes and where they begin, or null after the last. They are good until the next ones are asked for. */
  async next(): Promise<Chunk | null> {
    this.#used = this.#next;
    this.#drained();
    while (this.#next === this.#at) {
      if (this.#error) throw this.#error;
      if (this.#done) return null;
      await new Promise<void>((resolve) => (this.#arrived = resolve));
    }
    const at = this.#next;
    this.#next = this.#at;
    return { at, bytes: this.#room!.subarray(at - this.#base, this.#at - this.#base) };
  }

  /** Ends it, and what it has handed on. */
  close(): void {
    this.#abort.abort();
    if (this.#room?.length === RANGE_BYTES) spare.push(this.#room);
    this.#room = null;
    this.#drained();
  }

  /** The whole load has ended: whoever waits for bytes is told. */
  #end(): void {
    this.#error = failure("disposed", "the load was ended");
    this.#abort.abort();
    this.#open.reject(this.#error);
    this.#arrived();
    this.#drained();
  }

  async #fill(): Promise<void> {
    const tries = new Tries();
    for (;;) {
      const before = this.#at;
      try {
        await this.#stream();
        break;
      } catch (error) {
        if (this.#abort.signal.aborted) break;
        if (await tries.again(error as Fault, this.#at > before, this.#abort.signal)) continue;
        if (this.#abort.signal.aborted) break;
        const { code, message, absent } = error as Fault & Partial<Failure>;
        if (absent && before === this.#begin) this.#open.resolve(false);
        this.#error = typeof code === "string" ? error : failure("network", `the download of ${this.#url} broke off at byte ${this.#at}: ${message}`);
        break;
      }
    }
    this.#done = true;
    if (this.#error) this.#open.reject(this.#error);
    this.#arrived();
  }

  /** One answer, up to where it ends. */
  async #stream(): Promise<void> {
    const from = this.#at;
    const ranged = this.#ranged || from > 0;
    const last = this.end === Infinity ? "" : this.end - 1;
    const range = ranged ? `bytes=${from}-${last}` : undefined;
    const patience = new Patience(this.#abort.signal);
    let chunks: Chunks | null = null;
    try {
      const answer = await patience.of(this.#net.get(this.#url, { range, cache: this.#cache, signal: patience.signal }));
      chunks = answer.body && new Chunks(answer.body);
      // Of the bytes that come, those before the wanted ones, and where the wanted ones end.
      let ahead = this.#judge(answer, from);
      if (ahead === null) return;
      this.#open.resolve(true);
      while (this.#at < this.end) {
        const chunk = chunks && (await patience.of(chunks.next()));
        if (!chunk) break;
        const bytes = chunk.subarray(Math.min(ahead, chunk.length));
        ahead -= chunk.length - bytes.length;
        await this.#take(bytes.subarray(0, this.end - this.#at));
      }
    } finally {
      chunks?.cancel();
      patience.end();
    }
    // Of a file that comes as a whole, the end is where its stream ends.
    const end = this.end === Infinity ? (this.#facts.length ?? this.#at) : this.end;
    if (this.#at < end) throw new Error(`the server ended it, ${end - this.#at} bytes too early`);
    if (this.end === Infinity) this.#facts.length = this.#at;
  }

  async #take(bytes: Uint8Array): Promise<void> {
    while (bytes.length > 0 && !this.#abort.signal.aborted) {
      this.#room ??= this.#ranged ? (spare.pop() ?? new Uint8Array(RANGE_BYTES)) : new Uint8Array(SMALL_BYTES);
      const part = bytes.subarray(0, this.#base + this.#room.length - this.#at);
      if (part.length > 0) {
        this.#room.set(part, this.#at - this.#base);
        this.#at += part.length;
        bytes = bytes.subarray(part.length);
        this.#arrived();
      } else if (this.#used === this.#at) this.#base = this.#at;
      else await new Promise<void>((resolve) => (this.#drained = resolve));
    }
  }

  /** How many bytes come before byte `from`, or null if the file ends there; everything else is thrown. */
  #judge(answer: Answer, from: number): number | null {
    const { status, headers } = answer;
    // Addresses that the server redirects to may expire: then it gives another one.
    const final = !answer.redirected || new URL(answer.url).origin === this.#url.origin;
    if (status === 401 || status === 403) throw this.#refused(`the server answered ${status}`, final);
    if (status === 404 || status === 410) throw Object.assign(this.#failed(`the server answered ${status}`), { absent: true, final });
    const [, begin, end, total] = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+)$/.exec(headers.get("content-range") ?? "") ?? [];
    if (status === 416 && total !== undefined && from >= Number(total)) {
      this.#settle(Number(total), headers);
      this.end = this.#at;
      this.#open.resolve(true);
      return null;
    }
    if (status !== 200 && status !== 206) {
      throw Object.assign(this.#failed(`the server answered ${status}`), { final: !passes(status), wait: waitOf(headers) });
    }
    if (/^text\/html/i.test(headers.get("content-type") ?? "") && !this.#url.pathname.endsWith(".html")) {
      throw this.#refused("the answer is a web page, such as a login page", final);
    }
    if (status === 200) return this.#whole(answer, from);
    // A server may forbid scripts to see this header: then the range is taken on trust, but its file has no length.
    if (begin === undefined && this.#facts.length === undefined) return this.#untold(headers, from);
    this.#facts.ranged = true;
    const wrong = begin !== undefined && (Number(begin) !== from || Number(end) >= Number(total) || Number(end) < from);
    if (wrong) throw Object.assign(this.#failed(`wanted bytes from ${from} on, found "${headers.get("content-range")}"`), { final: true });
    this.#settle(total === undefined ? undefined : Number(total), headers);
    this.end = Math.min(this.end, this.#facts.length!);
    return 0;
  }

  /** All of the file comes: what precedes is dropped, and if this is the first range there will be no others. */
  #whole({ type, headers }: Answer, from: number): number {
    // The length of a compressed answer is not that of the file, and only of the page's own origin is it seen to be one.
    const told = type === "basic" && !headers.get("content-encoding") ? headers.get("content-length") : null;
    this.#settle(told === null ? undefined : Number(told), headers);
    if (!this.#facts.ranged) {
      this.end = Infinity;
      this.#grow();
    }
    return from;
  }

  /** A range of a file whose length nobody tells: if there may be more, the rest is asked for as a whole. */
  #untold(headers: Headers, from: number): number {
    this.#grow();
    this.#settle(undefined, headers);
    const length = headers.get("content-length");
    if (length !== null && from + Number(length) < this.end) this.#settle((this.end = from + Number(length)), headers);
    else if (this.end !== Infinity) {
      [this.#ranged, this.end] = [from > 0, Infinity];
      throw Object.assign(this.#failed("the server does not say how long it is"), { wait: 0 });
    }
    return 0;
  }

  /** What an answer says of the file, as far as it can be seen: two versions of it are never mixed. */
  #settle(length: number | undefined, headers: Headers): void {
    const facts = this.#facts;
    // Servers that compress what they send call its version weak.
    const etag = headers.get("etag")?.replace(/^W\//, "") ?? null;
    const modified = headers.get("last-modified");
    const differ = <Fact>(known: Fact, told: Fact) => (known ?? told) !== (told ?? known);
    const changed = differ(facts.length, length) || differ(facts.etag, etag) || differ(facts.modified, modified);
    if (changed) throw Object.assign(this.#failed("it is another file now than it was at the beginning"), { final: true });
    facts.length ??= length;
    facts.etag ??= etag;
    facts.modified ??= modified;
  }

  #failed(what: string): Failure {
    return failure("network", `could not fetch ${this.#url} from byte ${this.#at} on: ${what}`);
  }

  #refused(what: string, final: boolean): Failure & Fault {
    const words = "if it is gated, accept its licence where it is published and pass the option headers with your token for this origin; otherwise there may be no such file";
    return Object.assign(failure("access", `could not fetch ${this.#url}: ${what}; ${words}`), { final });
  }
}
