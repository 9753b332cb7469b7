"""What joined the set later, with numbers of its own: what was there stays as it is. `python later.py [--out DIR]`."""
import argparse
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
import torch
from diffusers import HeunDiscreteScheduler

import tables
from build import randn
from measure import Set
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


def add(out):
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    golden = Set(out)
    heun(golden, np.random.default_rng(manifest["seed"] + 2000))
    manifest["cases"] |= golden.cases
    path.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    tables.write(out)
    print(f"{len(golden.cases)} cases later")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    torch.set_num_threads(1)
    add(parser.parse_args().out)
