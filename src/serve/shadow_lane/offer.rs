//! What is offered to a lane, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use crate::outcome::Status;

/// A request that was served, for the candidate to answer as well.
#[derive(Debug)]
pub struct Offer<I: ?Sized, O> {
    /// What was asked.
    pub input: Arc<I>,
    /// How big that is, in bytes, or 0 where it does not matter.
    pub bytes: usize,
    /// How the baseline's call ended.
    pub status: Status,
    /// How long it took.
    pub latency: Duration,
    /// What the baseline answered, where it did.
    pub output: Option<O>,
    /// A hash of the sample's content, where its truth may become known; see
    /// [`ShadowLane::truth`](super::ShadowLane::truth). Equal contents are one sample: later ones
    /// run, and are no further evidence.
    pub sample: Option<u64>,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Offered {
    /// It will be run.
    Taken,
    /// The subject is not in the sample.
    NotSampled,
    /// There was no room.
    Shed,
    /// The lane is paused or stopped, the input too large, or not to be copied.
    Skipped,
}

/// What became of a truth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Told {
    /// It was counted for the pair.
    Counted,
    /// The candidate is still answering; it will be counted then.
    Later,
    /// This sample's truth was counted before.
    Before,
    /// No pair of this sample is kept.
    Unknown,
}
