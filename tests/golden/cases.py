"""The cases: what is run, on which inputs, and which tensors are stored.

Sizes are chosen to catch mistakes cheaply: not square, so that swapped axes show; odd, so that
rounding at a border shows; and no multiple of 16 numbers where noise is drawn.
"""
import copy
import json

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler, StableDiffusionPipeline
from diffusers.models.embeddings import get_timestep_embedding
from PIL import Image
from torch.nn import functional as F
from transformers import CLIPTokenizer, CLIPTokenizerFast

from build import EULER, randn
from measure import AMPLIFIED, EXACT, PIPE, PLAIN, error, measure, quantised, record

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


def text(golden, name, model, encoder, ids, pad, limits):
    keys = ["p0", "p1", "empty", "punct", "unicode", "specials", "long"]
    input_ids = torch.tensor([ids[pad][k] for k in keys])

    def run(m, _):
        o = m(input_ids, output_hidden_states=True)
        out = {"out.last_hidden_state": o.last_hidden_state, "out.pooler_output": o.pooler_output}
        out |= {f"hidden_states.{i}": h[:2] for i, h in enumerate(o.hidden_states)}
        norm = m.text_model.final_layer_norm
        return out | {f"out.clip_skip_{k}": norm(o.hidden_states[-1 - k][:2]) for k in (1, 2)}

    out, errors = measure(run, encoder, "out.last_hidden_state")
    golden.add(name, {"in.input_ids": input_ids, **out}, limits, model=model, prompt_keys=keys,
               tokenizer=pad, note="hidden_states.i and clip_skip_k hold the first 2 prompts only; "
               "hidden_states.0 is the embedding output", **errors)
    return {k: out["out.last_hidden_state"][i:i + 1] for i, k in enumerate(keys)}


# -- networks ---------------------------------------------------------------------------------

ATTENTION = ["norm", "proj_in", "proj_out"] + ["transformer_blocks.0" + s for s in (
    "", ".attn1", ".attn1.to_q", ".attn1.to_k", ".attn1.to_v", ".attn2", ".attn2.to_k", ".ff",
    ".ff.net.0", ".norm1", ".norm2", ".norm3")]
RESNET = ["conv1", "conv2", "conv_shortcut", "norm1", "norm2", "time_emb_proj"]


def unet(golden, name, model, m, context, height, attention, resnet, rng, facts):
    names = [n for n, _ in m.named_modules() if n in (
        "conv_in", "conv_norm_out", "conv_out", "time_proj", "time_embedding", "mid_block")
        or n.count(".") == 3 and n.split(".")[2] in ("resnets", "attentions", "downsamplers",
                                                     "upsamplers")
        or n.startswith("mid_block.") and n.count(".") == 2]
    names += [f"{attention}.{s}" for s in ATTENTION] + [f"{resnet}.{s}" for s in RESNET]
    c0, c1 = context["p0"], context["p1"]

    x, t = randn(rng, 1, 4, height, 8), torch.tensor([601.0])

    def blocks(m, cast):
        acts = {}
        hooks = record(m, names, acts)
        out = m(cast(x), t, cast(c0)).sample
        for h in hooks:
            h.remove()
        return {"out.sample": out, **acts}

    out, errors = measure(blocks, m, "out.sample")
    for bits in (8, 4):
        with torch.no_grad():
            q = quantised(m, bits)(x, t, c0).sample
        errors[f"weights_int{bits}_block32_vs_fp32"] = error(q, out["out.sample"])
    golden.add(f"unet/{name}.blocks", {"in.sample": x, "in.timestep": t,
               "in.encoder_hidden_states": c0, **out}, PLAIN, model=model,
               activations=sorted(names), detail_attention=attention, detail_resnet=resnet,
               **errors)

    b, bt, bc = randn(rng, 2, 4, 8, 16), torch.tensor([999.0, 259.0]), torch.cat([c1, c0])
    c, ct, d = randn(rng, 1, 4, 11, 7), torch.tensor([500.0]), randn(rng, 1, 4, 8, 8)
    sweep = {f"t{v}": v for v in (999, 981, 749, 499, 259, 19, 1, 0)} | {"tf946.42108": 946.42108}

    def more(m, cast):
        out = {"B.out.sample": m(cast(b), bt, cast(bc)).sample,
               "C.out.sample": m(cast(c), ct, cast(bc[:1])).sample}
        return out | {f"D.out.{k}": m(cast(d), torch.tensor([float(v)]), cast(bc[:1])).sample
                      for k, v in sweep.items()}

    out, errors = measure(more, m, "B.out.sample")
    golden.add(f"unet/{name}.more", {
        "B.in.sample": b, "B.in.timestep": bt, "B.in.encoder_hidden_states": bc,
        "C.in.sample": c, "C.in.timestep": ct, "C.in.encoder_hidden_states": bc[:1],
        "D.in.sample": d, "D.in.encoder_hidden_states": bc[:1], **out}, PLAIN, model=model,
        note="C and D use the first row of the batch-2 conditioning tensors in.*", **errors)

    with torch.no_grad():
        other = m(d, torch.tensor([999.0]), c0).sample
    facts[f"unet.{name}"]["prompt_change_rel"] = error(other, out["D.out.t999"])["rel_l2"]
    facts[f"unet.{name}"]["time_change_rel"] = error(out["D.out.t19"], out["D.out.t999"])["rel_l2"]


