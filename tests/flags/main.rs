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

/// Says something whether or not the test passes: the harness holds back only what is printed.
fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
