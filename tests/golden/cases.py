"""The cases: what is run, on which inputs, and which tensors are stored.

Sizes are chosen to catch mistakes cheaply: not square, so that swapped axes show; odd, so that
rounding at a border shows; and no multiple of 16 numbers where noise is drawn.
"""
import json

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler
from diffusers.models.embeddings import get_timestep_embedding
from torch.nn import functional as F
from transformers import CLIPTokenizer, CLIPTokenizerFast

import pipes
from build import EULER, randn
from measure import AMPLIFIED, EXACT, PIPE, PLAIN, measure
from schedulers import trajectory

LCM = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)


# -- tokens and text --------------------------------------------------------------------------

def tokens(out, prompts, folders, vocab):
    ids = {}
    for pad, folder in folders.items():
        slow = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        fast = CLIPTokenizerFast.from_pretrained(folder / "tokenizer")
        pad_to = dict(padding="max_length", truncation=True)
        ids[pad] = {k: slow(v, **pad_to).input_ids for k, v in prompts.items()}
        ids[pad + "_untruncated"] = {k: slow(v).input_ids for k, v in prompts.items()}
        ids[pad + "_fast"] = {k: fast(v, **pad_to).input_ids for k, v in prompts.items()}
    note = ("ids: slow CLIPTokenizer with ftfy; *_fast: tokenizer.json semantics; they differ "
            "only where ftfy changes the text")
    table = dict(note=note, prompts=prompts, ids=ids, vocab_size=len(vocab),
                 bos=vocab["<|startoftext|>"], eos=vocab["<|endoftext|>"])
    (out / "ref").mkdir()
    (out / "ref/tokens.json").write_text(json.dumps(table, ensure_ascii=True) + "\n")
    return ids


def text(golden, name, model, encoder, ids, pad, limits,
         keys=("p0", "p1", "empty", "punct", "unicode", "specials", "long")):
    keys = list(keys)
    input_ids = torch.tensor([ids[pad][k] for k in keys])

    def run(m, _):
        o = m(input_ids, output_hidden_states=True)
        pooled = "text_embeds" if "text_embeds" in o else "pooler_output"
        out = {"out.last_hidden_state": o.last_hidden_state, f"out.{pooled}": o[pooled]}
        out |= {f"hidden_states.{i}": h[:2] for i, h in enumerate(o.hidden_states)}
        norm = m.text_model.final_layer_norm
        return out | {f"out.clip_skip_{k}": norm(o.hidden_states[-1 - k][:2]) for k in (1, 2)}

    out, errors = measure(run, encoder, "out.last_hidden_state")
    golden.add(name, {"in.input_ids": input_ids, **out}, limits, model=model, prompt_keys=keys,
               tokenizer=pad, note="hidden_states.i and clip_skip_k hold the first 2 prompts only; "
               "hidden_states.0 is the embedding output", **errors)
    return {k: out["out.last_hidden_state"][i:i + 1] for i, k in enumerate(keys)}


# -- single operations, random numbers, schedules ---------------------------------------------

