//! Means of bounded scores, by betting. Anytime-valid: look as often as you like.
//!
//! For scores in `[0, 1]` (quality marks, similarities, agreement) whose distribution is unknown.
//! Two gamblers start with half a unit each; before every score, one stakes on "above `m`", the
//! other on "below". If the mean really is `m` at every step, no staking rule makes money on
//! average, so a total wealth of `1/α` has probability at most `α` however often one looks. The
//! stakes follow the variance seen so far, which makes the test nearly as sharp as if it were known.
//!
//! Assumes each score has the tested mean given those before it (independent or a martingale
//! difference; nothing about shape or variance). The order of the scores matters: wealth is not a
//! function of totals, so batches cannot be swapped or merged.
//!
//! Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
//! Journal of the Royal Statistical Society B 86 (2024), sections 3 and 4.

use super::anytime::AnytimeInterval;
use super::check::closed_unit;
use super::error::{StatsError, open_unit};

/// The largest part of the stake that keeps wealth positive which is ever used.
const BOLDEST: f64 = 0.5;

/// Means tested by [`BettingInterval`]: `k / STEPS` for `0 < k < STEPS`.
const STEPS: usize = 1000;

/// How boldly to bet on the next score, learnt from the scores before it.
///
/// This is `√(2 ln(1/level) / (t ln(1 + t) σ²))`, with mean and variance started from one imaginary
/// score at ½ with variance ¼. It never looks at the score it is used on, which is what makes every
/// bet fair.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PredictableBet {
    log_inverse_level: f64,
    seen: f64,
    sum: f64,
    /// Squared deviations, each from the mean including the score itself.
    spread: f64,
}

impl PredictableBet {
    pub(crate) fn new(level: f64) -> Self {
        Self { log_inverse_level: -level.ln(), seen: 0.0, sum: 0.0, spread: 0.25 }
    }

    /// The bet on the next score, before any cap.
    pub(crate) fn next_bet(&self) -> f64 {
        let at = self.seen + 1.0;
        let variance = self.spread / at;
        (2.0 * self.log_inverse_level / (at * at.ln_1p() * variance)).sqrt()
    }

    pub(crate) fn learn(&mut self, score: f64) {
        self.seen += 1.0;
        self.sum += score;
        let mean = (0.5 + self.sum) / (self.seen + 1.0);
        self.spread += (score - mean) * (score - mean);
    }
}

/// What a bet of `bet` on the score exceeding `mean` and one on it falling short do to the
/// logarithms of the two gamblers' wealth.
fn gains(score: f64, mean: f64, bet: f64) -> (f64, f64) {
    let above = bet.min(BOLDEST / mean);
    let below = bet.min(BOLDEST / (1.0 - mean));
    ((above * (score - mean)).ln_1p(), (-below * (score - mean)).ln_1p())
}

/// Logarithm of the larger of the two gamblers' wealth, each of whom started with one half.
fn hedged(above: f64, below: f64) -> f64 {
    above.max(below) - std::f64::consts::LN_2
}

/// Evidence against "the mean is `mean`", score by score. Anytime-valid.
///
/// ```
/// use pilotage::stats::betting::BettingTest;
///
/// let mut test = BettingTest::new(0.85, 0.05)?;
/// for _ in 0..200 {
///     test.push(0.6)?;
/// }
/// assert!(test.log_e() > (1.0_f64 / 0.05).ln()); // a mean of 0.85 is refuted
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BettingTest {
    mean: f64,
    bet: PredictableBet,
    above: f64,
    below: f64,
}

impl BettingTest {
    /// A test of "the mean is `mean`", whose stakes are tuned for level `alpha`. It stays valid at
    /// every level: `alpha` only says where the test should be quick.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless `mean` and `alpha` lie strictly between 0 and 1.
    pub fn new(mean: f64, alpha: f64) -> Result<Self, StatsError> {
        open_unit("mean", mean)?;
        open_unit("alpha", alpha)?;
        Ok(Self { mean, bet: PredictableBet::new(alpha / 2.0), above: 0.0, below: 0.0 })
    }

    /// Weighs one more score.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless `score` is in `[0, 1]`; the test is then unchanged.
    pub fn push(&mut self, score: f64) -> Result<(), StatsError> {
        closed_unit("score", score)?;
        let (above, below) = gains(score, self.mean, self.bet.next_bet());
        self.above += above;
        self.below += below;
        self.bet.learn(score);
        Ok(())
    }

    /// Natural logarithm of the evidence: at least `ln(1/α)` at any time refutes the mean at level
    /// `α`. It starts at `−ln 2`, for only the richer gambler counts.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        hedged(self.above, self.below)
    }
}

