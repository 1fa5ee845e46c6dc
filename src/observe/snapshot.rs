//! What was seen of each arm, as numbers that add up.
//!
//! [`ArmCounts`] only ever grow, merge by addition and subtract exactly: the judge takes the
//! difference of two snapshots, and replicas publish theirs without counting anything twice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::ids::{Arm, Epoch, Segment};
use crate::observe::histogram::Histogram;
use crate::observe::stream_counts::StreamCounts;
use crate::outcome::{Marks, Status};

/// Everything counted of one arm. All fields grow only.
///
/// At every quiescent point `started = ok + error + timeout + cancelled + panicked + in flight`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArmCounts {
    /// Calls begun.
    pub started: u64,
    /// Calls ended, by [`Status`] number.
    pub ended: [u64; 5],
    /// Ended calls that carried each mark.
    pub marks: [u64; Marks::COUNT],
    /// Latencies of calls that answered ([`Status::Ok`]), in nanoseconds. A call that timed out
    /// counts as slower than all of them wherever quantiles are judged.
    pub latency: Histogram,
    /// Latencies of calls that ended in [`Status::Error`] or [`Status::Panicked`].
    pub failed_latency: Histogram,
    /// Finite scores given with the answers.
    pub score: ScoreSums,
    /// Late truths: answers known to be right, one per unit.
    pub correct: u64,
    /// Late truths: answers known to be wrong, one per unit.
    pub wrong: u64,
    /// One event per subject and window, where subjects are known; see [`SubjectCounts`].
    pub subjects: SubjectCounts,
    /// Observations whose segment, score and subject were lost because the ring was full. They are
    /// in all counts that do not need those.
    pub detail_lost: u64,
    /// Ended calls of subjects that came after the table of subjects was full in their window.
    /// They are in all counts but `subjects`.
    pub subjects_untracked: u64,
    /// Calls of this arm that failed and were answered by the baseline instead. They count here
    /// as the failures they were, and nowhere as calls of the baseline.
    pub fell_back: u64,
    /// Calls of this arm that found it as busy as it may be
    /// ([`CandidateLimit`](crate::serve::limit::CandidateLimit)), so that the baseline's model was
    /// asked instead. They count here however they ended, as what they were assigned to, and nowhere
    /// as calls of the baseline; only their latencies are kept apart.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub diverted: u64,
    /// Calls begun that found it so and are evidence; those that have ended are in `diverted`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub diverted_started: u64,
    /// Latencies of those that ended in an answer, an error or a panic: no times of this arm's model,
    /// so they are in no other histogram. Those counted in `detail_lost` are missing.
    #[serde(default, skip_serializing_if = "Histogram::is_empty")]
    pub diverted_latency: Histogram,
    /// What its streams showed, where it answered with any. Their calls are in all other counts
    /// too; the latency of a stream is the time to its first item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Box<StreamCounts>>,
}

/// What is counted of one arm in one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tally {
    /// Calls ended, by [`Status`] number.
    pub ended: [u64; 5],
    /// Ended calls that carried each mark.
    pub marks: [u64; Marks::COUNT],
    /// Finite scores given with the answers.
    pub score: ScoreSums,
    /// Late truths: answers known to be right.
    pub correct: u64,
    /// Late truths: answers known to be wrong.
    pub wrong: u64,
}

/// Counts of one segment, arm by arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SegmentCounts {
    /// Which segment.
    pub segment: Segment,
    /// By arm number.
    pub arms: Vec<Tally>,
}

/// Sums of finite scores, from which mean and variance follow.
///
/// Plain sums rather than a running mean, since these must subtract exactly enough: a score is
/// meant to be of the order of one (a probability, a similarity, a mark out of ten).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreSums {
    /// How many finite scores.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_of_squares: f64,
    /// Scores that were NaN or infinite: counted, and never part of a mean.
    pub rejected: u64,
}

