//! Intervals for rates and for what lies between two rates.
//!
//! Each holds at one look that was planned; looked at repeatedly, every one of them loses the
//! truth sooner or later. Overlap of two intervals is not a test: use an interval of the
//! difference.

use crate::stats::error::{StatsError, open_unit};
use crate::stats::incomplete::beta_quantile;
use crate::stats::proportion::Proportion;
use crate::stats::special::{normal_isf, real};
use serde::{Deserialize, Serialize};

/// From `lo` to `hi`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub lo: f64,
    /// Upper end, not below the lower.
    pub hi: f64,
}

impl Interval {
    /// Whether `value` lies inside.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }

    /// `centre` plus and minus `half`.
    pub(crate) const fn around(centre: f64, half: f64) -> Self {
        Self { lo: centre - half, hi: centre + half }
    }

    /// The same seen from the other end of the unit interval.
    fn flip(self) -> Self {
        Self { lo: 1.0 - self.hi, hi: 1.0 - self.lo }
    }
}

/// Valid for one look only: an interval for a success rate by Wilson's score method.
///
/// Covers the rate in about `1 - alpha` of samples, `0 <= lo <= rate <= hi <= 1`. Trials must be
/// independent. Unlike `rate ± z·se` it keeps its coverage near 0 and 1, where error rates live.
///
/// Source: E. B. Wilson, JASA 22 (1927), 209-212.
///
/// # Errors
///
/// [`StatsError`] when `alpha` is not strictly between 0 and 1.
///
/// ```
/// use pilotage::stats::{interval::wilson_interval, proportion::Proportion};
///
/// let interval = wilson_interval(Proportion::new(43, 50)?, 0.05)?;
/// assert!((interval.lo - 0.738).abs() < 0.001 && (interval.hi - 0.930).abs() < 0.001);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
pub fn wilson_interval(arm: Proportion, alpha: f64) -> Result<Interval, StatsError> {
    let z = normal_isf(0.5 * open_unit("alpha", alpha)?);
    Ok(wilson(arm, z))
}

fn wilson(arm: Proportion, z: f64) -> Interval {
    if arm.rate() > 0.5 {
        return wilson(arm.flip(), z).flip();
    }
    let (x, n, rate, square) = (real(arm.successes()), real(arm.trials()), arm.rate(), z * z);
    let root = z * (square + 4.0 * x * arm.failure_rate()).sqrt();
    let hi = (2.0 * x + square + root) / (2.0 * (n + square));
    // The product of both ends is known, which spares the lower one its cancellation.
    let lo = if x > 0.0 { rate * (x / (n + square)) / hi } else { 0.0 };
    Interval { lo, hi }
}

/// Valid for one look only: an interval for a success rate by Agresti and Coull's method.
///
/// Wilson's centre with a symmetric width, cut off at 0 and 1; never shorter than
/// [`wilson_interval`]'s.
///
/// Source: A. Agresti and B. A. Coull, The American Statistician 52 (1998), 119-126.
///
/// # Errors
///
/// [`StatsError`] when `alpha` is not strictly between 0 and 1.
pub fn agresti_coull_interval(arm: Proportion, alpha: f64) -> Result<Interval, StatsError> {
    let z = normal_isf(0.5 * open_unit("alpha", alpha)?);
    let (x, y) = (real(arm.successes()), real(arm.flip().successes()));
    let n = real(arm.trials()) + z * z;
    let (rate, rest) = ((x + 0.5 * z * z) / n, (y + 0.5 * z * z) / n);
    let half = z * (rate * rest / n).sqrt();
    Ok(Interval { lo: (rate - half).max(0.0), hi: (rate + half).min(1.0) })
}

/// Valid for one look only: the exact interval for a success rate by Clopper and Pearson.
///
/// Covers the rate in at least `1 - alpha` of samples whatever it is, at the price of width. With
/// no success the lower end is 0, with no failure the upper end is 1.
///
/// Source: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934), 404-413.
///
/// # Errors
///
/// [`StatsError`] when `alpha` is not strictly between 0 and 1.
pub fn clopper_pearson_interval(arm: Proportion, alpha: f64) -> Result<Interval, StatsError> {
    let tail = 0.5 * open_unit("alpha", alpha)?;
    let (x, y) = (real(arm.successes()), real(arm.flip().successes()));
    let lo = if x > 0.0 { beta_quantile(x, y + 1.0, tail).x } else { 0.0 };
    let hi = if y > 0.0 { beta_quantile(y, x + 1.0, tail).rest } else { 1.0 };
    Ok(Interval { lo, hi })
}

