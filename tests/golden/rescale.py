"""Velocity models that end in noise alone, drawn with rescaled guidance: the last latents.

`python rescale.py` writes ref/rescale.safetensors. Made with diffusers 0.42.1 and torch 2.15.0; nothing of the set depends
on it. The prompts, seeds and options are repeated in tests/rescale.rs.
"""
import os
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error")

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
SNR = dict(rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")


@torch.no_grad()
def draw(kind, folder, scheduler, rescale, count):
    pipe = kind.from_pretrained(HERE / "models" / folder, dtype=torch.float32, variant="fp16", safety_checker=None)
    config = {k: v for k, v in pipe.scheduler.config.items() if k not in SNR}
    pipe.scheduler = scheduler.from_config(config, **SNR)
    pipe.set_progress_bar_config(disable=True)
    made = pipe("a paper boat", negative_prompt="the night train", num_inference_steps=3, guidance_scale=6.5,
                guidance_rescale=rescale, num_images_per_prompt=count, height=64, width=48,
                generator=torch.Generator().manual_seed(11), output_type="latent")
    return made.images.contiguous()


def main():
    torch.set_num_threads(1)
    sd, xl = StableDiffusionPipeline, StableDiffusionXLPipeline
    save_file({
        "sd15 euler 0": draw(sd, "sd15-like", EulerDiscreteScheduler, 0.0, 1),
        "sd15 euler 0.7": draw(sd, "sd15-like", EulerDiscreteScheduler, 0.7, 2),
        "sd15 ddim 1": draw(sd, "sd15-like", DDIMScheduler, 1.0, 1),
        "sdxl euler 0.7": draw(xl, "sdxl-like", EulerDiscreteScheduler, 0.7, 1),
    }, HERE / "ref/rescale.safetensors")


if __name__ == "__main__":
    main()
