//! How a lane works.

use std::time::Duration;

use crate::share::TrafficShare;

/// How a lane works.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneOptions {
    /// The salt by which subjects are sampled.
    pub salt: String,
    /// Which part of the subjects is sampled. Each subject is always in the sample or never.
    pub sample: TrafficShare,
    /// A similarity of this and more is a match, from 0 to 1.
    pub threshold: f64,
    /// A candidate that has not answered by then has timed out; a future is dropped, a computation
    /// can only be counted.
    pub deadline: Duration,
    /// The most calls that wait or run; further offers are shed. With 0 every offer is.
    pub in_flight: u64,
    /// The most calls that run at once, whatever the executor would allow; the others wait. At
    /// least 1.
    pub at_once: usize,
    /// Inputs of more bytes are skipped.
    pub input_bytes: usize,
    /// How many pairs of outputs are kept until their truth arrives.
    pub samples: usize,
    /// How a truth finds its request.
    pub truth: TruthBy,
    /// A candidate that takes more than this multiple of the baseline's time is slower.
    pub slower: f64,
    /// On which part of the requests that run the baseline is asked a second time, where the lane
    /// has it; see [`LaneBuilder::noise_floor`](super::LaneBuilder::noise_floor).
    pub noise: TrafficShare,
    /// The segments, as the router declares them. Only for offers made by name and without a
    /// router; [`ShadowLane::predict`](super::ShadowLane::predict) asks the router.
    pub segments: Vec<String>,
}

/// How a truth finds its request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TruthBy {
    /// By the hash of the sample's content that came with the offer. Equal contents are one sample,
    /// and count once. Offers without a hash have no truth.
    #[default]
    Sample,
    /// By the ticket of the answer, where no hash came with the offer.
    Ticket,
}

impl Default for LaneOptions {
    /// Everybody, a match from 0.85, 10 seconds, 256 calls, no limit at once but the executor's,
    /// inputs of 1 MiB, 4,096 pairs, slower from 1.2 times on, a tenth asked twice.
    fn default() -> Self {
        Self {
            salt: "shadow".to_owned(),
            sample: TrafficShare::ALL,
            threshold: 0.85,
            deadline: Duration::from_secs(10),
            in_flight: 256,
            at_once: usize::MAX,
            input_bytes: 1 << 20,
            samples: 4_096,
            truth: TruthBy::Sample,
            slower: 1.2,
            noise: TENTH,
            segments: Vec::new(),
        }
    }
}

const TENTH: TrafficShare = match TrafficShare::from_ppm(100_000) {
    Ok(share) => share,
    Err(_) => TrafficShare::NONE,
};

/// A lane that cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// The candidate does not say that it may be shadowed.
    #[error(
        "the candidate may not be shadowed; let `shadowable` return true if it has no side effects"
    )]
    NotShadowable,
    /// The baseline is to be run a second time and does not say that it may be.
    #[error(
        "the baseline may not be run a second time for the noise floor; let `shadowable` return \
         true if it has no side effects, or measure no noise"
    )]
    BaselineNotShadowable,
    /// Not a similarity.
    #[error("a match from {threshold} on is not possible; give a number from 0 to 1")]
    Threshold {
        /// What was given.
        threshold: f64,
    },
    /// Not a multiple.
    #[error("slower from {slower} times the baseline on is not possible; give a number above 0")]
    Slower {
        /// What was given.
        slower: f64,
    },
    /// Too many segments.
    #[error("{count} segments are too many; at most 254 can be declared")]
    Segments {
        /// How many were given.
        count: usize,
    },
}
