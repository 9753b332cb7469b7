//! Prompts: what brackets say of them ([`prompt`]), and their tokens ([`tokenizer`]).

pub mod prompt;
pub mod tokenizer;

// The rooms that this one uses, under the names that all have for them.
use tintype_base::{error, json};
