//! Shares of a call's progress that are no work which could be counted beforehand: of what a browser fetches, and of a load
//! within a call, www/shares.ts has the shares.

/// Of a load on a GPU: compiling kernels, after everything was read.
pub const COMPILING_OF_LOAD: f64 = 0.1;
/// Of a call: compiling kernels, since nobody knows how long a driver takes.
pub const COMPILING_OF_CALL: f64 = 0.1;
/// Of a call that merges LoRAs first: most of a model is read again.
pub const MERGING_OF_CALL: f64 = 0.3;
