// Addresses of workers' scripts where a page takes none that it does not trust (Trusted Types): they pass the policy
// "tintype", which such a page allows by its name. Nobody else gets hold of it.

const NAME = "tintype";

/** Null where there are no such policies, or the page does not allow this one. */
let policy: ScriptPolicy | null | undefined;

/** The address as workers and `importScripts` take it. */
export function trusted(url: string | URL): string {
  if (policy === undefined) policy = make();
  return (policy?.createScriptURL(String(url)) ?? String(url)) as string;
}

/** What `make` returns: a worker whose address has to stand where bundlers look for it, and is trusted on its way. */
export function withTrust(make: () => Worker): Worker {
  if (!globalThis.trustedTypes) return make();
  const { Worker } = globalThis;
  const Trusting = function (url: string | URL, options?: WorkerOptions) {
    return new Worker(trusted(url), options);
  };
  try {
    globalThis.Worker = Trusting as unknown as typeof Worker;
    return make();
  } finally {
    globalThis.Worker = Worker;
  }
}

function make(): ScriptPolicy | null {
  try {
    return globalThis.trustedTypes?.createPolicy(NAME, { createScriptURL: (url) => url }) ?? null;
  } catch {
    return null;
  }
}
