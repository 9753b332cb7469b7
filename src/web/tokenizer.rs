//! Tokenizers that are not CLIP's, from the module that www/tokenizer.ts fetches for them.

use std::rc::Rc;

use js_sys::{Function, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::source::failed;
use crate::error::Result;
use crate::tokenizer::{Codec, Files, provide};

#[wasm_bindgen]
extern "C" {
    /// Class `Tokenizer` of the other module (crates/tokenizer/src/web.rs).
    type Library;
    #[wasm_bindgen(method, catch)]
    fn encode(this: &Library, text: &str) -> std::result::Result<Vec<u32>, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn decode(this: &Library, ids: Vec<u32>) -> std::result::Result<String, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn token(this: &Library, id: u32) -> std::result::Result<Option<String>, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn id(this: &Library, token: &str) -> std::result::Result<Option<u32>, JsValue>;
    #[wasm_bindgen(method)]
    fn free(this: &Library);
}

/// Frees what the other module holds of it.
struct Held(Library);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.free();
    }
}

impl Codec for Held {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        ids.extend(self.0.encode(text).map_err(failed)?);
        Ok(())
    }

    fn decode(&self, ids: &[u32]) -> String {
        // For messages alone: what cannot be spelled is left out of them.
        self.0.decode(ids.to_vec()).unwrap_or_default()
    }

    fn token(&self, id: u32) -> Option<String> {
        self.0.token(id).ok().flatten()
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.0.id(token).ok().flatten()
    }
}

/// `make` makes tokenizers: `MakeTokenizer` of www/tokenizer.ts.
#[wasm_bindgen(js_name = onTokenizer)]
pub fn on_tokenizer(make: Function) {
    let make = Rc::new(make);
    provide(Rc::new(move |files: &Files, extra_ids: usize| {
        let bytes = |bytes: &Option<Vec<u8>>| {
            bytes.as_deref().map_or(JsValue::UNDEFINED, |b| Uint8Array::from(b).into())
        };
        let parts = [bytes(&files.tokenizer_json), bytes(&files.sentencepiece), (extra_ids as u32).into()];
        let (make, place) = (make.clone(), JsValue::from(files.vocabulary_place()));
        Box::pin(async move {
            let [json, pieces, extra_ids] = &parts;
            let made = make.call4(&JsValue::NULL, json, pieces, extra_ids, &place).map_err(failed)?;
            let made = JsFuture::from(made.unchecked_into::<Promise>()).await.map_err(failed)?;
            Ok(Box::new(Held(made.unchecked_into())) as Box<dyn Codec>)
        })
    }));
}
