//! What a model folder can have: the networks of all families, and what is used beside them.

use super::family::FAMILIES;

/// What a component is for, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl Component {
    pub const fn new(folder: &'static str, class: &'static str, role: Role) -> Component {
        Component { folder, class, role }
    }

    /// Every component, each folder once: those of families come first among those of their role.
    pub fn all() -> Vec<&'static Component> {
        let families = FAMILIES.iter().flat_map(|family| family.components());
        let mut all: Vec<&Component> = vec![];
        for component in families.chain(&OTHERS) {
            if all.iter().all(|known| known.folder != component.folder) {
                all.push(component);
            }
        }
        all.sort_by_key(|component| component.role);
        all
    }

    /// The component of this folder, if there is one.
    pub fn of(folder: &str) -> Option<&'static Component> {
        Component::all().into_iter().find(|component| component.folder == folder)
    }

    /// The class of what lies in this folder when its file names none; empty where no model has such a folder.
    pub fn class_of(folder: &str) -> &'static str {
        Component::of(folder).map_or("", |component| component.class)
    }
}

pub static AUTOENCODER: Component = Component::new("vae", "AutoencoderKL", Role::Autoencoder);

/// Beside every family; and what no family has that is built.
static OTHERS: [Component; 4] = [
    Component::new("image_encoder", "CLIPVisionModelWithProjection", Role::Image),
    Component::new("controlnet", "ControlNetModel", Role::Control),
    Component::new("adapter", "T2IAdapter", Role::Adapter),
    Component::new("safety_checker", "StableDiffusionSafetyChecker", Role::Safety),
];
