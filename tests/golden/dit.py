"""Adds diffusion transformers to a golden set: `python dit.py [--out DIR]`, after make.py.

What was there stays as it is. Models (build_dit.py) are written and read back; each transformer runs alone, with inputs
of its own, and in a whole pipeline. Made with the versions of requirements-dit.txt.
"""
import argparse
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TRANSFORMERS_VERBOSITY="error",
                  DIFFUSERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (Flux2KleinPipeline, FluxPipeline, PixArtSigmaPipeline, SanaSprintPipeline,
                       StableDiffusion3Pipeline, ZImagePipeline)
from PIL import Image
from transformers.models.clip import modeling_clip

import build_dit
import measure
import pipes
import tokenizers_dit
from build import randn

EDITED = "ref/inputs/edit_80x64.png"
SIZE = dict(height=48, width=32)
AS_ASKED = dict(use_resolution_binning=False)
# Guidance, and the little that is left of a picture at the first step, enlarge what is rounded away.
LIMITS = dict(plain=measure.PIPE, guided=measure.AMPLIFIED)


# -- transformers -------------------------------------------------------------------------------

def packed(latents):
    """Squares of 2x2 latents as tokens, and their places: the order is channel, row, column."""
    n, c, h, w = latents.shape
    tokens = latents.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)
    rows, columns = torch.meshgrid(torch.arange(h // 2), torch.arange(w // 2), indexing="ij")
    return tokens, rows.flatten(), columns.flatten()


def inputs(name, config, rng):
    """What it takes, by the name in the file; `latents` is for readers alone. Sizes are not square."""
    draw = lambda *shape: randn(rng, *shape)
    time = torch.tensor([701.0])
    if name == "sd35-like":
        return dict(hidden_states=draw(1, 16, 6, 8), timestep=time,
                    encoder_hidden_states=draw(1, 11, config.joint_attention_dim),
                    pooled_projections=draw(1, config.pooled_projection_dim))
    if name in ("schnell-like", "klein-like"):
        axes, channels = (3, 16) if name == "schnell-like" else (4, config.in_channels // 4)
        latents, text = draw(1, channels, 8, 6), draw(1, 9, config.joint_attention_dim)
        tokens, rows, columns = packed(latents)
        places, words = torch.zeros(len(rows), axes), torch.zeros(9, axes)
        places[:, 1], places[:, 2] = rows, columns
        told = dict(latents=latents, hidden_states=tokens, timestep=time / 1000, encoder_hidden_states=text,
                    img_ids=places, txt_ids=words)
        if axes == 3:
            return told | dict(pooled_projections=draw(1, config.pooled_projection_dim))
        words[:, 3] = torch.arange(9)
        return told
    if name == "z-image-like":
        return {"x.0": draw(16, 1, 6, 8), "t": 1 - time / 1000, "cap_feats.0": draw(23, config.cap_feat_dim)}
    mask = torch.ones(1, 12)
    mask[:, 7:] = 0
    text = dict(encoder_hidden_states=draw(1, 12, config.caption_channels), encoder_attention_mask=mask)
    if name == "sana-sprint-like":
        told = dict(timestep=torch.tensor([0.837]), guidance=torch.tensor([0.45]))
        return dict(hidden_states=draw(1, 8, 5, 3)) | told | text
    return dict(hidden_states=draw(1, 4, 10, 6), timestep=time) | text


def predicted(m, given, cast=lambda x: x):
    """The output under those inputs."""
    given = {k: cast(v) if k not in ("timestep", "img_ids", "txt_ids", "guidance") else v for k, v in given.items()}
    given.pop("latents", None)
    if "x.0" in given:
        return m([given["x.0"]], given["t"], [given["cap_feats.0"]]).sample[0]
    if type(m).__name__.startswith("PixArt"):
        given["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
    return m(**given).sample


def transformer(golden, name, m, rng, facts):
    given = inputs(name, m.config, rng)
    blocks = [n for n in ("transformer_blocks.0", "layers.0") if n in dict(m.named_modules())]

    def run(m, cast):
        acts, modules = {}, dict(m.named_modules())

        def keep(name):
            def hook(_, __, out):
                text, image = out if isinstance(out, tuple) else (None, out)
                acts[f"act.{name}"] = image
                if text is not None:
                    acts[f"act.{name}.text"] = text
            return hook
        hooks = [modules[n].register_forward_hook(keep(n)) for n in blocks]
        out = predicted(m, given, cast)
        for hook in hooks:
            hook.remove()
        return {"out.sample": out, **acts}

    out, errors = measure.measure(run, m, "out.sample")
    golden.add(f"dit/{name}.blocks", {**{f"in.{k}": v for k, v in given.items()}, **out}, measure.NARROW,
               model=f"{name}/transformer", activations=blocks, **errors)

    def change(**other):
        return round(measure.error(predicted(m, given | other), out["out.sample"])["rel_l2"], 4)

    time = next(k for k in ("timestep", "t") if k in given)
    words = next(k for k in ("encoder_hidden_states", "cap_feats.0") if k in given)
    other = {words: randn(rng, *given[words].shape)}
    facts[f"{name}.transformer"] |= {"prompt_change_rel": change(**other),
                                     "time_change_rel": change(**{time: given[time] * 0.4})}


# -- pipelines ----------------------------------------------------------------------------------

CASES = [
    ("sd35_3step", "sd35-like", StableDiffusion3Pipeline, "plain",
     dict(prompt="p0", num_inference_steps=3, guidance_scale=0.0, max_sequence_length=40, **SIZE)),
    ("schnell_2step", "schnell-like", FluxPipeline, "plain",
     dict(prompt="p1", num_inference_steps=2, guidance_scale=0.0, max_sequence_length=40, **SIZE)),
    ("klein_2step", "klein-like", Flux2KleinPipeline, "plain",
     dict(prompt="p2", num_inference_steps=2, max_sequence_length=64, **SIZE)),
    ("klein_edit", "klein-like", Flux2KleinPipeline, "plain",
     dict(prompt="p3", num_inference_steps=2, max_sequence_length=64, **SIZE)),
    ("z-image_2step", "z-image-like", ZImagePipeline, "plain",
     dict(prompt="p4", num_inference_steps=2, guidance_scale=0.0, max_sequence_length=64, **SIZE)),
    ("sana-sprint_2step", "sana-sprint-like", SanaSprintPipeline, "plain",
     dict(prompt="p5", num_inference_steps=2, guidance_scale=4.5, height=64, width=32, **AS_ASKED)),
    ("pixart_2step", "pixart-like", PixArtSigmaPipeline, "guided",
     dict(prompt="p6", num_inference_steps=2, guidance_scale=3.0, max_sequence_length=48, **SIZE, **AS_ASKED)),
]


def pipelines(golden, loaded, prompts, seed):
    for i, (name, model, _, limits, args) in enumerate(CASES):
        pipe = loaded[model]
        args = args | dict(prompt=prompts[args["prompt"]])
        pictures = dict(image=[EDITED]) if name.endswith("edit") else {}
        image = pipes.case(golden, name, pipe, seed + i, args, LIMITS[limits], model, "its own", pictures=pictures)
        given = {k: [Image.open(golden.out / f) for f in files] for k, files in pictures.items()}
        changed, _ = pipes.generate(pipe, seed + i, args | given | dict(prompt=prompts["p7"]))
        change = measure.error(changed["image"], image)["rel_l2"]
        print(f"{name:32} {'prompt_change_rel':20} {change:.1e}")
        assert change > 0.01, name


def load(kind, folder):
    pipe = kind.from_pretrained(folder, variant="fp16", torch_dtype=torch.float32, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    networks = [m for m in pipe.components.values() if isinstance(m, torch.nn.Module)]
    assert all(p.dtype == torch.float32 for m in networks for p in m.parameters()), folder
    return pipe


def picture(path, rng):
    coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((80, 64), Image.BICUBIC).save(path)


# -- all of it ----------------------------------------------------------------------------------

def clean(out, manifest):
    """Removes what an earlier run added."""
    for name in manifest.pop("transformers", []):
        case = manifest["cases"].pop(name, {})
        for file in [case.get("file"), *case.get("png", [])]:
            if file:
                (out / file).unlink(missing_ok=True)
    (out / "ref/tokens-dit.json").unlink(missing_ok=True)
    models = {model for _, model, *_ in CASES}
    manifest["models"] = {k: v for k, v in manifest["models"].items() if k.split(".")[0] not in models}
    for model in models:
        shutil.rmtree(out / "models" / model, ignore_errors=True)


@torch.no_grad()
def add(out):
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    clean(out, manifest)
    before = {*out.rglob("*")}
    table = json.loads((out / "ref/tokens.json").read_text())
    prompts, seed = table["prompts"], manifest["seed"]
    words = " ".join(prompts[f"p{i}"] for i in range(8)).split()
    golden, facts, rng = measure.Set(out), {}, np.random.default_rng(seed + 5000)

    build_dit.every(build_dit.Models(out / "models", words, table["vocab_size"], rng, facts))
    picture(out / EDITED, rng)
    (out / "ref/tokens-dit.json").write_text(json.dumps(tokenizers_dit.table(out / "models", prompts)) + "\n")
    loaded = {model: load(kind, out / "models" / model) for _, model, kind, *_ in CASES}
    for model, pipe in loaded.items():
        transformer(golden, model, pipe.transformer, rng, facts)
    pipelines(golden, loaded, prompts, seed * 100 + 250)

    for name, made in facts.items():    # else a wrong text or time path could pass
        for key in ("prompt_change_rel", "time_change_rel"):
            assert made.get(key, 1.0) > 0.1, (name, key, made[key])
    size = sum(f.stat().st_size for f in {*out.rglob("*")} - before if f.is_file())
    manifest["models"] |= facts
    manifest["cases"] |= golden.cases
    manifest["transformers"] = list(golden.cases)
    path.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    assert not golden.faults, "\n".join(golden.faults)
    print(f"{len(golden.cases)} cases of transformers, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    # The mask of transformers 5 takes any type, so that there is nothing to mend in it.
    modeling_clip._create_4d_causal_attention_mask = getattr(modeling_clip, "_create_4d_causal_attention_mask", None)
    measure.allow_float64()
    add(parser.parse_args().out)
