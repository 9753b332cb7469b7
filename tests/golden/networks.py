"""The cases of single networks: U-Nets and autoencoders, with the output of their modules.

Sizes are chosen as in cases.py: not square, and odd.
"""
import torch
from torch.nn import functional as F

from build import randn
from measure import PLAIN, error, measure, quantised, record

ATTENTION = ["norm", "proj_in", "proj_out"] + ["transformer_blocks.0" + s for s in (
    "", ".attn1", ".attn1.to_q", ".attn1.to_k", ".attn1.to_v", ".attn2", ".attn2.to_k", ".ff",
    ".ff.net.0", ".norm1", ".norm2", ".norm3")]
RESNET = ["conv1", "conv2", "conv_shortcut", "norm1", "norm2", "time_emb_proj"]


def same(x):
    return x


def unet(golden, name, model, m, context, size, attention, resnet, rng, facts, limits=PLAIN,
         conditions=None):
    """`size`: of the latents in .blocks; `conditions`: what else the U-Net takes, by its name in
    the file, with a row for each prompt."""
    def told(rows, cast):
        """The first so many conditions, as arguments."""
        given = {k: cast(v[:rows]) for k, v in (conditions or {}).items()}
        added = {k: given.pop(k) for k in ("text_embeds", "time_ids") if k in given}
        return given | ({"added_cond_kwargs": added} if added else {})

    known = lambda rows: {f"in.{k}": v[:rows] for k, v in (conditions or {}).items()}
    names = [n for n, _ in m.named_modules() if n in (
        "conv_in", "conv_norm_out", "conv_out", "time_proj", "time_embedding", "mid_block")
        or n.count(".") == 3 and n.split(".")[2] in ("resnets", "attentions", "downsamplers",
                                                     "upsamplers")
        or n.startswith("mid_block.") and n.count(".") == 2
        or conditions and n in ("add_time_proj", "add_embedding")]
    names += [f"{attention}.{s}" for s in ATTENTION] + [f"{resnet}.{s}" for s in RESNET]
    c0, c1 = context["p0"], context["p1"]

    channels = m.config.in_channels
    x, t = randn(rng, 1, channels, *size), torch.tensor([601.0])

    def blocks(m, cast):
        acts = {}
        hooks = record(m, names, acts)
        out = m(cast(x), t, cast(c0), **told(1, cast)).sample
        for h in hooks:
            h.remove()
        return {"out.sample": out, **acts}

    out, errors = measure(blocks, m, "out.sample")
    for bits in (8, 4):
        with torch.no_grad():
            q = quantised(m, bits)(x, t, c0, **told(1, same)).sample
        errors[f"weights_int{bits}_block32_vs_fp32"] = error(q, out["out.sample"])
    golden.add(f"unet/{name}.blocks", {"in.sample": x, "in.timestep": t,
               "in.encoder_hidden_states": c0, **known(1), **out}, limits, model=model,
               activations=sorted(names), detail_attention=attention, detail_resnet=resnet,
               **errors)

    b, bt = randn(rng, 2, channels, 8, 16), torch.tensor([999.0, 259.0])
    bc = torch.cat([c1, c0])
    c, ct, d = randn(rng, 1, channels, 11, 7), torch.tensor([500.0]), randn(rng, 1, channels, 8, 8)
    sweep = {f"t{v}": v for v in (999, 981, 749, 499, 259, 19, 1, 0)} | {"tf946.42108": 946.42108}

    def more(m, cast):
        both, one = told(2, cast), told(1, cast)
        out = {"B.out.sample": m(cast(b), bt, cast(bc), **both).sample,
               "C.out.sample": m(cast(c), ct, cast(bc[:1]), **one).sample}
        return out | {f"D.out.{k}": m(cast(d), torch.tensor([float(v)]), cast(bc[:1]), **one).sample
                      for k, v in sweep.items()}

    out, errors = measure(more, m, "B.out.sample")
    golden.add(f"unet/{name}.more", {
        "B.in.sample": b, "B.in.timestep": bt, "B.in.encoder_hidden_states": bc,
        "C.in.sample": c, "C.in.timestep": ct, "C.in.encoder_hidden_states": bc[:1],
        "D.in.sample": d, "D.in.encoder_hidden_states": bc[:1], **known(2), **out}, limits,
        model=model, note="C and D use the first row of the batch-2 conditioning tensors in.*",
        **errors)

    with torch.no_grad():
        other = m(d, torch.tensor([999.0]), c0, **told(1, same)).sample
    facts[f"unet.{name}"]["prompt_change_rel"] = error(other, out["D.out.t999"])["rel_l2"]
    facts[f"unet.{name}"]["time_change_rel"] = error(out["D.out.t19"], out["D.out.t999"])["rel_l2"]


def images(rng, *shape):
    """Smooth random images in [-1, 1]."""
    small = randn(rng, shape[0], 3, shape[2] // 8, shape[3] // 8) * 0.6
    smooth = F.interpolate(small, shape[2:], mode="bilinear")
    return (smooth + 0.2 * randn(rng, *shape)).clamp(-1, 1)


# Latents to decode, and pictures to encode.
DECODED = ((2, 4, 6), (1, 6, 8), (1, 7, 5))
ENCODED = ((24, 32), (40, 32))


def vae(golden, name, model, m, rng, decoded=DECODED, encoded=ENCODED, limits=PLAIN):
    scale, channels = m.config.scaling_factor, m.config.latent_channels
    z = randn(rng, 1, channels, 4, 3) / scale
    names = ["post_quant_conv"] * m.config.use_post_quant_conv + ["decoder." + n for n in (
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
    golden.add(f"vae/{name}.decode_blocks", {"in.z": z, **out}, limits, model=model,
               activations=sorted(names), **errors)

    zs = [randn(rng, n, channels, *s) / scale for n, *s in decoded]
    xs = [images(rng, 1, 3, *s) for s in encoded]
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
    golden.add(f"vae/{name}.more", {**inputs, **out}, limits, model=model,
               note="encode*: mean/logvar after quant_conv; logvar clamped to [-30,20]; "
               "std = exp(logvar/2); sample = mean + std*randn(seed)", **errors)


def tiny(golden, name, model, m, rng, decoded=DECODED, encoded=ENCODED):
    channels = m.config.latent_channels
    z = randn(rng, 1, channels, 4, 3) * 1.3
    zs = {f"decode{i}": randn(rng, n, channels, *s) for i, (n, *s) in enumerate(decoded)}
    zs["decode_clamp"] = randn(rng, 1, channels, 5, 5) * 5.5
    xs = {f"encode{i}": images(rng, 1, 3, *s) for i, s in enumerate(encoded)}
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
    golden.add(f"vae/{name}.tiny", {**inputs, **out}, PLAIN, model=model, note="decode includes "
               "tanh(x/3)*3 at the input and x*2-1 at the output; encode maps [-1,1] to [0,1] "
               "first", **errors)