def images(rng, *shape):
    """Smooth random images in [-1, 1]."""
    small = randn(rng, shape[0], 3, shape[2] // 8, shape[3] // 8) * 0.6
    smooth = F.interpolate(small, shape[2:], mode="bilinear")
    return (smooth + 0.2 * randn(rng, *shape)).clamp(-1, 1)


def vae(golden, model, m, rng):
    scale = m.config.scaling_factor
    z = randn(rng, 1, 4, 4, 3) / scale
    names = ["post_quant_conv"] + ["decoder." + n for n in (
        "conv_in", "mid_block", "mid_block.resnets.0", "mid_block.attentions.0",
        "mid_block.resnets.1", "up_blocks.0", "up_blocks.1", "up_blocks.2", "up_blocks.3",
        "conv_norm_out", "conv_act", "conv_out")]

    def blocks(m, cast):
        acts = {}
        hooks = record(m, names, acts)
        out = m.decode(cast(z)).sample
        for h in hooks:
            h.remove()
        return {"out.sample": out, **acts}

    out, errors = measure(blocks, m, "out.sample")
    with torch.no_grad():
        q = quantised(m, 8).decode(z).sample
    errors["weights_int8_block32_vs_fp32"] = error(q, out["out.sample"])
    golden.add("vae/sd-turbo-like.decode_blocks", {"in.z": z, **out}, PLAIN, model=model,
               activations=sorted(names), **errors)

    zs = [randn(rng, *s) / scale for s in ((2, 4, 4, 6), (1, 4, 6, 8), (1, 4, 7, 5))]
    xs = [images(rng, 1, 3, 24, 32), images(rng, 1, 3, 40, 32)]
    e = images(rng, 1, 3, 16, 24)
    enc = [n for n, _ in m.encoder.named_modules() if n in ("conv_in", "conv_norm_out", "conv_out")
           or n.startswith("down_blocks.") and n.count(".") in (1, 3) or n == "mid_block"
           or n.startswith("mid_block.") and n.count(".") == 2]
    enc += [f"mid_block.attentions.0.{s}" for s in ("group_norm", "to_q", "to_k", "to_v")]

    def more(m, cast):
        out = {f"decode{i}.out": m.decode(cast(z)).sample for i, z in enumerate(zs)}
        for i, x in enumerate(xs):
            d = m.encode(cast(x)).latent_dist
            noise = torch.randn(d.mean.shape, generator=torch.Generator().manual_seed(11 + i))
            out |= {f"encode{i}.mean": d.mean, f"encode{i}.logvar": d.logvar,
                    f"encode{i}.std": d.std, f"encode{i}.sample_seed{11 + i}":
                    d.mean + d.std * noise.to(d.mean.dtype)}
        acts = {}
        hooks = record(m, ["encoder." + n for n in enc], acts)
        out["encode_blocks.out"] = m.encoder(cast(e))
        for h in hooks:
            h.remove()
        return out | acts

    out, errors = measure(more, m, "decode0.out")
    inputs = {f"decode{i}.in": v for i, v in enumerate(zs)}
    inputs |= {f"encode{i}.in": v for i, v in enumerate(xs)} | {"encode_blocks.in": e}
    golden.add("vae/sd-turbo-like.more", {**inputs, **out}, PLAIN, model=model,
               note="encode*: mean/logvar after quant_conv; logvar clamped to [-30,20]; "
               "std = exp(logvar/2); sample = mean + std*randn(seed)", **errors)


def tiny(golden, model, m, rng):
    z = randn(rng, 1, 4, 4, 3) * 1.3
    zs = {f"decode{i}": randn(rng, *s) for i, s in enumerate(((2, 4, 4, 6), (1, 4, 6, 8),
                                                              (1, 4, 7, 5)))}
    zs["decode_clamp"] = randn(rng, 1, 4, 5, 5) * 5.5
    xs = {f"encode{i}": images(rng, *s) for i, s in enumerate(((1, 3, 24, 32), (1, 3, 40, 32)))}
    names = [f"decoder.layers.{i}" for i in range(len(m.decoder.layers))]

    def run(m, cast):
        acts = {}
        hooks = record(m, names, acts)
        out = {"out.sample": m.decode(cast(z)).sample}
        for h in hooks:
            h.remove()
        out |= {f"{k}.out": m.decode(cast(v)).sample for k, v in zs.items()}
        return out | {f"{k}.out": m.encode(cast(v)).latents for k, v in xs.items()} | acts

    out, errors = measure(run, m, "out.sample")
    inputs = {"in.z": z, **{f"{k}.in": v for k, v in {**zs, **xs}.items()}}
    golden.add("vae/sdxs-like.tiny", {**inputs, **out}, PLAIN, model=model, note="decode includes "
               "tanh(x/3)*3 at the input and x*2-1 at the output; encode maps [-1,1] to [0,1] "
               "first", **errors)


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


def public(config):
    return {k: v for k, v in config.items() if not k.startswith("_")}


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
        s.set_timesteps(num_inference_steps=n)
        x = randn(rng, 1, 4, 3, 7) * s.init_noise_sigma     # 84 numbers: no multiple of 16
        t, g = {"x0": x}, torch.Generator().manual_seed(5)
        mirror = torch.Generator().manual_seed(5)           # draws what the scheduler draws
        for i, step in enumerate(s.timesteps):
            t[f"scaled.{i}"] = s.scale_model_input(x, step)
            t[f"model_output.{i}"] = e = randn(rng, *x.shape)
            o = s.step(e, step, x, generator=g)
            t[f"prev_sample.{i}"] = x = o.prev_sample
            if name.startswith("lcm"):
                t[f"denoised.{i}"] = o.denoised
                if i < n - 1:
                    t[f"noise.{i}"] = torch.randn(x.shape, generator=mirror)
            else:
                t[f"pred_original_sample.{i}"] = o.pred_original_sample
        fields = {"class": type(s).__name__, "config": public(s.config),
                  "set_timesteps": {"num_inference_steps": n}, "timesteps": s.timesteps.tolist(),
                  "init_noise_sigma": float(s.init_noise_sigma)}
        if hasattr(s, "sigmas"):
            fields["sigmas"] = s.sigmas.tolist()
        golden.add(f"sched/{name}", t, EXACT, **fields, generator_seed=5)

    s = EulerDiscreteScheduler(**EULER)
    golden.add("sched/alphas", {"betas": s.betas, "alphas_cumprod": s.alphas_cumprod}, EXACT,
               note="float32, torch.linspace(sqrt(b0), sqrt(b1), 1000)**2, cumprod accumulated in "
               "float64 with every value rounded to float32, as torch does on the CPU")


# -- pipelines --------------------------------------------------------------------------------

def generate(pipe, seed, args):
    gen = [torch.Generator().manual_seed(s) for s in seed] if isinstance(seed, list) else \
        torch.Generator().manual_seed(seed)
    tensors, times = {}, []

    def step(_, i, t, state):
        tensors[f"latents.{i}"] = state["latents"].clone()
        times.append(float(t))
        return {}

    image = pipe(**args, generator=gen, output_type="np", callback_on_step_end=step).images
    return {"image": torch.from_numpy(image).float(), **tensors}, times


def pipelines(golden, turbo, sdxs, prompts, seed, size):
    others = {"fp32_vs_fp64": torch.float64, "torch_fp16_vs_fp32": torch.float16}
    copies = {}
    for pipe in (turbo, sdxs):
        for dtype in others.values():
            parts = {k: copy.deepcopy(v).to(dtype) if isinstance(v, torch.nn.Module) else v
                     for k, v in pipe.components.items()}
            copies[pipe, dtype] = StableDiffusionPipeline(
                **parts, requires_safety_checker=False)
            copies[pipe, dtype].set_progress_bar_config(disable=True)

    def case(name, pipe, offset, prompt, n, scheduler="euler trailing", note=None, height=size,
             width=size, limits=PIPE, **more):
        s = LCMScheduler(**LCM) if scheduler == "lcm" else EulerDiscreteScheduler(**EULER)
        pipe.scheduler = s
        case_seed = [seed * 100 + o for o in offset] if isinstance(offset, list) else \
            seed * 100 + offset
        args = dict(prompt=prompt, num_inference_steps=n, guidance_scale=0.0, height=height,
                    width=width) | more
        out, times = generate(pipe, case_seed, args)
        errors = {}
        for field, dtype in others.items():
            copies[pipe, dtype].scheduler = copy.deepcopy(s)
            other, _ = generate(copies[pipe, dtype], case_seed, args)
            a, b = (out, other) if dtype == torch.float64 else (other, out)
            each = {k: error(a[k], b[k])["rel_l2"] for k in out}
            worst = max(each, key=each.get)
            errors[field] = {**error(a["image"], b["image"]), "worst": worst,
                             "worst_rel_l2": each[worst]}
        png = []
        for i, image in enumerate(out["image"]):
            png.append(f"ref/pipe/{name}.{i}.png")
            (golden.out / png[-1]).parent.mkdir(exist_ok=True)
            levels = (image.numpy() * 255).round().astype(np.uint8)
            Image.fromarray(levels).save(golden.out / png[-1])
        clipped = ((out["image"] == 0) | (out["image"] == 1)).float().mean().item()
        model = "sdxs-like" if pipe is sdxs else "sd-turbo-like"
        golden.add(f"pipe/{name}", out, limits, model=model, scheduler=scheduler,
                   scheduler_class=type(s).__name__, scheduler_config=public(s.config),
                   seed=case_seed, args=args, image_inputs={}, step_timesteps=times, png=png,
                   clipped_fraction=round(clipped, 4), note=note, **errors)
        return out["image"]

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
    rms = lambda s, a: (generate(turbo, s, a)[0]["image"] - base).square().mean().sqrt().item()
    return {"image_rms_other_prompt": rms(seed * 100 + 1, args | {"prompt": p[3] + " in fog"}),
            "image_rms_other_seed": rms(seed * 100 + 2, args), "image_std": base.std().item()}
