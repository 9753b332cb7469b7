"""Timesteps and sigmas of every scheduler for every number of steps."""
import json

import diffusers

from schedulers import DDIM, LCM, LEADING, PNDM, TRAILING, BETAS, public

DPM = BETAS | dict(steps_offset=1)
KARRAS = dict(use_karras_sigmas=True)
SCHEDULERS = {
    "euler_trailing": ("EulerDiscreteScheduler", TRAILING),
    "euler_leading": ("EulerDiscreteScheduler", LEADING),
    "euler_linspace_karras": ("EulerDiscreteScheduler", BETAS | KARRAS),
    "euler_ancestral_leading": ("EulerAncestralDiscreteScheduler", LEADING),
    "heun": ("HeunDiscreteScheduler", BETAS),
    "lcm": ("LCMScheduler", LCM),
    "tcd": ("TCDScheduler", LCM),
    "ddim": ("DDIMScheduler", DDIM),
    "ddim_trailing": ("DDIMScheduler", DDIM | dict(timestep_spacing="trailing")),
    "pndm": ("PNDMScheduler", PNDM),
    "dpm": ("DPMSolverMultistepScheduler", DPM),
    "dpm_leading_karras": ("DPMSolverMultistepScheduler", DPM | KARRAS | dict(timestep_spacing="leading")),
    "flow": ("FlowMatchEulerDiscreteScheduler", dict(shift=3.0)),
}


def tables():
    made = {}
    for name, (kind, config) in SCHEDULERS.items():
        s = getattr(diffusers, kind)(**config)
        rows = {}
        for n in range(1, 51):
            try:
                s.set_timesteps(n)
            except (ValueError, IndexError):    # some cannot make so few or so many
                continue
            rows[n] = {"timesteps": [float(f"{float(t):.7g}") for t in s.timesteps]}
            if hasattr(s, "sigmas") and kind != "TCDScheduler":
                rows[n]["sigmas"] = [float(f"{v:.7g}") for v in s.sigmas.tolist()]
        made[name] = {"config": {"_class_name": kind} | public(s.config), "rows": rows}
    return made


def write(out):
    rows = json.dumps(tables(), separators=(",", ":")).replace('"rows"', '\n"rows"').replace("]},", "]},\n")
    (out / "ref/sched/tables.json").write_text(rows + "\n")
