"""Builds the rest of the family: small models like SD 1.5, LCM and SDXL, and networks that take the
place of a part of them. The weights are made as build.py says.

Text encoders and tokenizers have the vocabulary of the first two models.
"""
import json
import shutil

import torch
from diffusers import (AutoencoderKL, AutoencoderTiny, EulerAncestralDiscreteScheduler,
                       LCMScheduler, LatentConsistencyModelPipeline,
                       PNDMScheduler, UNet2DConditionModel)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

import build
from build import GAINS, RELU, TEXT_L, fact, fit_noise, initialise, randn, representable
from schedulers import LCM, PNDM, TRAILING

# Head sizes are 6, 10 and 14; 2, 3 and 4; 8 and 5: most are no multiple of four. A width has 2 to 7
# channels a group, and some group of each U-Net crosses the seam of a skip connection.
STRUCTURE = dict(
    sd15_widths=[12, 20, 20, 28], sd15_heads=2, lcm_widths=[8, 12, 12, 16], lcm_heads=4,
    lcm_condition=20, inpaint_widths=[8, 12, 12, 16], inpaint_heads=2,
    bk_small_widths=[8, 12, 16, 16], bk_small_heads=2, sdxl_widths=[8, 16, 20],
    sdxl_heads=[1, 2, 4], sdxl_layers=[1, 1, 2], sdxl_size_features=6, family_groups=4,
    family_text_width=28, family_text_heads=4, family_text_layers=2, text_g_width=32,
    text_g_heads=4, text_g_layers=3, text_g_projection=20, sd15_vae=[8, 12, 12, 16],
    sdxl_vae=[8, 8, 12, 16], sd3_vae=[8, 12, 16, 16], taesd3_width=8)
CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"


def blocks(*attends):
    """The types of down and up blocks, of which these attend, from the highest resolution on."""
    name = lambda way, attend: (CROSS if attend else PLAIN).format(way)
    return dict(down_block_types=[name("Down", a) for a in attends],
                up_block_types=[name("Up", a) for a in attends[::-1]])


def unet(rng, widths, heads, context, attends=(True, True, True, False), **more):
    return initialise(UNet2DConditionModel(
        block_out_channels=widths, attention_head_dim=heads, cross_attention_dim=context,
        norm_num_groups=STRUCTURE["family_groups"], sample_size=8, **blocks(*attends), **more), rng,
        GAINS)


def kl(rng, widths, channels=4, **more):
    """Its pictures have a standard deviation of 0.4 for latents like those of its models."""
    model = initialise(AutoencoderKL(
        block_out_channels=widths, norm_num_groups=STRUCTURE["family_groups"], layers_per_block=2,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=channels, sample_size=64, **more), rng, GAINS)
    z = randn(rng, 4, channels, 8, 8) * 2 / model.config.scaling_factor
    build.rescale(model.decoder.conv_out, lambda: model.decode(z).sample, 0.4)
    return representable(model)


def save(model, folder, **how):
    model.half().save_pretrained(folder, variant="fp16", **how)


def tokenizer(models, like, folder):
    """The vocabulary of that model, in the two files that slow tokenizers read."""
    shutil.copytree(models / like / "tokenizer", folder,
                    ignore=shutil.ignore_patterns("tokenizer.json"))


def index(folder, pipeline, scheduler, **more):
    none = [None, None]
    parts = {"scheduler": ["diffusers", type(scheduler).__name__],
             "text_encoder": ["transformers", "CLIPTextModel"],
             "tokenizer": ["transformers", "CLIPTokenizer"],
             "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
             "feature_extractor": none, "image_encoder": none}
    head = {"_class_name": pipeline, "_diffusers_version": "0.36.0"}
    (folder / "model_index.json").write_text(json.dumps({**head, **parts, **more}, indent=2) + "\n")
    scheduler.save_pretrained(folder / "scheduler")


@torch.no_grad()
def sd15(models, prompts, rng, facts):
    """sd15-like and lcm-like, which share a text encoder and an autoencoder, and two more U-Nets
    for the former. Returns the text encoder."""
    s, folder = STRUCTURE, models / "sd15-like"
    tokenizer(models, "sdxs-like", folder / "tokenizer")
    vocab = json.loads((folder / "tokenizer/vocab.json").read_text(encoding="utf-8"))
    text = representable(initialise(build.text_encoder(
        s["family_text_width"], s["family_text_heads"], s["family_text_layers"], "quick_gelu",
        len(vocab)), rng, TEXT_L))
    context, width = build.encode(folder, text, prompts), s["family_text_width"]
    vae = kl(rng, s["sd15_vae"])
    facts["text_encoder_sd15"], facts["vae.sd15-like"] = fact(text), fact(vae)

    def add(name, place, model, **conditions):
        r2 = fit_noise(model, context, rng, **conditions)
        facts[f"unet.{name}"] = fact(representable(model), noise_fit_r2=r2, random_mix_std=0.25)
        save(model, models / place)

    add("sd15-like", "sd15-like/unet", unet(rng, s["sd15_widths"], s["sd15_heads"], width))
    dim = s["lcm_condition"]
    add("lcm-like", "lcm-like/unet", unet(rng, s["lcm_widths"], s["lcm_heads"], width,
        time_cond_proj_dim=dim), timestep_cond=guidance(torch.linspace(0, 10, 24), dim))
    add("sd15-inpaint9-like", "extras/unet-sd15-inpaint9-like", unet(
        rng, s["inpaint_widths"], s["inpaint_heads"], width, in_channels=9))
    add("bk-small-like", "extras/unet-bk-small-like", unet(
        rng, s["bk_small_widths"], s["bk_small_heads"], width, layers_per_block=1,
        mid_block_type=None))

    tokenizer(models, "sdxs-like", models / "lcm-like/tokenizer")
    save(text, folder / "text_encoder")
    save(vae, folder / "vae")
    for part in ("text_encoder", "vae"):
        shutil.copytree(folder / part, models / "lcm-like" / part)
    checker = dict(safety_checker=[None, None], requires_safety_checker=False)
    index(folder, "StableDiffusionPipeline", PNDMScheduler(**PNDM), **checker)
    index(models / "lcm-like", "LatentConsistencyModelPipeline", LCMScheduler(**LCM), **checker)
    return text.float()


