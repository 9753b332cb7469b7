// What is kept of models on this device, as pages see it. Everything resolves where the browser keeps nothing, too.

import { openStore } from "./store.js";
import type { Cache } from "./types.js";

export function openCache(): Cache {
  const cache: Cache = {
    list: async () => (await openStore())?.list() ?? [],
    size: async () => (await cache.list()).reduce((sum, { bytes }) => sum + bytes, 0),
    delete: async (key) => (await openStore())?.delete(key) ?? false,
    clear: async () => (await openStore())?.clear(),
    persist: async () => (await navigator.storage?.persist?.()) ?? false,
  };
  return cache;
}
