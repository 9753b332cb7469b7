"""DiT, which is told labels and no text: a model, its transformer and its pipeline. `python labels.py [--out DIR]`."""
import argparse
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
import torch
from diffusers import DiTPipeline, DiTTransformer2DModel
from torch.nn import functional as F

import pipes
from build import GAINS, fact, initialise, randn, representable
from build_family import kl, load, save
from family_pipes import SCHEDULERS
from measure import GUIDED, PLAIN, Set, allow_float64, measure, record

LABELS = {"0": "tench, Tinca tinca", "1": "goldfish, Carassius auratus", "207": "golden retriever"}
WIDTH = dict(num_attention_heads=2, attention_head_dim=14)      # no multiple of four
NAMES = ["pos_embed", "proj_out_2", "transformer_blocks.0", "transformer_blocks.1"]


@torch.no_grad()
def fit(model, rng):
    """The last layer returns the noise input, and a random part."""
    taps = []
    hook = model.proj_out_2.register_forward_pre_hook(lambda _, args: taps.append(args[0]))
    x = randn(rng, 48, 4, 8, 8)
    model(x, timestep=torch.linspace(0, 999, 48).round(), class_labels=torch.arange(48) * 20)
    hook.remove()
    a = taps[0].flatten(0, 1).double()
    a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
    patches = F.unfold(x, 2, stride=2).transpose(1, 2).flatten(0, 1)        # channel, row, column
    y = patches.unflatten(1, (4, 4)).transpose(1, 2).double()               # row and column, channel
    w = torch.linalg.solve(a.T @ a + 1e-2 * len(a) * torch.eye(a.shape[1]), a.T @ y.flatten(1))
    r2 = 1 - ((a @ w - y.flatten(1)).square().mean() / y.square().mean()).item()
    weight = model.proj_out_2.weight.unflatten(0, (4, 8))
    weight[:, :4] = w[:-1].T.unflatten(0, (4, 4)) + 0.25 * weight[:, :4]
    model.proj_out_2.bias.unflatten(0, (4, 8))[:, :4] = w[-1].unflatten(0, (4, 4))
    return round(r2, 4)


@torch.no_grad()
def build(models, rng, facts):
    folder = models / "dit-like"
    gains = [(r"embedding_table", 28 ** 0.5)] + GAINS
    model = initialise(DiTTransformer2DModel(**WIDTH, num_layers=2, sample_size=8, out_channels=8),
                       rng, gains)
    r2 = fit(model, rng)
    facts["dit-like"] = fact(representable(model), noise_fit_r2=r2, random_mix_std=0.25)
    vae = kl(rng, [8, 8, 8, 8])
    facts["vae.dit-like"] = fact(vae)
    save(model, folder / "transformer")
    save(vae, folder / "vae")
    SCHEDULERS["ddim"]().save_pretrained(folder / "scheduler")
    config = json.loads((folder / "transformer/config.json").read_text())
    config["_class_name"] = "Transformer2DModel"        # as published
    (folder / "transformer/config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    index = {"_class_name": "DiTPipeline", "_diffusers_version": "0.36.0", "id2label": LABELS,
             "scheduler": ["diffusers", "DDIMScheduler"],
             "transformer": ["diffusers", "Transformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def transformer(golden, model, rng):
    inputs = {"": dict(hidden_states=randn(rng, 1, 4, 8, 8), timestep=torch.tensor([499.0]),
                       class_labels=torch.tensor([207])),
              "B.": dict(hidden_states=randn(rng, 2, 4, 12, 12), timestep=torch.tensor([999.0, 19.0]),
                         class_labels=torch.tensor([1, 1000])),
              "C.": dict(hidden_states=randn(rng, 1, 4, 6, 6), timestep=torch.tensor([0.0]),
                         class_labels=torch.tensor([0]))}
    for case, prefixes in (("blocks", [""]), ("more", ["B.", "C."])):
        def run(model, cast):
            out = {}
            for prefix in prefixes:
                acts = {}
                hooks = record(model, NAMES, acts) if not prefix else []
                sample = model(**{k: cast(v) for k, v in inputs[prefix].items()}).sample
                [hook.remove() for hook in hooks]
                out |= {f"{prefix}out.sample": sample} | acts
            return out
        out, errors = measure(run, model, f"{prefixes[0]}out.sample")
        given = {f"{p}in.{k}": v for p in prefixes for k, v in inputs[p].items()}
        golden.add(f"dit/dit-like.{case}", given | out, PLAIN, model="dit-like/transformer",
                   activations=NAMES if case == "blocks" else [], **errors)


def add(out):
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    rng = np.random.default_rng(manifest["seed"] + 4000)
    golden, facts = Set(out), {}
    build(out / "models", rng, facts)
    folder = out / "models/dit-like"
    transformer(golden, load(DiTTransformer2DModel, folder / "transformer"), rng)
    pipe = load(DiTPipeline, folder)
    for name, scheduler, steps, guidance, labels in (("dit_ddim_4", "ddim", 4, 4.0, [207]),
                                                     ("dit_dpmpp_2images", "dpmpp", 5, 1.0, [1, 999])):
        pipe.scheduler = SCHEDULERS[scheduler]()
        args = dict(class_labels=labels, guidance_scale=guidance, num_inference_steps=steps)
        pipes.case(golden, name, pipe, 900 + steps, args, GUIDED, "dit-like", scheduler)
    manifest["models"] |= facts
    manifest["cases"] |= golden.cases
    path.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    assert not golden.faults, "\n".join(golden.faults)
    print(f"{len(golden.cases)} cases of labels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    torch.set_num_threads(1)
    allow_float64()
    add(parser.parse_args().out)
