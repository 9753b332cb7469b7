// Loading a model with what is kept of it: from there if it is whole, else from its source, and kept on the way.

import { keyOf, openStore } from "./store.js";

/** What a kept model may be damaged by; it is fetched again then. */
const DAMAGED = ["integrity", "invalid-model", "not-found", "unsupported", "network"];

/**
 * Resolves to { generator, warnings }. `load(source, keeper)` makes a generator of a folder; `source` is the model's own,
 * `facts` tell this load from others. `offline`: only from what is kept.
 */
export async function loadKept({ facts, source, offline, load }) {
  const warnings = [];
  const store = await openStore();
  await store?.sweep().catch(() => {});
  const key = store && (await keyOf(facts));
  const kept = await store?.find(key);
  if (kept) {
    try {
      return { generator: await load(kept), warnings };
    } catch (error) {
      if (offline || !DAMAGED.includes(error.code)) throw error;
      warnings.push(`what was kept of ${facts.model} is damaged, it was fetched again: ${error.message}`);
    } finally {
      kept.release();
    }
  }
  if (offline) throw { code: "offline", message: `${facts.model} is not kept on this device with these options, and offline is set` };
  const write = await store?.keeper(key, { model: facts.model });
  if (!write) return { generator: await load(source), warnings };
  const generator = await load(write.keeper.over(source), write.keeper).catch(async (error) => {
    await (error.code === "network" ? write.suspend() : write.abandon());
    throw error;
  });
  try {
    const manifest = generator.manifest();
    if (!manifest) throw new Error(generator.notKept());
    await write.commit(manifest);
  } catch (error) {
    await write.abandon();
    warnings.push(`the model is not kept on this device: ${error.message}`);
  }
  return { generator, warnings };
}
