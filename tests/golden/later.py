"""What joined the set later, with numbers of its own: what was there stays as it is. `python later.py [--out DIR]`."""
import argparse
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
import torch
from diffusers import HeunDiscreteScheduler, UNet2DConditionModel

import networks
import tables
from build import GAINS, fact, fit_noise, initialise, randn, representable
from build_family import load, save
from measure import NARROW, Set, allow_float64
from schedulers import BETAS, TRAILING, trajectory


def heun(golden, rng):
    variants = {
        "heun_5": (BETAS, 5, None),
        "heun_karras_v_6": (BETAS | dict(use_karras_sigmas=True, prediction_type="v_prediction"), 6, None),
        "heun_img2img_trailing_4": (TRAILING, 4, 4),    # two levels are left out, each asked twice
    }
    for name, (config, n, begin) in variants.items():
        s, settings = HeunDiscreteScheduler(**config), dict(num_inference_steps=n)
        trajectory(golden, name, s, settings, randn(rng, 1, 4, 5, 3), rng, begin)


def attention(golden, rng, facts):
    """A U-Net with blocks whose pixels attend to one another without the text."""
    width, place = 12, golden.out / "models/extras/unet-attn-like"
    model = initialise(UNet2DConditionModel(
        block_out_channels=[8, 12, 16], attention_head_dim=4, cross_attention_dim=width, norm_num_groups=4,
        sample_size=8, layers_per_block=1, mid_block_type="UNetMidBlock2DCrossAttn",
        down_block_types=["AttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "AttnUpBlock2D"]), rng, GAINS)
    r2 = fit_noise(model, randn(rng, 8, 77, width), rng)
    facts["unet.attn-like"] = fact(representable(model), noise_fit_r2=r2, random_mix_std=0.25)
    save(model, place)
    context = {k: randn(rng, 1, 77, width) for k in ("p0", "p1")}
    networks.unet(golden, "attn-like", "extras/unet-attn-like", load(UNet2DConditionModel, place), context,
                  (6, 5), "up_blocks.1.attentions.0", "up_blocks.1.resnets.0", rng, facts, NARROW)


@torch.no_grad()
def add(out):
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    golden, facts = Set(out), {}
    heun(golden, np.random.default_rng(manifest["seed"] + 2000))
    attention(golden, np.random.default_rng(manifest["seed"] + 3000), facts)
    manifest["models"] |= facts
    manifest["cases"] |= golden.cases
    path.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    tables.write(out)
    assert not golden.faults, "\n".join(golden.faults)
    print(f"{len(golden.cases)} cases later")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    torch.set_num_threads(1)
    allow_float64()
    add(parser.parse_args().out)
