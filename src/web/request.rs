//! What a caller asks for, as the pipeline takes it.

use js_sys::{Array, Reflect, Uint8ClampedArray};
use serde_json::Value;
use wasm_bindgen::prelude::*;

use crate::error::{Error, Result};
use crate::image::Picture;
use crate::pipeline::{ControlInput, Pipeline, Request, Safety, Seeds, Sizes};

/// Items of a list that a message has.
const MOST_SHOWN: usize = 8;

/// The seed and the request.
pub(super) fn request(pipeline: &Pipeline, options: &Options) -> Result<(u64, Request)> {
    let prompt = options.text("prompt")?.ok_or_else(|| Error::option("prompt: wanted a text, found none"))?;
    let seed = options.whole("seed")?.unwrap_or(0);
    let count = |key| Ok(options.whole(key)?.map(|side| usize::try_from(side).unwrap_or(usize::MAX)));
    let size = match (count("width")?, count("height")?) {
        (None, None) => None,
        (width, height) => {
            let default = pipeline.default_size();
            Some([width.unwrap_or(default), height.unwrap_or(default)])
        }
    };
    let scaled = |object: &Options| -> Result<(Picture, f32)> {
        Ok((object.picture_of("image")?, object.number("scale")?.unwrap_or(1.0) as f32))
    };
    let control = |object: Options| -> Result<ControlInput> {
        let (picture, scale) = scaled(&object)?;
        let share = |key, default| Ok::<_, Error>(object.number(key)?.unwrap_or(default));
        Ok(ControlInput { picture, scale, start: share("start", 0.0)?, end: share("end", 1.0)? })
    };
    let request = Request {
        prompts: vec![prompt],
        weighted: options.flag("weighted")?,
        negative_prompt: options.text("negativePrompt")?.unwrap_or_default(),
        prompt_2: options.text("prompt2")?,
        negative_prompt_2: options.text("negativePrompt2")?,
        prompt_3: options.text("prompt3")?,
        negative_prompt_3: options.text("negativePrompt3")?,
        seeds: Seeds::One(seed),
        steps: count("steps")?,
        size,
        guidance: options.number("guidance")?,
        guidance_rescale: options.number("guidanceRescale")?,
        scheduler: options.text("scheduler")?,
        eta: options.number("eta")?,
        max_sequence_length: count("maxSequenceLength")?,
        resolution_binning: match options.get("resolutionBinning") {
            None => None,
            Some(_) => Some(options.flag("resolutionBinning")?),
        },
        instruction: options.text("instruction")?,
        clip_skip: count("clipSkip")?.unwrap_or(0),
        sizes: Sizes {
            original: options.pair("originalSize")?,
            crop: options.pair("cropTopLeft")?.unwrap_or_default(),
            target: options.pair("targetSize")?,
        },
        image: options.picture("image")?,
        references: options
            .objects("references")?
            .iter()
            .map(|o| o.picture_of("image"))
            .collect::<Result<_>>()?,
        mask: options.picture("mask")?,
        strength: options.number("strength")?,
        controls: options.objects("control")?.into_iter().map(control).collect::<Result<_>>()?,
        guess_mode: options.flag("guessMode")?,
        adapters: options.objects("adapter")?.iter().map(scaled).collect::<Result<_>>()?,
        image_prompt: options.objects("imagePrompt")?.first().map(scaled).transpose()?,
        safety: Safety::parse(options.text("safety")?.as_deref().unwrap_or("off"))?,
    };
    Ok((seed, request))
}

/// Options of a caller. Nothing is converted: NaN or "4" where a whole number is wanted is an error.
pub(super) struct Options(pub(super) JsValue);

