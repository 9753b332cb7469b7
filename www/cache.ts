// Loading a model with what is kept of it: from there if it is whole, else from its source, and kept on the way.

import type { Warning } from "./errors.js";
import type { ModelFolder, ModelKeeper } from "./folder.js";
import type { Digests, Hub } from "./hub.js";
import type { Failure } from "./net.js";
import type { Generator } from "./runtime.js";
import { keyOf, openStore, type Kept, type Provenance, type Store } from "./store.js";

/** What a kept model may be damaged by; it is fetched again then. */
const DAMAGED: readonly string[] = ["integrity", "invalid-model", "not-found", "unsupported", "network"];
/** What a load is interrupted by; the next one goes on then. */
const INTERRUPTED: readonly string[] = ["network", "disposed", "cancelled"];

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
  /** What knows the hashes of its files; none but of a repository. */
  hub: Hub | null;
  /** Of the files that were read, where the hub knows none. */
  digests: ReadonlyMap<string, Digests>;
  /** Only from what is kept. */
  offline: boolean;
  /** Whether this is tried instead of "auto", which was too large: another load as "auto" finds it then. */
  instead: boolean;
  /** Makes a generator of a folder, which is `kept`, or is written by a keeper meanwhile. */
  load(folder: ModelFolder, keeper: ModelKeeper | undefined, kept: boolean): Promise<Generator>;
}

export async function loadKept({ facts, source, hub, digests, offline, instead, load }: Load): Promise<Loaded> {
  const warnings: Warning[] = [];
  const store = await openStore();
  await store?.sweep().catch(() => {});
  const kept = await store?.find(await keyOfKept(store, facts), instead);
  if (kept) {
    try {
      if (!(await isAnother(kept, facts.model, offline, hub, warnings))) return { generator: await load(kept, undefined, true), warnings };
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
    await (INTERRUPTED.includes(error.code) ? write.suspend() : write.abandon());
    throw error;
  });
  try {
    const manifest = generator.manifest();
    if (!manifest) throw new Error(generator.notKept());
    await write.commit(manifest, await provenanceOf(hub, digests));
  } catch (error) {
    await write.abandon();
    warnings.push({ code: "cache", message: `the model is not kept on this device: ${(error as Error).message}` });
  }
  return { generator, warnings };
}

/**
 * Checks what could not be verified when it was kept, now that the hub may answer; not if the load is `offline`. Whether the
 * hub has other files, so that it is to be fetched again.
 */
async function isAnother({ provenance: { verified, digests = {} }, confirm }: Kept, model: string, offline: boolean, hub: Hub | null, warnings: Warning[]): Promise<boolean> {
  if (verified !== false || !hub) return false;
  const doubt = (why: string) => void warnings.push({ code: "unverified", message: `what is kept of ${model} was never verified: ${why}` });
  if (offline) return doubt("offline is set"), false;
  let why: string | null = null;
  const commit = await hub.commit(0).catch((error: Error) => ((why = error.message), null));
  if (why !== null || hub.silence) return doubt(why ?? hub.silence!), false;
  const { differs, compared } = hub.compare(Object.entries(digests));
  if (differs === null && compared > 0) await confirm({ verified: true, commit, digests });
  else if (differs === null) doubt("the hub has no hash of the files that it was made of");
  else warnings.push({ code: "cache", message: `what was kept of ${model} was fetched again: it was not verified then, and ${differs} is another file on the hub` });
  return differs !== null;
}

async function provenanceOf(hub: Hub | null, digests: ReadonlyMap<string, Digests>): Promise<Provenance> {
  if (!hub) return { verified: false, commit: null };
  const commit = await hub.commit();
  return hub.verifies ? { verified: true, commit } : { verified: false, commit, digests: Object.fromEntries(digests) };
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
