//! What SDXL's U-Net is told beside the timestep: sizes, and the text as one vector.

use serde_json::Value;

use super::fields::Fields;
use crate::error::Result;

/// `addition_embed_type: "text_time"`: the pooled text and six sizes, side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextTime {
    /// `addition_time_embed_dim`: features of each size.
    pub size_features: usize,
    /// `projection_class_embeddings_input_dim`: the pooled text and all sizes.
    pub inputs: usize,
}

impl TextTime {
    /// Numbers about size: height and width of the original, top and left of the crop, height and width of the target.
    pub const SIZES: usize = 6;

    /// Width of the pooled text.
    pub fn pooled(&self) -> usize {
        self.inputs - Self::SIZES * self.size_features
    }

    pub(super) fn read(f: &Fields) -> Result<Option<TextTime>> {
        match f.get("addition_embed_type") {
            None | Some(Value::Null) => return Ok(None),
            Some(name) if name == "text_time" => {}
            Some(_) => return Err(f.unsupported("addition_embed_type", "null or text_time")),
        }
        let count = |key| f.optional_count(key)?.ok_or_else(|| f.wrong(key, "a whole number, for text_time"));
        let found = TextTime {
            size_features: count("addition_time_embed_dim")?,
            inputs: count("projection_class_embeddings_input_dim")?,
        };
        if !found.size_features.is_multiple_of(2) {
            return Err(f.unsupported("addition_time_embed_dim", "an even number"));
        }
        if found.inputs <= TextTime::SIZES * found.size_features {
            let wanted = format!("more than {} times addition_time_embed_dim", TextTime::SIZES);
            return Err(f.wrong("projection_class_embeddings_input_dim", &wanted));
        }
        Ok(Some(found))
    }
}
