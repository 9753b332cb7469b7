// The vocabulary of CLIP's text encoders, which a single file does not bring.

import { failure } from "./net.js";

/** CLIP's merges: each as the ids of the two tokens that become one, two bytes each. */
export async function vocabulary(): Promise<Uint8Array> {
  const url = new URL("./clip.bin", import.meta.url);
  const failed = (why: string) => failure("network", `CLIP's vocabulary could not be loaded from ${url.href}: ${why}`);
  const answer = await fetch(url.href).catch((error: Error) => {
    throw failed(error.message);
  });
  if (!answer.ok) throw failed(`status ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}
