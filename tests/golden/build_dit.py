"""Builds small models like those with a diffusion transformer, in fp16 and with random weights as build.py says.

Heads have 8, 12, 16, 20 and 32 channels, and 112 where SANA attends to the text, as in its wider kind; Qwen3 has the
layers that FLUX.2 needs, each very narrow. The autoencoders have one resnet a level.
"""
import json
import shutil

import torch
from diffusers import (AutoencoderDC, AutoencoderKL, AutoencoderKLFlux2, DPMSolverMultistepScheduler,
                       Flux2Transformer2DModel, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel,
                       PixArtTransformer2DModel, SanaTransformer2DModel, SCMScheduler, SD3Transformer2DModel,
                       ZImageTransformer2DModel)
from transformers import (CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, Gemma2Config, Gemma2Model,
                          Qwen3Config, Qwen3ForCausalLM, Qwen3Model, T5Config, T5EncoderModel)

import build
import tokenizers_dit as tokenizers
from build import TEXT_L, fact, initialise, randn, representable
from build_family import save

# So much that the text and the time step change the output; T5 does not divide queries by the width of a head.
TRANSFORMER = [(r"pad_token|scale_shift_table", 3.0), (r"adaLN", 1.5),
               (r"norm.*linear|modulation", 0.7), (r"time_embed\.linear", 1.3), (r"t_embedder", 2.0),
               (r"to_v|add_v|to_out|to_add_out", 1.5), *build.GAINS]
T5 = [(r"shared|embed_tokens", 3.0), (r"Attention\.(q|k)\.", 0.7), (r"\.o\.|wo", 0.7), (r"relative", 1.5), (r"", 1.0)]
DECODER = [(r"embed_tokens", 3.0), (r"o_proj|down_proj", 0.5), *build.GAINS]
TEXT = dict(clip_l=20, clip_g=24, t5=48, qwen=16, gemma=20)