def ops(golden, rng):
    r = lambda *s: randn(rng, *s)
    x = torch.tensor([*np.arange(-10, 10.01, 0.05), -40, -20, 20, 40, 1e-4, -1e-4, 0]).float()
    t = {"x": x, "silu": F.silu(x), "gelu_erf": F.gelu(x), "tanh3": 3 * torch.tanh(x / 3),
         "gelu_tanh": F.gelu(x, approximate="tanh"), "quick_gelu": x * torch.sigmoid(1.702 * x)}

    image = r(2, 12, 9, 7)
    pad = lambda i: F.pad(i, (0, 1, 0, 1))
    for name, k, run in (("conv1", 1, lambda i, w, b: F.conv2d(i, w, b)),
                         ("conv3", 3, lambda i, w, b: F.conv2d(i, w, b, padding=1)),
                         ("conv3_s2", 3, lambda i, w, b: F.conv2d(i, w, b, 2, 1)),
                         ("conv3_s2_asym", 3, lambda i, w, b: F.conv2d(pad(i), w, b, 2))):
        w, b = r(20, 12, k, k) / (12 * k * k) ** 0.5, r(20) * 0.1
        t |= {f"{name}.in": image, f"{name}.weight": w, f"{name}.bias": b,
              f"{name}.out": run(image, w, b)}

    t |= {"nearest_in": image, "nearest2x": F.interpolate(image, scale_factor=2.0),
          "nearest_to_17x13": F.interpolate(image, size=(17, 13))}

    norm = lambda c: (1 + 0.2 * r(c), 0.1 * r(c))
    for name, i in (("gn", image + 0.5), ("gn_small", (image + 0.5) * 0.002)):
        for eps in (1e-5, 1e-6):    # a small input shows which epsilon was used
            key, (w, b) = f"{name}_{eps:.0e}".replace("e-0", "e-"), norm(12)
            t |= {f"{key}.in": i, f"{key}.weight": w, f"{key}.bias": b,
                  f"{key}.out": F.group_norm(i, 4, w, b, eps)}
    rows = r(2, 11, 36)
    for name, i in (("ln", rows), ("ln_small", rows * 0.002)):
        w, b = norm(36)
        t |= {f"{name}.in": i, f"{name}.weight": w, f"{name}.bias": b,
              f"{name}.out": F.layer_norm(i, (36,), w, b, 1e-5)}

    w, b = r(80, 36) / 6, r(80) * 0.1
    value, gate = F.linear(rows, w, b).chunk(2, -1)
    t |= {"geglu.in": rows, "geglu.weight": w, "geglu.bias": b, "geglu.out": value * F.gelu(gate)}

    q, k, v = r(2, 11, 36) * 2, r(2, 7, 36), r(2, 7, 36)
    t |= {"attn.q": q, "attn.k": k, "attn.v": v}
    for heads in (1, 3, 6):
        split = lambda a: a.unflatten(2, (heads, -1)).transpose(1, 2)
        out = F.scaled_dot_product_attention(split(q), split(k), split(v))
        t[f"attn.out_heads{heads}"] = out.transpose(1, 2).flatten(2)
    large = r(1, 4, 16) * 64
    t |= {"softmax_large.in": large, "softmax_large.out": large.softmax(-1)}
    golden.add("ops", t, PLAIN, note="attn: heads are contiguous channel slices; conv3_s2_asym "
               "pads right and bottom by one before a stride-2 convolution without padding; "
               "group norms use 4 groups of 3 channels")


def random_numbers(golden, seed):
    t = {}
    for s in (0, 2, 43, 20240229 + seed, 2**32 - 1, 2**32 + 2):
        draw = lambda *shape, **how: torch.randn(*shape, **how,
                                                 generator=torch.Generator().manual_seed(s))
        for n in (1, 2, 5, 15, 16, 17, 31, 32, 33, 40, 100):
            t[f"randn_seed{s}_n{n}"] = draw(n)
        t[f"randn_seed{s}_4x8x8"] = draw(1, 4, 8, 8)
        g = torch.Generator().manual_seed(s)
        t[f"randn_chain_seed{s}_3_5_16_24_1_100"] = torch.cat(
            [torch.randn(n, generator=g) for n in (3, 5, 16, 24, 1, 100)])
        t[f"rand_seed{s}_n8"] = torch.rand(8, generator=torch.Generator().manual_seed(s))
        t[f"randn_f64_seed{s}_n16"] = draw(16, dtype=torch.float64).float()
        t[f"randn_f16_seed{s}_n64"] = draw(64, dtype=torch.float16)
        t[f"randn_bf16_seed{s}_n64"] = draw(64, dtype=torch.bfloat16)
    large = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(43)).flatten()
    t |= {"randn_seed43_4x64x64_first64": large[:64], "randn_seed43_4x64x64_last64": large[-64:]}
    golden.add("rng", t, EXACT, note="torch CPU generator; chain = consecutive draws of "
               "3,5,16,24,1,100 from one generator")


def timestep_embedding(golden, width):
    t = {}
    for v in (0, 1, 19, 499, torch.tensor(946.42108).item(), 999):
        for dim, flip, shift in ((width, 1, 0), (256, 1, 0), (320, 1, 0), (width, 0, 1)):
            t[f"t{v}_dim{dim}_flip{flip}_shift{shift}"] = get_timestep_embedding(
                torch.tensor([float(v)]), dim, flip_sin_to_cos=bool(flip),
                downscale_freq_shift=shift)
    golden.add("unet/timestep_embedding", t, PLAIN)


