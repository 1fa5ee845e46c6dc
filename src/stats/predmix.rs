//! Intervals for the mean of bounded scores, in closed form. Anytime-valid.
//!
//! Cheaper than betting ([`crate::stats::betting`]), four sums instead of two thousand logarithms a
//! score, and wider. Hoeffding's knows only that scores lie in `[0, 1]`; the empirical Bernstein
//! interval also uses how little they vary, and wins when they vary little.
//!
//! Both average scores with predictable weights, so the order of the scores matters and batches
//! cannot be merged. Both assume each score has the same mean given those before it, nothing else.
//!
//! Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
//! Journal of the Royal Statistical Society B 86 (2024), proposition 1 and theorem 2.

use super::anytime::AnytimeInterval;
use super::betting::PredictableBet;
use super::check::{closed_unit, positive};
use super::error::{StatsError, open_unit};

/// Hoeffding's interval for a mean, score by score. Anytime-valid.
#[derive(Clone, Debug, PartialEq)]
pub struct HoeffdingInterval {
    cost: f64,
    truncation: f64,
    seen: f64,
    weight: f64,
    weighted: f64,
    penalty: f64,
}

impl HoeffdingInterval {
    /// An interval that contains the mean at all times with probability at least `1 − alpha`.
    /// `truncation` caps the weight of early scores; 1 is usual.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless `alpha` lies strictly between 0 and 1 and `truncation` is above 0.
    pub fn new(alpha: f64, truncation: f64) -> Result<Self, StatsError> {
        open_unit("alpha", alpha)?;
        positive("truncation", truncation)?;
        let cost = std::f64::consts::LN_2 - alpha.ln();
        Ok(Self { cost, truncation, seen: 0.0, weight: 0.0, weighted: 0.0, penalty: 0.0 })
    }

    /// Takes in one more score.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless `score` is in `[0, 1]`; the interval is then unchanged.
    pub fn push(&mut self, score: f64) -> Result<(), StatsError> {
        closed_unit("score", score)?;
        self.seen += 1.0;
        let weight =
            (8.0 * self.cost / (self.seen * self.seen.ln_1p())).sqrt().min(self.truncation);
        self.weight += weight;
        self.weighted += weight * score;
        self.penalty += weight * weight / 8.0;
        Ok(())
    }

    /// The interval now. `[0, 1]` before any score.
    #[must_use]
    pub fn interval(&self) -> AnytimeInterval {
        if self.weight <= 0.0 {
            return AnytimeInterval { lo: 0.0, hi: 1.0 };
        }
        let (mean, half) = (self.weighted / self.weight, (self.cost + self.penalty) / self.weight);
        AnytimeInterval::within_unit(mean - half, mean + half)
    }
}

/// Hoeffding's interval for the mean after all of `scores`. Anytime-valid: see
/// [`HoeffdingInterval`].
///
/// # Errors
///
/// [`StatsError`] as [`HoeffdingInterval::new`] and [`HoeffdingInterval::push`].
pub fn predmix_hoeffding_cs(
    scores: &[f64],
    alpha: f64,
    truncation: f64,
) -> Result<AnytimeInterval, StatsError> {
    let mut interval = HoeffdingInterval::new(alpha, truncation)?;
    scores.iter().try_for_each(|score| interval.push(*score))?;
    Ok(interval.interval())
}

/// The empirical Bernstein interval for a mean, score by score. Anytime-valid.
#[derive(Clone, Debug, PartialEq)]
pub struct EmpiricalBernsteinInterval {
    cost: f64,
    truncation: f64,
    bet: PredictableBet,
    seen: f64,
    sum: f64,
    weight: f64,
    weighted: f64,
    /// Penalty of the lower and of the upper end: they differ in what the first score is measured
    /// against.
    penalty: (f64, f64),
}

impl EmpiricalBernsteinInterval {
    /// An interval that contains the mean at all times with probability at least `1 − alpha`.
    /// `truncation` caps the weight of early scores; ½ is usual.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless `alpha` and `truncation` lie strictly between 0 and 1.
    pub fn new(alpha: f64, truncation: f64) -> Result<Self, StatsError> {
        open_unit("alpha", alpha)?;
        open_unit("truncation", truncation)?;
        Ok(Self {
            cost: std::f64::consts::LN_2 - alpha.ln(),
            truncation,
            bet: PredictableBet::new(alpha / 2.0),
            seen: 0.0,
            sum: 0.0,
            weight: 0.0,
            weighted: 0.0,
            penalty: (0.0, 0.0),
        })
    }

    /// Takes in one more score.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless `score` is in `[0, 1]`; the interval is then unchanged.
    pub fn push(&mut self, score: f64) -> Result<(), StatsError> {
        closed_unit("score", score)?;
        let weight = self.bet.next_bet().min(self.truncation);
        let price = -(-weight).ln_1p() - weight;
        // Any guess made before the score is allowed. The plain mean of the scores so far is used;
        // the first is measured from the end of the range it would have to be far from to hurt.
        let (below, above) = if self.seen > 0.0 {
            let off = score - self.sum / self.seen;
            (off, off)
        } else {
            (score, 1.0 - score)
        };
        self.penalty.0 += below * below * price;
        self.penalty.1 += above * above * price;
        self.weight += weight;
        self.weighted += weight * score;
        self.seen += 1.0;
        self.sum += score;
        self.bet.learn(score);
        Ok(())
    }

    /// The interval now. `[0, 1]` before any score.
    #[must_use]
    pub fn interval(&self) -> AnytimeInterval {
        if self.weight <= 0.0 {
            return AnytimeInterval { lo: 0.0, hi: 1.0 };
        }
        let mean = self.weighted / self.weight;
        AnytimeInterval::within_unit(
            mean - (self.cost + self.penalty.0) / self.weight,
            mean + (self.cost + self.penalty.1) / self.weight,
        )
    }
}

/// The empirical Bernstein interval for the mean after all of `scores`. Anytime-valid: see
/// [`EmpiricalBernsteinInterval`].
///
/// # Errors
///
/// [`StatsError`] as [`EmpiricalBernsteinInterval::new`] and [`EmpiricalBernsteinInterval::push`].
pub fn predmix_empirical_bernstein_cs(
    scores: &[f64],
    alpha: f64,
    truncation: f64,
) -> Result<AnytimeInterval, StatsError> {
    let mut interval = EmpiricalBernsteinInterval::new(alpha, truncation)?;
    scores.iter().try_for_each(|score| interval.push(*score))?;
    Ok(interval.interval())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_that_vary_little_favour_bernstein() {
        let scores: Vec<f64> = (0..5000).map(|i| 0.8 + 0.01 * f64::from(i % 3)).collect();
        let hoeffding = predmix_hoeffding_cs(&scores, 0.05, 1.0).unwrap();
        let bernstein = predmix_empirical_bernstein_cs(&scores, 0.05, 0.5).unwrap();
        assert!(bernstein.width() < hoeffding.width() / 2.0, "{bernstein:?} {hoeffding:?}");
        assert!(bernstein.contains(0.81) && hoeffding.contains(0.81));
    }

    #[test]
    fn no_scores_give_the_whole_range() {
        let whole = AnytimeInterval { lo: 0.0, hi: 1.0 };
        assert_eq!(predmix_hoeffding_cs(&[], 0.05, 1.0).unwrap(), whole);
        assert_eq!(predmix_empirical_bernstein_cs(&[], 0.05, 0.5).unwrap(), whole);
    }
}
