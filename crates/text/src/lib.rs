//! Prompts: what brackets say of them ([`prompt`]), what text encoders that chat read ([`chat`]), and
//! their tokens ([`tokenizer`]).

pub mod chat;
pub mod prompt;
pub mod tokenizer;

// The rooms that this one uses, under the names that all have for them.
use tintype_base::{error, json};
