//! Mixtures of likelihood ratios over a fixed grid: the arithmetic of an e-process.
//!
//! An e-process is a nonnegative quantity whose expectation is at most 1 under the null at every
//! stopping time, so `P(it ever reaches 1/α) ≤ α` (Ville 1939; Ramdas, Grünwald, Vovk, Shafer
//! 2023). Here it is always a mean of likelihood ratios over a grid of alternatives, chosen before
//! the data: such a mean depends on sums of counts only, so it may be computed from totals, in any
//! batches, and needs nothing but `ln` and `exp`. Everything is kept as a logarithm.
//!
//! These functions are inside the house: arguments are counts and checked settings, so they do not
//! return errors. All results are finite for all counts up to `u64::MAX`.

/// `ln Σ exp(terms)` without overflow; `-∞` never leaves this file, see [`FLOOR`].
#[must_use]
pub(crate) fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = terms.clone().fold(FLOOR, f64::max);
    // What is 50 below the top is lost in its rounding, and would cost most of the time.
    let sum: f64 = terms.map(|term| term - top).filter(|d| *d > -50.0).map(f64::exp).sum();
    if sum > 0.0 { (top + sum.ln()).max(FLOOR) } else { FLOOR }
}

/// The smallest logarithm reported: evidence does not get weaker than `exp` of this.
pub(crate) const FLOOR: f64 = -1e300;

/// Alternatives and the logarithm of the weight of each; weights sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    /// The null that is to be refuted.
    pub(crate) null: f64,
    /// `(alternative, ln weight)`.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Grid {
    /// `count` ratios spaced evenly in their logarithm between `null` and `null · reach`.
    #[must_use]
    pub(crate) fn geometric(
        null: f64,
        reach: f64,
        count: usize,
        weight: impl Fn(f64) -> f64,
    ) -> Self {
        Self::geometric_from(null, null, reach, count, weight)
    }

    /// `count` ratios spaced evenly in their logarithm between `from` and `from · reach`
    /// (`reach > 1` goes up, `reach < 1` down), each weighted by `weight(ratio / null)`.
    #[must_use]
    pub(crate) fn geometric_from(
        from: f64,
        null: f64,
        reach: f64,
        count: usize,
        weight: impl Fn(f64) -> f64,
    ) -> Self {
        let at = |at: usize| from * reach.powf((at as f64 + 0.5) / count as f64);
        Self::weighted(null, (0..count).map(|i| (at(i), weight(at(i) / null))))
    }

    /// Alternatives spaced evenly between `null` and `end`, equally weighted.
    #[must_use]
    pub(crate) fn linear(null: f64, end: f64, count: usize) -> Self {
        let at = |at: usize| null + (end - null) * (at as f64 + 0.5) / count as f64;
        Self::weighted(null, (0..count).map(|i| (at(i), 1.0)))
    }

    fn weighted(null: f64, points: impl Iterator<Item = (f64, f64)>) -> Self {
        let points: Vec<_> = points.collect();
        let sum: f64 = points.iter().map(|(_, weight)| weight).sum();
        let points = points.into_iter().map(|(at, weight)| (at, (weight / sum).ln())).collect();
        Self { null, points }
    }
}

/// What one event says about each ratio of a [`Grid`], when the focus arm has `share` of the
/// traffic: `(gain if the event was on the focus arm, gain if it was on the other)`.
///
/// Given that one event happened somewhere, it happened on the focus arm with probability
/// `r·f / (r·f + 1 − f)`, where `r` is the ratio of the two rates and `f` the focus arm's share. The
/// rate itself, and whatever moves it on both arms alike, drops out.
#[must_use]
pub(crate) fn ratio_gains(share: f64, grid: &Grid) -> Vec<(f64, f64)> {
    let odds = share / (1.0 - share);
    let base = (grid.null * odds).ln_1p();
    grid.points
        .iter()
        .map(|(ratio, _)| {
            let other = base - (ratio * odds).ln_1p();
            (other + (ratio / grid.null).ln(), other)
        })
        .collect()
}

/// `ln E` of a mixture, from the log likelihood ratio of each alternative.
#[must_use]
pub(crate) fn mix(grid: &Grid, log_ratios: &[f64]) -> f64 {
    log_sum_exp(grid.points.iter().zip(log_ratios).map(|((_, weight), ratio)| weight + ratio))
}

