//! Turns what was seen of two arms into a verdict with evidence.
//!
//! Everything here is pure: no clock, no randomness, state that is counts. Every rule may be looked
//! at as often as one likes.

pub(crate) mod assess;
pub mod clustering;
pub mod evidence;
pub mod excess;
pub mod experiment;
pub mod guardrail;
pub mod hangs;
pub mod latency;
pub mod ledger;
pub mod paired;
pub mod planner;
pub mod reference;
pub mod sample_ratio;
pub mod score;
pub mod shadow;
pub mod stage;
mod times;
pub mod verdict;
