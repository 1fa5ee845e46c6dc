//! Quantiles that may be watched at all times.
//!
//! Latency is judged by its p95 and p99, and a quantile estimated from a stream wanders. The
//! bounds here say how far it can wander at any time at all, so that a difference beyond them is
//! a difference. They assume independent observations and nothing about their distribution.
//! Anytime-valid. Source: Howard and Ramdas, Bernoulli 28 (2022).

use crate::stats::check::{in_range, positive};
use crate::stats::error::{StatsError, finite, open_unit};
use crate::stats::mixture::{BetaBinomial, Sides, Tuning};
use crate::stats::tails::zeta;

/// How a bound is stitched together from pieces that each hold for a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stitching {
    /// How fast the share of the level falls from piece to piece, above 1; 1.4 is usual.
    pub s: f64,
    /// The ratio of the ends of a piece, above 1; 2 is usual.
    pub eta: f64,
}

impl Default for Stitching {
    fn default() -> Self {
        Self { s: 1.4, eta: 2.0 }
    }
}

impl Stitching {
    fn check(self) -> Result<(), StatsError> {
        finite("s", self.s)?;
        in_range("s", self.s, 1.0 + 1e-9, 1e3, "above 1 and at most 1000")?;
        in_range("eta", self.eta, 1.0 + 1e-9, 1e9, "above 1 and at most a billion")?;
        Ok(())
    }

    fn k1(self) -> f64 {
        (self.eta.powf(0.25) + self.eta.powf(-0.25)) / std::f64::consts::SQRT_2
    }

    fn k2(self) -> f64 {
        0.5 * (self.eta.sqrt() + 1.0)
    }
}

/// The bound that a sum with variance process `v` stays below at all times with probability
/// `1 - alpha`, in closed form. Anytime-valid, one-sided.
///
/// Grows like `sqrt(v ln ln v)`, the slowest rate possible, and is a little wider than a mixture's
/// bound where that is tuned. `v >= 0`; below `v_min > 0` the bound at `v_min` is used; `c >= 0` is
/// the scale of the steps (0 for sub-Gaussian sums). Source: Howard, Ramdas and others, Annals of
/// Statistics 49 (2021), theorem 1.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range.
pub fn poly_stitching_bound(
    v: f64,
    alpha: f64,
    v_min: f64,
    c: f64,
    stitching: Stitching,
) -> Result<f64, StatsError> {
    in_range("v", v, 0.0, f64::MAX, "at least 0")?;
    open_unit("alpha", alpha)?;
    positive("v_min", v_min)?;
    in_range("c", c, 0.0, f64::MAX, "at least 0")?;
    stitching.check()?;
    let Stitching { s, eta } = stitching;
    let v = v.max(v_min);
    let ell =
        s * ((v / v_min).ln() + eta.ln()).ln() + zeta(s).ln() - s * eta.ln().ln() - alpha.ln();
    let linear = stitching.k2() * c * ell;
    finite("bound", (stitching.k1().powi(2) * v * ell + linear * linear).sqrt() + linear)
}

/// How far the empirical distribution function can be from the true one, anywhere, at any time.
/// Anytime-valid.
///
/// After `t` observations, `sup |F_t - F|` exceeds the answer at some time from `t_min` on with
/// probability at most `alpha`. Before `t_min >= 1` nothing is said: the answer is infinite. `a`
/// is the constant in front of the rate, above `1/sqrt(2)`; 0.85 is usual. All quantiles at once
/// are bounded by it: `Q_t(q - answer) <= Q(q) <= Q_t(q + answer)`.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range.
pub fn empirical_process_lil_bound(
    t: f64,
    alpha: f64,
    t_min: f64,
    a: f64,
) -> Result<f64, StatsError> {
    in_range("t", t, 0.0, f64::MAX, "at least 0")?;
    open_unit("alpha", alpha)?;
    in_range("t_min", t_min, 1.0, f64::MAX, "at least 1")?;
    in_range("a", a, std::f64::consts::FRAC_1_SQRT_2 + 1e-6, 1e3, "above 0.7072, at most 1000")?;
    if t < t_min {
        return Ok(f64::INFINITY);
    }
    Ok(a * (((t / t_min).ln().ln_1p() + lil_constant(alpha, a)) / t).sqrt())
}

