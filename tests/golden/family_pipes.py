"""The pipelines of the family: which cases there are."""
import copy

from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler,
                       EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
                       LatentConsistencyModelImg2ImgPipeline, LCMScheduler, PNDMScheduler,
                       StableDiffusionAdapterPipeline, StableDiffusionControlNetPipeline,
                       StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline,
                       StableDiffusionPipeline, StableDiffusionXLImg2ImgPipeline, TCDScheduler,
                       UNet2DConditionModel)

import extras
import pipes
from build_family import load
from measure import AMPLIFIED, GUIDED, PIPE
from schedulers import BETAS, DDIM, LCM, LEADING, PNDM, TRAILING

INIT, MASK = "ref/inputs/init_40x48.png", "ref/inputs/mask_40x48.png"
COND, CLIP = "ref/inputs/cond_40x48.png", "ref/inputs/clip_image.png"
SIZE = dict(height=48, width=40)        # latents of 6 by 5
NEGATIVE = "blurred, grainy, low contrast"
SCHEDULERS = {
    "ddim": lambda: DDIMScheduler(**DDIM),
    "dpmpp": lambda: DPMSolverMultistepScheduler(**BETAS, algorithm_type="dpmsolver++"),
    "pndm": lambda: PNDMScheduler(**PNDM),
    "euler": lambda: EulerDiscreteScheduler(**LEADING),
    "euler trailing": lambda: EulerDiscreteScheduler(**TRAILING),
    "euler ancestral trailing": lambda: EulerAncestralDiscreteScheduler(**TRAILING),
    "lcm": lambda: LCMScheduler(**LCM),
    "tcd eta 0.3": lambda: TCDScheduler(**LCM),
    "LCMScheduler.from_config(PNDM config)": lambda: LCMScheduler.from_config(
        PNDMScheduler(**PNDM).config),
}


