//! What was seen of two models that answered the same requests.
//!
//! Shadow work runs off the request path, so these counts need no lock-free care: the lane adds
//! to them under its own short lock, and the judge is handed copies.

use serde::{Deserialize, Serialize};

use crate::ids::Segment;
use crate::observe::histogram::Histogram;
use crate::observe::snapshot::{ArmCounts, ScoreSums};

/// Cumulative counts of a shadow. All fields grow only.
///
/// Every sampled request ends in exactly one of `run`, `shed` and `skipped`; every one that ran
/// is in `candidate`, and where both models answered it is in `pairs` or `uncomparable`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShadowCounts {
    /// Requests chosen by the sampling.
    pub sampled: u64,
    /// Shadow calls that ran to an end, however they ended.
    pub run: u64,
    /// Not run because the queue or the concurrency limit was full.
    pub shed: u64,
    /// Not run because the input was too large, the model may not be shadowed, or the lane paused:
    /// the sum of the three that follow.
    pub skipped: u64,
    /// Skipped since the input was over the lane's cap.
    #[serde(default)]
    pub too_large: u64,
    /// Skipped since the model did not want it: it no longer says that it may be shadowed, or the
    /// lane's copy function declined.
    #[serde(default)]
    pub not_shadowable: u64,
    /// Skipped since the lane was paused or stopped.
    #[serde(default)]
    pub paused: u64,
    /// Requests that ran with a sample that had counted before. Their calls are in `baseline` and
    /// `candidate`; they are no pairs, since a sample counts once.
    #[serde(default)]
    pub repeated: u64,
    /// The baseline's calls on the requests that ran, as the caller met them.
    pub baseline: ArmCounts,
    /// The candidate's calls on the same requests.
    pub candidate: ArmCounts,
    /// Requests both models answered and the comparator judged.
    pub pairs: u64,
    /// Pairs whose similarity reached the threshold.
    pub matches: u64,
    /// Requests both models answered, which the comparator could not judge: it panicked, or said
    /// something that is not a number from 0 to 1.
    pub uncomparable: u64,
    /// Similarities of the pairs, from 0 to 1.
    pub similarity: ScoreSums,
    /// Which of the two answered, request by request; "right" is to answer at all, "wrong" an
    /// error, a panic or a timeout.
    #[serde(default)]
    pub answered: PairedTruth,
    /// Requests whose times can be compared: the baseline answered, and the candidate did or timed
    /// out.
    #[serde(default)]
    pub timed: u64,
    /// Of those, where the candidate took more than the lane's multiple of the baseline's time.
    #[serde(default)]
    pub slower: u64,
    /// The candidate's time over the baseline's where both answered, in millionths.
    #[serde(default)]
    pub ratio: Histogram,
    /// Which of the two was right, where the truth is known; one entry per sample, however often
    /// it was replayed.
    pub truth: PairedTruth,
    /// Which of the two was right by the labels people gave to a uniform sample of disagreements.
    /// Only which way they fall tells: how many agree is not in them.
    #[serde(default)]
    pub labels: PairedTruth,
    /// What the baseline's second runs showed.
    #[serde(default)]
    pub noise: NoiseCounts,
    /// The same by segment, in the order of their numbers; segments nobody was in are absent.
    #[serde(default)]
    pub segments: Vec<SegmentPairs>,
}

/// What the baseline's second runs on the same requests showed: how much it differs from itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NoiseCounts {
    /// Second runs made.
    pub runs: u64,
    /// Second runs that gave no answer.
    pub failed: u64,
    /// Second runs whose answer the comparator could not judge.
    pub uncomparable: u64,
    /// Of requests with three answers: which of the second run ("baseline") and the candidate
    /// matched ("was right about") what was served.
    pub matched: PairedTruth,
}

/// What pairs of one segment showed; the fields are those of [`ShadowCounts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SegmentPairs {
    /// Which segment.
    pub segment: Segment,
    /// Requests both models answered and the comparator judged.
    pub pairs: u64,
    /// Pairs whose similarity reached the threshold.
    pub matches: u64,
    /// Requests both models answered, which the comparator could not judge.
    pub uncomparable: u64,
    /// Similarities of the pairs.
    pub similarity: ScoreSums,
    /// Which of the two answered.
    pub answered: PairedTruth,
    /// Requests whose times can be compared.
    pub timed: u64,
    /// Of those, where the candidate was slower.
    pub slower: u64,
    /// Which of the two was right.
    pub truth: PairedTruth,
    /// Of requests with three answers, which second answer matched the first.
    pub noise: PairedTruth,
}

/// How often each of two models was right about the same samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairedTruth {
    /// Both were right.
    pub both_right: u64,
    /// Only the baseline was: the candidate broke something.
    pub only_baseline: u64,
    /// Only the candidate was: it mended something.
    pub only_candidate: u64,
    /// Neither was.
    pub both_wrong: u64,
}

