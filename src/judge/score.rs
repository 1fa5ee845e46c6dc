//! Evidence that the mean of a bounded score fell.
//!
//! A gambler's wealth rather than a normal approximation: exact for any distribution within the
//! stated range, at any look, at any number of values. Each value, weighted by the inverse of its
//! arm's share, is one bet whose expectation under the null is not positive; its sum and sum of
//! squares suffice (see `bounded_mean`).

use serde::{Deserialize, Serialize};

use crate::judge::evidence::{Log, Sums};
use crate::observe::snapshot::ScoreSums;
use crate::share::TrafficShare;
use crate::stats::eprocess_grid::bounded_mean;

/// Sums of bets on one question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bets {
    sum: f64,
    squares: f64,
}

impl Bets {
    /// `ln E`, where `values_per_unit` values stand for one independent unit.
    #[must_use]
    pub(crate) fn ln_e(&self, values_per_unit: f64) -> f64 {
        let temper = 1.0 / values_per_unit.max(1.0);
        bounded_mean(self.sum * temper, self.squares * temper)
    }

    /// Adds the bets on `n` values with this sum and sum of squares, each bet being
    /// `scale · (value − centre)`.
    fn add(&mut self, scale: f64, centre: f64, n: f64, sum: f64, squares: f64) {
        self.sum += scale * (sum - n * centre);
        let spread = (squares - 2.0 * centre * sum + n * centre * centre).max(0.0);
        self.squares += scale * scale * spread;
    }
}

/// Bets, and the values they were made on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreTally {
    /// Bets on "the mean fell".
    pub(crate) harm: Bets,
    /// Scores of the baseline and their sum, in units of the range.
    pub(crate) baseline: (u64, f64),
    /// Scores of the candidate and their sum, in units of the range.
    pub(crate) candidate: (u64, f64),
}

impl Sums for ScoreTally {
    fn since(&self, earlier: &Self) -> Self {
        let pair =
            |now: (u64, f64), then: (u64, f64)| (now.0.saturating_sub(then.0), now.1 - then.1);
        Self {
            harm: Bets {
                sum: self.harm.sum - earlier.harm.sum,
                squares: (self.harm.squares - earlier.harm.squares).max(0.0),
            },
            baseline: pair(self.baseline, earlier.baseline),
            candidate: pair(self.candidate, earlier.candidate),
        }
    }
}

impl ScoreTally {
    /// By how much the candidate's mean lies below the baseline's, in units of the range.
    #[must_use]
    pub(crate) fn drop(&self) -> Option<f64> {
        let mean = |(n, sum): (u64, f64)| (n > 0).then(|| sum / n as f64);
        Some(mean(self.baseline)? - mean(self.candidate)?)
    }
}

/// Evidence on one score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreEvidence {
    /// Where the bets are centred: the baseline's mean before, in units of the range.
    centre: Option<f64>,
    pub(crate) harm: Log<ScoreTally>,
    /// Bets on "it fell by less than the limit".
    pub(crate) safe: Bets,
    /// Values outside the stated range, brought back to its edge on average: none may be.
    pub(crate) out_of_range: u64,
}

impl ScoreEvidence {
    /// Centres the bets on what was seen so far, at the start and when a step begins.
    pub fn aim(&mut self, step_begins: bool) {
        let (n, sum) = self.harm.total().baseline;
        if n >= 20 && (self.centre.is_none() || step_begins) {
            self.centre = Some((sum / n as f64).clamp(0.02, 0.98));
        }
    }

