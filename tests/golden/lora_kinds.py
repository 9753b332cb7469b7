"""LoRAs of every kind, by those who train them: what LyCORIS and peft make of four small layers.

    pip install torch peft lycoris-lora einops toml safetensors
    python lora_kinds.py

writes adapters/NAME.safetensors, files as trainers save them, and adapters/merged.safetensors: the layers as they are
(`base/..`) and with each file merged at a scale (`NAME/SCALE/..`). Made with torch 2.15.0, peft 0.21.2 and LyCORIS 4.1.3.
"""
import json
from pathlib import Path

import torch
from lycoris.modules.full import FullModule
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).parent / "adapters"
RANK, ALPHA = 2, 3.0
merged = {}


class Layers(nn.Module):
    """In a block of a U-Net, whose names some tools look for."""

    def __init__(self):
        super().__init__()
        self.mid_block = nn.ModuleDict(dict(proj=nn.Linear(12, 8), square=nn.Linear(12, 12),
                                            conv=nn.Conv2d(8, 12, 3), norm=nn.LayerNorm(12)))

    def forward(self, x):
        return x


def layers():
    torch.manual_seed(1)
    net = Layers()
    for p in net.parameters():
        nn.init.normal_(p, 0, 0.5)
    return net


def state(net):
    return {k: v.detach().clone().contiguous() for k, v in net.state_dict().items()}


def keep(name, scale, tensors):
    merged.update({f"{name}/{scale}/{k}": v.contiguous() for k, v in tensors.items()})


def lycoris(name, kind, names, scales=(1.0, 0.5), rank=RANK, **options):
    """kohya's names, from modules of LyCORIS."""
    net, file, wanted = layers(), {}, {s: {} for s in scales}
    for layer in names:
        torch.manual_seed(hash_of(name + layer))
        org = net.mid_block[layer]
        key = f"lora_unet_mid_block_{layer}"
        module = kind(key, org, 1.0) if kind is NormModule else kind(key, org, 1.0, rank, ALPHA, **options)
        for p in module.parameters():
            if p.numel() > 1:
                p.data = p.data + torch.randn_like(p) * 0.3
        if kind is FullModule or kind is NormModule:
            module_state = full(module, org)
        else:
            module_state = {k: v.detach() for k, v in module.custom_state_dict().items()}
        for k, v in module_state.items():
            file[f"{key}.{k}"] = v.detach().clone().contiguous()
        for s in scales:
            if kind is NormModule or kind is FullModule:
                for part, d in zip(("weight", "bias"), ("w_norm", "b_norm") if kind is NormModule else ("diff", "diff_b")):
                    wanted[s][f"mid_block.{layer}.{part}"] = getattr(org, part).detach() + s * module_state[d]
                continue
            base = org.weight.detach()
            new = base + trained(module, base.shape)
            new = module.apply_weight_decompose(new).detach() if module.wd else new
            # As ComfyUI merges at other strengths.
            wanted[s][f"mid_block.{layer}.weight"] = new if s == 1 else base + s * (new - base)
    save_file(file, OUT / f"{name}.safetensors")
    for s in scales:
        keep(name, s, wanted[s])


def trained(module, shape):
    """What a module adds while it is trained (LyCORIS' own merging takes alpha twice for two of the kinds)."""
    if hasattr(module, "get_weight"):
        return module.get_weight(shape).detach()
    return module.get_diff_weight(shape=shape)[0].detach()


def full(module, org):
    if isinstance(module, NormModule):
        return {"w_norm": module.w_norm, "b_norm": module.b_norm}
    return {"diff": torch.randn_like(org.weight) * 0.2, "diff_b": torch.randn_like(org.bias) * 0.2}


def hash_of(text):
    return sum((i + 1) * ord(c) for i, c in enumerate(text))


def peft(name, scales=(1.0, 0.5), **options):
    """peft's names and configuration, as diffusers saves them."""
    file = None
    for s in scales:
        config = LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **options)
        net = get_peft_model(layers(), config)
        torch.manual_seed(hash_of(name))
        for n, p in net.named_parameters():
            if "lora_" in n:
                p.data = (p.data if "magnitude" in n else 0) + torch.randn_like(p) * 0.3
        file = {k.replace("base_model.model.", "unet."): v.contiguous() for k, v in
                get_peft_model_state_dict(net).items()}
        for module in net.modules():
            if hasattr(module, "set_scale"):
                module.set_scale("default", s)
        keep(name, s, state(net.merge_and_unload()))
    config = json.loads(json.dumps(config.to_dict(), default=lambda v: sorted(v) if isinstance(v, set) else str(v)))
    metadata = json.dumps({f"unet.{k}": v for k, v in config.items()}, indent=2)
    save_file(file, OUT / f"{name}.safetensors", metadata={"format": "pt", "lora_adapter_metadata": metadata})


def main():
    OUT.mkdir(exist_ok=True)
    keep("base", 0, state(layers()))
    every = ["proj", "square", "conv"]
    lycoris("locon", LoConModule, every)
    lycoris("locon_core", LoConModule, ["conv"], use_tucker=True)
    lycoris("loha", LohaModule, every)
    lycoris("loha_core", LohaModule, ["conv"], use_tucker=True)
    lycoris("lokr", LokrModule, every, factor=2, full_matrix=True)
    lycoris("lokr_thin", LokrModule, every, factor=2)
    lycoris("lokr_both", LokrModule, ["square"], rank=1, decompose_both=True)
    lycoris("lokr_core", LokrModule, ["conv"], factor=2, use_tucker=True)
    lycoris("dora_outputs", LoConModule, every, weight_decompose=True)
    lycoris("dora_inputs", LoConModule, every, weight_decompose=True, wd_on_out=False)
    lycoris("dora_loha", LohaModule, every, weight_decompose=True, wd_on_out=False)
    lycoris("dora_lokr", LokrModule, every, factor=2, weight_decompose=True)
    lycoris("differences", FullModule, every)
    lycoris("norms", NormModule, ["norm"])
    targets = dict(target_modules=["proj", "square", "conv"])
    peft("peft", **targets)
    peft("peft_patterns", alpha_pattern={"square": 3, r"^mid_block\.[cp].*": 9}, rank_pattern={"conv": 2}, **targets)
    peft("peft_root", use_rslora=True, **targets)
    peft("peft_bias", lora_bias=True, **targets)
    peft("peft_dora", use_dora=True, **targets)
    save_file(merged, OUT / "merged.safetensors")


if __name__ == "__main__":
    main()
