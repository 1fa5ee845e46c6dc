//! Did traffic divide as it was meant to? Anytime-valid.
//!
//! If 5 % of subjects should be on an arm and 4.6 % are, something in the routing, the logging or
//! the arm itself loses subjects, and every comparison of the arms is suspect. The test averages
//! the multinomial likelihood over a Dirichlet prior centred on the planned weights and compares it
//! with the planned weights themselves, so counts may be checked after every batch, for ever.
//!
//! Counts must be of *subjects* (whatever is assigned at random), not of requests: one subject with
//! many requests would look like a mismatch. Within a stage only totals matter, so batches may be
//! split and merged at will; when the weights change, [`SampleRatioTest::change_weights`] closes the
//! stage and its evidence is multiplied on.
//!
//! Source: Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022.

use super::check::{count, positive};
use super::error::StatsError;
use super::tails::ln_multi_beta_over;

/// A concentration of the prior that finds imbalances of a percent or two soonest.
pub const USUAL_CONCENTRATION: f64 = 1000.0;

/// Evidence that arms do not have the shares they were planned to have. Anytime-valid.
///
/// ```
/// use pilotage::stats::sample_ratio::{SampleRatioTest, USUAL_CONCENTRATION};
///
/// let mut check = SampleRatioTest::new(&[0.5, 0.5], USUAL_CONCENTRATION)?;
/// check.push(&[5_050.0, 4_950.0])?;
/// assert!(check.p() > 0.001);
/// check.push(&[53_000.0, 47_000.0])?;
/// assert!(check.p() < 0.001);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SampleRatioTest {
    concentration: f64,
    /// Log evidence of stages whose weights are no longer in force.
    closed: f64,
    weights: Vec<f64>,
    totals: Vec<f64>,
    now: f64,
    peak: f64,
}

impl SampleRatioTest {
    /// A test of the shares `weights`, which need not sum to 1. `concentration` says how close to
    /// the plan the imbalances worth finding are; see [`USUAL_CONCENTRATION`].
    ///
    /// # Errors
    ///
    /// [`StatsError`] with fewer than two weights, a weight that is not finite and above 0 (an arm
    /// that should get nothing is not part of the check) or such a concentration.
    pub fn new(weights: &[f64], concentration: f64) -> Result<Self, StatsError> {
        positive("concentration", concentration)?;
        let weights = shares(weights)?;
        check_prior(&weights, concentration)?;
        let totals = vec![0.0; weights.len()];
        Ok(Self { concentration, closed: 0.0, weights, totals, now: 0.0, peak: 0.0 })
    }

    /// Adds counts of subjects, one for each arm in the order of the weights.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless there is one count for each weight, each a whole number from 0 up; the
    /// test is then unchanged.
    pub fn push(&mut self, counts: &[f64]) -> Result<(), StatsError> {
        if counts.len() != self.weights.len() {
            return Err(StatsError::LengthMismatch {
                left: "weights",
                left_len: self.weights.len(),
                right: "counts",
                right_len: counts.len(),
            });
        }
        for value in counts {
            count("count", *value)?;
        }
        for (total, value) in self.totals.iter_mut().zip(counts) {
            *total = (*total + value).min(f64::MAX / 1e10);
        }
        self.now = self.closed + self.stage_evidence();
        self.peak = self.peak.max(self.now);
        Ok(())
    }

    /// Closes the stage: from here on counts are held against other weights, possibly of other
    /// arms. The evidence so far is kept.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]; the test is then unchanged.
    pub fn change_weights(&mut self, weights: &[f64]) -> Result<(), StatsError> {
        let weights = shares(weights)?;
        check_prior(&weights, self.concentration)?;
        self.closed = self.now;
        self.totals = vec![0.0; weights.len()];
        self.weights = weights;
        Ok(())
    }

    /// Natural logarithm of the evidence now; 0 before any count.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.now
    }

    /// Anytime-valid p-value: `1/e` at its smallest so far, at most 1.
    #[must_use]
    pub fn p(&self) -> f64 {
        (-self.peak).exp()
    }

    fn stage_evidence(&self) -> f64 {
        if self.totals.iter().all(|total| *total <= 0.0) {
            return 0.0;
        }
        let prior: Vec<f64> = self.weights.iter().map(|w| w * self.concentration).collect();
        let posterior: Vec<f64> = prior.iter().zip(&self.totals).map(|(a, n)| a + n).collect();
        ln_multi_beta_over(&posterior, &self.weights) - ln_multi_beta_over(&prior, &self.weights)
    }
}

