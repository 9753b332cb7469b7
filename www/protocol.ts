// What goes between a page (remote.ts) and the service that does the work (service.ts): calls, answers, news on the way.

import type { ErrorCode, Warning } from "./errors.js";
import type { Settings } from "./options.js";
import type { Availability, CreateOptions, Estimate, Generated } from "./types.js";

export interface Pixels {
  width: number;
  height: number;
  data: Uint8ClampedArray<ArrayBuffer>;
}

/** What is on the way: a stage, the share of the whole call, and two numbers that the stage has; or a preview. */
export type News = { stage: string; fraction: number; a: number; b: number } | { preview: Pixels; step: number; steps: number };

/** What a load has come to. */
export interface Created {
  device: "gpu" | "cpu";
  adapter: string;
  /** Nothing on a CPU. */
  tuning: string | null;
  weights: "f32" | "f16" | "q8" | "q4";
  warnings: Warning[];
}

/** What was drawn. */
export interface Drawn {
  width: number;
  height: number;
  rgba: Pixels["data"];
  seed: number;
  steps: number;
  warnings: Warning[];
  unsafe: boolean;
  timings: Generated["timings"];
}

/** A load as it is sent: what the page has made of its options, and where to fetch. */
export type Load = Settings & { fetch?: MessagePort | undefined };

/** An image as it is asked for, with the pixels of those that it is made from. */
export type Draw = Record<string, unknown> & { preview: boolean };

/** What a service can be asked: the body of each call, and its answer. */
export interface Calls {
  create: { body: Load; answer: Created };
  generate: { body: Draw; answer: Drawn };
  estimate: { body: Pick<Load, "headers"> & Partial<Load>; answer: Estimate };
  availability: { body: Settings & Pick<CreateOptions, "device" | "activations">; answer: Availability };
}

export type Op = keyof Calls;

/** From the page: a call, the end of one, or the end of all. */
export type Asked =
  | { [Name in Op]: { id: number; op: Name; body: Calls[Name]["body"] } }[Op]
  | { op: "cancel"; id: number }
  | { op: "end" };

export interface Fault {
  code: ErrorCode;
  message: string;
}

/** To the page: of one call its answer, its error or its news; of all, that the module broke, or where a thread says that. */
export type Told = { id: number; result: unknown } | { id: number; error: Fault } | { id: number; news: News } | { fatal: string } | { port: MessagePort };
