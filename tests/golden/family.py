"""Adds the rest of the family to a golden set: `python family.py [--out DIR]`; make.py does it too.

What make.py made stays as it is. Models (build_family.py) and networks beside a U-Net (extras.py)
are written and read back, every scheduler runs (schedulers.py), and so do whole pipelines, which
begin with noise, with a picture or with a hole in one.
"""
import argparse
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True      # this folder holds data: no caches in it
warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TRANSFORMERS_VERBOSITY="error",
                  DIFFUSERS_VERBOSITY="error")

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (AutoencoderKL, AutoencoderTiny, LatentConsistencyModelPipeline,
                       StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel)
from PIL import Image

import build
import build_family
import cases
import extras
import family_pipes
import later
import networks
import schedulers
from build_family import STRUCTURE, load
from measure import NARROW, PLAIN, Set, allow_float64

MODELS = ["sd15-like", "lcm-like", "sdxl-like", "extras"]
KEYS = ("p0", "p1", "empty", "long")


def pictures(out, rng):
    """Not square, and with edges where no latent has one."""
    (out / "ref/inputs").mkdir(parents=True)

    def picture(name, width, height, grain=12):
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))
        image = image + grain * rng.standard_normal(image.shape)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(out / f"ref/inputs/{name}.png")

    picture("init_40x48", 40, 48)
    picture("init_70x52", 70, 52)
    picture("cond_40x48", 40, 48)
    picture("clip_image", 50, 75)
    y, x = np.mgrid[:48, :40]
    mask = np.where(((x - 25) / 13) ** 2 + ((y - 21) / 17) ** 2 < 1, 255, 0)
    mask[:, 3:9], mask[:, 9:12] = 127, 128      # just below and above one half
    Image.fromarray(mask.astype(np.uint8)).save(out / "ref/inputs/mask_40x48.png")


def clean(out, manifest):
    """Removes what an earlier run added."""
    for name in manifest.pop("family", []):
        case = manifest["cases"].pop(name, {})
        for file in [case.get("file"), *case.get("png", [])]:
            if file:
                (out / file).unlink(missing_ok=True)
    for folder in [*(f"models/{m}" for m in MODELS), "ref/inputs", "ref/extras"]:
        shutil.rmtree(out / folder, ignore_errors=True)


def unets(golden, sd15, lcm, sdxl, prompts, rng, facts):
    models = golden.out / "models"
    ids = json.loads((golden.out / "ref/tokens.json").read_text())["ids"]
    context = cases.text(golden, "text/text_encoder_sd15", "sd15-like/text_encoder",
                         sd15.text_encoder, ids, "eos_pad", PLAIN, KEYS)
    cases.text(golden, "text/text_encoder_g", "sdxl-like/text_encoder_2", sdxl.text_encoder_2, ids,
               "bang_pad", PLAIN, KEYS)

    def unet(name, model, m, *details, context=context, limits=NARROW, **conditions):
        networks.unet(golden, name, model, m, context, (6, 5), *details, rng, facts, limits,
                      conditions)

    deep = "mid_block.attentions.0", "up_blocks.1.resnets.0"
    unet("sd15-like", "sd15-like/unet", sd15.unet, *deep, limits=PLAIN)
    unet("lcm-like", "lcm-like/unet", lcm.unet, *deep, timestep_cond=build_family.guidance(
        torch.tensor([8.5, 2.0]), STRUCTURE["lcm_condition"]))
    for name, limits in (("sd15-inpaint9-like", NARROW), ("bk-small-like", PLAIN)):
        m = load(UNet2DConditionModel, models / f"extras/unet-{name}")
        unet(name, f"extras/unet-{name}", m, "up_blocks.1.attentions.0", "up_blocks.1.resnets.0",
             limits=limits)
    with torch.no_grad():
        texts = [sdxl.encode_prompt(prompts[k], device="cpu", do_classifier_free_guidance=False)
                 for k in ("p0", "p1")]
    sizes = torch.tensor([[48.0, 40, 0, 0, 48, 40], [96, 70, 9, 4, 64, 56]])
    unet("sdxl-like", "sdxl-like/unet", sdxl.unet, "up_blocks.0.attentions.1",
         "down_blocks.1.resnets.0", context={k: t[0] for k, t in zip(("p0", "p1"), texts)},
         text_embeds=torch.cat([t[2] for t in texts]), time_ids=sizes)
    return context


