//! Bench in a browser: the same figures as `tintype bench`, for bench/page and `npm run bench`.

use js_sys::Function;
use serde::Deserialize;
use wasm_bindgen::prelude::*;

use super::{Options, device, to_js};
use crate::bench::{self, Effort, MODELS, Run, Setting};
use crate::error::{Error, Result};
use crate::pipeline::LoadOptions;

/// What to measure.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Request {
    models: Vec<String>,
    size: [usize; 2],
    filter: String,
    rounds: usize,
    limit: f64,
}

impl Default for Request {
    fn default() -> Self {
        let Effort { rounds, limit, .. } = Effort::default();
        let models = MODELS.map(str::to_owned).to_vec();
        Request { models, size: [512, 512], filter: "*".to_owned(), rounds, limit }
    }
}

/// `settings`: one or two objects with name, weights, activations and device, measured in turns; `request`: JSON with
/// models, size, filter, rounds, limit. `tell` gets each line. Resolves to the report as JSON.
#[wasm_bindgen(js_name = bench)]
pub async fn bench_in_page(
    settings: Vec<JsValue>,
    request: String,
    tell: Function,
) -> std::result::Result<String, JsValue> {
    measure(settings, &request, &tell).await.map_err(to_js)
}

async fn measure(wanted: Vec<JsValue>, request: &str, tell: &Function) -> Result<String> {
    let request: Request = serde_json::from_str(request).map_err(|e| Error::option(format!("bench: {e}")))?;
    let mut settings = vec![];
    for options in wanted.into_iter().map(Options) {
        let [name, weights, activations] = [("name", "given"), ("weights", "f16"), ("activations", "auto")]
            .map(|(key, default)| {
                Ok::<String, Error>(options.text(key)?.unwrap_or_else(|| default.to_owned()))
            });
        let load = LoadOptions::parse(&weights?, &activations?)?;
        settings.push(Setting { name: name?, device: device::open(&options, &load).await?, load });
    }
    let run = Run {
        settings: &settings,
        models: &request.models,
        filter: &request.filter,
        effort: Effort { rounds: request.rounds.max(1), limit: request.limit, ..Effort::default() },
        tell: &|line| {
            // What the callback throws is for its owner to see.
            let _ = tell.call1(&JsValue::NULL, &line.into());
        },
    };
    let report = run
        .run(async |model, setting| {
            let unknown =
                || Error::option(format!("model: wanted one of {}, found {model:?}", MODELS.join(", ")));
            bench::plans(model, setting, request.size).await?.ok_or_else(unknown)
        })
        .await?;
    Ok(serde_json::to_string(&report).expect("figures are JSON"))
}