impl Options {
    pub(super) fn get(&self, key: &str) -> Option<JsValue> {
        let value = Reflect::get(&self.0, &key.into()).ok()?;
        (!value.is_undefined()).then_some(value)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_string().map(Some).ok_or_else(|| wrong(key, "a text", &value))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| wrong(key, "a number", &value))
    }

    pub(super) fn whole(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number =
            value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(n));
        number.map(|n| Some(n as u64)).ok_or_else(|| wrong(key, "a whole number from 0", &value))
    }

    /// `width` and `height`, where both are there.
    pub(super) fn size(&self) -> Result<Option<[usize; 2]>> {
        let side =
            |key| Ok::<_, Error>(self.whole(key)?.map(|side| usize::try_from(side).unwrap_or(usize::MAX)));
        Ok(side("width")?.zip(side("height")?).map(|(width, height)| [width, height]))
    }

    /// False where there is none.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| wrong(key, "true or false", &value))
    }

    /// The objects of a list, or one object alone.
    pub(super) fn objects(&self, key: &str) -> Result<Vec<Options>> {
        let Some(value) = self.get(key) else { return Ok(vec![]) };
        let list: Vec<JsValue> =
            if Array::is_array(&value) { Array::from(&value).iter().collect() } else { vec![value] };
        let check = |value: JsValue| match value.is_object() {
            true => Ok(Options(value)),
            false => Err(wrong(key, "an object", &value)),
        };
        list.into_iter().map(check).collect()
    }

    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = if Array::is_array(&value) { Array::from(&value).to_vec() } else { vec![] };
        match list.iter().map(JsValue::as_f64).collect::<Option<Vec<f64>>>() {
            Some(numbers) if Array::is_array(&value) => {
                Ok(Some(numbers.into_iter().map(|n| n as f32).collect()))
            }
            _ => Err(wrong(key, "a list of numbers", &value)),
        }
    }

    /// `{ width, height, data }`, as ImageData has them.
    fn picture(&self, key: &str) -> Result<Option<Picture>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let fields = Options(value.clone());
        let side = |side| Ok::<_, Error>(fields.whole(side)?.and_then(|n| usize::try_from(n).ok()));
        let data = fields.get("data").and_then(|data| data.dyn_into::<Uint8ClampedArray>().ok());
        match (side("width")?, side("height")?, data) {
            (Some(width), Some(height), Some(data)) => Picture::new(width, height, 4, &data.to_vec())
                .map(Some)
                .map_err(|e| Error { message: format!("{key}: {}", e.message), ..e }),
            _ => Err(wrong(key, "ImageData", &value)),
        }
    }

    fn picture_of(&self, key: &str) -> Result<Picture> {
        self.picture(key)?.ok_or_else(|| Error::option(format!("{key}: wanted ImageData, found none")))
    }

    fn pair(&self, key: &str) -> Result<Option<[u32; 2]>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let numbers: Vec<f64> = if Array::is_array(&value) {
            Array::from(&value).iter().filter_map(|v| v.as_f64()).collect()
        } else {
            vec![]
        };
        match numbers[..] {
            [a, b] if [a, b].iter().all(|n| n.fract() == 0.0 && (0.0..1e6).contains(n)) => {
                Ok(Some([a as u32, b as u32]))
            }
            _ => Err(wrong(key, "two whole numbers", &value)),
        }
    }
}

pub(super) fn wrong(key: &str, wanted: &str, found: &JsValue) -> Error {
    Error::option(format!("{key}: wanted {wanted}, found {}", described(found)))
}

/// A value as JavaScript writes it; of a list its items, of another object what it is.
pub(super) fn described(value: &JsValue) -> String {
    if Array::is_array(value) {
        let items: Vec<String> =
            Array::from(value).iter().take(MOST_SHOWN).map(|item| plain(&item)).collect();
        return format!("[{}]", items.join(", "));
    }
    plain(value)
}

fn plain(value: &JsValue) -> String {
    if let Some(text) = value.as_string() {
        return Value::from(text).to_string();
    }
    if value.is_object() {
        let class = Reflect::get(value, &"constructor".into()).and_then(|c| Reflect::get(&c, &"name".into()));
        return class.ok().and_then(|name| name.as_string()).unwrap_or_else(|| "an object".to_owned());
    }
    format!("{}{}", text_of(value), if value.is_bigint() { "n" } else { "" })
}

#[wasm_bindgen]
extern "C" {
    /// JavaScript's own `String(value)`, which only objects can make fail.
    #[wasm_bindgen(js_name = String)]
    fn text_of(value: &JsValue) -> String;
}
