"""Networks beside a U-Net: ControlNet, T2I-Adapter, IP-Adapter, LoRA and the safety checker. Each
is built for sd15-like, written below models/extras, and run alone and with that U-Net.
"""
import copy

import torch
from diffusers import ControlNetModel, T2IAdapter
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import (CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPVisionConfig,
                          CLIPVisionModelWithProjection)

from build import GAINS, fact, initialise, randn, representable
from build_family import load, save
from measure import PLAIN, measure

CLIP_IMAGE = "ref/inputs/clip_image.png"
# The last pixels of 32 fill no patch of 6, and heads have 10 channels.
VISION = dict(hidden_size=20, intermediate_size=44, projection_dim=16, num_attention_heads=2,
              num_hidden_layers=3, image_size=32, patch_size=6)
VISION_GAINS = [(r"class_embedding|position_embedding", 0.4), (r"out_proj|fc2", 0.8)] + GAINS
CONTROL = [(r"controlnet_(down|mid)", 0.4)] + GAINS
ADAPTER = [(r"conv_in", 2.0), (r"block1", 1.4), (r"block2", 0.8), (r"", 1.0)]
RANK, ALPHA = 2, 1.0
ADAPTED = ("down_blocks.1.", "mid_block.", "up_blocks.2.")


def inputs(rng, context, height=6, width=5):
    """What a U-Net is given, as named in the files."""
    return {"in.sample": randn(rng, 1, 4, height, width), "in.timestep": torch.tensor([601.0]),
            "in.encoder_hidden_states": context["p0"]}


def controlnet(golden, unet, context, rng, facts):
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(6, 8, 10, 12))
    facts["controlnet"] = fact(representable(initialise(net, rng, CONTROL)))
    save(net, golden.out / "models/extras/controlnet")
    net = load(ControlNetModel, golden.out / "models/extras/controlnet")
    given, scale = inputs(rng, context), 0.8
    given["in.controlnet_cond"] = torch.from_numpy(rng.random((1, 3, 48, 40))).float()
    x, t, text, image = given.values()

    def run(m, cast):
        down, mid = m["net"](cast(x), t, cast(text), cast(image), scale, return_dict=False)
        out = m["unet"](cast(x), t, cast(text), down_block_additional_residuals=down,
                        mid_block_additional_residual=mid).sample
        return {"out.unet_with_controlnet": out, "mid": mid,
                "cond_embedding": m["net"].controlnet_cond_embedding(cast(image)),
                **{f"down.{i}": d for i, d in enumerate(down)}}

    out, errors = measure(run, nn.ModuleDict(dict(unet=unet, net=net)), "out.unet_with_controlnet")
    golden.add("extras/controlnet", {**given, **out}, PLAIN, model="extras/controlnet",
               conditioning_scale=scale, **errors)
    return net


def t2i_adapter(golden, unet, context, rng, facts):
    widths = list(unet.config.block_out_channels)
    net = initialise(T2IAdapter(in_channels=3, channels=widths, num_res_blocks=2,
                                downscale_factor=8, adapter_type="full_adapter"), rng, ADAPTER)
    facts["t2i_adapter"] = fact(representable(net))
    save(net, golden.out / "models/extras/t2i-adapter")
    net = load(T2IAdapter, golden.out / "models/extras/t2i-adapter")
    given = inputs(rng, context)
    given["in.image"] = torch.from_numpy(rng.random((1, 3, 48, 40))).float()
    x, t, text, image = given.values()

    def run(m, cast):
        features = m["net"](cast(image))
        out = m["unet"](cast(x), t, cast(text), down_intrablock_additional_residuals=[
            f.clone() for f in features]).sample
        return {"out.unet_with_adapter": out, **{f"feature.{i}": f for i, f in enumerate(features)}}

    out, errors = measure(run, nn.ModuleDict(dict(unet=unet, net=net)), "out.unet_with_adapter")
    golden.add("extras/t2i_adapter", {**given, **out}, PLAIN, model="extras/t2i-adapter", **errors)
    return net


