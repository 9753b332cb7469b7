//! The networks, under diffusers' names: each declares itself from its configuration and records itself.

// The rooms that this one uses, under the names that all have for them.
use tintype_base::{error, json, shape};
use tintype_graph::{nn, plan};
use tintype_quant as quant;
use tintype_weights as weights;

mod causal;
pub mod class_dit;
pub mod clip;
pub mod clip_vision;
pub mod config;
pub mod controlnet;
pub mod dc_ae;
pub mod denoiser;
pub mod dit;
pub mod flux;
pub mod flux2;
pub mod gemma2;
pub mod ip_adapter;
pub mod pixart;
pub mod qwen3;
pub mod resnet;
pub mod sana;
pub mod sd3;
pub mod t2i_adapter;
pub mod t5;
pub mod taesd;
pub mod text;
pub mod unet;
pub mod vae;
pub mod z_image;