class Models:
    """Makes and saves them. `words`: what the tokenizers know; `vocabulary`: number of CLIP's tokens."""

    def __init__(self, folder, words, vocabulary, rng, facts):
        self.folder, self.words, self.vocabulary, self.rng, self.facts = folder, words, vocabulary, rng, facts

    def made(self, place, model, gains=TRANSFORMER):
        """Saved; its numbers are those of the file."""
        model = representable(initialise(model, self.rng, gains))
        self.facts[place.replace("/", ".")] = fact(model)
        save(model, self.folder / place)

    def index(self, name, pipeline, scheduler, more=None, **parts):
        scheduler.save_pretrained(self.folder / name / "scheduler")
        parts = {k: ["diffusers" if k in ("transformer", "vae") else "transformers", v] for k, v in parts.items()}
        index = {"_class_name": pipeline, "_diffusers_version": "0.42.1",
                 "scheduler": ["diffusers", type(scheduler).__name__], **parts, **(more or {})}
        (self.folder / name / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")

    # -- text ---------------------------------------------------------------------------------

    def clip(self, place, width, act, kind=CLIPTextModelWithProjection):
        self.made(place, kind(CLIPTextConfig(
            vocab_size=self.vocabulary, hidden_size=width, intermediate_size=2 * width, projection_dim=width,
            num_hidden_layers=2, num_attention_heads=4, hidden_act=act, bos_token_id=0, eos_token_id=2,
            pad_token_id=1)), TEXT_L)

    def clip_tokenizer(self, place, like):
        shutil.copytree(self.folder / like / "tokenizer", self.folder / place,
                        ignore=shutil.ignore_patterns("tokenizer.json"))

    def copied(self, first, place):
        """Several models have the same part."""
        shutil.copytree(self.folder / first, self.folder / place)

    def t5(self, name, number):
        made = tokenizers.save(tokenizers.t5(self.words), self.folder / name / f"tokenizer{number}")
        self.made(f"{name}/text_encoder{number}", T5EncoderModel(T5Config(
            vocab_size=rounded(len(made)), d_model=TEXT["t5"], d_kv=8, d_ff=60, num_layers=2, num_heads=4,
            feed_forward_proj="gated-gelu", tie_word_embeddings=False)), T5)

    def qwen(self, name, kind, layers):
        made = tokenizers.save(tokenizers.qwen(self.words), self.folder / name / "tokenizer")
        self.made(f"{name}/text_encoder", kind(Qwen3Config(
            vocab_size=rounded(len(made)), hidden_size=TEXT["qwen"], intermediate_size=28, num_hidden_layers=layers,
            num_attention_heads=2, num_key_value_heads=1, head_dim=8, rope_theta=1e6, tie_word_embeddings=True,
            bos_token_id=None, eos_token_id=made.eos_token_id)), DECODER)

    def gemma(self, name):
        made = tokenizers.save(tokenizers.gemma(self.words), self.folder / name / "tokenizer")
        self.made(f"{name}/text_encoder", Gemma2Model(Gemma2Config(
            vocab_size=rounded(len(made)), hidden_size=TEXT["gemma"], intermediate_size=44, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=12,
            attn_logit_softcapping=5.0)), DECODER)

    # -- autoencoders -------------------------------------------------------------------------

    def picture(self, place, model, latents):
        """Pictures have a standard deviation of 0.4 for latents like these."""
        initialise(model, self.rng, build.GAINS)
        last = model.decoder.conv_out
        build.rescale(getattr(last, "conv", last), lambda: model.decode(latents).sample, 0.4)
        self.facts[place.replace("/", ".")] = fact(representable(model))
        save(model, self.folder / place)

    def kl(self, name, channels, std=1.0, kind=AutoencoderKL, **more):
        model = kind(block_out_channels=[4, 8, 8, 8], norm_num_groups=4, layers_per_block=1, latent_channels=channels,
                     down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
                     sample_size=64, **more)
        if kind is AutoencoderKLFlux2:      # its statistics are of squares of 2x2 latents
            model.bn.running_mean.copy_((0.3 * randn(self.rng, 4 * channels)).half().float())
            model.bn.running_var.copy_((0.5 + randn(self.rng, 4 * channels).abs()).half().float())
        self.picture(f"{name}/vae", model, randn(self.rng, 4, channels, 8, 8) * std)

    def dc(self, name):
        widths, kinds = [8, 8, 16, 16], ["ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"]
        both = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in dict(
            block_types=kinds, block_out_channels=widths, layers_per_block=[1] * 4,
            qkv_multiscales=[[], [], [5], [5]]).items()}
        self.picture(f"{name}/vae", AutoencoderDC(
            latent_channels=8, attention_head_dim=8, upsample_block_type="interpolate", downsample_block_type="Conv",
            scaling_factor=0.41407, **both), randn(self.rng, 4, 8, 4, 8) / 0.41407)

    # -- models -------------------------------------------------------------------------------

    def sd3(self, name="sd35-like"):
        self.clip_tokenizer(f"{name}/tokenizer", "sdxs-like")
        self.clip_tokenizer(f"{name}/tokenizer_2", "sd-turbo-like")
        self.clip(f"{name}/text_encoder", TEXT["clip_l"], "quick_gelu")
        self.clip(f"{name}/text_encoder_2", TEXT["clip_g"], "gelu")
        self.t5(name, "_3")
        self.made(f"{name}/transformer", SD3Transformer2DModel(
            sample_size=8, num_layers=2, num_attention_heads=2, attention_head_dim=12, caption_projection_dim=24,
            joint_attention_dim=TEXT["t5"],
            pooled_projection_dim=TEXT["clip_l"] + TEXT["clip_g"], pos_embed_max_size=8, dual_attention_layers=[0],
            qk_norm="rms_norm"))
        self.kl(name, 16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False)
        self.index(name, "StableDiffusion3Pipeline", FlowMatchEulerDiscreteScheduler(shift=3.0),
                   text_encoder="CLIPTextModelWithProjection", text_encoder_2="CLIPTextModelWithProjection",
                   text_encoder_3="T5EncoderModel", tokenizer="CLIPTokenizer", tokenizer_2="CLIPTokenizer",
                   tokenizer_3="T5TokenizerFast", transformer="SD3Transformer2DModel", vae="AutoencoderKL")

    def flux(self, name="schnell-like"):
        self.clip_tokenizer(f"{name}/tokenizer", "sdxs-like")
        self.clip(f"{name}/text_encoder", TEXT["clip_l"], "quick_gelu", CLIPTextModel)
        self.copied("sd35-like/tokenizer_3", f"{name}/tokenizer_2")
        self.copied("sd35-like/text_encoder_3", f"{name}/text_encoder_2")
        self.made(f"{name}/transformer", FluxTransformer2DModel(
            num_layers=1, num_single_layers=1, num_attention_heads=2, attention_head_dim=20, axes_dims_rope=[4, 6, 10],
            joint_attention_dim=TEXT["t5"], pooled_projection_dim=TEXT["clip_l"]))
        self.kl(name, 16, 3.0, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
                use_post_quant_conv=False)
        self.index(name, "FluxPipeline", FlowMatchEulerDiscreteScheduler(shift=1.0), text_encoder="CLIPTextModel",
                   text_encoder_2="T5EncoderModel", tokenizer="CLIPTokenizer", tokenizer_2="T5TokenizerFast",
                   transformer="FluxTransformer2DModel", vae="AutoencoderKL")

    def flux2(self, name="klein-like"):
        self.qwen(name, Qwen3ForCausalLM, 28)
        self.made(f"{name}/transformer", Flux2Transformer2DModel(
            in_channels=32, num_layers=1, num_single_layers=2, num_attention_heads=2, attention_head_dim=16,
            joint_attention_dim=3 * TEXT["qwen"], axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False))
        self.kl(name, 8, kind=AutoencoderKLFlux2)
        dynamic = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
        self.index(name, "Flux2KleinPipeline", dynamic, dict(is_distilled=True), text_encoder="Qwen3ForCausalLM",
                   tokenizer="Qwen2TokenizerFast", transformer="Flux2Transformer2DModel", vae="AutoencoderKLFlux2")

    def z_image(self, name="z-image-like"):
        self.qwen(name, Qwen3Model, 3)
        self.made(f"{name}/transformer", ZImageTransformer2DModel(
            dim=36, n_layers=1, n_refiner_layers=1, n_heads=3, n_kv_heads=3, cap_feat_dim=TEXT["qwen"],
            axes_dims=[6, 2, 4], axes_lens=[256, 32, 32]))
        self.copied("schnell-like/vae", f"{name}/vae")
        self.index(name, "ZImagePipeline", FlowMatchEulerDiscreteScheduler(shift=3.0), text_encoder="Qwen3Model",
                   tokenizer="Qwen2Tokenizer", transformer="ZImageTransformer2DModel", vae="AutoencoderKL")

    def sana(self, name="sana-sprint-like"):
        self.gemma(name)
        self.made(f"{name}/transformer", SanaTransformer2DModel(
            in_channels=8, out_channels=8, num_layers=1, num_attention_heads=2, attention_head_dim=32,
            num_cross_attention_heads=1, cross_attention_head_dim=112, cross_attention_dim=64, mlp_ratio=1.25,
            caption_channels=TEXT["gemma"], sample_size=8, guidance_embeds=True, qk_norm="rms_norm_across_heads"))
        self.dc(name)
        scm = SCMScheduler(prediction_type="trigflow", sigma_data=0.5)
        self.index(name, "SanaSprintPipeline", scm, text_encoder="Gemma2Model", tokenizer="GemmaTokenizerFast",
                   transformer="SanaTransformer2DModel", vae="AutoencoderDC")

    def pixart(self, name="pixart-like"):
        self.copied("sd35-like/tokenizer_3", f"{name}/tokenizer")
        self.copied("sd35-like/text_encoder_3", f"{name}/text_encoder")
        self.made(f"{name}/transformer", PixArtTransformer2DModel(
            num_attention_heads=3, attention_head_dim=8, num_layers=2, cross_attention_dim=24, sample_size=16,
            interpolation_scale=2, caption_channels=TEXT["t5"], use_additional_conditions=False))
        self.kl(name, 4, 1000.0, scaling_factor=0.13025)
        linear = DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
        self.index(name, "PixArtSigmaPipeline", linear, text_encoder="T5EncoderModel",
                   tokenizer="T5Tokenizer", transformer="PixArtTransformer2DModel", vae="AutoencoderKL")


def rounded(count):
    """Published vocabularies have a few rows more than their tokenizers have tokens."""
    return -(-count // 16) * 16


@torch.no_grad()
def every(models):
    for kind in (models.sd3, models.flux, models.flux2, models.z_image, models.sana, models.pixart):
        kind()
