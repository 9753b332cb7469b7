// Loading a model with what is kept of it: from there if it is whole, else from its source, and kept on the way.

import type { Warning } from "./errors.js";
import type { ModelFolder, ModelKeeper } from "./folder.js";
import type { Failure } from "./net.js";
import type { Generator } from "./runtime.js";
import { keyOf, openStore, type Store } from "./store.js";

/** What a kept model may be damaged by; it is fetched again then. */
const DAMAGED: readonly string[] = ["integrity", "invalid-model", "not-found", "unsupported", "network"];

/** What takes the place of "auto" weights for which a device has too little memory, one after the other. */
export const FALLBACKS: readonly string[] = ["q8", "q4"];

/** What tells a load from others. */
export interface Facts extends Record<string, unknown> {
  /** The model's address. */
  model: string;
  weights: string;
}

/** A failure to load what is kept says how its weights are stored. */
export interface Stored extends Failure {
  stored?: string;
}

/** What a load has come to. */
export interface Loaded {
  generator: Generator;
  warnings: Warning[];
}

interface Load {
  facts: Facts;
  /** The model's own folder. */
  source: ModelFolder;
  /** Only from what is kept. */
  offline: boolean;
  /** Whether this is tried instead of "auto", which was too large: another load as "auto" finds it then. */
  instead: boolean;
  /** Makes a generator of a folder, which is `kept`, or is written by a keeper meanwhile. */
  load(folder: ModelFolder, keeper: ModelKeeper | undefined, kept: boolean): Promise<Generator>;
}

export async function loadKept({ facts, source, offline, instead, load }: Load): Promise<Loaded> {
  const warnings: Warning[] = [];
  const store = await openStore();
  await store?.sweep().catch(() => {});
  const kept = await store?.find(await keyOfKept(store, facts), instead);
  if (kept) {
    try {
      return { generator: await load(kept, undefined, true), warnings };
    } catch (error) {
      const { code, message } = error as Failure;
      if (offline || !DAMAGED.includes(code)) throw Object.assign(error as Stored, { stored: kept.weights });
      warnings.push({ code: "cache", message: `what was kept of ${facts.model} is damaged, it was fetched again: ${message}` });
    } finally {
      kept.release();
    }
  }
  if (offline) throw { code: "offline", message: `${facts.model} is not kept on this device with these options, and offline is set` };
  const key = await keyOf(facts);
  const write = await store?.keeper(key, { model: facts.model, instead });
  if (!write) {
    if (await store?.isNewer(key)) warnings.push({ code: "cache", message: `the model is not kept on this device: a newer version of Tintype keeps ${facts.model} there` });
    return { generator: await load(source, undefined, false), warnings };
  }
  const generator = await load(write.keeper.over(source), write.keeper, false).catch(async (error: Failure) => {
    await (error.code === "network" ? write.suspend() : write.abandon());
    throw error;
  });
  try {
    const manifest = generator.manifest();
    if (!manifest) throw new Error(generator.notKept());
    await write.commit(manifest);
  } catch (error) {
    await write.abandon();
    warnings.push({ code: "cache", message: `the model is not kept on this device: ${(error as Error).message}` });
  }
  return { generator, warnings };
}

/** Whether a load with these facts would find its model kept; it may just be written. */
export async function whetherKept(facts: Facts): Promise<"yes" | "written" | "no"> {
  const store = await openStore();
  return store ? store.state(await keyOfKept(store, facts)) : "no";
}

/** Where a model is kept as it is asked for: as "auto", perhaps where that was too large what took its place is. */
async function keyOfKept(store: Store, facts: Facts): Promise<string> {
  const own = await keyOf(facts);
  if (facts.weights !== "auto" || (await store.has(own))) return own;
  for (const weights of FALLBACKS) {
    const other = await keyOf({ ...facts, weights });
    if (await store.has(other, true)) return other;
  }
  return own;
}
