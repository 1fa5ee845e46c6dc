//! What was seen of two models that answered the same requests.
//!
//! Shadow work runs off the request path, so these counts need no lock-free care: the lane adds
//! to them under its own short lock, and the judge is handed copies.

use serde::{Deserialize, Serialize};

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
    /// Not run because the input was too large, the model may not be shadowed, or the lane paused.
    pub skipped: u64,
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
    /// Which of the two was right, where the truth is known; one entry per sample, however often
    /// it was replayed.
    pub truth: PairedTruth,
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
        add(&mut self.truth.both_right, other.truth.both_right);
        add(&mut self.truth.only_baseline, other.truth.only_baseline);
        add(&mut self.truth.only_candidate, other.truth.only_candidate);
        add(&mut self.truth.both_wrong, other.truth.both_wrong);
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
}
