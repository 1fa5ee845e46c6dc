//! Comparing two arms at every look: confidence sequences for differences of means.
//!
//! The interval of a z test holds at one look that was planned. The ones here hold at all looks
//! at once, in the limit of large samples: they are anytime-valid asymptotically. Below about a
//! hundred events in each arm "asymptotically" is not good enough; there the exact tests of
//! [`crate::stats::eprocess`] are to be used.
//!
//! All differences are B minus A. Zero variance is no information, not certainty: the interval
//! is then unbounded and the p-value 1.

use crate::stats::check::{in_range, positive, successes_of};
use crate::stats::error::{StatsError, finite, open_unit};

/// A difference between two arms with an interval that holds at every look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnytimeDifference {
    /// The estimated difference, B minus A.
    pub effect: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Anytime-valid p-value of "no difference": 1 over the evidence, never above 1.
    pub p: f64,
    /// Logarithm of the evidence against "no difference"; negative when the data support it.
    pub ln_e: f64,
}

/// Whether an effect is a difference or a share of the baseline.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EffectScale {
    /// `b - a`.
    Absolute,
    /// `(b - a) / a`.
    Relative,
}

/// Success counts of an arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Successes {
    /// Trials, at least 1.
    pub n: f64,
    /// Successes, from 0 to `n`.
    pub x: f64,
}

/// Sums over an arm's units of a real quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sums {
    /// Units, at least 2.
    pub n: f64,
    /// Sum of the values.
    pub sum: f64,
    /// Sum of their squares.
    pub sum_of_squares: f64,
}

/// Sums over an arm's units of a numerator and a denominator, such as errors and requests of a
/// user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioSums {
    /// Units, at least 2.
    pub n: f64,
    /// Sum of the numerators.
    pub numerator: f64,
    /// Sum of their squares.
    pub numerator_squares: f64,
    /// Sum of the denominators.
    pub denominator: f64,
    /// Sum of their squares.
    pub denominator_squares: f64,
    /// Sum of numerator times denominator.
    pub cross: f64,
}

/// An anytime-valid interval of the difference of two success rates, in the limit of large
/// samples.
///
/// `tuning` is the total sample size (both arms) at which the interval is narrowest; take the
/// planned total. Outcomes must be independent: where one subject brings many, use
/// [`asymptotic_cs_ratios`]. When neither arm varies (all or no successes in both), there is no
/// information. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, equation 9.
///
/// # Errors
///
/// [`StatsError`] when a count is not finite or negative, successes exceed trials, an arm is
/// empty, `alpha` is not strictly between 0 and 1 or `tuning` not above 0; with
/// [`EffectScale::Relative`] also when A has no success.
pub fn asymptotic_cs_two_proportions(
    a: Successes,
    b: Successes,
    scale: EffectScale,
    alpha: f64,
    tuning: f64,
) -> Result<AnytimeDifference, StatsError> {
    for arm in [a, b] {
        successes_of(("successes", "trials"), arm.x, arm.n)?;
        in_range("trials", arm.n, 1.0, f64::MAX, "at least 1")?;
    }
    let (rate_a, rate_b) = (a.x / a.n, b.x / b.n);
    compare(
        Arm { n: a.n, mean: rate_a, variance: rate_a * ((a.n - a.x) / a.n) },
        Arm { n: b.n, mean: rate_b, variance: rate_b * ((b.n - b.x) / b.n) },
        scale,
        alpha,
        tuning,
    )
}

/// An anytime-valid interval of the difference of two means, in the limit of large samples.
///
/// As [`asymptotic_cs_two_proportions`], from sums of a real quantity of finite variance; the
/// variances are the unbiased ones.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite, an arm has fewer than two units, the squares
/// contradict the sum, `alpha` or `tuning` is out of range; with [`EffectScale::Relative`] also
/// when A's mean is 0.
pub fn asymptotic_cs_means(
    a: Sums,
    b: Sums,
    scale: EffectScale,
    alpha: f64,
    tuning: f64,
) -> Result<AnytimeDifference, StatsError> {
    compare(mean_of(a)?, mean_of(b)?, scale, alpha, tuning)
}

/// An anytime-valid interval of the difference of two ratios of sums, in the limit of many units.
///
/// For metrics whose denominator varies from unit to unit (errors per request, assigned by user).
/// The variance is the delta method's, see [`ratio_variance`].
///
/// # Errors
///
/// As [`asymptotic_cs_means`]; also when an arm's denominators sum to 0.
pub fn asymptotic_cs_ratios(
    a: RatioSums,
    b: RatioSums,
    scale: EffectScale,
    alpha: f64,
    tuning: f64,
) -> Result<AnytimeDifference, StatsError> {
    let arm = |sums: RatioSums| -> Result<Arm, StatsError> {
        let variance = ratio_variance(sums)?;
        Ok(Arm { n: sums.n, mean: sums.numerator / sums.denominator, variance })
    };
    compare(arm(a)?, arm(b)?, scale, alpha, tuning)
}