def guidance_embedding(golden):
    dims = (STRUCTURE["lcm_condition"], 256)
    t = {f"w{w}_dim{dim}": build_family.guidance(torch.tensor([w + 1]), dim)
         for w in (0.0, 0.5, 1.0, 7.5, 12.0) for dim in dims}
    golden.add("unet/guidance_embedding", t, PLAIN, note="w = guidance_scale - 1")


def autoencoders(golden, sdxl, rng):
    small = dict(decoded=((2, 2, 3), (1, 3, 2)), encoded=((16, 24),))
    models = golden.out / "models/extras"
    networks.vae(golden, "sdxl-like", "sdxl-like/vae", sdxl.vae, rng, **small, limits=NARROW)
    sd3 = load(AutoencoderKL, models / "vae-sd3-like")
    networks.vae(golden, "sd3-like", "extras/vae-sd3-like", sd3, rng, **small, limits=NARROW)
    tiny = load(AutoencoderTiny, models / "taesd3-like")
    networks.tiny(golden, "taesd3-like", "extras/taesd3-like", tiny, rng, **small)


@torch.no_grad()
def add(out, limit_mb=8):
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    clean(out, manifest)
    before = {*out.rglob("*")}
    facts, seed, models = {}, manifest["seed"], out / "models"
    prompts = json.loads((out / "ref/tokens.json").read_text())["prompts"]
    plain = [prompts[f"p{i}"] for i in range(8)]
    rng = np.random.default_rng(seed + 1000)
    golden = Set(out)

    text = build_family.sd15(models, plain, rng, facts)
    build_family.sdxl(models, text, plain, rng, facts)
    build_family.autoencoders(models, rng, facts)
    pictures(out, rng)
    sd15 = load(StableDiffusionPipeline, models / "sd15-like", safety_checker=None)
    lcm = load(LatentConsistencyModelPipeline, models / "lcm-like", safety_checker=None)
    sdxl = load(StableDiffusionXLPipeline, models / "sdxl-like")

    context = unets(golden, sd15, lcm, sdxl, prompts, rng, facts)
    guidance_embedding(golden)
    autoencoders(golden, sdxl, rng)
    schedulers.family(golden, rng)
    control = extras.controlnet(golden, sd15.unet, context, rng, facts)
    adapter = extras.t2i_adapter(golden, sd15.unet, context, rng, facts)
    encoder, processor = extras.ip_adapter(golden, sd15.unet, rng, facts)
    lora = extras.lora(golden, sd15.unet, context, rng)
    extras.safety_checker(golden, rng, facts)
    run = family_pipes.Runs(golden, seed, prompts)
    run.sd15(sd15)
    run.pictures(sd15, {m: build.load(models / m) for m in ("sd-turbo-like", "sdxs-like")})
    run.beside(sd15, control, adapter, encoder, processor, lora)
    run.lcm(lcm)
    run.sdxl(sdxl)

    for name, made in facts.items():    # else a wrong text or time path could pass
        for key in ("prompt_change_rel", "time_change_rel"):
            assert not name.startswith("unet.") or made[key] > 0.1, (name, key, made[key])
    size = sum(f.stat().st_size for f in {*out.rglob("*")} - before if f.is_file())
    manifest["models"] |= facts
    manifest["cases"] |= golden.cases
    manifest["structure"] |= STRUCTURE
    manifest["family"] = list(golden.cases)
    manifest["family_bytes"] = size
    path.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    assert not golden.faults, "\n".join(golden.faults)
    assert size < limit_mb * 1e6, f"{size / 1e6:.1f} MB"
    print(f"{len(golden.cases)} cases more, {size / 1e6:.2f} MB")
    later.add(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    allow_float64()
    add(parser.parse_args().out)
