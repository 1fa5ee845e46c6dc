//! Times whose quantiles are judged: of answers, and of the pace of streams.

use crate::judge::guardrail::Measure;
use crate::judge::verdict::ArmReading;
use crate::observe::histogram::Histogram;
use crate::observe::snapshot::ArmCounts;
use crate::outcome::Status;

/// Which times.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Timed {
    /// Until the answer; of a stream, until its first item.
    Answers,
    /// For an item of a stream after the first, stream by stream.
    Pace,
}

/// An arm's times, as one knows them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times<'c> {
    pub(crate) known: &'c Histogram,
    /// Those that are longer than any known.
    pub(crate) endless: u64,
}

static NONE: Histogram = Histogram::new();

impl Timed {
    /// Of which times a measure is a quantile, and which.
    pub(crate) const fn of(measure: Measure) -> Option<(Self, f64)> {
        match measure {
            Measure::Latency { quantile } => Some((Self::Answers, quantile)),
            Measure::Pace { quantile } => Some((Self::Pace, quantile)),
            _ => None,
        }
    }

    /// These times of an arm. A call that timed out is slower than every answer. It says nothing of
    /// a pace: most have given no item by then, and those that have, have a pace.
    pub(crate) fn of_arm(self, counts: &ArmCounts) -> Times<'_> {
        match self {
            Self::Answers => Times { known: &counts.latency, endless: counts.of(Status::Timeout) },
            Self::Pace => {
                let known = counts.streams.as_ref().map_or(&NONE, |streams| &streams.pace);
                Times { known, endless: 0 }
            }
        }
    }
}

impl Times<'_> {
    /// How many there are.
    pub(crate) fn count(self) -> u64 {
        self.known.count().saturating_add(self.endless)
    }

    /// The quantile in nanoseconds; `None` without times or when it is endless.
    pub(crate) fn quantile(self, quantile: f64) -> Option<u64> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        self.known.value_at_rank(((quantile * all as f64).ceil() as u64).clamp(1, all))
    }

    /// How many there are, and the quantile in seconds.
    pub(crate) fn reading(self, quantile: f64) -> ArmReading {
        let value = self.quantile(quantile).map(|nanos| nanos as f64 / 1e9);
        ArmReading { n: self.count(), events: 0, value }
    }
}