/// The least constant for which the bound of the empirical process errs with probability `alpha`.
fn lil_constant(alpha: f64, a: f64) -> f64 {
    let fails = |c: f64| least_error(c, a) > alpha;
    let mut high = 5.0;
    while fails(high) {
        high *= 2.0;
    }
    let mut low = high;
    while !fails(low) && low > 1e-9 {
        low *= 0.5;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if fails(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The error probability of a constant, with the pieces' ratio `eta` chosen best.
fn least_error(c: f64, a: f64) -> f64 {
    let error = |eta: f64| {
        let room = a - (2.0 * (eta - 1.0) / c).sqrt();
        let gamma = 2.0 / eta * room * room;
        if room <= 0.0 || gamma <= 1.0 {
            f64::INFINITY
        } else {
            4.0 * (-gamma * c).exp() * (1.0 + 1.0 / ((gamma - 1.0) * eta.ln()))
        }
    };
    // The error is infinite at both ends of the range of `eta` and falls to one minimum between.
    // A coarse walk on a logarithmic scale finds it, since it may lie close to 1.
    let widest = 2.0 * a * a - 1.0;
    let at = |k: f64| 1.0 + widest * (-k).exp();
    let best = (1..400)
        .map(|k| 0.05 * f64::from(k))
        .min_by(|&x, &y| error(at(x)).total_cmp(&error(at(y))))
        .unwrap_or(1.0);
    error(at(minimum(best - 0.05, best + 0.05, |k| error(at(k)))))
}

/// Settings of [`quantile_double_stitching_bound`] beside the level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantileTuning {
    /// The number of observations from which the bound is to be tight, at least 1.
    pub t_opt: f64,
    /// How fine the quantiles are stitched, above 0; 0.5 is usual.
    pub delta: f64,
    /// How time is stitched.
    pub stitching: Stitching,
}

/// How many ranks an empirical quantile can be off, for all quantiles and times at once.
/// Anytime-valid.
///
/// For the quantile `q`, strictly between 0 and 1, after `t` observations: the number of
/// observations below the true quantile exceeds `q t` by more than the answer, for some `q` and at
/// some time, with probability at most `alpha` (one-sided). Divided by `t` it is an error in
/// probability. Tighter far from the median than [`empirical_process_lil_bound`].
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range.
pub fn quantile_double_stitching_bound(
    q: f64,
    t: f64,
    alpha: f64,
    tuning: QuantileTuning,
) -> Result<f64, StatsError> {
    open_unit("q", q)?;
    in_range("t", t, 0.0, f64::MAX, "at least 0")?;
    open_unit("alpha", alpha)?;
    in_range("t_opt", tuning.t_opt, 1.0, f64::MAX, "at least 1")?;
    positive("delta", tuning.delta)?;
    tuning.stitching.check()?;
    let Stitching { s, eta } = tuning.stitching;
    let delta = tuning.delta;
    let t = t.max(tuning.t_opt);
    let age = t / tuning.t_opt;
    let logit = (q / (1.0 - q)).ln();
    let r = if q >= 0.5 {
        q
    } else {
        let moved = logit + 2.0 * delta * (eta / age).sqrt();
        (1.0 / (1.0 + (-moved).exp())).min(0.5)
    };
    let variance = r * (1.0 - r);
    let piece = age.sqrt() * logit.abs() / (2.0 * delta) + 1.0;
    let z = zeta(s);
    let ell = s * (age.ln() + eta.ln()).ln() + s * piece.ln() + (2.0 * z * (2.0 * z + 1.0)).ln()
        - s * eta.ln().ln()
        - alpha.ln();
    let linear = tuning.stitching.k2() * (1.0 - 2.0 * q) / 3.0 * ell;
    let spread = (tuning.stitching.k1().powi(2) * variance * t * ell + linear * linear).sqrt();
    finite("bound", delta * (eta * age * variance).sqrt() + spread + linear)
}

/// An anytime p-value of "both arms have the same `q` quantile".
///
/// Valid at every look as the arms grow; compare its running minimum with `alpha`. For every value
/// that the common quantile could have, it asks how strongly the two arms together contradict it,
/// and takes the least. `q` is strictly between 0 and 1; `tuning.v_opt` is the number of
/// observations of an arm at which the test is sharpest. Observations of one arm must be
/// independent; ties are handled exactly. Sorts copies of both lists.
///
/// # Errors
///
/// [`StatsError`] when an arm is empty or holds a value that is not finite, or a setting is out
/// of range.
pub fn quantile_ab_p_value(
    a: &[f64],
    b: &[f64],
    q: f64,
    tuning: Tuning,
) -> Result<f64, StatsError> {
    open_unit("q", q)?;
    positive("t_opt", tuning.v_opt)?;
    let spread = q * (1.0 - q);
    let prior = Tuning { v_opt: tuning.v_opt * spread, ..tuning };
    let mixture = BetaBinomial::new(prior, q, 1.0 - q, Sides::Two)?;
    let (a, b) = (Ranked::new("a", a, &mixture)?, Ranked::new("b", b, &mixture)?);
    let mut least = f64::INFINITY;
    for &value in a.sorted.iter().chain(&b.sorted) {
        least = least.min(a.evidence_against(value) + b.evidence_against(value));
    }
    Ok((-least).exp().min(1.0))
}

/// An arm's observations in order, and what they say about where its quantile is.
struct Ranked<'a> {
    sorted: Vec<f64>,
    n: f64,
    /// The number of observations below the quantile that is the least surprising.
    calmest: f64,
    mixture: &'a BetaBinomial,
}

impl<'a> Ranked<'a> {
    fn new(
        name: &'static str,
        values: &[f64],
        mixture: &'a BetaBinomial,
    ) -> Result<Self, StatsError> {
        if values.is_empty() {
            return Err(StatsError::TooFew { name, len: 0, needed: 1 });
        }
        for &value in values {
            finite(name, value)?;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = whole(sorted.len());
        let calmest = minimum(0.0, n, |below| mixture.ln_counts(n - below, below));
        Ok(Self { sorted, n, calmest, mixture })
    }

    /// Log evidence that the quantile is not `value`: of all the counts "below" that `value` allows
    /// (its ties may fall on either side), the least surprising.
    fn evidence_against(&self, value: f64) -> f64 {
        let below = whole(self.sorted.partition_point(|&x| x < value));
        let up_to = whole(self.sorted.partition_point(|&x| x <= value));
        let count = self.calmest.clamp(below, up_to);
        self.mixture.ln_counts(self.n - count, count)
    }
}

fn whole(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "lists are shorter than 2^53")]
    let count = count as f64;
    count
}