/// The variance that one unit contributes to a ratio of sums, by the delta method.
///
/// Divide by the number of units for the variance of the ratio itself. Source: Deng, Knoblich and
/// Lu 2018.
///
/// # Errors
///
/// [`StatsError`] when a sum is not finite, there are fewer than two units, a sum of squares is
/// impossible or the denominators sum to 0.
pub fn ratio_variance(sums: RatioSums) -> Result<f64, StatsError> {
    in_range("n", sums.n, 2.0, f64::MAX, "at least 2")?;
    finite("numerator", sums.numerator)?;
    finite("denominator", sums.denominator)?;
    finite("cross", sums.cross)?;
    let n = sums.n;
    if sums.denominator == 0.0 {
        return Err(StatsError::Degenerate { what: "the denominators sum to 0" });
    }
    let (y, x) = (sums.numerator / n, sums.denominator / n);
    let var_y = unbiased("numerator_squares", sums.numerator_squares, sums.numerator, n)?;
    let var_x = unbiased("denominator_squares", sums.denominator_squares, sums.denominator, n)?;
    let covariance = (sums.cross - sums.numerator * x) / (n - 1.0);
    let ratio = y / x;
    let variance = (var_y - 2.0 * ratio * covariance + ratio * ratio * var_x) / (x * x);
    finite("the ratio's variance", variance)?;
    // Rounding may leave a trifle below zero when all units have the same ratio.
    Ok(variance.max(0.0))
}

/// The evidence of the mixture sequential probability ratio test against "no difference".
/// Anytime-valid in the limit of large samples.
///
/// `effect` is the estimated difference with variance `variance > 0` now; `tau > 0` is the
/// standard deviation of the normal prior over true differences, best set to the smallest
/// difference worth finding. The p-value is `min(1, exp(-ln_e))`; take the least one seen so far.
/// Source: Johari, Koomen, Pekelis and Walsh 2022.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range.
pub fn msprt_ln_e(effect: f64, variance: f64, tau: f64) -> Result<f64, StatsError> {
    finite("effect", effect)?;
    positive("variance", variance)?;
    positive("tau", tau)?;
    let gain = positive("tau squared over variance", (tau / variance.sqrt()).powi(2))?;
    let z = effect / variance.sqrt();
    finite("evidence", 0.5 * z * z * (gain / (1.0 + gain)) - 0.5 * gain.ln_1p())
}

/// Mean and variance of one unit of an arm.
#[derive(Clone, Copy)]
struct Arm {
    n: f64,
    mean: f64,
    variance: f64,
}

fn mean_of(sums: Sums) -> Result<Arm, StatsError> {
    in_range("n", sums.n, 2.0, f64::MAX, "at least 2")?;
    finite("sum", sums.sum)?;
    let variance = unbiased("sum_of_squares", sums.sum_of_squares, sums.sum, sums.n)?;
    Ok(Arm { n: sums.n, mean: sums.sum / sums.n, variance })
}

/// The unbiased variance from sums. A sum of squares below what the sum forces is an error,
/// except by rounding.
fn unbiased(name: &'static str, squares: f64, sum: f64, n: f64) -> Result<f64, StatsError> {
    in_range(name, squares, 0.0, f64::MAX, "at least 0")?;
    let least = finite("sum squared over n", sum * (sum / n))?;
    let rest = squares - least;
    if rest < -1e-9 * least {
        return Err(StatsError::OutOfRange {
            name,
            value: squares,
            expected: "at least the sum squared over n",
        });
    }
    // What rounding alone can explain is no variance.
    if rest <= 4.0 * f64::EPSILON * least { Ok(0.0) } else { Ok(rest / (n - 1.0)) }
}

fn compare(
    a: Arm,
    b: Arm,
    scale: EffectScale,
    alpha: f64,
    tuning: f64,
) -> Result<AnytimeDifference, StatsError> {
    open_unit("alpha", alpha)?;
    positive("tuning", tuning)?;
    let (own_a, own_b) = (a.variance / a.n, b.variance / b.n);
    let (effect, variance) = match scale {
        EffectScale::Absolute => (b.mean - a.mean, own_a + own_b),
        EffectScale::Relative => {
            if a.mean == 0.0 {
                return Err(StatsError::Degenerate { what: "the baseline's mean is 0" });
            }
            let ratio = b.mean / a.mean;
            let square = a.mean * a.mean;
            ((b.mean - a.mean) / a.mean, own_b / square + own_a * (ratio * ratio / square))
        }
    };
    anytime_difference(effect, variance, a.n + b.n, alpha, tuning)
}

