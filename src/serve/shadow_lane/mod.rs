//! A second model answers the same requests, and nobody hears it.
//!
//! The lane stands beside the router, not in it: whoever serves a request offers it here
//! afterwards, the lane takes a sample by subject, and an executor of its own asks the candidate.
//! The caller never waits: an offer the lane has no room for is shed and counted.
//!
//! What shadows may not do is enforced where it can be and told where it cannot. Models say that
//! they may be shadowed, or the lane refuses them; each call tells the model that it is a shadow
//! ([`Call::is_shadow`](crate::model::Call::is_shadow)). A model that writes, charges or changes
//! what it shares with the serving model all the same does so twice: no library can see that.
//!
//! A hung computation cannot be broken off from outside: it keeps its thread and its place, and the
//! lane sheds once its places are taken. [`ShadowLane::overdue`] counts such calls.
//!
//! Memory is bounded: `in_flight` inputs and outputs under way, `samples` pairs of outputs that wait
//! for their truth, the hashes of the last 65,536 samples compared and judged (a few MiB at most),
//! 256 names of classes, 1,024 buckets of clusters, and what an explorer is allowed.

mod builder;
mod inner;
mod job;
mod lane;
mod offer;
mod options;
mod results;
mod turns;

pub use builder::LaneBuilder;
pub use lane::ShadowLane;
pub use offer::{Offer, Offered, Told};
pub use options::{LaneError, LaneOptions, TruthBy};
