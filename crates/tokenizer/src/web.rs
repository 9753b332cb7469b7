//! What JavaScript sees of the module (www/tokenizer.ts). Errors cross as `Error` objects with a `code`, as the runtime's do.

use js_sys::{Error as JsError, Reflect};
use tintype_base::error::{Error, shown};
use wasm_bindgen::prelude::*;

use crate::Library;

/// A tokenizer other than CLIP's.
#[wasm_bindgen]
pub struct Tokenizer(Library);

#[wasm_bindgen]
impl Tokenizer {
    /// From the bytes of a `tokenizer.json`; `file` is its name in messages.
    #[wasm_bindgen(js_name = fromJson)]
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Tokenizer, JsValue> {
        Library::from_json(bytes, file).map(Tokenizer).map_err(to_js)
    }

    /// From the bytes of T5's SentencePiece model, with so many tokens `<extra_id_n>` behind its pieces.
    #[wasm_bindgen(js_name = fromSentencePiece)]
    pub fn from_sentencepiece(bytes: &[u8], file: &str, extra_ids: usize) -> Result<Tokenizer, JsValue> {
        Library::from_sentencepiece(bytes, file, extra_ids).map(Tokenizer).map_err(to_js)
    }

    /// The ids of a text alone.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        self.0.encode(text).map_err(to_js)
    }

    /// The text of ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String, JsValue> {
        self.0.decode(ids).map_err(to_js)
    }

    /// The token of an id, if it has one.
    pub fn token(&self, id: u32) -> Option<String> {
        self.0.token(id)
    }

    /// The id of a token, if it is one.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.id(token)
    }
}

fn to_js(error: Error) -> JsValue {
    let made = JsError::new(&shown(&error.message));
    // A new object takes any property.
    let _ = Reflect::set(&made, &"code".into(), &error.code.as_str().into());
    made.into()
}
