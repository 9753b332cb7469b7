"""Makes the golden set: `python make.py [--out DIR] [--seed N] [--turbo-widths 20 20 40 40 ...]`.

Two small models are built and written (build.py), read back with the library, and run (cases.py);
what the library computes is stored under ref/ with its error levels (measure.py), and
manifest.json says how. Without options this folder's own set is made again; other seeds and
widths make other sets.
"""
import argparse
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True      # this folder holds data: no caches in it
warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TRANSFORMERS_VERBOSITY="error",
                  DIFFUSERS_VERBOSITY="error")

import diffusers
import numpy as np
import safetensors
import tokenizers
import torch
import transformers

import build
import cases
import family
import networks
from measure import PLAIN, TINY_STREAM, Set, allow_float64

# Widths are multiples of four; group and head sizes mostly are not, and in the U-Nets some group
# of a concatenated input holds channels of both the hidden state and the skip.
STRUCTURE = dict(
    turbo_widths=[20, 20, 40, 40], turbo_heads=[4, 2, 4, 8], turbo_groups=10,
    sdxs_widths=[20, 40, 60], sdxs_heads=4, sdxs_groups=10,
    vae_widths=[12, 20, 20, 28], vae_groups=4, tiny_width=12,
    text_h_width=40, text_h_heads=4, text_h_layers=3,
    text_l_width=36, text_l_heads=6, text_l_layers=2,
    merges=110, size=64)


WHO = ["an old sailor", "a red fox", "two brass robots", "a paper boat", "the night train",
       "a clockwork owl", "a tall lighthouse", "a sleeping dragon"]
DOES = ["drifting past", "waiting beside", "drawn in ink above", "reflected in", "standing among"]
WHERE = ["a frozen lake", "the harbour at dawn", "neon market stalls", "autumn birches",
         "the desert at night", "a snowy roof"]
FIXED = {"empty": "", "space": "   ", "upper": "LOUD Words iN MiXeD case",
         "digits": "v3.14 20x 7^2",
         "punct": "Hey!!! isn't 40% off (really: #2)? -- [c/d] \"r\" & we'll see... ok!",
         "unicode": "Crème brûlée ЗИМА 犬と雪 😺👋🏽 “quoted” – ¾",
         "specials": "x <|endoftext|> y <|startoftext|> z"}


def make_prompts(rng):
    pick = lambda words: words[rng.integers(len(words))]
    prompts = {f"p{i}": f"{pick(WHO)} {pick(DOES)} {pick(WHERE)}" for i in range(8)}
    long = ", ".join(f"{w} {d} {h}" for w, d, h in zip(WHO, DOES * 2, WHERE * 2)) + ", "
    return {**prompts, **FIXED, "long": long * 2}


def options():
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=here)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--limit-mb", type=float, default=12)
    for key, value in STRUCTURE.items():
        many = "+" if isinstance(value, list) or key.endswith("heads") else None
        parser.add_argument("--" + key.replace("_", "-"), type=int, nargs=many, default=value)
    o = parser.parse_args()
    for key, value in STRUCTURE.items():
        given = getattr(o, key)
        if isinstance(given, list) and len(given) == 1:     # heads: a list or one number
            setattr(o, key, given[0])
    return o