def ip_adapter(golden, unet, rng, facts):
    """Returns the image encoder and its processor; the adapter itself is read from its file."""
    folder, width = golden.out / "models/extras/ip-adapter", unet.config.cross_attention_dim
    encoder = initialise(CLIPVisionModelWithProjection(CLIPVisionConfig(
        **VISION, hidden_act="gelu")), rng, VISION_GAINS)
    facts["image_encoder"] = fact(representable(encoder))
    save(encoder, folder / "image_encoder")
    side = VISION["image_size"]
    CLIPImageProcessor(size=dict(shortest_edge=side), crop_size=side).save_pretrained(
        folder / "feature_extractor")
    encoder = load(CLIPVisionModelWithProjection, folder / "image_encoder")
    processor = CLIPImageProcessor.from_pretrained(folder / "feature_extractor")
    picture = Image.open(golden.out / CLIP_IMAGE)
    pixels = processor(picture, return_tensors="pt").pixel_values

    def run(m, cast):
        out = m(cast(pixels), output_hidden_states=True)
        return {"last_hidden_state": out.last_hidden_state, "penultimate": out.hidden_states[-2],
                "image_embeds": out.image_embeds}

    out, errors = measure(run, encoder, "image_embeds")
    golden.add("extras/image_encoder", {"pixel_values": pixels, **out}, PLAIN, image=CLIP_IMAGE,
               model="extras/ip-adapter/image_encoder", preprocess=f"RGB, shortest edge to {side} "
               f"(bicubic, PIL), centre crop {side}, /255, CLIP mean/std", **errors)

    embeds = VISION["projection_dim"]
    t = {"image_proj.proj.weight": randn(rng, 4 * width, embeds) / embeds ** 0.5,
         "image_proj.proj.bias": 0.1 * randn(rng, 4 * width),
         "image_proj.norm.weight": 1 + 0.2 * randn(rng, width),
         "image_proj.norm.bias": 0.1 * randn(rng, width)}
    text = [m for n, m in attentions(unet) if n.endswith("attn2")]
    for i, m in enumerate(text):
        for letter in "kv":
            t[f"ip_adapter.{2 * i + 1}.to_{letter}_ip.weight"] = \
                randn(rng, m.to_k.out_features, width) * 1.4 / width ** 0.5
    save_file({k: v.half().contiguous() for k, v in t.items()}, folder / "ip-adapter.safetensors")
    facts["ip_adapter"] = {"params": sum(v.numel() for v in t.values())}
    return encoder, processor


def attentions(unet):
    """In the order of the numbers in an IP-Adapter's file: down, up, mid."""
    return [(n.removesuffix(".processor"), unet.get_submodule(n.removesuffix(".processor")))
            for n in unet.attn_processors]


def ip_adapter_embeds(golden, pipe):
    """`pipe` has the adapter."""
    picture = Image.open(golden.out / CLIP_IMAGE)
    pixels = pipe.feature_extractor(picture, return_tensors="pt").pixel_values
    layer = pipe.unet.encoder_hid_proj.image_projection_layers[0]

    def run(m, cast):
        embeds = m["encoder"](cast(pixels)).image_embeds
        return {"image_embeds": embeds, "negative": torch.zeros_like(embeds),
                "projected": m["layer"](embeds)}

    out, errors = measure(run, nn.ModuleDict(dict(encoder=pipe.image_encoder, layer=layer)),
                          "projected")
    golden.add("extras/ip_adapter_embeds", out, PLAIN, **errors)


