//! Evidence that a quantile of latency got worse.
//!
//! "The candidate's p95 is at most `m` times the baseline's" is turned into a question of rates:
//! of the requests of the same minutes, is a larger part of the candidate's slower than `m·τ` than
//! of the baseline's is slower than `τ`? Here `τ` is about the baseline's p95, taken from what was
//! seen *before* and kept for a while. If the candidate is at most `m` times as slow, the answer is
//! no at every `τ`. So a `τ` that has grown stale costs power and never the level, and a slow hour
//! of both arms blames neither: the alternative, a comparison of the candidate with the baseline's
//! *past* quantile, takes an innocent candidate back in every shared slowdown.
//!
//! Both thresholds are bucket edges, the candidate's rounded against finding a difference, so the
//! histogram's width is not evidence either. A call that timed out is slower than every `τ`.
//!
//! For the median the events are the *fast* answers, with the arms' roles exchanged: half of all
//! requests are slow, so a candidate can have at most twice as many slow ones but any factor fewer
//! fast ones.

use serde::{Deserialize, Serialize};

use crate::judge::evidence::{Cell, Log, Tallies};
use crate::judge::times::{Timed, Times};
use crate::observe::histogram::{BUCKETS, Histogram, bucket_of, bucket_start};
use crate::observe::snapshot::ArmCounts;
use crate::share::TrafficShare;

/// Times of the baseline before the present batch, from which thresholds are taken: those of the
/// present step of the schedule and of the one before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Past {
    answers: PastTimes,
    #[serde(default)]
    pace: PastTimes,
}

/// Past times of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PastTimes {
    recent: Histogram,
    before: Histogram,
    recent_timeouts: u64,
    timeouts_before: u64,
}

impl Past {
    /// Adds a batch of the baseline.
    pub fn add(&mut self, counts: &ArmCounts) {
        self.answers.add(Timed::Answers.of_arm(counts));
        self.pace.add(Timed::Pace.of_arm(counts));
    }

    /// A new step begins: what came before the last one is forgotten where the last one is enough.
    pub fn turn(&mut self) {
        self.answers.turn();
        self.pace.turn();
    }

    /// Those of one kind.
    pub(crate) const fn of(&self, timed: Timed) -> &PastTimes {
        match timed {
            Timed::Answers => &self.answers,
            Timed::Pace => &self.pace,
        }
    }
}

impl PastTimes {
    fn add(&mut self, times: Times<'_>) {
        self.recent.merge(times.known);
        self.recent_timeouts = self.recent_timeouts.saturating_add(times.endless);
    }

    /// A new step begins: what came before the last one is forgotten, once the last one alone can
    /// name every quantile. Where calls are few, older ones are better than no threshold at all:
    /// they cost power and never the level.
    fn turn(&mut self) {
        if self.recent.count().saturating_add(self.recent_timeouts) < ENOUGH {
            return;
        }
        std::mem::swap(&mut self.recent, &mut self.before);
        self.recent.clear();
        self.timeouts_before = std::mem::take(&mut self.recent_timeouts);
    }

    /// The bucket that holds the quantile, where enough was seen to name one and it is not a
    /// timeout itself.
    fn bucket(&self, quantile: f64) -> Option<usize> {
        let answered = self.recent.count().saturating_add(self.before.count());
        let timeouts = self.recent_timeouts.saturating_add(self.timeouts_before);
        let all = answered.saturating_add(timeouts);
        let tail = (1.0 - quantile).min(quantile);
        if (all as f64) < (LEAST_BEYOND / tail).max(LEAST) {
            return None;
        }
        let rank = ((quantile * all as f64).ceil() as u64).clamp(1, all);
        if rank > answered {
            return None;
        }
        let mut both = self.recent.clone();
        both.merge(&self.before);
        both.value_at_rank(rank).map(bucket_of)
    }
}

/// The least number of baseline requests from which a threshold is taken, and how many of them must
/// lie beyond it.
const LEAST: f64 = 20.0;
const LEAST_BEYOND: f64 = 5.0;
/// From so many calls a 99th percentile can be named.
const ENOUGH: u64 = 500;

/// First bucket of "slow" on the baseline, and on the candidate for the null and for the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Thresholds {
    baseline: u32,
    harm: u32,
    safe: u32,
}

/// Evidence on one quantile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyEvidence {
    thresholds: Option<Thresholds>,
    /// Events against the null; see [`Tallies`] for which arm is the focus.
    pub(crate) harm: Log<Tallies>,
    /// Events against the limit.
    pub(crate) safe: Tallies,
}

/// Whether the fast answers are counted rather than the slow ones.
#[must_use]
pub(crate) fn counts_fast(quantile: f64) -> bool {
    quantile < 0.8
}