def seam_crossed(widths, groups, layers):
    """Whether some group of a concatenated input lies on both sides of its seam."""
    rev, skips = widths[::-1], [widths[0]]
    for i, w in enumerate(widths):
        skips += [w] * (layers + (i < len(widths) - 1))
    hidden, crossed = rev[0], False
    for w in rev:
        for _ in range(layers + 1):
            skip = skips.pop()
            assert (hidden + skip) % groups == 0
            crossed |= hidden % ((hidden + skip) // groups) != 0
            hidden = w
    return crossed


@torch.no_grad()
def main():
    s = options()
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    allow_float64()
    assert seam_crossed(s.turbo_widths, s.turbo_groups, 2), "no group crosses a seam"
    assert seam_crossed(s.sdxs_widths, s.sdxs_groups, 1), "no group crosses a seam"
    for made in ("models", "ref"):      # never removes a folder that no golden set was made in
        assert not (s.out / made).exists() or (s.out / "manifest.json").exists(), s.out / made
        shutil.rmtree(s.out / made, ignore_errors=True)
    rng = np.random.default_rng(s.seed)

    prompts, facts = make_prompts(rng), {}
    words = " ".join([*WHO, *DOES, *WHERE, *(prompts[f"p{i}"] for i in range(8))]).split()
    vocab, merges = build.bpe(words, s.merges)
    plain = [prompts[f"p{i}"] for i in range(8)]
    folders = {"bang_pad": s.out / "models/sd-turbo-like", "eos_pad": s.out / "models/sdxs-like"}
    build.sd_turbo(folders["bang_pad"], s, vocab, merges, plain, rng, facts)
    build.sdxs(folders["eos_pad"], s, vocab, merges, plain, rng, facts)
    turbo, sdxs = (build.load(f) for f in folders.values())

    golden = Set(s.out)
    ids = cases.tokens(s.out, prompts, folders, vocab)
    context = {}
    for letter, pad, pipe, limits in (("h", "bang_pad", turbo, TINY_STREAM),
                                      ("l", "eos_pad", sdxs, PLAIN)):
        context[pad] = cases.text(golden, f"text/text_encoder_{letter}",
                                  f"{folders[pad].name}/text_encoder", pipe.text_encoder, ids,
                                  pad, limits)
    networks.unet(golden, "sd-turbo-like", "sd-turbo-like/unet", turbo.unet, context["bang_pad"],
                  (16, 8), "down_blocks.2.attentions.0", "up_blocks.2.resnets.0", rng, facts)
    networks.unet(golden, "sdxs-like", "sdxs-like/unet", sdxs.unet, context["eos_pad"], (12, 8),
                  "down_blocks.0.attentions.0", "up_blocks.2.resnets.0", rng, facts)
    cases.timestep_embedding(golden, s.turbo_widths[0])
    cases.ops(golden, rng)
    networks.vae(golden, "sd-turbo-like", "sd-turbo-like/vae", turbo.vae, rng)
    networks.tiny(golden, "sdxs-like", "sdxs-like/vae", sdxs.vae, rng)
    cases.schedules(golden, rng)
    cases.random_numbers(golden, s.seed)
    sanity = cases.pipelines(golden, turbo, sdxs, prompts, s.seed, s.size)

    size = sum(f.stat().st_size for d in ("models", "ref") for f in (s.out / d).rglob("*")
               if f.is_file())
    libs = (torch, diffusers, transformers, tokenizers, safetensors, np)
    manifest = {
        "seed": s.seed, "versions": {m.__name__: m.__version__ for m in libs},
        "conventions": {
            "layout": "NCHW for images/latents inside the models, [B,tokens,channels] for "
                      "sequences",
            "dtype": "float32 unless named", "threads": 1,
            "weights": "fp16-representable, each component in one form only; the bf16 file's "
                       "values are representable in both"},
        "models": facts, "cases": golden.cases,
        "structure": {k: getattr(s, k) for k in STRUCTURE},
        "quirks": [
            "sd-turbo-like/vae: old attention names query/key/value/proj_attn; scaling_factor etc. "
            "absent from config.json",
            "sd-turbo-like/text_encoder: float32 only; extra I64 tensor "
            "text_model.embeddings.position_ids; runs on a tiny residual stream, so norm epsilons "
            "matter",
            "sd-turbo-like/unet: float16 weights under the plain name, sharded with "
            "diffusion_pytorch_model.safetensors.index.json",
            "sd-turbo-like/tokenizer: pad token '!' (id 0), which is also split out of the text as "
            "an added token; vocab.json and merges.txt only",
            "sdxs-like/tokenizer: pads with <|endoftext|>; has tokenizer.json too",
            "sdxs-like/text_encoder: a bfloat16 file; CLIP-L's quick_gelu",
            "sdxs-like/unet: one number of heads for all levels, proj_in/proj_out are 1x1 "
            "convolutions, and its first level attends to the text only",
        ],
        "sanity": sanity, "total_bytes_without_manifest": size}
    (s.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")

    print(json.dumps({"models": facts, "sanity": sanity}, indent=1))
    for name in ("sd-turbo-like", "sdxs-like"):     # else a wrong text or time path could pass
        assert facts[f"unet.{name}"]["prompt_change_rel"] > 0.1
        assert facts[f"unet.{name}"]["time_change_rel"] > 0.1
    assert not golden.faults, golden.faults
    assert size < s.limit_mb * 1e6, f"{size / 1e6:.1f} MB"
    print(f"{len(golden.cases)} cases, {size / 1e6:.2f} MB in {s.out}")
    family.add(s.out)


if __name__ == "__main__":
    main()
