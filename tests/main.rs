mod cli;
mod errors;
mod harness;
mod ops;
mod twin;
mod models;
mod plans;
mod tidy;
