//! Which model a single file is, and what it predicts.

use crate::warning::{Topic, Warning};
use crate::weights::Header;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Sd1,
    Sd2,
    Sdxl,
}

impl Family {
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Sd1 => "SD 1.x",
            Family::Sd2 => "SD 2.x",
            Family::Sdxl => "SDXL",
        }
    }
}

/// What the U-Net predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    pub velocity: bool,
    /// The last training step is noise alone.
    pub zero_snr: bool,
}

impl Prediction {
    /// As schedulers' configurations have it.
    pub fn as_str(self) -> &'static str {
        if self.velocity { "v_prediction" } else { "epsilon" }
    }
}

/// What a file itself says of its prediction.
#[derive(Default)]
pub struct Said {
    pub velocity: Option<bool>,
    /// How.
    pub by: String,
    pub zero_snr: bool,
    pub warnings: Vec<Warning>,
}

impl Said {
    /// By tensors that are there only to say it, else by metadata.
    pub fn of(header: &Header, path: &str) -> Said {
        let has = |name: &str| header.tensors.iter().any(|tensor| tensor.name == name);
        let tell = |message: String| Warning::new(Topic::Configuration, format!("{path}: {message}"));
        let mut said = Said::default();
        let yes =
            |key: &str| header.metadata.get(key).is_some_and(|value| value == "True" || value == "true");
        let mut noted = None;
        for (key, of) in [
            ("modelspec.prediction_type", named as fn(&str) -> Option<bool>),
            ("modelspec.architecture", built),
            ("ss_base_model_version", built),
        ] {
            let Some(value) = header.metadata.get(key).filter(|_| noted.is_none()) else { continue };
            noted = of(value).map(|velocity| (velocity, format!("{key}, which is {value:?}")));
        }
        if noted.is_none() && yes("ss_v_parameterization") {
            noted = Some((true, "ss_v_parameterization, which is true".to_owned()));
        }
        if has("v_pred") {
            let marker = "the tensor v_pred".to_owned();
            if let Some((false, by)) = &noted {
                said.warnings.push(tell(format!(
                    "{marker} says v_prediction, {by}, says epsilon: it is taken as v_prediction"
                )));
            }
            noted = Some((true, marker));
        }
        if let Some((velocity, by)) = noted {
            (said.velocity, said.by) = (Some(velocity), by);
        }
        let zero_snr = has("ztsnr") || yes("ss_zero_terminal_snr");
        said.zero_snr = zero_snr && said.velocity == Some(true);
        if zero_snr && !said.zero_snr {
            said.warnings.push(tell(
                "zero terminal SNR is marked, but no v_prediction, without which it cannot be: the mark is left out".to_owned(),
            ));
        }
        said
    }
}

/// The value of `modelspec.prediction_type`.
fn named(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().replace(['-', ' '], "_").as_str() {
        "epsilon" | "eps" => Some(false),
        "v" | "v_prediction" | "v_pred" | "velocity" => Some(true),
        _ => None,
    }
}

/// The name of an architecture: that of SD 2.x says it, in the specification and as trainers write it.
fn built(value: &str) -> Option<bool> {
    let value = value.to_ascii_lowercase().replace('_', "-");
    let two = value.contains("v2");
    match () {
        () if two && (value.ends_with("-v") || value.contains("-768-v")) => Some(true),
        () if two && value.contains("-512") => Some(false),
        () => None,
    }
}
