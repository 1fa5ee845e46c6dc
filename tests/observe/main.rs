//! Promises of `observe`: nothing that was recorded is lost, whoever drains and whenever.
#![allow(clippy::disallowed_methods, reason = "tests start threads")]

mod conservation;
mod windows;

use pilotage::observe::snapshot::ArmCounts;
use pilotage::outcome::Status;

/// What was counted of an arm: ok, error, timeout, cancelled, panicked.
fn ended(counts: &ArmCounts) -> [u64; 5] {
    Status::ALL.map(|status| counts.of(status))
}
