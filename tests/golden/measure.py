"""Stores the tensors of a case, and measures how far rounding alone moves them."""
import copy
import sys

import torch
from diffusers.utils import torch_utils
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers.models.clip import modeling_clip

# Relative L2 for tensors; for a whole pipeline's image_levels, the share of 8-bit values that
# must be equal. `half` is for f16 storage. The text encoder with the tiny stream is looser.
PLAIN = dict(f32=2e-5, half=5e-3)
NARROW = dict(f32=2e-5, half=1e-2)      # few channels average little of the rounding away
TINY_STREAM = dict(f32=6e-5, half=1e-2)
EXACT = dict(f32=2e-6, half=2e-6)
PIPE = dict(f32=1e-4, half=5e-3, image_levels=dict(f32=0.999))
AMPLIFIED = PIPE | dict(half=1e-2)     # guidance, and AutoencoderTiny, enlarge what is rounded away
GUIDED = PIPE | dict(half=2e-2)         # a guidance of 5 or 7.5 in a narrow network, more


class Set:
    def __init__(self, out):
        self.out, self.cases, self.faults = out, {}, []

    def add(self, name, tensors, limits, **fields):
        path = self.out / "ref" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
        assert all(v.isfinite().all() for v in tensors.values()), name
        save_file(tensors, path)
        stats = {k: stat(v) for k, v in tensors.items()
                 if v.is_floating_point() and not k.startswith("act.")}
        plain = name in ("rng", "ops", "unet/timestep_embedding") or name.startswith("sched/")
        self.faults += check_limits(name, limits, fields)
        self.cases[name] = {**fields, "file": f"ref/{name}.safetensors",
                            **({} if plain else {"stats": stats}), "limits": limits}


def stat(v):
    v = v.double()
    return {"mean": round(v.mean().item(), 6), "std": round(v.std(correction=0).item(), 6),
            "absmax": round(v.abs().max().item(), 6)}


def check_limits(name, limits, fields):
    """A limit that the library's own rounding comes near would not be honest: those, in words."""
    faults = []
    for field, limit in (("fp32_vs_fp64", "f32"), ("torch_fp16_vs_fp32", "half")):
        if field in fields:
            worst = fields[field].get("worst_rel_l2", fields[field]["rel_l2"])
            print(f"{name:32} {field:20} {worst:.1e} of {limits[limit]:.0e}")
            if worst * 1.5 >= limits[limit]:
                faults.append(f"{name}: {field} is {worst:.1e}, the limit {limits[limit]:.0e}")
    return faults


def error(a, b):
    a, b = a.double(), b.double()
    return {"max_abs": (a - b).abs().max().item(), "rel_l2": ((a - b).norm() / b.norm()).item()}


def measure(run, model, main):
    """`run(model, cast)` in float32, and its error levels. `main` names the final output."""
    def other(model, dtype):
        model = copy.deepcopy(model).to(dtype)
        return run(model, lambda x: x.to(dtype) if x.is_floating_point() else x)

    def versus(a, b):
        each = {k: error(a[k], b[k])["rel_l2"] for k in b if not is_input(k) and b[k].std() > 0}
        worst = max(each, key=each.get)
        return {**error(a[main], b[main]), "worst": worst, "worst_rel_l2": each[worst]}

    is_input = lambda k: k.endswith(".in") or k.startswith(("in.", "B.in", "C.in", "D.in"))
    with torch.no_grad():
        out = run(model, lambda x: x)
        errors = {"fp32_vs_fp64": versus(out, other(model, torch.float64)),
                  "torch_fp16_vs_fp32": versus(other(model, torch.float16), out)}
    return out, errors


def allow_float64():
    """Two places of the libraries fail or draw other noise in float64, the measure of rounding. To
    be called when all pipelines and schedulers are imported."""
    draw, mask = torch_utils.randn_tensor, modeling_clip._create_4d_causal_attention_mask

    def randn_tensor(*args, dtype=None, **how):
        return draw(*args, dtype=torch.float32, **how).to(dtype or torch.float32)

    def causal(shape, dtype, **how):
        made = torch.float32 if dtype == torch.float64 else dtype
        return mask(shape, made, **how).to(dtype)

    for module in list(sys.modules.values()):
        if module is not torch_utils and vars(module).get("randn_tensor") is draw:
            module.randn_tensor = randn_tensor
    modeling_clip._create_4d_causal_attention_mask = causal


@torch.no_grad()
def quantised(model, bits):
    """A copy whose matrices are rounded to blocks of 32 along a row, one float16 scale each."""
    model, top = copy.deepcopy(model), 2 ** (bits - 1) - 1
    for p in model.parameters():
        if p.ndim > 1:
            rows = p.flatten(1)
            blocks = F.pad(rows, (0, -rows.shape[1] % 32)).unflatten(1, (-1, 32))
            scale = (blocks.abs().amax(-1, keepdim=True) / top).half().float().clamp(min=6e-8)
            blocks = (blocks / scale).round().clamp(-top, top) * scale
            p.copy_(blocks.flatten(1)[:, :rows.shape[1]].reshape(p.shape))
    return model


def record(model, names, acts):
    """Hooks that store the output of the named modules as act.<path>."""
    def keep(name):
        def hook(_, __, out):
            acts["act." + name] = out[0] if isinstance(out, tuple) else getattr(out, "sample", out)
        return hook
    modules = dict(model.named_modules())
    return [modules[n].register_forward_hook(keep(n)) for n in names]