/// Where a function with one minimum between `low` and `high` has it, by the golden section.
fn minimum(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let (mut left, mut right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
    let (mut at_left, mut at_right) = (f(left), f(right));
    for _ in 0..60 {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - GOLDEN * (high - low);
            at_left = f(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + GOLDEN * (high - low);
            at_right = f(right);
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNING: Tuning = Tuning { v_opt: 100.0, alpha_opt: 0.05 };

    #[test]
    fn an_arm_compared_with_itself_shows_no_difference() {
        let x: Vec<f64> = (0..300).map(|k| f64::from(k % 97)).collect();
        assert_eq!(quantile_ab_p_value(&x, &x, 0.9, TUNING).unwrap(), 1.0);
    }

    #[test]
    fn arms_apart_differ_and_the_order_of_arms_does_not_matter() {
        let x: Vec<f64> = (0..300).map(f64::from).collect();
        let y: Vec<f64> = (0..200).map(|k| 400.0 + f64::from(k)).collect();
        let p = quantile_ab_p_value(&x, &y, 0.5, TUNING).unwrap();
        assert!(p < 1e-20, "{p}");
        assert_eq!(p, quantile_ab_p_value(&y, &x, 0.5, TUNING).unwrap());
    }

    #[test]
    fn ties_alone_are_no_difference() {
        let (x, y) = (vec![1.0; 500], vec![1.0; 400]);
        assert_eq!(quantile_ab_p_value(&x, &y, 0.95, TUNING).unwrap(), 1.0);
    }

    #[test]
    fn observations_that_are_not_numbers_are_refused() {
        assert!(quantile_ab_p_value(&[1.0, f64::NAN], &[1.0], 0.5, TUNING).is_err());
        assert!(quantile_ab_p_value(&[], &[1.0], 0.5, TUNING).is_err());
        assert!(quantile_ab_p_value(&[1.0], &[f64::INFINITY], 0.5, TUNING).is_err());
    }

    #[test]
    fn the_empirical_process_is_unbounded_before_its_start_and_shrinks_after() {
        assert_eq!(empirical_process_lil_bound(10.0, 0.05, 32.0, 0.85).unwrap(), f64::INFINITY);
        let early = empirical_process_lil_bound(100.0, 0.05, 32.0, 0.85).unwrap();
        let late = empirical_process_lil_bound(1e6, 0.05, 32.0, 0.85).unwrap();
        assert!(late < early && late > 0.0);
    }

    #[test]
    fn bounds_stay_finite_for_huge_counts_and_rare_quantiles() {
        let tuning = QuantileTuning { t_opt: 1e3, delta: 0.5, stitching: Stitching::default() };
        for q in [1e-9, 0.5, 1.0 - 1e-9] {
            assert!(quantile_double_stitching_bound(q, 1e18, 0.05, tuning).unwrap().is_finite());
        }
        let bound = poly_stitching_bound(1e18, 1e-9, 1e-3, 1.0, Stitching::default()).unwrap();
        assert!(bound.is_finite() && bound > 1e9);
    }

    #[test]
    fn settings_out_of_range_are_errors() {
        let flat = Stitching { s: 1.0, eta: 2.0 };
        assert!(poly_stitching_bound(1.0, 0.05, 1.0, 0.0, flat).is_err());
        assert!(poly_stitching_bound(1.0, 0.05, 0.0, 0.0, Stitching::default()).is_err());
        assert!(empirical_process_lil_bound(10.0, 0.05, 1.0, 0.7).is_err());
        let tuning = QuantileTuning { t_opt: 0.0, delta: 0.5, stitching: Stitching::default() };
        assert!(quantile_double_stitching_bound(0.5, 10.0, 0.05, tuning).is_err());
    }
}
