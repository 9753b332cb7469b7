// Loading a model with what is kept of it: from there if it is whole, else from its source, and kept on the way.

import { keyOf, openStore, type Store } from "./store.js";

/** What a kept model may be damaged by; it is fetched again then. */
const DAMAGED = ["integrity", "invalid-model", "not-found", "unsupported", "network"];

interface Load {
  /** What tells this load from others. */
  facts: Record<string, unknown>;
  /** The model's own folder. */
  source: any;
  /** Only from what is kept. */
  offline: boolean;
  /** Makes a generator of a folder, which is `kept`, or is written by a keeper meanwhile. */
  load(folder: unknown, keeper: unknown, kept: boolean): Promise<any>;
}

export async function loadKept({ facts, source, offline, load }: Load): Promise<{ generator: any; warnings: string[] }> {
  const warnings: string[] = [];
  const store: Store | null = await openStore();
  await store?.sweep().catch(() => {});
  const key = await keyOf(facts);
  const kept: any = await store?.find(key);
  if (kept) {
    try {
      return { generator: await load(kept, undefined, true), warnings };
    } catch (error: any) {
      if (offline || !DAMAGED.includes(error.code)) throw error;
      warnings.push(`what was kept of ${facts.model} is damaged, it was fetched again: ${error.message}`);
    } finally {
      kept.release();
    }
  }
  if (offline) throw { code: "offline", message: `${facts.model} is not kept on this device with these options, and offline is set` };
  const write = await store?.keeper(key, { model: facts.model });
  if (!write) return { generator: await load(source, undefined, false), warnings };
  const generator = await load(write.keeper.over(source), write.keeper, false).catch(async (error) => {
    await (error.code === "network" ? write.suspend() : write.abandon());
    throw error;
  });
  try {
    const manifest = generator.manifest();
    if (!manifest) throw new Error(generator.notKept());
    await write.commit(manifest);
  } catch (error: any) {
    await write.abandon();
    warnings.push(`the model is not kept on this device: ${error.message}`);
  }
  return { generator, warnings };
}

/** Whether a load with these facts would find its model kept; it may just be written. */
export async function whetherKept(facts: Record<string, unknown>): Promise<"yes" | "written" | "no"> {
  const store = await openStore();
  return store ? store.state(await keyOf(facts)) : "no";
}