impl PairedTruth {
    /// Samples with a truth.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.both_right
            .saturating_add(self.only_baseline)
            .saturating_add(self.only_candidate)
            .saturating_add(self.both_wrong)
    }

    /// How much lower the candidate's accuracy is, as a number from -1 to 1; negative when it is
    /// the better one. `None` without samples.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        let total = self.total();
        (total > 0).then(|| (self.only_baseline as f64 - self.only_candidate as f64) / total as f64)
    }

    /// Counts one sample.
    pub const fn add(&mut self, baseline_right: bool, candidate_right: bool) {
        let count = match (baseline_right, candidate_right) {
            (true, true) => &mut self.both_right,
            (true, false) => &mut self.only_baseline,
            (false, true) => &mut self.only_candidate,
            (false, false) => &mut self.both_wrong,
        };
        *count = count.saturating_add(1);
    }

    /// Adds all of `other`.
    pub const fn merge(&mut self, other: &Self) {
        self.both_right = self.both_right.saturating_add(other.both_right);
        self.only_baseline = self.only_baseline.saturating_add(other.only_baseline);
        self.only_candidate = self.only_candidate.saturating_add(other.only_candidate);
        self.both_wrong = self.both_wrong.saturating_add(other.both_wrong);
    }

    /// What came since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            both_right: self.both_right.saturating_sub(earlier.both_right),
            only_baseline: self.only_baseline.saturating_sub(earlier.only_baseline),
            only_candidate: self.only_candidate.saturating_sub(earlier.only_candidate),
            both_wrong: self.both_wrong.saturating_sub(earlier.both_wrong),
        }
    }
}

impl ShadowCounts {
    /// The share of pairs that matched, or `None` without pairs.
    #[must_use]
    pub fn agreement(&self) -> Option<f64> {
        (self.pairs > 0).then(|| self.matches as f64 / self.pairs as f64)
    }

    /// Adds all of `other`, for example a later batch.
    pub fn merge(&mut self, other: &Self) {
        let add = |mine: &mut u64, theirs: u64| *mine = mine.saturating_add(theirs);
        add(&mut self.sampled, other.sampled);
        add(&mut self.run, other.run);
        add(&mut self.shed, other.shed);
        add(&mut self.skipped, other.skipped);
        self.baseline.merge(&other.baseline);
        self.candidate.merge(&other.candidate);
        add(&mut self.pairs, other.pairs);
        add(&mut self.matches, other.matches);
        add(&mut self.uncomparable, other.uncomparable);
        self.similarity.merge(&other.similarity);
        add(&mut self.too_large, other.too_large);
        add(&mut self.not_shadowable, other.not_shadowable);
        add(&mut self.paused, other.paused);
        add(&mut self.repeated, other.repeated);
        add(&mut self.timed, other.timed);
        add(&mut self.slower, other.slower);
        self.answered.merge(&other.answered);
        self.ratio.merge(&other.ratio);
        self.truth.merge(&other.truth);
        self.labels.merge(&other.labels);
        self.noise.merge(&other.noise);
        for theirs in &other.segments {
            self.segment_mut(theirs.segment).merge(theirs);
        }
    }

    /// The counts of `segment`, or `None` when nobody was in it.
    #[must_use]
    pub fn segment(&self, segment: Segment) -> Option<&SegmentPairs> {
        let at = self.segments.binary_search_by_key(&segment, |counts| counts.segment).ok()?;
        self.segments.get(at)
    }

    /// The counts of `segment`, to write to; one nobody was in begins empty.
    pub fn segment_mut(&mut self, segment: Segment) -> &mut SegmentPairs {
        let at = match self.segments.binary_search_by_key(&segment, |counts| counts.segment) {
            Ok(at) => at,
            Err(at) => {
                self.segments.insert(at, SegmentPairs { segment, ..SegmentPairs::default() });
                at
            }
        };
        &mut self.segments[at]
    }

    /// The median of the candidate's time over the baseline's, to within 1 %; `None` where no
    /// request was answered by both.
    #[must_use]
    pub fn median_ratio(&self) -> Option<f64> {
        self.ratio.quantile(0.5).map(|millionths| millionths as f64 / 1e6)
    }

