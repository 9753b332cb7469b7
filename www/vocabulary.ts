// The vocabulary of CLIP's text encoders, which a single file does not bring.

import { whole } from "./download.js";
import type { Net } from "./net.js";

/** Pairs of tokens that become one. */
const MERGES = 48_894;

/** CLIP's merges: each as the ids of its two tokens, two bytes each. */
export const vocabulary = (net: Net): Promise<Uint8Array> => whole(net, new URL("./clip.bin", import.meta.url), 4 * MERGES);
