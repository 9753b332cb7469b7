// The worker that measures. Message in: { settings, request }; out: { line } for each line, then { report } or { error }.

import { gather, isThread, knownAdapter, load } from "/runtime.js";

async function measure({ data: { settings, request } }) {
  try {
    const { bench } = await load((message) => postMessage({ error: message }));
    const known = await knownAdapter();
    const whole = settings.map((setting) => ({ ...setting, ...known, gather }));
    postMessage({ report: await bench(whole, request, (line) => postMessage({ line })) });
  } catch (error) {
    postMessage({ error: error?.message ?? String(error) });
  }
}

// A thread is a worker of this file too.
if (!isThread) onmessage = measure;
