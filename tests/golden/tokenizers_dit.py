"""Small tokenizers of the kinds that diffusion transformers have, each one tokenizer.json.

Their vocabularies come from the words of the prompts. How they cut a text is what the library's own classes do.
"""
import json
import math
import string

from transformers import AutoTokenizer, GemmaTokenizer, Qwen2Tokenizer, T5Tokenizer

import build

CHAT = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}")


def t5(words):
    """Unigrams: letters, and what several words begin or end with, by how often it is there."""
    counts = {}
    for word in (f"▁{w}" for w in words):
        cuts = [word[i:i + n] for n in (1, 2, 3, 5, 8) for i in range(len(word) - n + 1)] + [word]
        for piece in cuts:
            counts[piece] = counts.get(piece, 0) + 1
    kept = {p: n for p, n in counts.items() if len(p) == 1 or n > 4}
    kept = dict.fromkeys(string.ascii_letters + string.digits + string.punctuation, 1) | kept
    total = sum(kept.values())
    pieces = [(p, round(math.log(n / total), 3)) for p, n in sorted(kept.items(), key=lambda e: (-e[1], e[0]))]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)


def gemma(words, count=120):
    """Byte pairs with a token for each byte that nothing else stands for."""
    merges = build.learn([[*f"▁{w}"] for w in words], count)
    letters = sorted({letter for w in words for letter in f"▁{w}"})
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{b:02X}>" for b in range(256)), "\n",
              *letters, *("".join(m) for m in merges)]
    return GemmaTokenizer(vocab=numbered(tokens), merges=merges, model_max_length=8192, padding_side="right",
                          add_bos_token=True)


def qwen(words, count=120):
    """Byte pairs of byte symbols; a space belongs to the word behind it."""
    merges = build.learn([[*f"Ġ{w}"] for w in words], count)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    made = Qwen2Tokenizer(vocab=numbered([*build.byte_symbols(), *("".join(m) for m in merges)]), merges=merges,
                          eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=131072)
    made.add_special_tokens({"additional_special_tokens": special})
    made.chat_template = CHAT
    return made


def numbered(tokens):
    return {t: i for i, t in enumerate(dict.fromkeys(tokens))}


def save(made, folder):
    """Without what says how it was made; the template of chats stands in the one file that is left."""
    made.save_pretrained(folder, save_jinja_files=False)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    for key in ("is_local", "local_files_only", "backend"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=1) + "\n")
    return type(made).from_pretrained(folder)


KEYS = ("p0", "p1", "empty", "space", "upper", "digits", "punct", "unicode", "specials")
PLACES = {"t5": "sd35-like/tokenizer_3", "gemma": "sana-sprint-like/tokenizer", "qwen": "z-image-like/tokenizer"}


def table(models, prompts):
    """What the tokenizers make of prompts: as long as they are, in rows of 12, and as a conversation."""
    made = {kind: AutoTokenizer.from_pretrained(models / place) for kind, place in PLACES.items()}
    row = dict(padding="max_length", max_length=12, truncation=True)
    rows = {kind: {f"{k}.12": t(prompts[k], **row) for k in ("p0", "digits")} for kind, t in made.items()}
    chat = {}
    for thinking in (True, False):
        text = made["qwen"].apply_chat_template([{"role": "user", "content": prompts["p0"]}], tokenize=False,
                                                add_generation_prompt=True, enable_thinking=thinking)
        chat[f"p0.thinking_{str(thinking).lower()}"] = {"text": text, "ids": made["qwen"](text).input_ids}
    return {"directories": PLACES, "prompts": {k: prompts[k] for k in KEYS},
            "ids": {kind: {k: t(prompts[k]).input_ids for k in KEYS} for kind, t in made.items()},
            "padded": {kind: {k: {"ids": r.input_ids, "mask": r.attention_mask} for k, r in each.items()}
                       for kind, each in rows.items()},
            "chat": chat}