class Runs:
    def __init__(self, golden, seed, prompts):
        self.golden, self.seed, self.prompts = golden, seed * 100 + 50, prompts

    def case(self, name, pipe, model, scheduler, prompt, steps, guidance, limits=None, note=None,
             pictures=None, unlisted=None, resized=None, **more):
        """Every case has a seed of its own. `prompt` is a key or the text itself."""
        self.seed += 1
        pipe.scheduler = SCHEDULERS[scheduler]()
        limits = limits or (PIPE if guidance <= 1 or model == "lcm-like" else AMPLIFIED)
        args = dict(prompt=self.prompts.get(prompt, prompt), num_inference_steps=steps,
                    guidance_scale=guidance) | more
        if "strength" not in more or "mask_image" in (pictures or {}):
            args |= SIZE        # else it is the picture's
        pipes.case(self.golden, name, pipe, self.seed, args, limits, model, scheduler, note,
                   pictures, unlisted, resized)

    def sd15(self, sd15):
        args = dict(limits=GUIDED, negative_prompt=NEGATIVE)
        self.case("sd15_ddim_8", sd15, "sd15-like", "ddim", "p0", 8, 7.5, **args)
        self.case("sd15_dpmpp_8", sd15, "sd15-like", "dpmpp", "p1", 8, 7.5, **args)
        self.case("sd15_pndm_6", sd15, "sd15-like", "pndm", "p2", 6, 7.5, **args)
        self.case("sd15_euler_8", sd15, "sd15-like", "euler", "p3", 8, 7.5, **args)
        self.case("sd15_ddim_clip_skip1", sd15, "sd15-like", "ddim", "p4", 3, 5.0, clip_skip=1)
        small = pipes.remade(StableDiffusionPipeline, sd15, unet=self.unet("bk-small-like"))
        self.case("bk-small_dpmpp_5", small, "sd15-like with extras/unet-bk-small-like", "dpmpp",
                  "p5", 5, 5.0)

    def unet(self, name):
        return load(UNet2DConditionModel, self.golden.out / f"models/extras/unet-{name}")

    def pictures(self, sd15, base):
        """`base`: the models that make.py made."""
        image = dict(pictures=dict(image=INIT))
        first = pipes.remade(StableDiffusionImg2ImgPipeline, sd15)
        self.case("sd15_img2img_ddim", first, "sd15-like", "ddim", "p6", 6, 5.0, **image,
                  strength=0.6, negative_prompt=NEGATIVE)
        turbo = pipes.remade(StableDiffusionImg2ImgPipeline, base["sd-turbo-like"])
        self.case("sd-turbo_img2img", turbo, "sd-turbo-like", "euler trailing", "p7", 4, 0.0,
                  **image, strength=0.5, note="generator order: VAE posterior sample, then noise")
        self.case("sd-turbo_img2img_resized", turbo, "sd-turbo-like", "euler trailing", "p1", 2,
                  0.0, resized=("ref/inputs/init_70x52.png", 40, 48), strength=0.5)
        sdxs = pipes.remade(StableDiffusionImg2ImgPipeline, base["sdxs-like"])
        self.case("sdxs_img2img", sdxs, "sdxs-like", "euler trailing", "p0", 2, 0.0, AMPLIFIED,
                  **image, strength=0.5, note="AutoencoderTiny encode has no sampling: only the "
                  "noise uses the generator")

        hole = dict(pictures=dict(image=INIT, mask_image=MASK))
        four = pipes.remade(StableDiffusionInpaintPipeline, sd15)
        nine = pipes.remade(StableDiffusionInpaintPipeline, sd15,
                            unet=self.unet("sd15-inpaint9-like"))
        channels = {
            "4": (four, "sd15-like", "4-channel U-Net: latents re-blended with the noised "
                  "original after every step; generator order: image posterior, noise, "
                  "masked-image posterior"),
            "9": (nine, "sd15-like with extras/unet-sd15-inpaint9-like", "9-channel U-Net: "
                  "[latents, mask, masked-image latents]; generator order: noise, masked-image "
                  "posterior")}
        for n, (pipe, model, note) in channels.items():
            self.case(f"sd15_inpaint{n}_ddim", pipe, model, "ddim", "p1", 4, 5.0, GUIDED, note,
                      **hole, strength=1.0)
            self.case(f"sd15_inpaint{n}_ddim_strength0.7", pipe, model, "ddim", "p2", 6, 5.0,
                      GUIDED, **hole, strength=0.7)

    def beside(self, sd15, control, adapter, encoder, processor, lora):
        image = dict(pictures=dict(image=COND))
        pipe = pipes.remade(StableDiffusionControlNetPipeline, sd15, controlnet=control)
        model = "sd15-like + extras/controlnet"
        self.case("sd15_controlnet_ddim", pipe, model, "ddim", "p3", 4, 5.0, **image,
                  controlnet_conditioning_scale=0.8)
        self.case("sd15_controlnet_guess", pipe, model, "ddim", "", 3, 3.0, **image,
                  guess_mode=True, note="guess_mode: controlnet on the conditional half only, "
                  "residuals scaled logspace(-1,0)")
        self.case("sd15_controlnet_window", pipe, model, "ddim", "p4", 5, 1.0, **image,
                  control_guidance_start=0.2, control_guidance_end=0.7)
        pipe = pipes.remade(StableDiffusionAdapterPipeline, sd15, adapter=adapter)
        self.case("sd15_t2i_adapter_ddim", pipe, "sd15-like + extras/t2i-adapter", "ddim", "p5", 4,
                  5.0, GUIDED, unlisted=dict(image=COND), adapter_conditioning_scale=0.9)

        pipe = pipes.remade(StableDiffusionPipeline, sd15, unet=copy.deepcopy(sd15.unet),
                            image_encoder=encoder, feature_extractor=processor)
        pipe.load_ip_adapter(self.golden.out / "models/extras/ip-adapter", subfolder="",
                             weight_name="ip-adapter.safetensors", image_encoder_folder=None)
        pipe.set_ip_adapter_scale(0.6)
        extras.ip_adapter_embeds(self.golden, pipe)
        self.case("sd15_ip_adapter_ddim", pipe, "sd15-like + extras/ip-adapter (scale 0.6)", "ddim",
                  "p6", 4, 5.0, pictures=dict(ip_adapter_image=CLIP),
                  note="negative image embedding = zeros")

        pipe = pipes.remade(StableDiffusionPipeline, sd15, unet=lora(1.0))
        model, mixed = "sd15-like + extras/lora (scale 1)", "LCMScheduler.from_config(PNDM config)"
        self.case("sd15_lcm_lora_4step_g1.0", pipe, model, mixed, "p7", 4, 1.0)
        self.case("sd15_lcm_lora_2step_g1.5", pipe, model, mixed, "p7", 2, 1.5)

    def lcm(self, lcm):
        self.case("lcm_1step", lcm, "lcm-like", "lcm", "p0", 1, 8.5)
        self.case("lcm_4step", lcm, "lcm-like", "lcm", "p1", 4, 8.5)
        self.case("lcm_2step_g1", lcm, "lcm-like", "lcm", "p2", 2, 1.0)
        pipe = pipes.remade(LatentConsistencyModelImg2ImgPipeline, lcm)
        self.case("lcm_img2img", pipe, "lcm-like", "lcm", "p3", 4, 8.0, strength=0.5,
                  pictures=dict(image=INIT))

    def sdxl(self, sdxl):
        turbo, model = "euler ancestral trailing", "sdxl-like"
        self.case("sdxl-turbo_1step", sdxl, model, turbo, "p4", 1, 0.0)
        self.case("sdxl-turbo_2step", sdxl, model, turbo, "p5", 2, 0.0, AMPLIFIED)
        self.case("sdxl-lightning_4step", sdxl, model, "euler trailing", "p6", 4, 0.0)
        self.case("sdxl_euler_4_cfg5", sdxl, model, "euler", "p7", 4, 5.0,
                  note="no negative prompt: zeros (force_zeros_for_empty_prompt)")
        self.case("sdxl_euler_3_cfg5_neg_sizes", sdxl, model, "euler", "p0", 3, 5.0, GUIDED,
                  prompt_2=self.prompts["p1"], negative_prompt=NEGATIVE, original_size=(96, 70),
                  crops_coords_top_left=(9, 4), target_size=(64, 56))
        self.case("sdxl_lcm_2", sdxl, model, "lcm", "p2", 2, 1.0)
        self.case("sdxl_tcd_4", sdxl, model, "tcd eta 0.3", "p3", 4, 0.0, eta=0.3)
        pipe = pipes.remade(StableDiffusionXLImg2ImgPipeline, sdxl)
        self.case("sdxl-turbo_img2img", pipe, model, turbo, "p4", 2, 0.0, strength=0.5,
                  pictures=dict(image=INIT))
