// What goes wrong, as programs and people see it.

/** Stable words for what went wrong. */
export type ErrorCode =
  /** An option is out of its range, contradicts another one, or is none that there is. */
  | "invalid-option"
  /** What was given as an image cannot be decoded or drawn. */
  | "invalid-image"
  /** A file of the model is damaged or contradicts its configuration. */
  | "invalid-model"
  /** The model asks for something that is not built yet. */
  | "unsupported"
  /** A file that is needed does not exist. */
  | "not-found"
  /** What was read is not what its hash says: a file is damaged, and was so a second time. */
  | "integrity"
  /** A network computed values that are infinite or not a number, and no image can come of them. */
  | "not-finite"
  /** `offline` is set, and the model is not kept on this device. */
  | "offline"
  /** The server wants credentials, or a licence to be accepted first. */
  | "access"
  /** The network failed. */
  | "network"
  /** This is no browser: there is nothing that could draw. */
  | "no-browser"
  /** This browser or this page has no WebGPU, and it was asked for. */
  | "no-webgpu"
  /** There is WebGPU but no adapter, and it was asked for. */
  | "no-adapter"
  /** The request does not fit the limits of this device. */
  | "limit-too-low"
  | "out-of-memory"
  /** The GPU is gone: this call has failed, the next one loads the model anew. */
  | "device-lost"
  /** Another call goes on, and `busy` is "reject"; or "replace", and a later call has taken its place. */
  | "busy"
  /** The generator was disposed of, or the page has ended its worker. */
  | "disposed"
  /** A mistake of Tintype's own. The next call loads the model anew. */
  | "internal";

/** What a warning is about. */
export type WarningCode =
  /** A value of a file, or one that a network computed, is infinite or not a number. */
  | "not-finite"
  /** A network was computed in another precision than was asked for, or in one that costs quality. */
  | "precision"
  /** Something was given up because the device has too little memory. */
  | "memory"
  /** Part of a prompt was left out, or was read in another way than its syntax suggests. */
  | "prompt"
  /** Part of a file, or a whole file, was not used. */
  | "unused"
  /** Two sources of the model's configuration disagree, or one was replaced by a usual value. */
  | "configuration"
  /** A file could not be compared with a published hash. */
  | "unverified"
  /** The model is not kept on this device, or was fetched again. */
  | "cache";

/** What a caller should know beside a result: `code` for programs, `message` a sentence for people. */
export interface Warning {
  readonly code: WarningCode;
  readonly message: string;
}

/** What went wrong: `code` for programs, `message` a sentence for people. */
export class TintypeError extends Error {
  override readonly name = "TintypeError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(shown(message), options);
    this.code = code;
  }
}

const LONGEST = 500;

/**
 * A message as people see it, whatever names of files are in it: no line ends, no characters that a terminal obeys, and
 * of a long one the middle is left out.
 */
export function shown(message: string): string {
  const escaped = (c: string) => `\\u{${c.codePointAt(0)!.toString(16)}}`;
  const plain = message.replace(/[\n\r\t]/g, " ").replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, escaped);
  const letters = [...plain];
  if (letters.length <= LONGEST) return plain;
  const gap = " ... ", end = Math.floor(LONGEST / 3);
  return letters.slice(0, LONGEST - end - gap.length).join("") + gap + letters.slice(-end).join("");
}

/** A mistake of the caller's in an option. */
export const invalid = (message: string) => new TintypeError("invalid-option", message);

/** What kind of thing a value is, for people. */
export const describe = (value: unknown) =>
  typeof value === "object" && value !== null ? (value.constructor?.name ?? "an object") : String(value);