impl LatencyEvidence {
    /// Takes thresholds from the past where there are none, or newer ones when a step begins.
    pub(crate) fn aim(
        &mut self,
        past: &PastTimes,
        quantile: f64,
        null: f64,
        limit: f64,
        step_begins: bool,
    ) {
        if self.thresholds.is_some() && !step_begins {
            return;
        }
        let Some(bucket) = past.bucket(quantile) else { return };
        let start = bucket_start(bucket) as f64;
        let edge = |ratio: f64| (start * ratio).min(u64::MAX as f64 / 2.0);
        let harm = edge(null).ceil() as u64;
        let harm = (bucket_of(harm)..BUCKETS).find(|at| bucket_start(*at) >= harm);
        let safe = bucket_of(edge(limit).floor() as u64);
        self.thresholds = harm.map(|harm| Thresholds {
            baseline: bucket as u32,
            harm: harm as u32,
            safe: safe as u32,
        });
    }

    /// Whether a threshold is known.
    #[must_use]
    pub const fn is_aimed(&self) -> bool {
        self.thresholds.is_some()
    }

    /// Adds a batch, measured by thresholds that were there before it.
    pub(crate) fn add(
        &mut self,
        quantile: f64,
        share: TrafficShare,
        baseline: Times<'_>,
        candidate: Times<'_>,
    ) {
        let Some(thresholds) = self.thresholds else { return };
        let theirs = split(baseline, thresholds.baseline);
        let batch = |threshold: u32| {
            let mine = split(candidate, threshold);
            if counts_fast(quantile) {
                Cell {
                    share: share.rest(),
                    focus: theirs.fast,
                    other: mine.fast,
                    focus_exposed: theirs.fast.saturating_add(theirs.slow),
                    other_exposed: mine.fast.saturating_add(mine.slow),
                }
            } else {
                Cell {
                    share,
                    focus: mine.slow,
                    other: theirs.slow,
                    focus_exposed: mine.fast.saturating_add(mine.slow),
                    other_exposed: theirs.fast.saturating_add(theirs.slow),
                }
            }
        };
        self.harm.total_mut().add(batch(thresholds.harm));
        self.safe.add(batch(thresholds.safe));
    }
}

struct Split {
    fast: u64,
    slow: u64,
}

/// Calls below and from the first value of `bucket` on; timeouts are slow.
fn split(times: Times<'_>, bucket: u32) -> Split {
    let start = bucket_start(bucket as usize);
    let slow = match start.checked_sub(1) {
        Some(below) => times.known.count_above(below),
        None => times.known.count(),
    };
    Split {
        fast: times.known.count().saturating_sub(slow),
        slow: slow.saturating_add(times.endless),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Status;

    fn arm(latencies: impl Iterator<Item = u64>, timeouts: u64) -> ArmCounts {
        let mut counts = ArmCounts::default();
        latencies.for_each(|nanos| counts.latency.record(nanos));
        counts.ended[Status::Ok.index()] = counts.latency.count();
        counts.ended[Status::Timeout.index()] = timeouts;
        counts
    }

    #[test]
    fn no_threshold_is_taken_from_a_handful_of_requests() {
        let mut past = Past::default();
        past.add(&arm(1_000_000..1_000_050, 0));
        assert!(past.answers.bucket(0.95).is_none() && past.answers.bucket(0.5).is_some());
        past.add(&arm(1_000_000..1_000_050, 0));
        assert!(past.answers.bucket(0.95).is_some());
    }

    #[test]
    fn a_quantile_is_named_however_slowly_the_calls_come() {
        let mut past = Past::default();
        for _ in 0..60 {
            past.add(&arm(1_000_000..1_000_010, 0));
            past.turn();
        }
        assert!(past.answers.bucket(0.95).is_some() && past.answers.bucket(0.99).is_some());
    }

    #[test]
    fn a_baseline_whose_tail_times_out_has_no_such_quantile() {
        let mut past = Past::default();
        past.add(&arm(1_000_000..1_000_900, 100));
        assert!(past.answers.bucket(0.95).is_none() && past.answers.bucket(0.5).is_some());
    }

    #[test]
    fn the_width_of_a_bucket_is_never_held_against_the_candidate() {
        let mut past = Past::default();
        past.add(&arm((0..1000).map(|at| 1_000_000 + at * 1_000), 0));
        let mut evidence = LatencyEvidence::default();
        evidence.aim(past.of(Timed::Answers), 0.95, 1.2, 1.5, false);
        let Thresholds { baseline, harm, safe } = evidence.thresholds.unwrap();
        let start = |bucket: u32| bucket_start(bucket as usize) as f64;
        let (null, limit) = (start(harm) / start(baseline), start(safe) / start(baseline));
        assert!((1.2..1.22).contains(&null) && (1.47..=1.5).contains(&limit), "{null} {limit}");
    }

    #[test]
    fn a_timeout_is_slower_than_everything() {
        let counts = arm(1..=90, 10);
        let times = Timed::Answers.of_arm(&counts);
        assert_eq!(split(times, 2000).slow, 10);
        assert_eq!(times.quantile(0.95), None);
        assert_eq!(times.quantile(0.5), Some(50));
    }
}