/// Valid for one look only: an interval for the difference of two rates, `first - second`, by
/// Newcombe's hybrid score method.
///
/// Built from the two Wilson intervals; stays inside -1 and 1 and behaves at zero counts.
///
/// Source: R. G. Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10.
///
/// # Errors
///
/// [`StatsError`] when `alpha` is not strictly between 0 and 1.
///
/// ```
/// use pilotage::stats::{interval::newcombe_diff_interval, proportion::Proportion};
///
/// let gap = newcombe_diff_interval(Proportion::new(0, 1500)?, Proportion::new(3, 1500)?, 0.05)?;
/// assert!(gap.contains(0.0)); // three errors against none are not yet a difference
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
pub fn newcombe_diff_interval(
    first: Proportion,
    second: Proportion,
    alpha: f64,
) -> Result<Interval, StatsError> {
    let z = normal_isf(0.5 * open_unit("alpha", alpha)?);
    let (one, two) = (wilson(first, z), wilson(second, z));
    let gap = first.minus(second);
    let down = (first.rate() - one.lo).hypot(two.hi - second.rate());
    let up = (one.hi - first.rate()).hypot(second.rate() - two.lo);
    Ok(Interval { lo: gap - down, hi: gap + up })
}

/// Valid for one look only: an interval for the difference of two rates, `first - second`, by
/// Miettinen and Nurminen's score method, without their correction of the variance.
///
/// The differences that a score test at level `alpha` does not reject, with the likeliest rates of
/// each difference found to the last digit.
///
/// Source: O. Miettinen and M. Nurminen, Statistics in Medicine 4 (1985), 213-226; without the
/// factor n/(n-1) it is R. Mee's, Biometrics 40 (1984), 1175-1176.
///
/// # Errors
///
/// [`StatsError`] when `alpha` is not strictly between 0 and 1.
pub fn score_diff_interval(
    first: Proportion,
    second: Proportion,
    alpha: f64,
) -> Result<Interval, StatsError> {
    let z = normal_isf(0.5 * open_unit("alpha", alpha)?);
    let pooled = real(first.successes()) + real(second.successes());
    if pooled > 0.5 * (real(first.trials()) + real(second.trials())) {
        // Small probabilities keep more digits than those near 1.
        let turned = score_interval(first.flip(), second.flip(), z, constrained_variance);
        return Ok(Interval { lo: -turned.hi, hi: -turned.lo });
    }
    Ok(score_interval(first, second, z, constrained_variance))
}

/// Valid for one look only: [`score_diff_interval`] as statsmodels 0.15 computes it, to be compared
/// with. Prefer that one.
///
/// The difference: the cubic equation for the likeliest rates has, in its third coefficient, the
/// second arm's successes where the paper has its trials. The interval moves by a few hundredths of
/// a percent of its width (20 trials: two percent), and depends on which outcome is called a success.
///
/// # Errors
///
/// [`StatsError`] when `alpha` is not strictly between 0 and 1.
pub fn miettinen_nurminen_diff_interval_uncorrected(
    first: Proportion,
    second: Proportion,
    alpha: f64,
) -> Result<Interval, StatsError> {
    let z = normal_isf(0.5 * open_unit("alpha", alpha)?);
    Ok(score_interval(first, second, z, customary_variance))
}

/// As [`constrained_variance`], by the cubic of [`miettinen_nurminen_diff_interval_uncorrected`].
fn customary_variance(first: Proportion, second: Proportion, delta: f64) -> f64 {
    let (n1, n0) = (real(first.trials()), real(second.trials()));
    let (x0, x) = (real(second.successes()), real(first.successes()) + real(second.successes()));
    let n = n1 + n0;
    let p0 = if delta == 0.0 {
        x / n
    } else {
        let (third, square) = (3.0 * n, (n1 + 2.0 * n0) * delta - n - x);
        let (linear, fixed) = ((x0 * delta - n - 2.0 * x0) * delta + x, x0 * delta * (1.0 - delta));
        let shift = square / third;
        let q = shift.powi(3) - linear * square / (6.0 * n * n) + fixed / (2.0 * n);
        let p = (shift * shift - linear / third).max(0.0).sqrt().copysign(q);
        let cosine = if p == 0.0 { 0.0 } else { (q / p.powi(3)).clamp(-1.0, 1.0) };
        2.0 * p * ((std::f64::consts::PI + cosine.acos()) / 3.0).cos() - shift
    };
    // Its rates may leave [0, 1], and then take away variance; so do theirs.
    let spread = |rate: f64, n: f64| rate * (1.0 - rate) / n;
    (spread(p0 + delta, n1) + spread(p0, n0)).max(0.0)
}

