// The tokenizers of other text encoders than CLIP: a module of its own, which is fetched when a model needs it. The runtime
// asks for one by the bytes of its file, and then for the ids of texts.

import init, { Tokenizer } from "./pkg/tokenizer/tintype_tokenizer.js";

/** Makes a tokenizer of the bytes of `tokenizer.json`, or of T5's SentencePiece model and the number of its extra tokens. */
export type MakeTokenizer = (json: Uint8Array | undefined, pieces: Uint8Array | undefined, extraIds: number, file: string) => Promise<Tokenizer>;

/** The module, once for all who want it here. */
let loaded: Promise<unknown> | null = null;

/** What makes them, of the module at `url`, by default beside this file. */
export const tokenizers =
  (url?: string): MakeTokenizer =>
  async (json, pieces, extraIds, file) => {
    loaded ??= init(url === undefined ? undefined : { module_or_path: url }).catch((error) => {
      loaded = null;
      throw { code: "network", message: `the module of tokenizers could not be loaded: ${error.message}` };
    });
    await loaded;
    return json ? Tokenizer.fromJson(json, file) : Tokenizer.fromSentencePiece(pieces ?? new Uint8Array(), file, extraIds);
  };
