"""Schedulers: what each makes of a sequence of model outputs, and every class with its variants."""
import inspect
import math

import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler,
                       PNDMScheduler, TCDScheduler)

from build import randn
from measure import EXACT

BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
TRAILING = BETAS | dict(timestep_spacing="trailing", steps_offset=1)
LEADING = BETAS | dict(timestep_spacing="leading", steps_offset=1)
DDIM = BETAS | dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
PNDM = BETAS | dict(skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
LCM = BETAS | dict(clip_sample=False)


def public(config):
    """Without names of the library's own, and without infinities, which JSON has not: each is the
    default of its key."""
    infinite = lambda v: isinstance(v, float) and math.isinf(v)
    return {k: v for k, v in config.items() if not k.startswith("_") and not infinite(v)}


def trajectory(golden, name, s, settings, noise, rng, begin=None, **how):
    """Stores the steps from `noise` on; `begin` is the first step when some are left out."""
    s.set_timesteps(**settings)
    start = getattr(s, "init_noise_sigma", None)
    x = noise if start is None else noise * start
    if begin:
        s.set_begin_index(begin)
    known = inspect.signature(s.step).parameters
    t, g = {"x0": x}, torch.Generator().manual_seed(5)
    if "generator" in known:
        how["generator"] = g
    for i, step in enumerate(s.timesteps[begin or 0:]):
        t[f"scaled.{i}"] = s.scale_model_input(x, step) if hasattr(s, "scale_model_input") else x
        t[f"model_output.{i}"] = e = randn(rng, *x.shape)
        before = g.get_state()
        o = s.step(e, step, x, **how)
        t[f"prev_sample.{i}"] = x = o.prev_sample
        for key in ("pred_original_sample", "denoised", "pred_noised_sample"):
            if getattr(o, key, None) is not None:
                t[f"{key}.{i}"] = getattr(o, key)
        if not torch.equal(before, g.get_state()):      # it drew: draw the same again
            again = torch.Generator()
            again.set_state(before)
            t[f"noise.{i}"] = torch.randn(x.shape, generator=again)
    fields = {"class": type(s).__name__, "config": public(s.config), "set_timesteps": settings,
              "timesteps": s.timesteps.tolist(),
              "init_noise_sigma": None if start is None else float(start)}
    if hasattr(s, "sigmas") and not isinstance(s, TCDScheduler):
        fields["sigmas"] = s.sigmas.tolist()
    if begin is not None:
        fields["begin_index"] = begin
    golden.add(f"sched/{name}", t, EXACT, **fields, generator_seed=5)


def family(golden, rng):
    def run(name, s, n=None, begin=None, eta=None, **settings):
        settings |= {} if n is None else dict(num_inference_steps=n)
        how = {} if eta is None else dict(eta=eta)
        # 60 numbers: no multiple of 16, where the generator's groups end.
        trajectory(golden, name, s, settings, randn(rng, 1, 4, 5, 3), rng, begin, **how)

    def dpm(**more):
        return DPMSolverMultistepScheduler(**BETAS | dict(algorithm_type="dpmsolver++") | more)

    run("euler_karras_7", EulerDiscreteScheduler(**LEADING, use_karras_sigmas=True), 7)
    run("euler_img2img_trailing_4_strength_0.5", EulerDiscreteScheduler(**TRAILING), 4, begin=2)
    for n in (1, 3):
        run(f"euler_ancestral_trailing_{n}", EulerAncestralDiscreteScheduler(**TRAILING), n)
    run("lcm_from_sd15_4", LCMScheduler.from_config(PNDMScheduler(**PNDM).config), 4)
    run("lcm_4_original100", LCMScheduler(**LCM), 4, original_inference_steps=100)
    run("lcm_img2img_4_strength_0.5", LCMScheduler(**LCM), 4, begin=0, strength=0.5)
    run("lcm_clip_4", LCMScheduler(**LCM | dict(clip_sample=True)), 4)
    run("ddim_10", DDIMScheduler(**DDIM), 10)
    run("ddim_10_eta1", DDIMScheduler(**DDIM), 10, eta=1.0)
    run("ddim_trailing_4", DDIMScheduler(**LCM, timestep_spacing="trailing"), 4)
    run("dpmpp_2m_10", dpm(), 10)
    run("dpmpp_2m_10_leading", dpm(timestep_spacing="leading", steps_offset=1), 10)
    run("dpmpp_2m_karras_10", dpm(use_karras_sigmas=True), 10)
    run("dpmpp_2m_4", dpm(), 4)
    run("dpmpp_2m_sde_6", dpm(algorithm_type="sde-dpmsolver++"), 6)
    run("pndm_7", PNDMScheduler(**PNDM), 7)
    run("tcd_4_eta0.3", TCDScheduler(**LCM), 4, eta=0.3)
    run("tcd_1", TCDScheduler(**LCM), 1)
    run("flow_euler_sd3_6", FlowMatchEulerDiscreteScheduler(shift=3.0), 6)
    run("flow_euler_schnell_4", FlowMatchEulerDiscreteScheduler(), sigmas=[1.0, 0.75, 0.5, 0.25])
