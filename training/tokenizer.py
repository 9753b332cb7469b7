"""The tokenizer: CLIP's byte-level BPE with a vocabulary of our own, in all the files that loaders want.

    python tokenizer.py --dir runs      writes runs/tokenizer and tests it

256 byte symbols, 256 with "</w>" (so every text tokenises), then just the merges that make each word of
the world one token, then the two special tokens: 1/40 of CLIP's table.
"""
import argparse, json
from pathlib import Path
import world

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORDS = list(dict.fromkeys(
    list(world.COLOURS) + list(world.SHAPES) + [world.plural(s) for s in world.SHAPES]
    + "small little tiny medium large big huge left right top bottom middle center centre".split()
    + "one two three four above below over under beside next to near behind front before".split()
    + "day daytime sunny blue sky dusk sunset evening night dark starry sun moon stars star".split()
    + "hills hill green meadow grass sea ocean water mountains mountain landscape scene lake field".split()
    + "a an the of on at in by with and is there background picture drawing poster image".split()))


def byte_alphabet():
    """GPT-2's and CLIP's printable stand-ins for the 256 bytes, in their order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + k) for k in range(len(other))]


def bpe(word, ranks):
    parts = [*word[:-1], word[-1] + "</w>"]
    while len(parts) > 1:
        best = min(zip(parts, parts[1:]), key=lambda pair: ranks.get(pair, 1 << 30))
        if best not in ranks:
            break
        k = next(k for k in range(len(parts) - 1) if (parts[k], parts[k + 1]) == best)
        parts[k:k + 2] = ["".join(best)]
    return parts


def make():
    """Merges are only ever added at the end, where they cannot split what is one token already."""
    ranks = {}
    for word in WORDS:
        while len(parts := bpe(word, ranks)) > 1:
            ranks[parts[0], parts[1]] = len(ranks)
    alphabet = byte_alphabet()
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in ranks] + [BOS, EOS]
    return {t: k for k, t in enumerate(dict.fromkeys(tokens))}, list(ranks)


def write(folder):
    from transformers import CLIPTokenizerFast
    vocabulary, merges = make()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, indent=1), encoding="utf8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges), encoding="utf8")
    # The fast tokenizer is built from those two files and saved as tokenizer.json, with the two JSON files beside it.
    CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), unk_token=EOS, bos_token=BOS, eos_token=EOS,
                      pad_token=EOS, model_max_length=77).save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "CLIPTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def encode(tokenizer, captions):
    """Always 77 tokens: the padding is attended to, so the model must have seen it."""
    return tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def test(folder):
    import random
    from transformers import CLIPTokenizer, CLIPTokenizerFast
    slow, fast = CLIPTokenizer.from_pretrained(folder), CLIPTokenizerFast.from_pretrained(folder)
    rng = random.Random(0)
    texts = [world.caption(rng, world.sample(rng)) for _ in range(500)]
    texts += ["", "A RED Circle, on  a blue background!", "zebra's 12 naïve café — 猫 🐈", "a redd circles", "word " * 100]
    for text in texts:
        ids = slow(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert ids == fast(text, padding="max_length", max_length=77, truncation=True).input_ids, text
        assert len(ids) == 77
    for word in WORDS:
        assert len(slow(word).input_ids) == 3 and len(fast(word).input_ids) == 3, word
    print(f"{len(slow)} tokens; {len(WORDS)} words are one token each; CLIPTokenizer and CLIPTokenizerFast agree on {len(texts)} texts")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--dir", type=Path, default=Path("runs"))
    o = p.parse_args()
    write(o.dir / "tokenizer")
    test(o.dir / "tokenizer")
