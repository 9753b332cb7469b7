mod cli;
mod errors;
mod harness;
mod models;
mod ops;
mod plans;
mod tidy;
mod twin;