/// Natural logarithm of the evidence against "the mean is `mean`" after all of `scores`.
/// Anytime-valid: see [`BettingTest`], which takes scores one at a time.
///
/// No scores give `−ln 2`: no evidence.
///
/// # Errors
///
/// [`StatsError`] unless `mean` and `alpha` lie strictly between 0 and 1 and each score in `[0, 1]`.
pub fn betting_martingale_hedged(scores: &[f64], mean: f64, alpha: f64) -> Result<f64, StatsError> {
    let mut test = BettingTest::new(mean, alpha)?;
    scores.iter().try_for_each(|score| test.push(*score))?;
    Ok(test.log_e())
}

/// An interval for the mean of scores in `[0, 1]`, score by score. Anytime-valid.
///
/// Holds every mean on a grid of thousandths that is not refuted now, rounded outwards by one step,
/// so a resolution below 0.001 is not to be had. A score costs about 2,000 logarithms: this is for
/// labels and marks, not for every request.
#[derive(Clone, Debug, PartialEq)]
pub struct BettingInterval {
    log_threshold: f64,
    bet: PredictableBet,
    wealth: Vec<(f64, f64)>,
}

impl BettingInterval {
    /// An interval that contains the mean at all times with probability at least `1 − alpha`.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless `alpha` lies strictly between 0 and 1.
    pub fn new(alpha: f64) -> Result<Self, StatsError> {
        open_unit("alpha", alpha)?;
        Ok(Self {
            log_threshold: -alpha.ln(),
            bet: PredictableBet::new(alpha / 2.0),
            wealth: vec![(0.0, 0.0); STEPS - 1],
        })
    }

    fn mean_at(at: usize) -> f64 {
        (at + 1) as f64 / STEPS as f64
    }

    /// Takes in one more score.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless `score` is in `[0, 1]`; the interval is then unchanged.
    pub fn push(&mut self, score: f64) -> Result<(), StatsError> {
        closed_unit("score", score)?;
        let bet = self.bet.next_bet();
        for (at, wealth) in self.wealth.iter_mut().enumerate() {
            let (above, below) = gains(score, Self::mean_at(at), bet);
            wealth.0 += above;
            wealth.1 += below;
        }
        self.bet.learn(score);
        Ok(())
    }

    /// The interval now. `[0, 1]` before any score.
    #[must_use]
    pub fn interval(&self) -> AnytimeInterval {
        let evidence = || self.wealth.iter().map(|(above, below)| hedged(*above, *below));
        let stands = |log_e: f64| log_e < self.log_threshold;
        let step = 1.0 / STEPS as f64;
        let first = evidence().position(stands);
        let last = self.wealth.len() - evidence().rev().position(stands).unwrap_or(0);
        match first {
            Some(first) => {
                AnytimeInterval::within_unit(Self::mean_at(first) - step, Self::mean_at(last))
            }
            // Everything on the grid is refuted: the mean lies between two points of it, or in
            // less than one step of an end. Report around the least refuted point.
            None => {
                let least = evidence()
                    .enumerate()
                    .min_by(|a, b| a.1.total_cmp(&b.1))
                    .map_or(0, |(at, _)| at);
                let mean = Self::mean_at(least);
                AnytimeInterval::within_unit(mean - step, mean + step)
            }
        }
    }
}

/// The interval for the mean after all of `scores`. Anytime-valid: see [`BettingInterval`].
///
/// # Errors
///
/// [`StatsError`] unless `alpha` lies strictly between 0 and 1 and each score in `[0, 1]`.
pub fn betting_cs(scores: &[f64], alpha: f64) -> Result<AnytimeInterval, StatsError> {
    let mut interval = BettingInterval::new(alpha)?;
    scores.iter().try_for_each(|score| interval.push(*score))?;
    Ok(interval.interval())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_scores_are_no_evidence() {
        assert!(betting_martingale_hedged(&[], 0.5, 0.05).unwrap() < 0.0);
        assert_eq!(betting_cs(&[], 0.05).unwrap(), AnytimeInterval { lo: 0.0, hi: 1.0 });
    }

    #[test]
    fn a_score_that_is_no_number_is_refused_and_changes_nothing() {
        let mut test = BettingTest::new(0.5, 0.05).unwrap();
        test.push(0.7).unwrap();
        let before = test.clone();
        for bad in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
            assert!(test.push(bad).is_err());
        }
        assert_eq!(test, before);
    }

    #[test]
    fn long_constant_series_stay_finite_and_close_in() {
        let ones = vec![1.0; 20_000];
        let test = betting_martingale_hedged(&ones, 0.2, 0.05).unwrap();
        assert!(test.is_finite() && test > 10_000.0);
        let interval = betting_cs(&ones[..3000], 0.05).unwrap();
        assert!(interval.lo > 0.99 && interval.hi == 1.0, "{interval:?}");
    }
}
