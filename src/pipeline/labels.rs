//! Labels, which some denoisers are told and no text.

use super::request::Request;
use super::{DenoiserPart, Pipeline};
use crate::error::{Error, Result};
use crate::warning::{Topic, Warning};

impl Pipeline {
    /// The labels of a request's rows, under guidance none first; empty where the denoiser is told text. A prompt is the number
    /// of a label, or one of its names.
    ///
    /// Errors: `InvalidOption` for any other prompt.
    pub(super) fn labels(
        &self,
        request: &Request,
        guided: bool,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<usize>> {
        let Some(&table) = self.denoiser.network.labels().first() else { return Ok(vec![]) };
        if !request.negative_prompt.is_empty() {
            let message = "the negative prompt is not used: this model is told labels";
            warnings.push(Warning::new(Topic::Unused, message));
        }
        // The last row stands for none.
        let none = self.denoiser.merged.weights.table(table).rows() - 1;
        let mut labels = vec![none; if guided { request.prompts.len() } else { 0 }];
        for prompt in &request.prompts {
            let word = prompt.trim();
            let named = || self.label_names.iter().find(|(name, _)| name == word).map(|(_, label)| *label);
            let label = word.parse().ok().or_else(named).filter(|label| *label < none);
            labels.push(label.ok_or_else(|| {
                Error::option(format!(
                    "prompt: wanted the number of a label, below {none}, or a name of one (id2label in model_index.json), \
                     found {prompt:?}"
                ))
            })?);
        }
        Ok(labels)
    }
}

impl DenoiserPart {
    /// What stands for labels in the denoiser's tables, `[labels, tables, width]`.
    pub fn label_rows(&self, labels: &[usize]) -> Vec<f32> {
        let tables: Vec<_> = self.network.labels().iter().map(|t| self.merged.weights.table(*t)).collect();
        let rows = labels.iter().flat_map(|label| tables.iter().map(|table| table.row(*label)));
        rows.flat_map(|row| row.expect("a label below the last row")).collect()
    }
}