/// Weights divided by their sum.
fn shares(weights: &[f64]) -> Result<Vec<f64>, StatsError> {
    if weights.len() < 2 {
        return Err(StatsError::TooFew { name: "weights", len: weights.len(), needed: 2 });
    }
    for weight in weights {
        positive("weight", *weight)?;
    }
    let sum = positive("sum of weights", weights.iter().sum())?;
    weights.iter().map(|weight| positive("share of the weights", weight / sum)).collect()
}

/// The prior's own weight on each arm must not have vanished.
fn check_prior(shares: &[f64], concentration: f64) -> Result<(), StatsError> {
    for share in shares {
        let weight = positive("concentration times share", share * concentration)?;
        if weight < 1e-9 || concentration > 1e18 {
            return Err(StatsError::OutOfRange {
                name: "concentration times share",
                value: weight,
                expected: "between 1e-9 and 1e18",
            });
        }
    }
    Ok(())
}

/// The log evidence after each of `batches`, and the anytime-valid p-value at the end.
/// Anytime-valid: see [`SampleRatioTest`].
///
/// # Errors
///
/// [`StatsError`] as [`SampleRatioTest::new`] and [`SampleRatioTest::push`].
pub fn sequential_srm_multinomial(
    weights: &[f64],
    batches: &[Vec<f64>],
    concentration: f64,
) -> Result<(Vec<f64>, f64), StatsError> {
    let mut check = SampleRatioTest::new(weights, concentration)?;
    let mut log_odds = Vec::with_capacity(batches.len());
    for counts in batches {
        check.push(counts)?;
        log_odds.push(check.log_e());
    }
    Ok((log_odds, check.p()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_totals_matter_within_a_stage() {
        let mut whole = SampleRatioTest::new(&[0.9, 0.1], 50.0).unwrap();
        whole.push(&[880.0, 120.0]).unwrap();
        let mut parts = SampleRatioTest::new(&[9.0, 1.0], 50.0).unwrap();
        for _ in 0..40 {
            parts.push(&[22.0, 3.0]).unwrap();
        }
        assert_eq!(whole.log_e().to_bits(), parts.log_e().to_bits());
    }

    #[test]
    fn stages_with_other_weights_multiply() {
        let mut both = SampleRatioTest::new(&[0.95, 0.05], 1000.0).unwrap();
        both.push(&[9_400.0, 600.0]).unwrap();
        let first = both.log_e();
        both.change_weights(&[0.5, 0.5]).unwrap();
        assert_eq!(both.log_e(), first);
        both.push(&[5_300.0, 4_700.0]).unwrap();
        let mut second = SampleRatioTest::new(&[0.5, 0.5], 1000.0).unwrap();
        second.push(&[5_300.0, 4_700.0]).unwrap();
        assert!((both.log_e() - first - second.log_e()).abs() < 1e-12);
    }

    /// Summed exactly over all divisions of twelve subjects over three arms.
    #[test]
    fn under_the_null_the_evidence_averages_one() {
        let weights: [f64; 3] = [0.6, 0.3, 0.1];
        let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
        let mut mean = 0.0;
        for first in 0..=12_u32 {
            for second in 0..=12 - first {
                let third = 12 - first - second;
                let counts = [first, second, third];
                let mut chance = factorial(12);
                for (n, w) in counts.iter().zip(weights) {
                    chance *= w.powi(i32::try_from(*n).unwrap()) / factorial(*n);
                }
                let mut check = SampleRatioTest::new(&weights, 20.0).unwrap();
                check.push(&counts.map(f64::from)).unwrap();
                mean += chance * check.log_e().exp();
            }
        }
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn huge_counts_keep_small_evidence() {
        // Exactly on plan, evidence sinks with the logarithm of the count and never jumps.
        let mut last = 0.0;
        for exponent in [3, 6, 9, 12, 15, 18] {
            let n = 10_f64.powi(exponent);
            let mut check = SampleRatioTest::new(&[0.5, 0.5], 1000.0).unwrap();
            check.push(&[n, n]).unwrap();
            assert!(check.log_e() < last && check.log_e() > -30.0, "{} at {n}", check.log_e());
            last = check.log_e();
        }
    }

    #[test]
    fn bad_input_is_refused() {
        for weights in [&[1.0][..], &[], &[1.0, 0.0], &[1.0, f64::NAN], &[f64::INFINITY, 1.0]] {
            assert!(SampleRatioTest::new(weights, 1000.0).is_err(), "{weights:?}");
        }
        assert!(SampleRatioTest::new(&[1.0, 1.0], f64::NAN).is_err());
        let mut check = SampleRatioTest::new(&[1.0, 1.0], 1000.0).unwrap();
        for counts in [&[1.0][..], &[1.0, -1.0], &[1.0, f64::NAN], &[1.0, 0.5]] {
            assert!(check.push(counts).is_err(), "{counts:?}");
        }
        assert_eq!(check.log_e(), 0.0);
    }
}
