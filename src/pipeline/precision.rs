//! In what each network computes: halves where they were asked for, f32 where an autoencoder's configuration wants it
//! (`force_upcast`) or where halves did not suffice, as the network's own values told.

use std::cell::RefCell;

use crate::device::{Device, activation_bytes};
use crate::error::{Code, Error, Result};
use crate::plan::{Faults, Plan, Target};
use crate::shape::Elem;
use crate::warning::{Topic, Warning};

/// A network that can be computed in f32 while the others are in halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text,
    Denoiser,
    Decoder,
    Encoder,
    Vision,
    Safety,
}

impl Part {
    const ALL: [Part; 6] =
        [Part::Text, Part::Denoiser, Part::Decoder, Part::Encoder, Part::Vision, Part::Safety];

    fn name(self) -> &'static str {
        match self {
            Part::Text => "text encoder",
            Part::Denoiser => "U-Net",
            Part::Decoder => "autoencoder's decoder",
            Part::Encoder => "autoencoder's encoder",
            Part::Vision => "image encoder",
            Part::Safety => "safety checker",
        }
    }
}

#[derive(Clone, Default)]
enum State {
    #[default]
    Asked,
    /// In f32, as its configuration says.
    Configured,
    /// In halves, though its configuration says f32, which has no room.
    Lowered,
    /// In f32, because of what its values were in halves.
    Spoiled(String),
}

pub(super) struct Precision {
    asked: Target,
    /// Of the same device in f32.
    exact: Target,
    states: RefCell<[State; Part::ALL.len()]>,
    /// Bytes that activations may take; none are known without a firm budget.
    room: Option<u64>,
}

impl Precision {
    pub fn new(device: &Device, activations: &str, room: Option<u64>) -> Result<Precision> {
        let (asked, exact) = (device.target(activations)?, device.target("f32")?);
        Ok(Precision { asked, exact, states: RefCell::default(), room })
    }

    /// What the activations of the rest are stored as.
    pub fn asked(&self) -> &Target {
        &self.asked
    }

    /// The same device in f32.
    pub fn exact(&self) -> &Target {
        &self.exact
    }

    /// What a network's plans are recorded for.
    pub fn target(&self, part: Part) -> &Target {
        match self.states.borrow()[part as usize] {
            State::Configured | State::Spoiled(_) => &self.exact,
            State::Asked | State::Lowered => &self.asked,
        }
    }

    /// An autoencoder whose configuration wants f32.
    pub fn configure(&self) {
        for part in [Part::Decoder, Part::Encoder] {
            self.states.borrow_mut()[part as usize] = State::Configured;
        }
    }

    /// Halves after all, where f32 that a configuration wants has no room. Returns whether that changes anything.
    pub fn lower(&self, part: Part) -> bool {
        let state = &mut self.states.borrow_mut()[part as usize];
        let configured = matches!(state, State::Configured);
        if configured {
            *state = State::Lowered;
        }
        configured
    }

    /// Judges what was wrong with a network's values, `halves` of which were looked at. `true` asks for the same again:
    /// from now on the network is in f32. Values that are not finite even there are an error.
    pub fn again(&self, part: Part, elem: Elem, faults: Faults, halves: u64) -> Result<bool> {
        let Faults { not_finite, clamped } = faults;
        if !faults.spoil(halves) {
            return Ok(false);
        }
        let name = part.name();
        if elem == Elem::F32 {
            return Err(Error::new(
                Code::NotFinite,
                format!(
                    "{name}: wanted finite values, found {not_finite} that are infinite or not a number, computing in f32"
                ),
            ));
        }
        let found = match not_finite {
            0 => format!("{clamped} of its {halves} values were at the limit of 16-bit floats, 65504"),
            _ => format!("{not_finite} of its values were infinite or not a number"),
        };
        let sentence = format!("the {name} computes in f32: in {} {found}", elem.as_str());
        self.states.borrow_mut()[part as usize] = State::Spoiled(sentence);
        Ok(true)
    }

    /// That f32 where halves did not suffice has room beside the other plans.
    pub fn check(&self, part: Part, plan: &Plan, others: &[&Plan]) -> Result<()> {
        let Some(room) = self.room.filter(|_| self.spoiled(part).is_some()) else { return Ok(()) };
        let bytes: u64 = others.iter().chain([&plan]).map(|plan| activation_bytes(plan)).sum();
        if bytes <= room {
            return Ok(());
        }
        let [bytes, room] = [bytes, room].map(|bytes| bytes.div_ceil(1_000_000));
        let message = format!("activations in f32 need {bytes} MB, memory allows {room} MB for them");
        Err(self.explain(part, Error::new(Code::LimitTooLow, message)))
    }

    /// What is said where a network whose halves did not suffice has no room in f32.
    pub fn explain(&self, part: Part, error: Error) -> Error {
        match self.spoiled(part) {
            Some(why) if matches!(error.code, Code::LimitTooLow | Code::OutOfMemory) => {
                let why = why.replace(" computes in f32: ", " needs f32: ");
                Error::new(Code::NotFinite, format!("{why}; and f32 has no room: {}", error.message))
            }
            _ => error,
        }
    }

    /// Of the networks that compute in something else than was asked for.
    pub fn warnings(&self) -> Vec<Warning> {
        let states = self.states.borrow();
        let warnings = Part::ALL.into_iter().filter_map(|part| match &states[part as usize] {
            State::Spoiled(why) => Some(Warning::new(Topic::Precision, why.clone())),
            State::Lowered => Some(halves_after_all(part.name())),
            State::Asked | State::Configured => None,
        });
        warnings.collect()
    }

    fn spoiled(&self, part: Part) -> Option<String> {
        match &self.states.borrow()[part as usize] {
            State::Spoiled(why) => Some(why.clone()),
            _ => None,
        }
    }
}

/// Of an autoencoder whose configuration wants f32.
pub(super) fn halves_after_all(name: &str) -> Warning {
    let message = format!(
        "vae/config.json: force_upcast asks for f32, which the device's memory does not allow: the {name} computes in 16-bit floats"
    );
    Warning::new(Topic::Precision, message)
}
