//! What was seen of an arm's streams, as numbers that add up.
//!
//! Times are those the reader waited: from asking for an item to having it. What a slow reader
//! takes between two items is nobody's gap, and no model is blamed for it.

use serde::{Deserialize, Serialize};

use crate::observe::histogram::Histogram;

/// Counts of the streams of one arm. All fields grow only; they merge and subtract as
/// [`ArmCounts`](crate::observe::snapshot::ArmCounts) do, of which they are a part.
///
/// A stream is counted here once, when it ends, in one go with how its call ended; so at every
/// quiescent point the streams begun are `ended` and those in flight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StreamCounts {
    /// Streams that ended, however they did, also before the first item.
    pub ended: u64,
    /// Of those, streams that gave at least one item.
    pub answered: u64,
    /// Of those, streams that broke off after it: an error, a panic, a timeout by the model's own
    /// account.
    pub broken: u64,
    /// Of those that gave an item, streams whose reader went away before the end.
    pub abandoned: u64,
    /// Items given, in all.
    pub items: u64,
    /// How long readers waited for all items after the first, in nanoseconds. With the count of
    /// `gaps` the exact mean.
    pub gap_nanos: u64,
    /// How long readers waited for the first item, in nanoseconds, one value a stream.
    pub first: Histogram,
    /// How long they waited for each item after the first, in nanoseconds, one value an item.
    pub gaps: Histogram,
    /// The mean of these within a stream that gave at least two items, in nanoseconds, one value a
    /// stream: the time per output token. Items of one stream depend on each other and streams do
    /// not, so this is what arms are compared by.
    pub pace: Histogram,
    /// How long readers waited in all, in nanoseconds, for streams that came to their end.
    pub whole: Histogram,
    /// How many items streams had that came to their end. Up to 127 they are exact.
    pub lengths: Histogram,
}

impl StreamCounts {
    /// Whether nothing was counted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ended == 0 && self.items == 0 && self.gaps.is_empty()
    }

    /// The mean time that readers waited for an item after the first, in nanoseconds; `None`
    /// without any.
    #[must_use]
    pub fn mean_gap(&self) -> Option<f64> {
        let gaps = self.gaps.count();
        (gaps > 0).then(|| self.gap_nanos as f64 / gaps as f64)
    }

    /// The mean number of items of streams that gave any; `None` without one.
    #[must_use]
    pub fn mean_items(&self) -> Option<f64> {
        (self.answered > 0).then(|| self.items as f64 / self.answered as f64)
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        let add = |mine: &mut u64, theirs: u64| *mine = mine.saturating_add(theirs);
        add(&mut self.ended, other.ended);
        add(&mut self.answered, other.answered);
        add(&mut self.broken, other.broken);
        add(&mut self.abandoned, other.abandoned);
        add(&mut self.items, other.items);
        add(&mut self.gap_nanos, other.gap_nanos);
        self.first.merge(&other.first);
        self.gaps.merge(&other.gaps);
        self.pace.merge(&other.pace);
        self.whole.merge(&other.whole);
        self.lengths.merge(&other.lengths);
    }

    /// What came since `earlier`, an older copy; nothing goes below zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            ended: self.ended.saturating_sub(earlier.ended),
            answered: self.answered.saturating_sub(earlier.answered),
            broken: self.broken.saturating_sub(earlier.broken),
            abandoned: self.abandoned.saturating_sub(earlier.abandoned),
            items: self.items.saturating_sub(earlier.items),
            gap_nanos: self.gap_nanos.saturating_sub(earlier.gap_nanos),
            first: self.first.since(&earlier.first),
            gaps: self.gaps.since(&earlier.gaps),
            pace: self.pace.since(&earlier.pace),
            whole: self.whole.since(&earlier.whole),
            lengths: self.lengths.since(&earlier.lengths),
        }
    }
}