/// One event per subject and window.
///
/// A client that retries a failing request ten times is one failing subject, not ten failures. A
/// subject is counted once a window as exposed, and once for each kind of event it met there.
/// Requests without a subject count one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectCounts {
    /// Subjects that had at least one ended call (cancelled ones apart).
    pub exposed: u64,
    /// Subjects that met at least one [`Status::Error`] or [`Status::Panicked`].
    pub failed: u64,
    /// Subjects that met at least one [`Status::Timeout`].
    pub timed_out: u64,
    /// Subjects that had at least one ended call, however it ended.
    #[serde(default)]
    pub ended: u64,
    /// Subjects that gave at least one call up ([`Status::Cancelled`]).
    #[serde(default)]
    pub abandoned: u64,
    /// Subjects that met each mark.
    pub marks: [u64; Marks::COUNT],
}

impl ArmCounts {
    /// Calls that ended with `status`.
    #[must_use]
    pub const fn of(&self, status: Status) -> u64 {
        self.ended[status.index()]
    }

    /// Calls that ended, however they did.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.ended.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Calls that ended in a way that says something of the model: all but the cancelled.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.finished().saturating_sub(self.of(Status::Cancelled))
    }

    /// Errors and panics.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.of(Status::Error).saturating_add(self.of(Status::Panicked))
    }

    /// Calls begun and not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.finished())
    }

    /// Adds all of `other`, for example another replica's counts of the same arm.
    pub fn merge(&mut self, other: &Self) {
        let add = |mine: &mut u64, theirs: u64| *mine = mine.saturating_add(theirs);
        add(&mut self.started, other.started);
        for (mine, theirs) in self.ended.iter_mut().zip(other.ended) {
            add(mine, theirs);
        }
        for (mine, theirs) in self.marks.iter_mut().zip(other.marks) {
            add(mine, theirs);
        }
        self.latency.merge(&other.latency);
        self.failed_latency.merge(&other.failed_latency);
        self.score.merge(&other.score);
        add(&mut self.correct, other.correct);
        add(&mut self.wrong, other.wrong);
        self.subjects.merge(&other.subjects);
        add(&mut self.detail_lost, other.detail_lost);
        add(&mut self.subjects_untracked, other.subjects_untracked);
        add(&mut self.fell_back, other.fell_back);
        add(&mut self.diverted, other.diverted);
        add(&mut self.diverted_started, other.diverted_started);
        self.diverted_latency.merge(&other.diverted_latency);
        if let Some(theirs) = &other.streams {
            self.streams.get_or_insert_default().merge(theirs);
        }
    }

    /// What came since `earlier`, an older copy of these counts; nothing goes below zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            started: self.started.saturating_sub(earlier.started),
            ended: difference(self.ended, earlier.ended),
            marks: difference(self.marks, earlier.marks),
            latency: self.latency.since(&earlier.latency),
            failed_latency: self.failed_latency.since(&earlier.failed_latency),
            score: self.score.since(&earlier.score),
            correct: self.correct.saturating_sub(earlier.correct),
            wrong: self.wrong.saturating_sub(earlier.wrong),
            subjects: self.subjects.since(&earlier.subjects),
            detail_lost: self.detail_lost.saturating_sub(earlier.detail_lost),
            subjects_untracked: self.subjects_untracked.saturating_sub(earlier.subjects_untracked),
            fell_back: self.fell_back.saturating_sub(earlier.fell_back),
            diverted: self.diverted.saturating_sub(earlier.diverted),
            diverted_started: self.diverted_started.saturating_sub(earlier.diverted_started),
            diverted_latency: self.diverted_latency.since(&earlier.diverted_latency),
            streams: self.streams.as_ref().map(|now| match &earlier.streams {
                Some(then) => Box::new(now.since(then)),
                None => now.clone(),
            }),
        }
    }
}

impl Tally {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        let all = |mine: &mut [u64; 5], theirs: [u64; 5]| {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine = mine.saturating_add(theirs);
            }
        };
        all(&mut self.ended, other.ended);
        all(&mut self.marks, other.marks);
        self.score.merge(&other.score);
        self.correct = self.correct.saturating_add(other.correct);
        self.wrong = self.wrong.saturating_add(other.wrong);
    }

    /// What came since `earlier`; nothing goes below zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            ended: difference(self.ended, earlier.ended),
            marks: difference(self.marks, earlier.marks),
            score: self.score.since(&earlier.score),
            correct: self.correct.saturating_sub(earlier.correct),
            wrong: self.wrong.saturating_sub(earlier.wrong),
        }
    }
}

