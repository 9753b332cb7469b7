"""Builds the two small models of the golden set: seeded weights, tokenizers and their folders.

Weights are random but not careless. Their scale keeps activations of order one through the whole
network, and the U-Net's last layer is fitted by least squares to return part of its noise input, as
a trained one does; the rest is random. So a picture depends on the prompt, the noise, the time step
and every layer, and a wrong layer can't hide behind a large bypass.
"""
import json
import re
from pathlib import Path

import numpy as np
import torch
from diffusers import (AutoencoderKL, AutoencoderTiny, EulerDiscreteScheduler,
                       StableDiffusionPipeline, UNet2DConditionModel)
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPTokenizerFast

EULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
             timestep_spacing="trailing", steps_offset=1)

# Standard deviation of a weight times sqrt(fan in); the first pattern that matches counts.
# Queries and keys are large, so that attention is far from uniform.
GAINS = [(r"to_q|to_k|q_proj|k_proj", 1.6), (r"time_emb", 1.6), (r"attn2\.to_(v|out)", 1.4),
         (r"to_out|proj_out|net\.2|conv2", 0.8), (r"post_quant_conv|^decoder\.conv_in", 0.5),
         (r"", 1.0)]
RELU = [(r"layers\.\d+\.conv\.4", 0.8), (r"", 1.4)]
# OpenCLIP-H has a tiny residual stream, where the epsilon of a layer norm matters; CLIP-L has not.
TEXT_H = [(r"embedding", 0.003), (r"out_proj|fc2", 0.006)] + GAINS
TEXT_L = [(r"embedding", 0.4), (r"out_proj|fc2", 0.8)] + GAINS


def randn(rng, *shape):
    """NumPy's generator: unlike torch's, its bits don't depend on the processor."""
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


@torch.no_grad()
def initialise(model, rng, gains):
    for name, p in sorted(model.named_parameters()):
        gain = next(g for pattern, g in gains if re.search(pattern, name))
        if p.ndim == 1 and name.endswith("weight"):     # of a norm
            p.copy_(1 + 0.2 * randn(rng, *p.shape))
        elif p.ndim == 1:
            p.copy_(0.1 * gain * randn(rng, *p.shape))
        else:
            table = re.search(r"(token|position)_embedding", name)
            fan_in = 1 if table else p[0].numel()
            p.copy_(randn(rng, *p.shape) * gain / fan_in ** 0.5)
    return model.eval()


@torch.no_grad()
def representable(model, bf16=False):
    """Rounds the weights so that fp32, fp16 (and bf16) files hold the same values."""
    for p in model.parameters():
        if bf16:            # bf16 reaches below fp16's smallest numbers: drop those
            p.copy_(torch.where(p.abs() < 2.0 ** -16, 0, p).bfloat16().float())
        p.copy_(p.half().float())
    return model


@torch.no_grad()
def fit_noise(unet, prompts, rng, **conditions):
    """Fits conv_out to return the noise input, plus a random part. Returns the share explained.
    `conditions`: what else the U-Net takes, in 24 rows."""
    taps, conv = [], unet.conv_out
    hook = conv.register_forward_pre_hook(lambda _, args: taps.append(args[0]))
    size = 2 ** len(unet.config.block_out_channels)
    x = randn(rng, 24, unet.config.in_channels, size, size)
    t = torch.linspace(0, 999, 24).round()
    unet(x, t, prompts[torch.arange(24) % len(prompts)], **conditions)
    hook.remove()
    a = F.unfold(taps[0], 3, padding=1).transpose(1, 2).flatten(0, 1).double()
    a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
    y = x[:, :4].permute(0, 2, 3, 1).reshape(-1, 4).double()
    w = torch.linalg.solve(a.T @ a + 1e-2 * len(a) * torch.eye(a.shape[1]), a.T @ y)
    r2 = 1 - ((a @ w - y).square().mean() / y.square().mean()).item()
    conv.weight.copy_(w[:-1].T.reshape(conv.weight.shape) + 0.25 * conv.weight)
    conv.bias.copy_(w[-1])
    return round(r2, 4)


@torch.no_grad()
def rescale(conv, run, std, mean=0.0):
    """Sets the last convolution so that `run()` has this standard deviation and mean."""
    out = run()
    conv.weight.mul_(std / out.std())
    conv.bias.mul_(std / out.std())
    conv.bias.add_(mean - run().mean())


