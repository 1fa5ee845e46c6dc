//! Where two models differ: cases to look at, in bounded memory.
//!
//! Numbers say how often a candidate disagrees; people decide by looking at cases. An
//! [`explorer::Explorer`] keeps, of all disagreements, the [`patterns`] that are most frequent with
//! a few cases of each, a uniform sample over all of them, and the requests on which the candidate
//! was slowest. What is kept of a request is what a redaction hook lets through.

pub mod case;
#[expect(clippy::module_inception, reason = "the noun of this room")]
pub mod explorer;
pub mod lines;
pub mod patterns;
