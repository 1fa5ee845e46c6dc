//! A closed span of observations, and the last few of them together.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::ids::{Arm, Epoch};
use crate::observe::histogram::Histogram;
use crate::observe::snapshot::ArmCounts;

/// What ended within a span of time under one split. Sinks are fed with these.
///
/// A window closes at the first drain ten seconds or more after it began, or when the split
/// changes: a window belongs to one split. Observations carry no time, so a window covers what was
/// drained in it, and is as long as it says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Window {
    /// When it began.
    pub from: Moment,
    /// When it ended.
    pub to: Moment,
    /// Under which split.
    pub epoch: Epoch,
    /// By arm number.
    pub arms: Vec<ArmCounts>,
}

impl Window {
    /// How long it was.
    #[must_use]
    pub const fn lasted(&self) -> Duration {
        self.to.since(self.from)
    }

    /// The counts of `arm`, or `None` when nothing was seen of it.
    #[must_use]
    pub fn arm(&self, arm: Arm) -> Option<&ArmCounts> {
        self.arms.get(arm.index())
    }
}

/// Quantiles of the latency of answers over the last minutes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quantiles {
    /// How many answers they are of.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 95 of 100 took no longer.
    pub p95: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
}

/// The latencies of one arm over the last windows, as a running sum: a closing window is added
/// and an expired one subtracted, both exactly, so that asking costs one pass over the buckets.
#[derive(Debug, Default)]
pub struct Recent {
    sum: Histogram,
    windows: VecDeque<(Moment, Histogram)>,
}

impl Recent {
    /// Adds the latencies of a window that ended at `to`.
    pub fn push(&mut self, to: Moment, latency: &Histogram) {
        if !latency.is_empty() {
            self.sum.merge(latency);
            self.windows.push_back((to, latency.clone()));
        }
    }

    /// Subtracts the windows that ended `span` or longer before `now`, and all but the latest
    /// `most`.
    pub fn expire(&mut self, now: Moment, span: Duration, most: usize) {
        while let Some((to, latency)) = self.windows.front() {
            if now.since(*to) < span && self.windows.len() <= most {
                return;
            }
            self.sum = self.sum.since(latency);
            self.windows.pop_front();
        }
    }

    /// Quantiles of these windows and of `open`, the one that is not closed yet. `None` without
    /// answers.
    #[must_use]
    pub fn quantiles(&self, open: Option<&Histogram>) -> Option<Quantiles> {
        let none = Histogram::new();
        let [p50, p95, p99] = self.sum.quantiles_with(open.unwrap_or(&none), [0.5, 0.95, 0.99])?;
        let count = self.sum.count() + open.map_or(0, Histogram::count);
        let nanos = Duration::from_nanos;
        Some(Quantiles { count, p50: nanos(p50), p95: nanos(p95), p99: nanos(p99) })
    }

    /// Bytes on the heap, at most.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        (1 + self.windows.len()) * crate::observe::histogram::BUCKETS * size_of::<u64>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn what_expired_leaves_no_trace() {
        let mut recent = Recent::default();
        recent.push(Moment::from_secs(10), &of(&[1, 1, 1, 1]));
        recent.push(Moment::from_secs(20), &of(&[50, 50]));
        let span = Duration::from_secs(300);
        recent.expire(Moment::from_secs(309), span, 30);
        assert_eq!(recent.quantiles(None).unwrap().count, 6);
        recent.expire(Moment::from_secs(310), span, 30);
        let left = recent.quantiles(Some(&of(&[60]))).unwrap();
        assert_eq!((left.count, left.p50.as_nanos(), left.p99.as_nanos()), (3, 50, 50));
        recent.expire(Moment::from_secs(900), span, 30);
        assert_eq!(recent.quantiles(None), None);
    }

    #[test]
    fn many_short_windows_do_not_pile_up() {
        let mut recent = Recent::default();
        for second in 0..100 {
            recent.push(Moment::from_secs(second), &of(&[second]));
            recent.expire(Moment::from_secs(second), Duration::from_secs(300), 30);
        }
        assert_eq!(recent.quantiles(None).unwrap().count, 30);
    }
}
