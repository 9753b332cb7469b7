"""IP-Adapters of other kinds, beside the networks that family.py made: `python adapters.py [--out DIR]`.

Plus for sd15-like and sdxl-like, and full face for sd15-like, each one file under the published names beside the image
encoder of extras/ip-adapter, and pipelines with them. Nothing that was there changes. Made with diffusers 0.42.1,
transformers 5.24 and torch 2.15.0, whose normals are those of the set's versions in float32.
"""
import argparse
import copy
import json
import os
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error")

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.models.embeddings import IPAdapterFullImageProjection, IPAdapterPlusImageProjection
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection
from transformers.models.clip import modeling_clip

import build_family
import extras
import measure
import pipes
from build import initialise, randn, representable
from family_pipes import CLIP, NEGATIVE, SCHEDULERS, SIZE

# Tokens are far from uniform in what they look at, and keep more of it than of themselves.
GAINS = [(r"to_q|to_k", 2.5), (r"to_v|to_out|net\.", 1.2), (r"", 1.0)]
# A narrow stream with one head of 64 or two.
PLUS = {"sd15-like": dict(hidden_dims=16, heads=2, num_queries=5), "sdxl-like": dict(hidden_dims=12, heads=1, num_queries=3)}
FOLDER = "extras/ip-adapter"


def load(kind, folder):
    # Later libraries keep the files' type unless they are told.
    return build_family.load(kind, folder, dtype=torch.float32)


def plus_names(net):
    """The published names: keys and values in one matrix, and no biases inside."""
    t = {"latents": net.latents}
    for name in ("proj_in", "proj_out", "norm_out"):
        t |= {f"{name}.{k}": v for k, v in getattr(net, name).named_parameters()}
    for i, block in enumerate(net.layers):
        norm, feed = block.ff
        for name, m in (("0.norm1", block.ln0), ("0.norm2", block.ln1), ("1.0", norm)):
            t |= {f"layers.{i}.{name}.{k}": v for k, v in m.named_parameters()}
        matrices = {"0.to_q": block.attn.to_q.weight, "0.to_out": block.attn.to_out[0].weight,
                    "0.to_kv": torch.cat([block.attn.to_k.weight, block.attn.to_v.weight]),
                    "1.1": feed.net[0].proj.weight, "1.3": feed.net[2].weight}
        t |= {f"layers.{i}.{name}.weight": v for name, v in matrices.items()}
    return t


def full_names(net):
    first, _, second = net.ff.net
    parts = {"proj.0": first.proj, "proj.2": second, "proj.3": net.norm}
    return {f"{name}.{k}": v for name, m in parts.items() for k, v in m.named_parameters()}


def write(golden, file, unet, net, names, rng):
    width = unet.config.cross_attention_dim
    representable(initialise(net, rng, GAINS))
    t = {f"image_proj.{k}": v for k, v in names(net).items()}
    text = [m for n, m in extras.attentions(unet) if n.endswith("attn2")]
    for i, m in enumerate(text):
        for letter in "kv":
            t[f"ip_adapter.{2 * i + 1}.to_{letter}_ip.weight"] = randn(rng, m.to_k.out_features, width) * 1.4 / width ** 0.5
    save_file({k: v.detach().half().contiguous() for k, v in t.items()}, golden.out / "models" / FOLDER / file)
    return {"params": sum(v.numel() for v in t.values())}


def with_adapter(golden, kind, model, file, net, scale):
    """A pipeline that read the file as the library does, which must be the network that was written."""
    place = golden.out / "models"
    pipe = load(kind, place / model)
    encoder = load(CLIPVisionModelWithProjection, place / FOLDER / "image_encoder")
    processor = CLIPImageProcessor.from_pretrained(place / FOLDER / "feature_extractor")
    pipe = pipes.remade(kind, pipe, unet=copy.deepcopy(pipe.unet), image_encoder=encoder, feature_extractor=processor)
    pipe.load_ip_adapter(place / FOLDER, subfolder="", weight_name=file, image_encoder_folder=None)
    pipe.set_ip_adapter_scale(scale)
    read = pipe.unet.encoder_hid_proj.image_projection_layers[0].state_dict()
    assert all(torch.equal(v, read[k]) for k, v in net.state_dict().items()), file
    return pipe


@torch.no_grad()
def add(out):
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    golden, facts = measure.Set(out), {}
    rng = np.random.default_rng(manifest["seed"] + 4000)
    prompts = json.loads((out / "ref/tokens.json").read_text())["prompts"]
    states = json.loads((out / "models" / FOLDER / "image_encoder/config.json").read_text())["hidden_size"]
    seed = manifest["seed"] * 100 + 150

    def case(name, pipe, model, file, scale, scheduler, prompt, steps, guidance, **more):
        nonlocal seed
        seed += 1
        pipe.scheduler = SCHEDULERS[scheduler]()
        args = dict(prompt=prompts[prompt], num_inference_steps=steps, guidance_scale=guidance, **SIZE, **more)
        pipes.case(golden, name, pipe, seed, args, measure.GUIDED if guidance > 1 else measure.AMPLIFIED,
                   f"{model} + {FOLDER}/{file} (scale {scale})", scheduler, pictures=dict(ip_adapter_image=CLIP),
                   note="negative image prompt = the states of a picture of zeros" if guidance > 1 else None)

    for kind, model, guidance in ((StableDiffusionPipeline, "sd15-like", 5.0), (StableDiffusionXLPipeline, "sdxl-like", 2.5)):
        unet, short = load(kind, out / "models" / model).unet, model.removesuffix("-like")
        file = f"ip-adapter-plus_{short}.safetensors"
        net = IPAdapterPlusImageProjection(embed_dims=states, output_dims=unet.config.cross_attention_dim, **PLUS[model])
        facts[f"ip_adapter_plus_{short}"] = write(golden, file, unet, net, plus_names, rng)
        pipe = with_adapter(golden, kind, model, file, net, 0.7)
        case(f"{short}_ip_adapter_plus_guided", pipe, model, file, 0.7, "ddim", "p1", 3, guidance,
             negative_prompt=NEGATIVE)
        case(f"{short}_ip_adapter_plus", pipe, model, file, 0.7, "euler", "p3", 3, 1.0)
        if short == "sd15":
            file = "ip-adapter-full-face_sd15.safetensors"
            net = IPAdapterFullImageProjection(states, unet.config.cross_attention_dim)
            facts["ip_adapter_full_face"] = write(golden, file, unet, net, full_names, rng)
            pipe = with_adapter(golden, kind, model, file, net, 0.6)
            case("sd15_ip_adapter_full_face", pipe, model, file, 0.6, "ddim", "p5", 3, 5.0)

    manifest["models"] |= facts
    manifest["cases"] |= golden.cases
    path.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    assert not golden.faults, "\n".join(golden.faults)
    print(f"{len(golden.cases)} cases of adapters")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    torch.set_num_threads(1)
    # The mask of transformers 5 takes any type, so that there is nothing to mend in it.
    if not hasattr(modeling_clip, "_create_4d_causal_attention_mask"):
        modeling_clip._create_4d_causal_attention_mask = None
    measure.allow_float64()
    add(parser.parse_args().out)