/// An anytime-valid interval from an estimated effect, the variance of that estimate and the number
/// of units it rests on, in the limit of many units: what the functions above come down to, for
/// estimates whose variance comes from elsewhere (clusters of subjects, a covariate).
///
/// # Errors
///
/// [`StatsError`] when a value is not finite, the variance is negative, `n` or `tuning` is not
/// positive, or `alpha` is not between 0 and 1.
pub fn anytime_difference(
    effect: f64,
    variance: f64,
    n: f64,
    alpha: f64,
    tuning: f64,
) -> Result<AnytimeDifference, StatsError> {
    open_unit("alpha", alpha)?;
    positive("tuning", tuning)?;
    positive("n", n)?;
    in_range("variance", variance, 0.0, f64::MAX, "at least 0")?;
    finite("effect", effect)?;
    let s2 = finite("variance", variance * n)?;
    if s2 <= 0.0 {
        return Ok(AnytimeDifference {
            effect,
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
            p: 1.0,
            ln_e: 0.0,
        });
    }
    let evidence = -alpha.ln();
    let rho2 = (2.0 * evidence + (2.0 * evidence).ln_1p()) / tuning;
    let gain = finite("sample size over tuning", n * rho2)?;
    let ln_root = 0.5 * gain.ln_1p();
    let half = finite(
        "half width",
        s2.sqrt() * (2.0 * ((gain + 1.0) / gain) * (ln_root + evidence) / n).sqrt(),
    )?;
    let ln_e = finite(
        "evidence",
        0.5 * (effect / s2.sqrt()).powi(2) * n * (gain / (gain + 1.0)) - ln_root,
    )?;
    Ok(AnytimeDifference {
        effect,
        low: effect - half,
        high: effect + half,
        p: (-ln_e).exp().min(1.0),
        ln_e,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(x_a: f64, x_b: f64) -> Result<AnytimeDifference, StatsError> {
        let arm = |x| Successes { n: 1000.0, x };
        asymptotic_cs_two_proportions(arm(x_a), arm(x_b), EffectScale::Absolute, 0.05, 2000.0)
    }

    #[test]
    fn the_interval_excludes_zero_exactly_when_the_p_value_reaches_alpha() {
        for x in 500..620 {
            let seen = rates(500.0, f64::from(x)).unwrap();
            assert_eq!(seen.low > 0.0, seen.p < 0.05, "{seen:?}");
        }
    }

    #[test]
    fn arms_that_do_not_vary_are_no_evidence() {
        for x in [0.0, 1000.0] {
            let seen = rates(x, x).unwrap();
            assert_eq!((seen.p, seen.low, seen.high), (1.0, f64::NEG_INFINITY, f64::INFINITY));
        }
        // Even when they do not vary at different rates: the normal limit has nothing to say.
        assert_eq!(rates(0.0, 1000.0).unwrap().p, 1.0);
    }

    #[test]
    fn a_baseline_of_zero_has_no_relative_effect() {
        let arm = |x| Successes { n: 10.0, x };
        let seen =
            asymptotic_cs_two_proportions(arm(0.0), arm(3.0), EffectScale::Relative, 0.05, 20.0);
        assert!(matches!(seen, Err(StatsError::Degenerate { .. })));
    }

    #[test]
    fn squares_that_contradict_their_sum_are_an_error() {
        let arm = Sums { n: 10.0, sum: 100.0, sum_of_squares: 10.0 };
        let fine = Sums { n: 10.0, sum: 100.0, sum_of_squares: 1010.0 };
        assert!(asymptotic_cs_means(arm, fine, EffectScale::Absolute, 0.05, 20.0).is_err());
    }

    #[test]
    fn mixture_test_and_confidence_sequence_are_one_family() {
        // With tau^2 = s2 rho^2, the prior of the confidence sequence, evidence must agree.
        let seen = rates(500.0, 560.0).unwrap();
        let variance = (0.25 + 0.56 * 0.44) / 1000.0;
        let evidence = -0.05f64.ln();
        let rho2 = (2.0 * evidence + (2.0 * evidence).ln_1p()) / 2000.0;
        let tau = (variance * 2000.0 * rho2).sqrt();
        let ln_e = msprt_ln_e(0.06, variance, tau).unwrap();
        assert!((ln_e - seen.ln_e).abs() < 1e-12, "{ln_e} against {}", seen.ln_e);
    }

    #[test]
    fn the_mixture_test_refuses_a_variance_of_zero() {
        assert!(msprt_ln_e(0.1, 0.0, 0.02).is_err());
        assert!(msprt_ln_e(f64::NAN, 1.0, 0.02).is_err());
        assert!(msprt_ln_e(0.0, 1.0, 0.02).unwrap() < 0.0);
    }
}