def learn(split, count):
    """The `count` most frequent pairs, one by one; `split` has each word as a list of symbols."""
    merges = []
    for _ in range(count):
        pairs = {}
        for w in split:
            for pair in zip(w, w[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            break  # every word is one token
        best = max(sorted(pairs), key=pairs.get)
        merges.append(best)
        for w in split:
            i = 0
            while i < len(w) - 1:
                if (w[i], w[i + 1]) == best:
                    w[i:i + 2] = ["".join(best)]
                i += 1
    return merges


def byte_symbols():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in keep] + [chr(256 + i) for i in range(256 - len(keep))]


def bpe(words, count):
    """Byte symbols, the same ending a word, and `count` merges learnt from `words`."""
    symbols = byte_symbols()
    merges = learn([[*w[:-1], w[-1] + "</w>"] for w in words], count)
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {t: i for i, t in enumerate(tokens)}, merges


def tokenizer(folder, vocab, merges, pad, fast_file):
    folder.mkdir(parents=True)
    lines = ["#version: 0.2", *(" ".join(m) for m in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    slow = CLIPTokenizer(folder / "vocab.json", folder / "merges.txt", pad_token=pad,
                         model_max_length=77)
    slow.save_pretrained(folder)
    if fast_file:
        CLIPTokenizerFast.from_pretrained(folder)._tokenizer.save(str(folder / "tokenizer.json"))


def text_encoder(width, heads, layers, act, vocab):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=4 * width, projection_dim=width,
        num_hidden_layers=layers, num_attention_heads=heads, hidden_act=act, bos_token_id=0,
        eos_token_id=2, pad_token_id=1))    # the odd ids are those of the published configs


def edit_config(path, change):
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_old_kl(vae, folder):
    """As saved before diffusers 0.18: old attention names, and none of the later config keys."""
    vae.half().save_pretrained(folder, variant="fp16")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {re.sub(r"to_q|to_k|to_v|to_out\.0", lambda m: old[m[0]], k): v.contiguous()
               for k, v in vae.state_dict().items()}
    save_file(tensors, folder / "diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
    later = ("scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast",
             "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")
    edit_config(folder / "config.json", lambda c: [c.pop(k, None) for k in later])


def index(folder, vae_class):
    none = [None, None]
    parts = {"scheduler": ["diffusers", "EulerDiscreteScheduler"],
             "text_encoder": ["transformers", "CLIPTextModel"],
             "tokenizer": ["transformers", "CLIPTokenizer"],
             "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", vae_class],
             "feature_extractor": none, "image_encoder": none, "safety_checker": none}
    head = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.36.0",
            "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps({**head, **parts}, indent=2) + "\n")
    EulerDiscreteScheduler(**EULER).save_pretrained(folder / "scheduler")


def encode(pipe_folder, encoder, prompts):
    tok = CLIPTokenizer.from_pretrained(pipe_folder / "tokenizer")
    ids = tok(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return encoder(ids).last_hidden_state


@torch.no_grad()
def sd_turbo(folder, s, vocab, merges, prompts, rng, facts):
    tokenizer(folder / "tokenizer", vocab, merges, "!", fast_file=False)
    text = text_encoder(s.text_h_width, s.text_h_heads, s.text_h_layers, "gelu", len(vocab))
    representable(initialise(text, rng, TEXT_H))
    unet = initialise(UNet2DConditionModel(
        block_out_channels=s.turbo_widths, attention_head_dim=s.turbo_heads,
        norm_num_groups=s.turbo_groups, cross_attention_dim=s.text_h_width, sample_size=8,
        use_linear_projection=True,
        down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3), rng, GAINS)
    r2 = fit_noise(unet, encode(folder, text, prompts), rng)
    vae = initialise(AutoencoderKL(
        block_out_channels=s.vae_widths, norm_num_groups=s.vae_groups, layers_per_block=2,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        sample_size=64), rng, GAINS)
    z = randn(rng, 4, 4, 8, 8) * 40        # what one step of an untrained U-Net leaves
    rescale(vae.decoder.conv_out, lambda: vae.decode(z).sample, 0.4)
    facts["text_encoder_h"] = fact(text)
    facts["unet.sd-turbo-like"] = fact(representable(unet), noise_fit_r2=r2, random_mix_std=0.25)
    facts["vae.sd-turbo-like"] = fact(representable(vae))

    tensors = {k: v.contiguous() for k, v in text.state_dict().items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    text.save_pretrained(folder / "text_encoder")
    save_file(tensors, folder / "text_encoder/model.safetensors", {"format": "pt"})
    half = sum(p.numel() for p in unet.parameters())    # two bytes each, in two files
    unet.half().save_pretrained(folder / "unet", max_shard_size=int(half * 1.1))
    save_old_kl(vae, folder / "vae")
    index(folder, "AutoencoderKL")


@torch.no_grad()
def sdxs(folder, s, vocab, merges, prompts, rng, facts):
    tokenizer(folder / "tokenizer", vocab, merges, "<|endoftext|>", fast_file=True)
    text = text_encoder(s.text_l_width, s.text_l_heads, s.text_l_layers, "quick_gelu", len(vocab))
    representable(initialise(text, rng, TEXT_L), bf16=True)
    unet = initialise(UNet2DConditionModel(
        block_out_channels=s.sdxs_widths, attention_head_dim=s.sdxs_heads,
        norm_num_groups=s.sdxs_groups, cross_attention_dim=s.text_l_width, sample_size=8,
        layers_per_block=1, mid_block_type=None, only_cross_attention=[True, False, False],
        down_block_types=["CrossAttnDownBlock2D"] * 3,
        up_block_types=["CrossAttnUpBlock2D"] * 3), rng, GAINS)
    r2 = fit_noise(unet, encode(folder, text, prompts), rng)
    width = [s.tiny_width] * 4
    vae = initialise(AutoencoderTiny(
        encoder_block_out_channels=width, decoder_block_out_channels=width), rng, RELU)
    z = randn(rng, 4, 4, 8, 8) * 2
    rescale(vae.decoder.layers[-1], lambda: vae.decode(z).sample / 2, 0.15, mean=0.0)
    facts["text_encoder_l"] = fact(text)
    facts["unet.sdxs-like"] = fact(representable(unet), noise_fit_r2=r2, random_mix_std=0.25)
    facts["taesd.sdxs-like"] = fact(representable(vae))

    text.bfloat16().save_pretrained(folder / "text_encoder")
    unet.half().save_pretrained(folder / "unet", variant="fp16")
    vae.half().save_pretrained(folder / "vae", variant="fp16")
    index(folder, "AutoencoderTiny")


def fact(model, **more):
    return {"class": type(model).__name__, "params": sum(p.numel() for p in model.parameters()),
            **more}


def load(folder):
    """The pipeline as the library reads it from the files, in float32."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, variant="fp16", safety_checker=None,
                                                   local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    for name in ("text_encoder", "unet", "vae"):
        assert next(getattr(pipe, name).parameters()).dtype == torch.float32, name
    return pipe