def guidance(scales, dim):
    """The embedding of guidance scales, of which the library takes one."""
    return LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, scales - 1, dim)


@torch.no_grad()
def sdxl(models, text, prompts, rng, facts):
    """The first text encoder is that of sd15-like."""
    s, folder = STRUCTURE, models / "sdxl-like"
    tokenizer(models, "sdxs-like", folder / "tokenizer")
    tokenizer(models, "sd-turbo-like", folder / "tokenizer_2")
    width = s["text_g_width"]
    text_2 = representable(initialise(CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=text.config.vocab_size, hidden_size=width, intermediate_size=4 * width,
        projection_dim=s["text_g_projection"], num_hidden_layers=s["text_g_layers"],
        num_attention_heads=s["text_g_heads"], hidden_act="gelu", bos_token_id=0, eos_token_id=2,
        pad_token_id=1)), rng, TEXT_L))
    states, pooled = [], None
    for name, encoder in (("tokenizer", text), ("tokenizer_2", text_2)):
        ids = CLIPTokenizer.from_pretrained(folder / name)(
            prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        out = encoder(ids, output_hidden_states=True)
        states.append(out.hidden_states[-2])
        pooled = out.get("text_embeds")
    context, rows = torch.cat(states, -1), torch.arange(24) % len(prompts)
    model = unet(rng, s["sdxl_widths"], s["sdxl_heads"], context.shape[-1], (False, True, True),
                 transformer_layers_per_block=s["sdxl_layers"], use_linear_projection=True,
                 addition_embed_type="text_time", addition_time_embed_dim=s["sdxl_size_features"],
                 projection_class_embeddings_input_dim=pooled.shape[1]
                 + 6 * s["sdxl_size_features"])
    sizes = torch.tensor([64, 48, 0, 0, 64, 48] * 24).float().reshape(24, 6)
    r2 = fit_noise(model, context, rng, added_cond_kwargs=dict(text_embeds=pooled[rows],
                                                               time_ids=sizes))
    vae = kl(rng, s["sdxl_vae"], scaling_factor=0.13025, force_upcast=True)
    facts["text_encoder_g"], facts["vae.sdxl-like"] = fact(text_2), fact(vae)
    facts["unet.sdxl-like"] = fact(representable(model), noise_fit_r2=r2, random_mix_std=0.25)

    shutil.copytree(models / "sd15-like/text_encoder", folder / "text_encoder")
    save(text_2, folder / "text_encoder_2")
    half = sum(p.numel() for p in model.parameters())   # two bytes each, in two files
    save(model, folder / "unet", max_shard_size=int(half * 1.1))
    save(vae, folder / "vae")
    index(folder, "StableDiffusionXLPipeline", EulerAncestralDiscreteScheduler(**TRAILING),
          text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
          tokenizer_2=["transformers", "CLIPTokenizer"], force_zeros_for_empty_prompt=True)


@torch.no_grad()
def autoencoders(models, rng, facts):
    """Two of 16 channels, which no model here takes."""
    s = STRUCTURE
    model = kl(rng, s["sd3_vae"], 16, scaling_factor=1.5305, shift_factor=0.0609,
               use_quant_conv=False, use_post_quant_conv=False, force_upcast=True)
    facts["vae.sd3-like"] = fact(model)
    save(model, models / "extras/vae-sd3-like")
    width = [s["taesd3_width"]] * 4
    model = initialise(AutoencoderTiny(encoder_block_out_channels=width, latent_channels=16,
                                       decoder_block_out_channels=width), rng, RELU)
    z = randn(rng, 4, 16, 8, 8) * 2
    build.rescale(model.decoder.layers[-1], lambda: model.decode(z).sample / 2, 0.15)
    facts["taesd.taesd3-like"] = fact(representable(model))
    save(model, models / "extras/taesd3-like")


def load(kind, folder, **parts):
    """A pipeline or network as the library reads it from the files, in float32."""
    made = kind.from_pretrained(folder, variant="fp16", local_files_only=True, **parts)
    networks = [made] if isinstance(made, torch.nn.Module) else \
        [m for m in made.components.values() if isinstance(m, torch.nn.Module)]
    if networks[0] is not made:
        made.set_progress_bar_config(disable=True)
    assert all(next(m.parameters()).dtype == torch.float32 for m in networks), folder
    return made
