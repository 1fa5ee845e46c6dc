//! What flags promise their users.

mod allocation;
mod assignment;
mod bad_input;
mod changes;
mod concurrency;
mod decisions;
#[cfg(any(feature = "json", feature = "toml"))]
mod files;
#[cfg(feature = "flagd")]
mod flagd;
mod gate;
#[cfg(feature = "openfeature")]
mod open_feature;
mod persistence;
mod splitters;
mod vectors;