    /// Adds a batch. `range` is the score's, `null` and `limit` are drops in its unit.
    pub fn add(
        &mut self,
        share: TrafficShare,
        range: (f64, f64),
        (null, limit): (f64, f64),
        baseline: &ScoreSums,
        candidate: &ScoreSums,
    ) {
        if share == TrafficShare::NONE || share == TrafficShare::ALL {
            return;
        }
        let [theirs, mine] = [baseline, candidate].map(|sums| unit(sums, range));
        let (Some(theirs), Some(mine)) = (theirs, mine) else {
            let lost = baseline.count.saturating_add(candidate.count);
            self.out_of_range = self.out_of_range.saturating_add(lost);
            return;
        };
        let width = range.1 - range.0;
        let (null, limit) = (null / width, limit / width);
        let f = share.fraction();
        let centre = self.centre.unwrap_or(0.5);
        let tally = self.harm.total_mut();
        // Against "it fell by at most the null": a bet for low candidate and high baseline values.
        let stake = (f / (1.0 - centre)).min((1.0 - f) / (centre + null));
        tally.harm.add(-stake / f, centre, mine.n, mine.sum, mine.squares);
        tally.harm.add(stake / (1.0 - f), centre + null, theirs.n, theirs.sum, theirs.squares);
        // Against "it fell by at least the limit": the opposite bet.
        let low = (centre - limit).max(0.0);
        let stake = (f / low.max(0.01)).min((1.0 - f) / (1.0 - low - limit).max(0.01));
        self.safe.add(stake / f, low, mine.n, mine.sum, mine.squares);
        let centre = low + limit;
        self.safe.add(-stake / (1.0 - f), centre, theirs.n, theirs.sum, theirs.squares);
        for (total, batch) in [(&mut tally.baseline, &theirs), (&mut tally.candidate, &mine)] {
            total.0 = total.0.saturating_add(batch.count);
            total.1 += batch.sum;
        }
    }
}

struct Unit {
    count: u64,
    n: f64,
    sum: f64,
    squares: f64,
}

/// Sums in units of the range; `None` when they cannot be those of values within it.
fn unit(sums: &ScoreSums, (low, high): (f64, f64)) -> Option<Unit> {
    let width = high - low;
    let n = sums.count as f64;
    let sum = (sums.sum - n * low) / width;
    let squares = (sums.sum_of_squares - 2.0 * low * sums.sum + n * low * low) / (width * width);
    let slack = 1e-6 * (n + 1.0);
    // Values in [0, 1] have squares of at most themselves.
    let within = sum >= -slack && sum <= n + slack && squares <= sum + slack && squares >= -slack;
    within.then(|| Unit { count: sums.count, n, sum: sum.clamp(0.0, n), squares: squares.max(0.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: &[f64]) -> ScoreSums {
        let mut sums = ScoreSums::default();
        values.iter().for_each(|value| sums.add(*value));
        sums
    }

    fn half() -> TrafficShare {
        TrafficShare::HALF
    }

    #[test]
    fn a_fall_of_the_mean_gathers_evidence_and_a_rise_does_not() {
        let run = |mine: &[f64]| {
            let mut evidence = ScoreEvidence::default();
            for _ in 0..100 {
                evidence.aim(false);
                let theirs = scores(&[7.0, 8.0, 9.0, 8.0]);
                evidence.add(half(), (0.0, 10.0), (0.0, 0.5), &theirs, &scores(mine));
            }
            (evidence.harm.total().harm.ln_e(1.0), evidence.safe.ln_e(1.0))
        };
        let (harm, safe) = run(&[5.0, 6.0, 7.0, 6.0]);
        assert!(harm > 5.0 && safe < 0.0, "{harm} {safe}");
        let (harm, safe) = run(&[8.0, 9.0, 9.0, 9.0]);
        assert!(harm < 0.0 && safe > 3.0, "{harm} {safe}");
    }

    #[test]
    fn scores_outside_their_range_are_not_weighed() {
        let mut evidence = ScoreEvidence::default();
        let (wild, tame) = (scores(&[55.0]), scores(&[0.5]));
        evidence.add(half(), (0.0, 1.0), (0.0, 0.05), &tame, &wild);
        assert_eq!(evidence.out_of_range, 2);
        assert_eq!(evidence.harm.total(), &ScoreTally::default());
    }
}
