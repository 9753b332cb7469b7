"""Schedulers whose configuration is not their own, or ends in noise alone: one number all the way.

`python variants.py` writes ref/sched/variants.json. Made with diffusers 0.42.1 and torch 2.15.0; nothing of the set
depends on it.
"""
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import diffusers
import torch

MODEL = [0.5, -0.25, 1.0, 0.75, -1.5, 0.25, -0.5, 1.25, 0.125]
NOISE = [1.0, -0.5, 0.25, -1.0, 0.5, 0.75, -0.25, 1.5, -0.75]
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SNR = BETAS | dict(rescale_betas_zero_snr=True, prediction_type="v_prediction")
TRAILING = SNR | dict(timestep_spacing="trailing")
EULER, ANCESTRAL, HEUN = (f"{kind}Scheduler" for kind in ("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete"))
DPM, DDIM, PNDM, LCM, TCD = (f"{kind}Scheduler" for kind in ("DPMSolverMultistep", "DDIM", "PNDM", "LCM", "TCD"))
UNIPC, DDPM = (f"{kind}Scheduler" for kind in ("UniPCMultistep", "DDPM"))

# Name: the configuration's class, its keys, the class that runs, steps, eta.
CASES = {
    "snr euler": (EULER, TRAILING, EULER, 4, None),
    "snr euler leading": (EULER, SNR | dict(timestep_spacing="leading", steps_offset=1), EULER, 4, None),
    "snr euler karras": (EULER, SNR | dict(use_karras_sigmas=True), EULER, 5, None),
    "snr euler squared cosine": (EULER, TRAILING | dict(beta_schedule="squaredcos_cap_v2"), EULER, 4, None),
    "snr euler epsilon": (EULER, TRAILING | dict(prediction_type="epsilon"), EULER, 4, None),
    "snr euler ancestral": (ANCESTRAL, TRAILING, ANCESTRAL, 4, None),
    "snr dpm": (DPM, TRAILING, DPM, 5, None),
    "snr dpm karras": (DPM, SNR | dict(use_karras_sigmas=True), DPM, 5, None),
    "snr dpm sde": (DPM, TRAILING | dict(algorithm_type="sde-dpmsolver++"), DPM, 4, None),
    "snr ddim": (DDIM, TRAILING | dict(clip_sample=False), DDIM, 4, None),
    "snr ddim eta": (DDIM, TRAILING | dict(clip_sample=False, set_alpha_to_one=False), DDIM, 4, 0.7),
    "snr lcm": (LCM, SNR, LCM, 4, None),
    "snr tcd": (TCD, SNR, TCD, 4, 0.0),
    "snr tcd eta": (TCD, SNR, TCD, 4, 0.4),
    "snr linear ddim": (DDIM, dict(rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False,
                                   prediction_type="v_prediction", num_train_timesteps=500), DDIM, 5, None),
    "heun defaults": (HEUN, {}, HEUN, 3, None),
    "pndm to heun": (PNDM, BETAS | dict(skip_prk_steps=True, steps_offset=1), HEUN, 3, None),
    "pndm defaults to heun": (PNDM, {}, HEUN, 3, None),
    # diffusers refuses the last level zero beside "deis" before it takes the word for "dpmsolver++".
    "deis words to dpm": (DPM, BETAS | dict(algorithm_type="deis", solver_type="logrho", use_karras_sigmas=True,
                                            final_sigmas_type="sigma_min"), DPM, 5, None),
    "unipc bh1 to dpm": (UNIPC, BETAS | dict(solver_type="bh1", predict_x0=True, timestep_spacing="trailing"), DPM, 4,
                         None),
    "unipc bh2 to euler": (UNIPC, BETAS | dict(solver_type="bh2", final_sigmas_type="sigma_min", steps_offset=1,
                                               timestep_spacing="leading"), EULER, 4, None),
    "dpm sde to euler": (DPM, BETAS | dict(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True,
                                           timestep_spacing="leading", solver_order=3), EULER, 4, None),
    "dpm heun to dpm": (DPM, BETAS | dict(solver_type="heun"), DPM, 4, None),
    "ddpm to dpm": (DDPM, BETAS | dict(variance_type="fixed_small", clip_sample=False), DPM, 4, None),
    "ddpm to ddim": (DDPM, BETAS | dict(variance_type="fixed_small", clip_sample=True, clip_sample_range=0.5), DDIM, 4,
                     None),
    "euler to lcm": (EULER, BETAS | dict(timestep_spacing="trailing", steps_offset=1), LCM, 4, None),
    "ddim to tcd": (DDIM, BETAS | dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1), TCD, 4, 0.0),
    "snr ddim to euler": (DDIM, TRAILING | dict(clip_sample=False), EULER, 4, None),
    "snr euler to heun": (EULER, SNR, HEUN, 3, None),
}


def run(before, keys, after, steps, eta):
    made = getattr(diffusers, before)(**keys)
    s = getattr(diffusers, after).from_config(made.config)
    s.set_timesteps(steps)
    x = torch.tensor([0.8]) * s.init_noise_sigma
    first, samples = x.item(), []
    for i, t in enumerate(s.timesteps):
        noise = lambda shape, *_, i=i, **__: torch.tensor([NOISE[i]]).reshape(shape)
        sys.modules[type(s).__module__].randn_tensor = noise
        how = {} if eta is None else dict(eta=eta)
        x = s.step(torch.tensor([MODEL[i]]), t, x, **how).prev_sample
        samples.append(x.item())
    return {"config": {"_class_name": before} | keys, "class": after, "steps": steps, "eta": eta, "first": first,
            "timesteps": [float(t) for t in s.timesteps], "samples": samples}


def main():
    rows = {name: run(*case) for name, case in CASES.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    inputs = f'"model": {json.dumps(MODEL)}, "noise": {json.dumps(NOISE)}'
    path = Path(__file__).resolve().parent / "ref/sched/variants.json"
    path.write_text(f'{{{inputs}, "cases": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