def lora(golden, unet, context, rng):
    """Returns a function that merges it into a copy of the U-Net."""
    folder, pairs, alphas = golden.out / "models/extras/lora", {}, {}
    for name, m in unet.named_modules():
        if isinstance(m, (nn.Linear, nn.Conv2d)) and name.startswith(ADAPTED):
            inner = m.weight[0].shape
            down = randn(rng, RANK, *inner) / inner.numel() ** 0.5
            up = randn(rng, len(m.weight), RANK, *[1] * (len(inner) - 1)) * 0.7
            pairs[name] = down.half().float(), up.half().float()
    kohya, peft = {}, {}
    for name, (down, up) in pairs.items():
        key = "lora_unet_" + name.replace(".", "_")
        kohya[f"{key}.lora_down.weight"], kohya[f"{key}.lora_up.weight"] = down.half(), up.half()
        kohya[f"{key}.alpha"] = torch.tensor(ALPHA).half()
        peft[f"unet.{name}.lora_A.weight"] = down.half()
        peft[f"unet.{name}.lora_B.weight"] = up.half()
    folder.mkdir(parents=True)
    save_file(kohya, folder / "pytorch_lora_weights.safetensors")
    save_file(peft, folder / "peft_names.safetensors")

    @torch.no_grad()
    def merged(scale):
        made = copy.deepcopy(unet)
        for name, (down, up) in pairs.items():
            weight = made.get_submodule(name).weight
            change = (up.flatten(1).double() @ down.flatten(1).double()).reshape(weight.shape)
            weight.copy_(weight.double() + scale * ALPHA / RANK * change)
        return made

    given = inputs(rng, context)
    x, t, text = given.values()
    variants = nn.ModuleDict(dict(no_lora=unet, merged_scale1=merged(1.0),
                                  merged_scale0_5=merged(0.5)))

    def run(m, cast):
        return {f"out.{k.replace('0_5', '0.5')}": v(cast(x), t, cast(text)).sample
                for k, v in m.items()}

    out, errors = measure(run, variants, "out.merged_scale1")
    golden.add("extras/lora", {**given, **out}, PLAIN, rank=RANK, alpha=ALPHA, **errors,
               model="sd15-like/unet + extras/lora/pytorch_lora_weights.safetensors",
               note="W += scale * alpha/rank * up @ down (conv: up 1x1). peft_names.safetensors "
               "has the same matrices without alpha, i.e. scale alpha/rank = 1")
    return merged


def safety_checker(golden, rng, facts):
    """Pictures 0 and 3 are clean, 1 shows a concept, and 2 shows one only because a special concept
    was found before, which lowers the thresholds."""
    config = CLIPConfig(projection_dim=VISION["projection_dim"], vision_config=CLIPVisionConfig(
        **VISION, hidden_act="quick_gelu").to_dict(), text_config=CLIPTextConfig(
        hidden_size=20, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2).to_dict())
    net = representable(initialise(StableDiffusionSafetyChecker(config), rng, VISION_GAINS))
    pixels = randn(rng, 4, 3, 32, 32) + 0.7 * randn(rng, 4, 3, 1, 1)
    shown, near, found = 4, 11, 1       # two concepts and a special one
    with torch.no_grad():
        embeds = net.visual_projection(net.vision_model(pixels)[1])
        own = embeds - embeds.mean(0)
        for p in (net.concept_embeds, net.special_care_embeds):
            p.copy_(randn(rng, *p.shape))
        net.concept_embeds[shown], net.concept_embeds[near] = own[1], own[2]
        net.special_care_embeds[found] = own[2] + 0.3 * own.std() * randn(rng, *own[2].shape)
        representable(net)
        special, concepts = cosines(net, pixels).values()
        # Out of reach, but for the concept that picture 1 shows, the special one that picture 2
        # shows, and the concept that this brings within reach.
        net.concept_embeds_weights.copy_(concepts.amax(0) + 0.1)
        net.special_care_embeds_weights.copy_(special.amax(0) + 0.1)
        net.concept_embeds_weights[shown] = concepts[1, shown] - 0.02
        net.concept_embeds_weights[near] = concepts[2, near] + 0.005
        net.special_care_embeds_weights[found] = special[2, found] - 0.02
    facts["safety_checker"] = fact(representable(net))
    save(net, golden.out / "models/extras/safety_checker")
    net = load(StableDiffusionSafetyChecker, golden.out / "models/extras/safety_checker")

    def run(m, cast):
        found = cosines(m, cast(pixels))
        return {"image_embeds": m.visual_projection(m.vision_model(cast(pixels))[1]), **found}

    out, errors = measure(run, net, "cos")
    flags = torch.tensor(net(pixels, [torch.zeros(3)] * 4)[1]).long()
    assert flags.tolist() == [0, 1, 1, 0], flags
    golden.add("extras/safety_checker", {"clip_input": pixels, "has_nsfw": flags, **out}, PLAIN,
               model="extras/safety_checker", **errors)


def cosines(net, pixels):
    embeds = nn.functional.normalize(net.visual_projection(net.vision_model(pixels)[1]))
    of = lambda p: embeds @ nn.functional.normalize(p).T
    return {"special_cos": of(net.special_care_embeds), "cos": of(net.concept_embeds)}
