//! Disagreement above the baseline's own.
//!
//! A model that samples its answers disagrees with itself. Held against a fixed agreement of 85 %,
//! it would be refused as its own successor. So on a part of the requests the baseline is asked a
//! second time, and three answers meet: what was served, the second run, and the candidate's. Each
//! of the latter two matches the first or does not.
//!
//! If the candidate *is* the baseline, the second run and the candidate are two draws of one thing
//! given the request, so either is as likely to be the one that does not match: the excess
//! `P(candidate does not match) − P(second run does not match)` is 0, whatever the requests and
//! however large the noise. What is asked is whether the excess stays below a margin, by two opposed
//! tests of that margin, each a gambler's wealth on the differences `+1, 0, −1`, request by request.
//! Both are exact for any distribution and may be read at any time (Waudby-Smith & Ramdas,
//! J. R. Statist. Soc. B 86 (2024)). They assume that requests are independent, or at least that
//! each has the tested mean given those before it.
//!
//! Comparing two separate rates (agreement of the pairs, self-agreement of the second runs) would
//! be just as honest and less sharp: requests differ in how noisy they are, and that drops out here.

use serde::{Deserialize, Serialize};

use crate::judge::paired::{Agreement, Opposed, PairedReading, PairedVerdict, opposed};
use crate::observe::shadow::PairedTruth;
use crate::stats::eprocess_grid::log_sum_exp;
use crate::stats::error::{StatsError, open_unit};

/// Whether the candidate disagrees with the baseline on less than a margin more requests than the
/// baseline does with itself.
///
/// ```
/// use pilotage::judge::excess::Excess;
/// use pilotage::judge::paired::PairedVerdict;
/// use pilotage::observe::shadow::PairedTruth;
///
/// // Of 600 requests the second run differs on 180 and so does the candidate: a noisy model.
/// let mut excess = Excess::new(0.15, 0.05, 0.05)?;
/// excess.observe(&PairedTruth {
///     both_right: 300, only_baseline: 120, only_candidate: 120, both_wrong: 60,
/// });
/// assert_eq!(excess.verdict(), PairedVerdict::Pass);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Excess {
    margin: f64,
    alpha: f64,
    beta: f64,
    counts: PairedTruth,
    least: u64,
}

impl Excess {
    /// Asks whether the excess is below `margin` (0.15 is fifteen points); refuses a candidate
    /// whose excess is no larger with probability at most `alpha`, passes one whose excess is no
    /// smaller with probability at most `beta`.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when one of them is not strictly between 0 and 1.
    pub fn new(margin: f64, alpha: f64, beta: f64) -> Result<Self, StatsError> {
        open_unit("margin", margin)?;
        open_unit("alpha", alpha)?;
        open_unit("beta", beta)?;
        Ok(Self { margin, alpha, beta, counts: PairedTruth::default(), least: 100 })
    }

    /// The question that takes the place of `agreement` where the baseline's noise is measured: the
    /// same levels, and as a margin what the threshold leaves for disagreement.
    #[must_use]
    pub fn instead_of(agreement: &Agreement) -> Self {
        let (threshold, alpha, beta) = agreement.terms();
        Self { margin: 1.0 - threshold, alpha, beta, counts: PairedTruth::default(), least: 100 }
    }

    /// Requests with three answers seen so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts.total()
    }

    /// With another least number of requests with three answers; 100 unless set.
    #[must_use]
    pub const fn with_min_requests(mut self, requests: u64) -> Self {
        self.least = requests;
        self
    }

    /// Adds requests: which of the second run ("baseline") and the candidate matched what was
    /// served; see [`NoiseCounts`](crate::observe::shadow::NoiseCounts).
    pub const fn observe(&mut self, batch: &PairedTruth) {
        self.counts.merge(batch);
    }

    /// What the requests say so far.
    pub fn verdict(&self) -> PairedVerdict {
        self.reading().verdict
    }

    /// The numbers behind the verdict.
    #[must_use]
    pub fn reading(&self) -> PairedReading {
        opposed(Opposed {
            question: "disagreement above the baseline's own".to_owned(),
            estimate: self.counts.loss(),
            pairs: self.counts.total(),
            bound: self.margin,
            ln_good: self.wealth(-1.0),
            ln_bad: self.wealth(1.0),
            alpha: self.alpha,
            beta: self.beta,
            least: self.least,
        })
    }

    /// `ln` of the wealth of whoever bets that the excess is above (`side` 1) or below (−1) the
    /// margin: a mean over stakes, so that it needs no tuning.
    fn wealth(&self, side: f64) -> f64 {
        let PairedTruth { both_right, only_baseline, only_candidate, both_wrong } = self.counts;
        let same = both_right as f64 + both_wrong as f64;
        if self.counts.total() == 0 {
            return 0.0;
        }
        // A stake that leaves something whatever comes: the worst return is -(1 + side · margin).
        let boldest = 0.95 / (1.0 + side * self.margin);
        let gain =
            |stake: f64, difference: f64| (stake * side * (difference - self.margin)).ln_1p();
        log_sum_exp((0..STAKES).map(|at| {
            let stake = (at as f64 + 0.5) / STAKES as f64 * boldest;
            only_baseline as f64 * gain(stake, 1.0)
                + only_candidate as f64 * gain(stake, -1.0)
                + same * gain(stake, 0.0)
                - (STAKES as f64).ln()
        }))
    }
}

const STAKES: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn excess(lost: u64, won: u64, same: u64) -> PairedReading {
        let mut excess = Excess::new(0.15, 0.05, 0.05).unwrap();
        excess.observe(&PairedTruth {
            both_right: same,
            only_baseline: lost,
            only_candidate: won,
            both_wrong: 0,
        });
        excess.reading()
    }

    #[test]
    fn noise_of_both_is_no_excess_and_a_real_one_is() {
        assert_eq!(excess(100, 100, 300).verdict, PairedVerdict::Pass);
        assert_eq!(excess(200, 50, 250).verdict, PairedVerdict::Refuse);
        assert!(matches!(excess(75, 0, 425).verdict, PairedVerdict::Continue { .. }));
        assert!(matches!(excess(0, 0, 0).verdict, PairedVerdict::Continue { needed: Some(100) }));
    }

    /// The mean of the wealth under the worst null, summed exactly over all outcomes.
    #[test]
    fn wealth_at_the_margin_averages_one() {
        let (up, down, n) = (0.4, 0.25, 12_u64);
        let factorial = |n: u64| (1..=n).map(|i| i as f64).product::<f64>();
        let (mut above, mut below) = (0.0, 0.0);
        for lost in 0..=n {
            for won in 0..=n - lost {
                let same = n - lost - won;
                let ways = factorial(n) / factorial(lost) / factorial(won) / factorial(same);
                let chance = ways
                    * f64::powi(up, lost as i32)
                    * f64::powi(down, won as i32)
                    * f64::powi(1.0 - up - down, same as i32);
                let reading = excess(lost, won, same);
                above += chance * reading.ln_bad.exp();
                below += chance * reading.ln_good.exp();
            }
        }
        assert!((above - 1.0).abs() < 1e-9 && (below - 1.0).abs() < 1e-9, "{above} {below}");
    }

    #[test]
    fn evidence_is_a_number_for_any_counts() {
        for (lost, won, same) in
            [(u64::MAX, 0, 0), (0, u64::MAX, 0), (u64::MAX, u64::MAX, u64::MAX)]
        {
            let reading = excess(lost, won, same);
            assert!(reading.ln_bad.is_finite() && reading.ln_good.is_finite());
        }
        assert!(Excess::new(f64::NAN, 0.05, 0.05).is_err());
    }
}
