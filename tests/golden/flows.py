"""Schedulers of diffusion transformers, and networks that mean something else than their schedulers: one number all the way.

`python flows.py` writes ref/sched/flows.json. Made with diffusers 0.36.0 and torch 2.9.1; nothing of the set depends on it.
"""
import json
import sys
from pathlib import Path
from types import SimpleNamespace

sys.dont_write_bytecode = True

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SanaSprintPipeline, SCMScheduler, ZImagePipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from diffusers.schedulers import scheduling_scm

COUNTS = (1, 2, 3, 4, 7, 20, 50)
TOKENS = (24, 1024, 4096, 4300, 4301, 8192)
MODEL = [0.5, -0.25, 1.0, 0.75, -1.5, 0.25, -0.5]
NOISE = [1.0, -0.5, 0.25, -1.0, 0.5, 0.75, -0.25]
FIRST = 0.75
DYNAMIC = dict(shift=3.0, use_dynamic_shifting=True)

# Name: keys of the configuration, whether the levels are even, mu for a number of steps.
FLOWS = {
    "even": (dict(shift=1.0), True, None),
    "even, shifted": (dict(shift=3.0), True, None),
    "by mu": (DYNAMIC, False, lambda n: calculate_shift(1024)),
    "even, by mu": (DYNAMIC, True, lambda n: compute_empirical_mu(1024, n)),
    "even, by mu of a large image": (DYNAMIC, True, lambda n: compute_empirical_mu(4096, n)),
    "even, linear in mu": (DYNAMIC | dict(time_shift_type="linear"), True, lambda n: 1.75),
    "stretched": (dict(shift=2.5, shift_terminal=0.1), False, None),
    "even, by mu, stretched": (DYNAMIC | dict(shift_terminal=0.02), True, lambda n: calculate_shift(4096)),
}


def even(n):
    return np.linspace(1.0, 1 / n, n).tolist()


def digits(values):
    return [float(f"{v:.8g}") for v in values]


def number(x):
    return x.flatten()[0].item()


def samples(s):
    x, made = torch.tensor([FIRST]), []
    for t, model in zip(s.timesteps, MODEL):
        x = s.step(torch.tensor([model]), t, x).prev_sample
        made.append(x.item())
    return digits(made)


def flow(keys, is_even, mu):
    rows = {}
    for n in COUNTS:
        if n == 1 and keys.get("shift_terminal"):   # divides by 0
            continue
        s = FlowMatchEulerDiscreteScheduler(**keys)
        how = {"sigmas": even(n)} if is_even else {}
        if mu:
            how["mu"] = mu(n)
        s.set_timesteps(n, **how)
        rows[n] = {"mu": how.get("mu"), "timesteps": digits(s.timesteps.tolist()), "sigmas": digits(s.sigmas.tolist())}
        if n <= len(MODEL):
            rows[n]["samples"] = samples(s)
    return {"config": {"_class_name": "FlowMatchEulerDiscreteScheduler"} | keys, "even": is_even, "rows": rows}


class Network(torch.nn.Module):
    """Gives the numbers of MODEL, and remembers what it was told and shown."""
    device, dtype, in_channels = torch.device("cpu"), torch.float32, 1
    config = SimpleNamespace(in_channels=1, guidance_embeds_scale=0.1, sample_size=32)

    def __init__(self):
        super().__init__()
        self.told, self.seen = [], []

    def forward(self, x, timestep, *_, **__):
        many = isinstance(x, list)
        x = x[0] if many else x
        made = torch.full_like(x, MODEL[len(self.seen)])
        self.told.append(timestep.item())
        self.seen.append(number(x))
        return ([made] if many else made,)


def pipeline(kind, scheduler, size, cells, **how):
    """What a pipeline tells and shows its network, and the latents after each step."""
    network, latents = Network(), []
    keep = lambda _, step, t, tensors: latents.append(number(tensors["latents"])) or {}
    pipe = kind(tokenizer=None, text_encoder=None, vae=None, transformer=network, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    how |= dict(height=size, width=size, latents=torch.full((1, 1, cells, cells), FIRST))
    last = pipe(callback_on_step_end=keep, output_type="latent", return_dict=False, **how)[0]
    return {"told": digits(network.told), "seen": digits(network.seen), "latents": digits(latents),
            "last": digits([number(last)])[0]}


def angles(n):
    return dict(num_inference_steps=n, intermediate_timesteps=1.3 if n == 2 else None)


def sprint(n):
    drawn = []
    scheduling_scm.randn_tensor = lambda shape, **_: torch.full(shape, drawn.append(0) or NOISE[len(drawn) - 1])
    prompt = dict(prompt_embeds=torch.zeros(1, 1, 1), prompt_attention_mask=torch.ones(1, 1))
    made = pipeline(SanaSprintPipeline, SCMScheduler(), 32, 1, **angles(n), **prompt, use_resolution_binning=False)
    return made | {"draws": len(drawn)}


def scm(n):
    s = SCMScheduler()
    s.set_timesteps(**angles(n))
    return digits(s.timesteps.tolist())


def z_image(n):
    s = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return pipeline(ZImagePipeline, s, 16, 2, num_inference_steps=n, sigmas=even(n), guidance_scale=0.0,
                    prompt_embeds=[torch.zeros(1, 1)])


def main():
    mu = {f"{tokens}/{n}": compute_empirical_mu(tokens, n) for tokens in TOKENS for n in (1, 4, 50, 200)}
    made = {
        "first": FIRST, "model": MODEL, "noise": NOISE,
        "linear mu": {tokens: calculate_shift(tokens) for tokens in TOKENS}, "empirical mu": mu,
        "flows": {name: flow(*how) for name, how in FLOWS.items()},
        "scm": {n: scm(n) for n in COUNTS},
        "sana-sprint": {n: sprint(n) for n in (1, 2, 4)},
        "z-image": {n: z_image(n) for n in (1, 4)},
    }
    path = Path(__file__).resolve().parent / "ref/sched/flows.json"
    text = json.dumps(made, separators=(",", ":"))
    path.write_text(text.replace('},"', '},\n"').replace('],"', '],\n"') + "\n")


if __name__ == "__main__":
    main()
