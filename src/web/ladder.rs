//! The memory ladder, for the worker that loads.

use wasm_bindgen::prelude::*;

use super::request::Options;
use super::to_js;
use crate::error::Result;
use crate::pipeline::LoadOptions;
use crate::pipeline::ladder::{self, Attempt, Failure};
use crate::quant::Format;

/// What is tried in turn while the device has too little memory.
#[wasm_bindgen]
pub struct Ladder(ladder::Ladder);

#[wasm_bindgen]
impl Ladder {
    /// `options` has `weights`, and `offline` where nothing may be fetched.
    #[wasm_bindgen(constructor)]
    pub fn new(options: JsValue) -> std::result::Result<Ladder, JsValue> {
        Ladder::of(&Options(options)).map_err(to_js)
    }

    /// Of the current attempt, as an option says them.
    pub fn weights(&self) -> String {
        word(self.0.attempt().and_then(|attempt| attempt.weights))
    }

    /// Whether the current attempt does with less of the device's memory.
    pub fn lean(&self) -> bool {
        self.0.attempt().is_some_and(|attempt| attempt.lean)
    }

    /// After an attempt with too little memory for weights that were `stored` so: what is tried next, in words; nothing
    /// after the last one.
    pub fn full(&mut self, stored: &str) -> Option<String> {
        let stored = Format::ALL.into_iter().find(|format| format.as_str() == stored);
        self.0.fall(Failure::OutOfMemory, stored).map(|next| match next {
            Attempt { lean: true, .. } => "less was tried on it".to_owned(),
            Attempt { weights, .. } => format!("{} was tried", word(weights)),
        })
    }

    /// After an attempt whose weights are not here and may not be fetched: whether there is another one.
    pub fn absent(&mut self) -> bool {
        self.0.fall(Failure::Absent, None).is_some()
    }
}

impl Ladder {
    fn of(options: &Options) -> Result<Ladder> {
        let weights = options.text("weights")?;
        let load = LoadOptions::parse(weights.as_deref().unwrap_or("auto"), "auto")?;
        let asked = (!load.auto).then_some(load.weights);
        Ok(Ladder(ladder::Ladder::new(asked, options.flag("offline")?)))
    }
}

fn word(weights: Option<Format>) -> String {
    weights.map_or("auto", Format::as_str).to_owned()
}
