"""Makes what the engines are compared on: `python export.py [--out DIR] [--only CASE ...]`.

Three networks with seeded random weights: a U-Net shaped like SD-Turbo's at half width, the KL decoder
of Stable Diffusion, and CLIP ViT-L's text encoder. Each is written as a diffusers folder (CASE/), as
ONNX with fixed shapes (CASE.onnx), both in f32, and with its inputs and what PyTorch makes of them
(CASE.safetensors). The fourth case, a whole picture, is in picture.py. What is there already is left alone.
"""
import argparse
import os
import sys
import time
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TRANSFORMERS_VERBOSITY="error",
                  DIFFUSERS_VERBOSITY="error")

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/golden"))
import build        # the golden set's scale of random weights
import picture

OPSET = 20          # the first with Gelu as one operation

# WebGPU lets a sine be off by 5e-4, and one of the engines computes the time embedding with it: what is
# compared is everything behind that, so the embedding counts for less than in the golden set.
TIME = [(r"time_emb", 0.8)]


def unet():
    """SD-Turbo's configuration with half the channels and heads."""
    return UNet2DConditionModel(
        sample_size=32, block_out_channels=[160, 320, 640, 640], attention_head_dim=[2, 5, 10, 10],
        cross_attention_dim=1024, use_linear_projection=True)


def vae():
    """Stable Diffusion's, at full width."""
    return AutoencoderKL(
        block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        sample_size=768)


def text_encoder():
    """Stable Diffusion 1.5's. Its attention is written out, which is what the exporter can trace."""
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, projection_dim=768,
        num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu",
        attn_implementation="eager"))


class Only(torch.nn.Module):
    """A network as a function of tensors."""

    def __init__(self, network, call):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, *inputs):
        return self.call(self.network, *inputs)


def ids(rng):
    """A prompt of twelve words, as the tokenizer pads it."""
    words = rng.integers(300, 40000, 12)
    return torch.tensor([[49406, *words.tolist(), 49407, *[49407] * 63]])


# The network, its gains, its inputs by name, its output's name, and how it is called.
CASES = {
    "unet": (unet, TIME + build.GAINS,
             lambda rng: {"sample": build.randn(rng, 1, 4, 32, 32),
                          "timestep": torch.tensor([999.0]),
                          "encoder_hidden_states": build.randn(rng, 1, 77, 1024)},
             "sample", lambda n, *x: n(*x, return_dict=False)[0]),
    # Without the scaling, which belongs to the pipeline.
    "vae": (vae, build.GAINS, lambda rng: {"z": build.randn(rng, 1, 4, 32, 32)},
            "sample", lambda n, x: n.decoder(n.post_quant_conv(x))),
    "text_encoder": (text_encoder, build.TEXT_L, lambda rng: {"input_ids": ids(rng)},
                     "last_hidden_state", lambda n, x: n(x).last_hidden_state),
}
NAMES = [*CASES, "picture"]


@torch.no_grad()
def make(out, name):
    onnx, reference = out / f"{name}.onnx", out / f"{name}.safetensors"
    if reference.exists():      # written last
        print(f"{name}: already there")
        return
    begun = time.time()
    rng = np.random.default_rng([20, NAMES.index(name)])
    whole = name == "picture"
    if whole:
        network = picture.Picture(rng, TIME).eval()
        inputs, output = network.inputs(rng, ids), "image"
    else:
        network, gains, inputs, output, call = CASES[name]
        network = build.initialise(network(), rng, gains)
        network.save_pretrained(out / name, max_shard_size="4GB")
        inputs = inputs(rng)
        network = Only(network, call).eval()
    result = network(*inputs.values()).contiguous()
    assert result.isfinite().all()

    def export(path):
        torch.onnx.export(network, tuple(inputs.values()), str(path), input_names=list(inputs),
                          output_names=[f"out.{output}"], opset_version=OPSET, dynamo=False)

    weights = sum(p.numel() for p in network.parameters())
    if whole:
        picture.gather(onnx, export)
        network.save(out / name)
        picture.quantise(onnx, out / f"{name}.q8.onnx")
    else:
        export(onnx)
    save_file({**{f"in.{key}": value for key, value in inputs.items()}, f"out.{output}": result},
              str(reference))
    print(f"{name}: {weights / 1e6:.0f} M weights, output {list(result.shape)} of deviation "
          f"{result.std():.2f}, {time.time() - begun:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "target/peers")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        make(options.out, name)


if __name__ == "__main__":
    main()