impl SegmentCounts {
    /// Counts of `segment`.
    #[must_use]
    pub const fn new(segment: Segment, arms: Vec<Tally>) -> Self {
        Self { segment, arms }
    }

    /// The counts of `arm`, or `None` when nothing was seen of it here.
    #[must_use]
    pub fn arm(&self, arm: Arm) -> Option<&Tally> {
        self.arms.get(arm.index())
    }

    fn since(&self, earlier: &Self) -> Self {
        let none = Tally::default();
        let arms = self.arms.iter().enumerate();
        let arms = arms.map(|(at, now)| now.since(earlier.arms.get(at).unwrap_or(&none)));
        Self { segment: self.segment, arms: arms.collect() }
    }

    fn merge(&mut self, other: &Self) {
        if self.arms.len() < other.arms.len() {
            self.arms.resize(other.arms.len(), Tally::default());
        }
        for (mine, theirs) in self.arms.iter_mut().zip(&other.arms) {
            mine.merge(theirs);
        }
    }
}

impl ScoreSums {
    /// Adds one score; one that is not finite is counted as rejected.
    pub fn add(&mut self, score: f64) {
        if score.is_finite() {
            self.count += 1;
            self.sum += score;
            self.sum_of_squares += score * score;
        } else {
            self.rejected += 1;
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        self.rejected = self.rejected.saturating_add(other.rejected);
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum - earlier.sum,
            sum_of_squares: self.sum_of_squares - earlier.sum_of_squares,
            rejected: self.rejected.saturating_sub(earlier.rejected),
        }
    }

    /// The mean, or `None` without scores.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl SubjectCounts {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.exposed = self.exposed.saturating_add(other.exposed);
        self.failed = self.failed.saturating_add(other.failed);
        self.timed_out = self.timed_out.saturating_add(other.timed_out);
        self.ended = self.ended.saturating_add(other.ended);
        self.abandoned = self.abandoned.saturating_add(other.abandoned);
        for (mine, theirs) in self.marks.iter_mut().zip(other.marks) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            exposed: self.exposed.saturating_sub(earlier.exposed),
            failed: self.failed.saturating_sub(earlier.failed),
            timed_out: self.timed_out.saturating_sub(earlier.timed_out),
            ended: self.ended.saturating_sub(earlier.ended),
            abandoned: self.abandoned.saturating_sub(earlier.abandoned),
            marks: difference(self.marks, earlier.marks),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn difference<const N: usize>(now: [u64; N], then: [u64; N]) -> [u64; N] {
    let mut left = now;
    for (left, then) in left.iter_mut().zip(then) {
        *left = left.saturating_sub(then);
    }
    left
}

/// Everything counted since the split in force was set, arm by arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// When it was taken.
    pub at: Moment,
    /// Which split the counts belong to.
    pub epoch: Epoch,
    /// Counts of calls that were assigned under this split, by arm number.
    pub arms: Vec<ArmCounts>,
    /// Observations of earlier splits that arrived since: counted for their own stage, not here.
    pub stale: u64,
    /// Counts by segment, in the order of their numbers; segments nobody was in are absent.
    #[serde(default)]
    pub segments: Vec<SegmentCounts>,
}

impl Snapshot {
    /// A snapshot of nothing.
    #[must_use]
    pub const fn empty(at: Moment, epoch: Epoch) -> Self {
        Self { at, epoch, arms: Vec::new(), stale: 0, segments: Vec::new() }
    }

    /// The counts of `arm`, or `None` when nothing was ever seen of it.
    #[must_use]
    pub fn arm(&self, arm: Arm) -> Option<&ArmCounts> {
        self.arms.get(arm.index())
    }

    /// The counts of `arm`, to write to; arms that were not there begin empty.
    pub fn arm_mut(&mut self, arm: Arm) -> &mut ArmCounts {
        if self.arms.len() <= arm.index() {
            self.arms.resize_with(arm.index() + 1, ArmCounts::default);
        }
        &mut self.arms[arm.index()]
    }

