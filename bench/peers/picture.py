"""The whole picture: SD-Turbo at full width, one step at 256x256, from tokens to the decoder's output.

Weights are random, as in export.py, and rounded to halves, so that the diffusers folder (picture/, in f16),
the graph in f32 (picture.onnx) and PyTorch compute with the same numbers. picture.q8.onnx is the same
graph with 8 bits a weight, as ONNX Runtime's own tools make it. Weights of both graphs lie beside them, in one
file each.
"""
import shutil
import tempfile
from pathlib import Path

import onnx
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import CLIPTextConfig, CLIPTextModel

import build

# What the decoder gets of one step with random weights is a hundred times as large as a trained U-Net's latent.
VAE = [(r"post_quant_conv|^decoder\.conv_in", 0.1)] + build.GAINS


class Picture(torch.nn.Module):
    """The pipeline of SD-Turbo at one step, as a function of tensors."""

    def __init__(self, rng, time):
        super().__init__()
        # OpenCLIP's ViT-H without its last layer. Its attention is written out, for the exporter.
        text = CLIPTextModel(CLIPTextConfig(
            vocab_size=49408, hidden_size=1024, intermediate_size=4096, projection_dim=512,
            num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu", attn_implementation="eager"))
        unet = UNet2DConditionModel(
            sample_size=64, block_out_channels=[320, 640, 1280, 1280], attention_head_dim=[5, 10, 20, 20],
            cross_attention_dim=1024, use_linear_projection=True)
        vae = AutoencoderKL(
            block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
            sample_size=768)
        gains = {"text_encoder": build.TEXT_H, "unet": time + build.GAINS, "vae": VAE}
        for name, network in zip(gains, (text, unet, vae)):
            setattr(self, name, build.representable(build.initialise(network, rng, gains[name])))
        scheduler = EulerDiscreteScheduler(**build.EULER)
        scheduler.set_timesteps(1)
        self.timestep, self.sigma = scheduler.timesteps[0].item(), scheduler.sigmas[0].item()

    def inputs(self, rng, ids):
        """Tokens, and noise as strong as the first sigma."""
        return {"input_ids": ids(rng), "sample": self.sigma * build.randn(rng, 1, 4, 32, 32)}

    def forward(self, ids, sample):
        text = self.text_encoder(ids).last_hidden_state
        scaled = sample / (self.sigma ** 2 + 1) ** 0.5
        epsilon = self.unet(scaled, torch.tensor([self.timestep]), text, return_dict=False)[0]
        z = (sample - self.sigma * epsilon) / self.vae.config.scaling_factor
        return self.vae.decoder(self.vae.post_quant_conv(z))

    def save(self, folder):
        """Writes the networks as diffusers has them, in f16. They are halves from then on."""
        for name, network in self.named_children():
            network.half().save_pretrained(folder / name, max_shard_size="4GB")


def gather(out, export):
    """Writes the graph that `export` makes at a path, with its weights in one file beside it."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        # PyTorch's exporter writes a file for each tensor once a graph is larger than 2 GB.
        export(Path(folder) / out.name)
        model = onnx.load(Path(folder) / out.name)
    beside = f"{out.name}.data"
    out.with_name(beside).unlink(missing_ok=True)      # it would be appended to
    onnx.save_model(model, out, save_as_external_data=True, location=beside)


def quantise(full, out):
    """Writes the graph with bytes for weights; activations are quantised too, at each run."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        made = Path(folder) / out.name
        quantize_dynamic(full, made, per_channel=True, weight_type=QuantType.QUInt8, use_external_data_format=True)
        for file in (made, made.with_name(f"{made.name}.data")):
            shutil.move(file, out.with_name(file.name))
