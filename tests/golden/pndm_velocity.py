"""Samples of diffusers' PNDM for a model that predicts velocity, one number: python pndm_velocity.py"""

import torch
from diffusers import PNDMScheduler

STEPS = 6

scheduler = PNDMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True,
                          steps_offset=1, prediction_type="v_prediction")
scheduler.set_timesteps(STEPS)
sample = torch.tensor([0.75], dtype=torch.float64)
for i, t in enumerate(scheduler.timesteps):
    output = torch.tensor([0.5 - 0.125 * i], dtype=torch.float64)
    sample = scheduler.step(output, t, sample).prev_sample
    print(f"{sample.item():.7f}")
