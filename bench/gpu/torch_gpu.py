"""Times diffusers on a GPU: `python torch_gpu.py --configs DIR [--size WxH] [--device cuda] [--budget S]`.

The networks of a model, from its configurations, with random weights: text encoder, one step of the U-Net without guidance,
decoder. In fp32 (without TF32), in fp16, and in fp16 compiled by torch.compile. A line of JSON for each: milliseconds, the best of
the runs after the first ones.
"""
import argparse
import json
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

WARM, ROUNDS = 3, 10


def networks(configs, width, height, device, dtype):
    """By name: a function of no arguments, that runs the network once."""
    made = {}
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(configs / "unet"))
    unet = unet.to(device, dtype).eval()
    vae = AutoencoderKL.from_config(AutoencoderKL.load_config(configs / "vae")).to(device, dtype).eval()
    latent = torch.randn(1, unet.config.in_channels, height // 8, width // 8, device=device, dtype=dtype)
    tokens = torch.randn(1, 77, unet.config.cross_attention_dim, device=device, dtype=dtype)
    more = {}
    if unet.config.addition_embed_type == "text_time":
        pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        more["added_cond_kwargs"] = {"text_embeds": torch.randn(1, pooled, device=device, dtype=dtype),
                                     "time_ids": torch.tensor([[height, width, 0, 0, height, width]], device=device, dtype=dtype)}
    ids = torch.randint(0, 49407, (1, 77), device=device)
    for folder, of in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)):
        if (configs / folder).is_dir():
            config = CLIPTextConfig.from_pretrained(configs / folder)
            made[folder] = of(config).to(device, dtype).eval(), (ids,), {}
    made["unet"] = unet, (latent, 999, tokens), more
    made["decoder"] = vae.decode, (latent,), {}
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=Path, required=True)
    parser.add_argument("--size", default="512x512")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--budget", type=float, default=120, help="seconds; what does not fit is left out")
    options = parser.parse_args()
    synchronize = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    width, height = map(int, options.size.split("x"))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    # Random weights of a billion values are made there too.
    torch.set_default_device(options.device)
    begun = time.perf_counter()
    for name, dtype, compiled in (("fp32", torch.float32, False), ("fp16", torch.float16, False), ("fp16 compiled", torch.float16, True)):
        made = networks(options.configs, width, height, options.device, dtype)
        for network, (call, args, kwargs) in made.items():
            if time.perf_counter() - begun > options.budget:
                print(json.dumps({"how": name, "network": network, "left_out": f"after {options.budget:.0f} s"}), flush=True)
                continue
            try:
                call = torch.compile(call) if compiled else call
                seconds = []
                with torch.inference_mode():
                    for run in range(WARM + ROUNDS):
                        synchronize()
                        start = time.perf_counter()
                        call(*args, **kwargs)
                        synchronize()
                        if run >= WARM:
                            seconds.append(time.perf_counter() - start)
                        if seconds and time.perf_counter() - begun > options.budget:
                            break
                print(json.dumps({"how": name, "network": network, "ms": 1000 * min(seconds)}), flush=True)
            except Exception as error:
                print(json.dumps({"how": name, "network": network, "left_out": str(error).splitlines()[0][:200]}), flush=True)
        del made
        if options.device == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps({"torch": torch.__version__,
                      "gpu": torch.cuda.get_device_name() if options.device == "cuda" else "CPU"}), flush=True)


if __name__ == "__main__":
    main()