    /// What came since `earlier`. When `earlier` belongs to another split, everything did.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Delta {
        let same = self.epoch == earlier.epoch;
        let arms = self.arms.iter().enumerate().map(|(at, now)| match earlier.arms.get(at) {
            Some(then) if same => now.since(then),
            _ => now.clone(),
        });
        let segments = self.segments.iter().map(|now| match earlier.segment(now.segment) {
            Some(then) if same => now.since(then),
            _ => now.clone(),
        });
        Delta {
            to: self.at,
            lasted: self.at.since(earlier.at),
            epoch: self.epoch,
            arms: arms.collect(),
            segments: segments.collect(),
        }
    }

    /// The counts of `segment`, or `None` when nobody was in it.
    #[must_use]
    pub fn segment(&self, segment: Segment) -> Option<&SegmentCounts> {
        let at = self.segments.binary_search_by_key(&segment, |counts| counts.segment).ok()?;
        self.segments.get(at)
    }

    /// Adds another replica's snapshot of the same split; its counts are ignored (and `false`
    /// returned) when it belongs to another.
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.epoch != other.epoch {
            return false;
        }
        for (at, counts) in other.arms.iter().enumerate() {
            self.arm_mut(Arm::new(at as u8)).merge(counts);
        }
        for theirs in &other.segments {
            match self.segments.binary_search_by_key(&theirs.segment, |counts| counts.segment) {
                Ok(at) => self.segments[at].merge(theirs),
                Err(at) => self.segments.insert(at, theirs.clone()),
            }
        }
        self.stale = self.stale.saturating_add(other.stale);
        true
    }
}

/// What came between two snapshots: the batch a judge is fed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Delta {
    /// When it ends.
    pub to: Moment,
    /// How long it covers.
    pub lasted: Duration,
    /// Which split it belongs to.
    pub epoch: Epoch,
    /// By arm number.
    pub arms: Vec<ArmCounts>,
    /// By segment, in the order of their numbers.
    #[serde(default)]
    pub segments: Vec<SegmentCounts>,
}

impl Delta {
    /// A batch of the given arms' counts, baseline first.
    #[must_use]
    pub const fn new(to: Moment, lasted: Duration, epoch: Epoch, arms: Vec<ArmCounts>) -> Self {
        Self { to, lasted, epoch, arms, segments: Vec::new() }
    }

    /// The counts of `arm`, or `None` when nothing was seen of it.
    #[must_use]
    pub fn arm(&self, arm: Arm) -> Option<&ArmCounts> {
        self.arms.get(arm.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ok: u64, error: u64) -> ArmCounts {
        let mut counts = ArmCounts { started: ok + error, ..ArmCounts::default() };
        counts.ended[Status::Ok.index()] = ok;
        counts.ended[Status::Error.index()] = error;
        (0..ok).for_each(|at| counts.latency.record(1_000 + at));
        counts.diverted = error;
        (0..error).for_each(|at| counts.diverted_latency.record(1_000 + at));
        counts
    }

    #[test]
    fn a_difference_and_its_start_give_the_whole_back() {
        let then = counts(10, 1);
        let mut now = then.clone();
        now.merge(&counts(5, 2));
        let mut again = then.clone();
        again.merge(&now.since(&then));
        assert_eq!(again, now);
        assert_eq!(now.since(&then).failures(), 2);
    }

    #[test]
    fn counts_of_another_split_are_not_subtracted() {
        let mut old = Snapshot::empty(Moment::from_secs(1), Epoch::new(1));
        *old.arm_mut(Arm::BASELINE) = counts(100, 0);
        let mut new = Snapshot::empty(Moment::from_secs(2), Epoch::new(2));
        *new.arm_mut(Arm::BASELINE) = counts(7, 0);
        assert_eq!(new.since(&old).arms[0].of(Status::Ok), 7);
        assert!(!new.merge(&old));
    }

    #[test]
    fn a_score_that_is_no_number_never_enters_the_mean() {
        let mut score = ScoreSums::default();
        for value in [0.5, f64::NAN, f64::INFINITY, 1.0] {
            score.add(value);
        }
        assert_eq!(score.mean(), Some(0.75));
        assert_eq!(score.rejected, 2);
        assert_eq!(ScoreSums::default().mean(), None);
    }
}