    /// What came since `earlier`, an older copy of these counts.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            sampled: self.sampled.saturating_sub(earlier.sampled),
            run: self.run.saturating_sub(earlier.run),
            shed: self.shed.saturating_sub(earlier.shed),
            skipped: self.skipped.saturating_sub(earlier.skipped),
            baseline: self.baseline.since(&earlier.baseline),
            candidate: self.candidate.since(&earlier.candidate),
            pairs: self.pairs.saturating_sub(earlier.pairs),
            matches: self.matches.saturating_sub(earlier.matches),
            uncomparable: self.uncomparable.saturating_sub(earlier.uncomparable),
            similarity: self.similarity.since(&earlier.similarity),
            truth: self.truth.since(&earlier.truth),
            too_large: self.too_large.saturating_sub(earlier.too_large),
            not_shadowable: self.not_shadowable.saturating_sub(earlier.not_shadowable),
            paused: self.paused.saturating_sub(earlier.paused),
            repeated: self.repeated.saturating_sub(earlier.repeated),
            answered: self.answered.since(&earlier.answered),
            timed: self.timed.saturating_sub(earlier.timed),
            slower: self.slower.saturating_sub(earlier.slower),
            ratio: self.ratio.since(&earlier.ratio),
            labels: self.labels.since(&earlier.labels),
            noise: self.noise.since(&earlier.noise),
            segments: (self.segments.iter())
                .map(|now| earlier.segment(now.segment).map_or(*now, |then| now.since(then)))
                .collect(),
        }
    }
}

impl NoiseCounts {
    /// Adds all of `other`.
    pub const fn merge(&mut self, other: &Self) {
        self.runs = self.runs.saturating_add(other.runs);
        self.failed = self.failed.saturating_add(other.failed);
        self.uncomparable = self.uncomparable.saturating_add(other.uncomparable);
        self.matched.merge(&other.matched);
    }

    /// What came since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            runs: self.runs.saturating_sub(earlier.runs),
            failed: self.failed.saturating_sub(earlier.failed),
            uncomparable: self.uncomparable.saturating_sub(earlier.uncomparable),
            matched: self.matched.since(&earlier.matched),
        }
    }

    /// The part of second runs that did not match what was served, or `None` without any.
    #[must_use]
    pub fn disagreement(&self) -> Option<f64> {
        let all = self.matched.total();
        let apart = self.matched.only_candidate.saturating_add(self.matched.both_wrong);
        (all > 0).then(|| apart as f64 / all as f64)
    }
}

impl SegmentPairs {
    /// The share of pairs that matched, or `None` without pairs.
    #[must_use]
    pub fn agreement(&self) -> Option<f64> {
        (self.pairs > 0).then(|| self.matches as f64 / self.pairs as f64)
    }

    /// Adds all of `other`, which should be of the same segment.
    pub fn merge(&mut self, other: &Self) {
        let add = |mine: &mut u64, theirs: u64| *mine = mine.saturating_add(theirs);
        add(&mut self.pairs, other.pairs);
        add(&mut self.matches, other.matches);
        add(&mut self.uncomparable, other.uncomparable);
        add(&mut self.timed, other.timed);
        add(&mut self.slower, other.slower);
        self.similarity.merge(&other.similarity);
        self.answered.merge(&other.answered);
        self.truth.merge(&other.truth);
        self.noise.merge(&other.noise);
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            segment: self.segment,
            pairs: self.pairs.saturating_sub(earlier.pairs),
            matches: self.matches.saturating_sub(earlier.matches),
            uncomparable: self.uncomparable.saturating_sub(earlier.uncomparable),
            similarity: self.similarity.since(&earlier.similarity),
            answered: self.answered.since(&earlier.answered),
            timed: self.timed.saturating_sub(earlier.timed),
            slower: self.slower.saturating_sub(earlier.slower),
            truth: self.truth.since(&earlier.truth),
            noise: self.noise.since(&earlier.noise),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_that_breaks_more_than_it_mends_has_a_loss() {
        let truth =
            PairedTruth { both_right: 900, only_baseline: 61, only_candidate: 28, both_wrong: 11 };
        assert_eq!(truth.loss(), Some(0.033));
        assert_eq!(PairedTruth::default().loss(), None);
        assert_eq!(truth.since(&truth), PairedTruth::default());
    }

    #[test]
    fn a_difference_and_its_start_give_the_whole_back() {
        let mut then = ShadowCounts { run: 7, skipped: 2, paused: 2, ..ShadowCounts::default() };
        then.ratio.record(1_200_000);
        then.segment_mut(Segment::new(3)).pairs = 5;
        let mut more = ShadowCounts { run: 3, repeated: 1, slower: 2, ..ShadowCounts::default() };
        more.noise.matched.add(true, false);
        more.segment_mut(Segment::new(1)).truth.add(false, true);
        more.segment_mut(Segment::new(3)).matches = 4;
        let mut now = then.clone();
        now.merge(&more);
        let mut again = then.clone();
        again.merge(&now.since(&then));
        assert_eq!(again, now);
        assert_eq!(now.segments.iter().map(|s| s.segment.index()).collect::<Vec<_>>(), [1, 3]);
        let stored = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<ShadowCounts>(&stored).unwrap(), now);
    }
}