fn score_interval(
    first: Proportion,
    second: Proportion,
    z: f64,
    variance: fn(Proportion, Proportion, f64) -> f64,
) -> Interval {
    let gap = first.minus(second);
    let inside = |delta: f64| (gap - delta).abs() <= z * variance(first, second, delta).sqrt();
    let end = |mut good: f64, mut bad: f64| {
        for _ in 0..200 {
            let middle = 0.5 * (good + bad);
            if middle == good || middle == bad {
                break;
            }
            if inside(middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        good
    };
    Interval { lo: end(gap, -1.0), hi: end(gap, 1.0) }
}

/// Variance of the difference of rates at the likeliest rates that differ by `delta`.
fn constrained_variance(first: Proportion, second: Proportion, delta: f64) -> f64 {
    let (n1, n2) = (real(first.trials()), real(second.trials()));
    // The smaller rate is the unknown, the larger one follows.
    let rates = |small: f64| {
        if delta < 0.0 { (small, small - delta) } else { (small + delta, small) }
    };
    let slope = |small: f64| {
        let (p1, p2) = rates(small);
        let part = |x: u64, p: f64| if x == 0 { 0.0 } else { real(x) / p };
        part(first.successes(), p1) - part(first.flip().successes(), 1.0 - p1)
            + part(second.successes(), p2)
            - part(second.flip().successes(), 1.0 - p2)
    };
    let (mut low, mut high) = (0.0, 1.0 - delta.abs());
    for _ in 0..1100 {
        let middle = 0.5 * (low + high);
        if middle == low || middle == high || high < 1e-300 {
            break;
        }
        if slope(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    let (p1, p2) = rates(0.5 * (low + high));
    p1 * (1.0 - p1).max(0.0) / n1 + p2 * (1.0 - p2).max(0.0) / n2
}

/// Valid for one look only: an interval for the ratio of two rates, `first / second`, by Katz's
/// logarithmic method.
///
/// # Errors
///
/// [`StatsError::Degenerate`] when an arm has no success, for then the ratio or its interval has
/// no end; [`StatsError::OutOfRange`] or [`StatsError::NotFinite`] for a bad `alpha`.
///
/// Source: D. Katz, J. Baptista, S. P. Azen and M. C. Pike, Biometrics 34 (1978), 469-474.
pub fn risk_ratio_katz_log_interval(
    first: Proportion,
    second: Proportion,
    alpha: f64,
) -> Result<Interval, StatsError> {
    let z = normal_isf(0.5 * open_unit("alpha", alpha)?);
    if first.successes() == 0 || second.successes() == 0 {
        return Err(StatsError::Degenerate { what: "an arm has no success" });
    }
    let part = |arm: Proportion| arm.failure_rate() / real(arm.successes());
    let half = z * (part(first) + part(second)).sqrt();
    let ratio = first.rate() / second.rate();
    Ok(Interval { lo: ratio * (-half).exp(), hi: ratio * half.exp() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(successes: u64, trials: u64) -> Proportion {
        Proportion::new(successes, trials).unwrap()
    }

    #[test]
    fn every_interval_contains_its_estimate_at_any_size() {
        for n in [1, 2, 50, 1_000_000, 1_000_000_000_000_000_000] {
            for x in [0, 1, n / 2, n - 1, n] {
                let arm = of(x, n);
                for alpha in [1e-9, 0.05, 0.9] {
                    for interval in [
                        wilson_interval(arm, alpha).unwrap(),
                        clopper_pearson_interval(arm, alpha).unwrap(),
                        agresti_coull_interval(arm, 0.05).unwrap(),
                    ] {
                        let slack = 1e-12 * arm.rate() + 1e-15;
                        assert!(interval.lo >= 0.0 && interval.hi <= 1.0, "{arm:?} {interval:?}");
                        assert!(
                            interval.lo <= arm.rate() + slack && arm.rate() <= interval.hi + slack,
                            "{arm:?} {alpha} {interval:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn exact_intervals_of_nothing_and_everything_have_closed_forms() {
        let hi = clopper_pearson_interval(of(0, 1000), 0.05).unwrap().hi;
        assert!((hi - (1.0 - 0.025f64.powf(0.001))).abs() < 1e-14);
        let lo = clopper_pearson_interval(of(1000, 1000), 0.05).unwrap().lo;
        assert!((lo - 0.025f64.powf(0.001)).abs() < 1e-14);
    }

    #[test]
    fn differences_turn_round_with_their_arms() {
        let (a, b) = (of(3, 40), of(9, 50));
        for f in [newcombe_diff_interval, score_diff_interval] {
            let (one, two) = (f(a, b, 0.05).unwrap(), f(b, a, 0.05).unwrap());
            assert!((one.lo + two.hi).abs() < 1e-12 && (one.hi + two.lo).abs() < 1e-12);
        }
    }

    #[test]
    fn a_level_whose_half_is_nothing_gives_a_wide_interval_and_no_nan() {
        for alpha in [5e-324, 1e-320] {
            for method in [wilson_interval, agresti_coull_interval, clopper_pearson_interval] {
                let interval = method(of(3, 1000), alpha).unwrap();
                assert!(0.0 <= interval.lo && interval.lo < 0.003, "{interval:?}");
                assert!(0.3 < interval.hi && interval.hi <= 1.0, "{interval:?}");
            }
        }
    }
}
