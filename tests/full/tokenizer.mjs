// A tokenizer of CLIP's form and size, 49408 tokens, with merges that are drawn at random: its files are as large as
// the published ones, and take as long to read.

import { hash } from "./values.mjs";

const END = "</w>";
const SPECIAL = ["<|startoftext|>", "<|endoftext|>"];
const TOKENS = 49408;

/** What a model's tokenizer is told apart by: the token that fills texts up to their length. */
export function tokenizer(pad) {
  const { vocabulary, merges } = words();
  const ids = Object.fromEntries([...vocabulary, ...SPECIAL].map((token, id) => [token, id]));
  const decoder = Object.fromEntries([...new Set([pad, ...SPECIAL])].map((token) => [ids[token], special(token)]));
  const config = {
    add_prefix_space: false,
    added_tokens_decoder: decoder,
    bos_token: SPECIAL[0],
    do_lower_case: true,
    eos_token: SPECIAL[1],
    errors: "replace",
    model_max_length: 77,
    pad_token: pad,
    tokenizer_class: "CLIPTokenizer",
    unk_token: SPECIAL[1],
  };
  return {
    "tokenizer/vocab.json": JSON.stringify(ids, null, 2),
    "tokenizer/merges.txt": ["#version: 0.2", ...merges, ""].join("\n"),
    "tokenizer/tokenizer_config.json": JSON.stringify(config, null, 2),
  };
}

const special = (content) => ({
  content,
  lstrip: false,
  normalized: content.startsWith("<"),
  rstrip: false,
  single_word: false,
  special: true,
});

/** Bytes, bytes that end a word, and tokens that are joined of two that were there before. */
function words() {
  const letters = byteLetters();
  const vocabulary = [...letters, ...letters.map((letter) => letter + END)];
  const known = new Set(vocabulary);
  const small = letters.filter((letter) => letter >= "a" && letter <= "z");
  /** What may be joined further: no end of a word, and not too long. */
  const open = [...small];
  const merges = [];
  let state = hash("merges");
  const random = (list) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return list[Math.floor((state / 2 ** 32) * list.length)];
  };
  while (vocabulary.length < TOKENS - SPECIAL.length) {
    const [first, second] = [random(open), random(open.slice(0, 2000)) + random(["", END])];
    const joined = first + second;
    if (known.has(joined)) continue;
    if (!known.has(second)) continue;
    known.add(joined);
    vocabulary.push(joined);
    merges.push(`${first} ${second}`);
    if (!joined.endsWith(END) && joined.length < 6) open.push(joined);
  }
  return { vocabulary, merges };
}

/** The letter of every byte, those that print first: the order in CLIP's vocabulary. */
function byteLetters() {
  const prints = (byte) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const own = bytes.filter(prints).map((byte) => String.fromCodePoint(byte));
  const others = bytes.filter((byte) => !prints(byte)).map((_, i) => String.fromCodePoint(0x100 + i));
  return [...own, ...others];
}