def schedules(golden, rng):
    def euler(n, spacing="trailing", offset=1, prediction="epsilon"):
        config = EULER | dict(timestep_spacing=spacing, steps_offset=offset,
                              prediction_type=prediction)
        return EulerDiscreteScheduler(**config), n

    runs = {f"euler_trailing_{n}": euler(n) for n in (1, 2, 4)}
    runs |= {"euler_leading_20": euler(20, "leading"),
             "euler_linspace_10": euler(10, "linspace", 0),
             "euler_v_prediction_10": euler(10, prediction="v_prediction"),
             "euler_sample_trailing_1": euler(1, offset=0, prediction="sample")}
    runs |= {f"lcm_{n}": (LCMScheduler(**LCM), n) for n in (1, 2, 4, 8)}
    for name, (s, n) in runs.items():
        trajectory(golden, name, s, dict(num_inference_steps=n), randn(rng, 1, 4, 3, 7), rng)

    s = EulerDiscreteScheduler(**EULER)
    golden.add("sched/alphas", {"betas": s.betas, "alphas_cumprod": s.alphas_cumprod}, EXACT,
               note="float32, torch.linspace(sqrt(b0), sqrt(b1), 1000)**2, cumprod accumulated in "
               "float64 with every value rounded to float32, as torch does on the CPU")


# -- pipelines --------------------------------------------------------------------------------

def pipelines(golden, turbo, sdxs, prompts, seed, size):
    def case(name, pipe, offset, prompt, n, scheduler="euler trailing", note=None, height=size,
             width=size, limits=PIPE, **more):
        pipe.scheduler = LCMScheduler(**LCM) if scheduler == "lcm" else \
            EulerDiscreteScheduler(**EULER)
        case_seed = [seed * 100 + o for o in offset] if isinstance(offset, list) else \
            seed * 100 + offset
        args = dict(prompt=prompt, num_inference_steps=n, guidance_scale=0.0, height=height,
                    width=width) | more
        model = "sdxs-like" if pipe is sdxs else "sd-turbo-like"
        return pipes.case(golden, name, pipe, case_seed, args, limits, model, scheduler, note=note)

    p = [prompts[f"p{i}"] for i in range(8)]
    base = case("sd-turbo_1step", turbo, 1, p[0], 1)
    case("sd-turbo_2step", turbo, 2, p[1], 2)
    case("sd-turbo_nonsquare", turbo, 3, p[2], 2, height=size + 32)
    case("sd-turbo_odd", turbo, 4, p[3], 1, height=size + 24, width=size - 8,
         note="latent size not a multiple of 8")
    case("sd-turbo_batch_generators", turbo, [5, 6], [p[4], p[5]], 2,
         note="one generator per image")
    case("sd-turbo_batch_one_generator", turbo, 7, p[6], 1, num_images_per_prompt=2,
         note="one generator, latents drawn as one [2,4,h,w] tensor")
    case("sd-turbo_cfg3", turbo, 8, p[7], 2, limits=AMPLIFIED, guidance_scale=3.0,
         negative_prompt="blurred, grainy, low contrast")
    case("sd-turbo_long_prompt", turbo, 9, prompts["long"], 1)
    case("sdxs_1step", sdxs, 10, p[1], 1, limits=AMPLIFIED, note="AutoencoderTiny")
    case("sdxs_lcm_4step", sdxs, 11, p[2], 4, scheduler="lcm", limits=AMPLIFIED,
         guidance_scale=1.0)

    turbo.scheduler = EulerDiscreteScheduler(**EULER)
    args = dict(prompt=p[0], num_inference_steps=1, guidance_scale=0.0, height=size, width=size)
    picture = lambda s, a: pipes.generate(turbo, s, a)[0]["image"]
    rms = lambda s, a: (picture(s, a) - base).square().mean().sqrt().item()
    return {"image_rms_other_prompt": rms(seed * 100 + 1, args | {"prompt": p[3] + " in fog"}),
            "image_rms_other_seed": rms(seed * 100 + 2, args), "image_std": base.std().item()}
