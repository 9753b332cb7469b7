//! What a model folder can have: a row a component.

/// What a component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Text,
    Image,
    Denoiser,
    Control,
    Adapter,
    Autoencoder,
    Safety,
}

/// A network of a model, by its folder in the diffusers layout.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    pub folder: &'static str,
    /// The class of what lies there when its file names none.
    pub class: &'static str,
    pub role: Role,
}

const fn row(folder: &'static str, class: &'static str, role: Role) -> Component {
    Component { folder, class, role }
}

pub const COMPONENTS: [Component; 10] = [
    row("text_encoder", "CLIPTextModel", Role::Text),
    row("text_encoder_2", "CLIPTextModelWithProjection", Role::Text),
    row("text_encoder_3", "T5EncoderModel", Role::Text),
    row("image_encoder", "CLIPVisionModelWithProjection", Role::Image),
    row("unet", "UNet2DConditionModel", Role::Denoiser),
    row("transformer", "Transformer2DModel", Role::Denoiser),
    row("controlnet", "ControlNetModel", Role::Control),
    row("adapter", "T2IAdapter", Role::Adapter),
    row("vae", "AutoencoderKL", Role::Autoencoder),
    row("safety_checker", "StableDiffusionSafetyChecker", Role::Safety),
];

impl Component {
    /// The component of this folder. One that is in no row is a mistake of ours.
    pub fn of(folder: &str) -> &'static Component {
        let found = COMPONENTS.iter().find(|component| component.folder == folder);
        found.unwrap_or_else(|| panic!("{folder} is in no row of COMPONENTS"))
    }
}