/// `ln E` against "the probability of a success is `grid.null`" (or beyond it, on the side away
/// from the grid), after so many successes and failures. Every alternative lies in `(0, 1)`.
#[must_use]
pub(crate) fn binomial(successes: u64, failures: u64, grid: &Grid) -> f64 {
    BinomialGains::new(grid).ln_e(successes, failures)
}

/// What a success and a failure say about each probability of a [`Grid`]: for one grid and many
/// counts.
#[derive(Clone, Debug)]
pub(crate) struct BinomialGains(Vec<[f64; 3]>);

impl BinomialGains {
    /// The gains of `grid`, whose alternatives lie in `(0, 1)`.
    #[must_use]
    pub(crate) fn new(grid: &Grid) -> Self {
        let miss = (-grid.null).ln_1p();
        let gain = |(p, weight): &(f64, f64)| [*weight, (p / grid.null).ln(), (-p).ln_1p() - miss];
        Self(grid.points.iter().map(gain).collect())
    }

    /// As [`binomial`].
    #[must_use]
    pub(crate) fn ln_e(&self, successes: u64, failures: u64) -> f64 {
        let (yes, no) = (successes as f64, failures as f64);
        log_sum_exp(self.0.iter().map(|[weight, hit, miss]| weight + yes * hit + no * miss))
    }
}

/// `ln E` against "the mean of the increments is at most 0", for increments of at least −1 with
/// this sum and sum of squares.
///
/// A mean over bets `λ` of `exp(λ Σξ − ψ(λ) Σξ²)` with `ψ(λ) = −ln(1−λ) − λ`, each of which is
/// below the wealth `Π(1 + λξ)` of a gambler who stakes `λ` each time: so it needs no variance, no
/// normality and no list of values. Source: Fan, Grama, Liu, Electronic Journal of Probability 20
/// (2015), lemma 4.1; Howard et al., Annals of Statistics 49 (2021).
#[must_use]
pub(crate) fn bounded_mean(sum: f64, sum_of_squares: f64) -> f64 {
    let bets = BETS as f64;
    log_sum_exp((0..BETS).map(|at| {
        // From 0.6 down to 0.001, geometrically.
        let bet = 0.6 * (1.0 / 600.0_f64).powf(at as f64 / (bets - 1.0));
        let cost = -(-bet).ln_1p() - bet;
        bet * sum - cost * sum_of_squares - bets.ln()
    }))
}

const BETS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// With no event on the other arm, the evidence after one, two and three events on a 5 % arm,
    /// as computed by an independent implementation (uniform in ln r to 1000, 30 points).
    #[test]
    fn a_few_events_on_a_small_arm_weigh_what_they_should() {
        let grid = Grid::geometric(1.0, 1000.0, 30, |_| 1.0);
        let gains = ratio_gains(0.05, &grid);
        for (events, expected) in [(1.0, 11.4), (2.0, 174.0), (3.0, 2917.0)] {
            let ratios: Vec<f64> = gains.iter().map(|(hit, _)| events * hit).collect();
            let e = mix(&grid, &ratios).exp();
            assert!((e / expected - 1.0).abs() < 0.01, "{events} events: {e}, not {expected}");
        }
    }

    #[test]
    fn evidence_is_finite_for_any_counts() {
        let grid = Grid::linear(0.85, 1.0, 20);
        for (yes, no) in [(0, 0), (u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            assert!(binomial(yes, no, &grid).is_finite());
        }
        assert!(bounded_mean(1e18, 1e18).is_finite() && bounded_mean(-1e18, 1e36).is_finite());
    }

    /// The expectation of an e-value under its null, summed exactly over all outcomes.
    #[test]
    fn the_expected_evidence_under_the_null_is_one() {
        let grid = Grid::linear(0.3, 1.0, 20);
        let mut choose = 1.0;
        let mut mean = 0.0;
        for yes in 0..=20_u64 {
            let chance = choose * 0.3_f64.powi(yes as i32) * 0.7_f64.powi(20 - yes as i32);
            mean += chance * binomial(yes, 20 - yes, &grid).exp();
            choose *= (20 - yes) as f64 / (yes + 1) as f64;
        }
        assert!((mean - 1.0).abs() < 1e-12, "{mean}");
    }
}
