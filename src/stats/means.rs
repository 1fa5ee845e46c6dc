//! Means of two arms compared, each arm with its own variance.

use crate::stats::check::positive;
use crate::stats::error::{StatsError, open_unit};
use crate::stats::incomplete::{student_isf, student_two_sided};
use crate::stats::interval::Interval;
use crate::stats::moments::Moments;
use crate::stats::special::real;
use serde::{Deserialize, Serialize};

/// A difference with its test and interval, by Student's distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TTest {
    /// The estimated difference, in the order the function states.
    pub effect: f64,
    /// Its interval, of the level asked for.
    pub interval: Interval,
    /// The statistic; 0 when the data say nothing.
    pub t: f64,
    /// Welch and Satterthwaite's degrees of freedom; 0 when the data say nothing.
    pub df: f64,
    /// Two-sided p-value; 1 when the data say nothing.
    pub p: f64,
}

impl TTest {
    /// Whether there was no information: no variance, and no difference.
    #[must_use]
    pub fn is_degenerate(&self) -> bool {
        self.df == 0.0
    }
}

/// Valid for one look only: Welch's test that two means are equal, two-sided; the effect is
/// `first - second`.
///
/// Units must be independent: where a user brings many requests, the unit is the user (see
/// [`crate::stats::ratio`]). With strongly skewed values and few units the level is approximate.
/// When neither sample varies and the means agree, there is no evidence: `p = 1`.
///
/// Source: B. L. Welch, Biometrika 34 (1947), 28-35.
///
/// # Errors
///
/// [`StatsError::TooFew`] with fewer than two values in a sample, [`StatsError::Degenerate`] when
/// neither sample varies and the means differ, [`StatsError::OutOfRange`] or
/// [`StatsError::NotFinite`] for a bad `alpha`.
///
/// ```
/// use pilotage::stats::{means::welch_t, moments::Moments};
///
/// let first = Moments::of("first", &[0.20, 0.25, 0.30, 0.19, 0.22, 0.41])?;
/// let second = Moments::of("second", &[0.31, 0.29, 0.50, 0.35])?;
/// let test = welch_t(&first, &second, 0.05)?;
/// assert!((test.t + 1.7295).abs() < 1e-4 && (test.p - 0.1353).abs() < 1e-4);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
pub fn welch_t(first: &Moments, second: &Moments, alpha: f64) -> Result<TTest, StatsError> {
    let (one, two) = (Part::of("first", first)?, Part::of("second", second)?);
    compare(one.mean - two.mean, [one, two], [1.0, 1.0], alpha)
}

/// Valid for one look only: the relative difference `b / a - 1` of two means, by the delta method.
///
/// The baseline's own uncertainty is part of the interval. The approximation is good while the
/// baseline's mean is many standard errors from 0. Degrees of freedom are Welch's for the
/// absolute difference.
///
/// Source: A. Deng, U. Knoblich and J. Lu, KDD 2018, section 3.
///
/// # Errors
///
/// As [`welch_t`], and [`StatsError::OutOfRange`] when the mean of `a` is 0.
pub fn welch_relative_uplift(a: &Moments, b: &Moments, alpha: f64) -> Result<TTest, StatsError> {
    let (one, two) = (Part::of("a", a)?, Part::of("b", b)?);
    if one.mean == 0.0 {
        let (name, expected) = ("mean of a", "other than 0");
        return Err(StatsError::OutOfRange { name, value: 0.0, expected });
    }
    let ratio = two.mean / one.mean;
    let scale = [(ratio / one.mean).powi(2), one.mean.powi(-2)];
    compare((two.mean - one.mean) / one.mean, [one, two], scale, alpha)
}

/// What a comparison needs to know of an arm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Units.
    pub(crate) n: f64,
    /// Mean, or whatever is compared.
    pub(crate) mean: f64,
    /// Its squared standard error.
    pub(crate) error_squared: f64,
}

impl Part {
    /// The part of a plain sample.
    pub(crate) fn of(name: &'static str, sample: &Moments) -> Result<Self, StatsError> {
        let Some((mean, error_squared)) = sample.mean().zip(sample.error_squared()) else {
            let len = usize::try_from(sample.n()).unwrap_or(usize::MAX);
            return Err(StatsError::TooFew { name, len, needed: 2 });
        };
        Ok(Self { n: real(sample.n()), mean, error_squared })
    }
}

/// The test of `effect`, whose variance is that of both parts, each times its scale.
pub(crate) fn compare(
    effect: f64,
    parts: [Part; 2],
    scale: [f64; 2],
    alpha: f64,
) -> Result<TTest, StatsError> {
    open_unit("alpha", alpha)?;
    let [one, two] = parts;
    let variance = one.error_squared * scale[0] + two.error_squared * scale[1];
    if !(variance > 0.0 && variance.is_finite()) {
        return if effect == 0.0 {
            Ok(TTest { effect, interval: Interval { lo: 0.0, hi: 0.0 }, t: 0.0, df: 0.0, p: 1.0 })
        } else {
            Err(StatsError::Degenerate { what: "neither sample varies" })
        };
    }
    // Shares of the variance, so that nothing overflows.
    let both = one.error_squared + two.error_squared;
    let (share_one, share_two) = (one.error_squared / both, two.error_squared / both);
    let df = 1.0 / (share_one * share_one / (one.n - 1.0) + share_two * share_two / (two.n - 1.0));
    let error = positive("standard error", variance.sqrt())?;
    let t = effect / error;
    let interval = Interval::around(effect, student_isf(0.5 * alpha, df) * error);
    Ok(TTest { effect, interval, t, df, p: student_two_sided(t, df) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_that_do_not_vary_say_nothing_and_win_nothing() {
        let same = Moments::of("x", &[2.0, 2.0, 2.0]).unwrap();
        let other = Moments::of("x", &[3.0, 3.0]).unwrap();
        let test = welch_t(&same, &same, 0.05).unwrap();
        assert!(test.is_degenerate() && test.p == 1.0);
        assert!(matches!(welch_t(&same, &other, 0.05), Err(StatsError::Degenerate { .. })));
    }

    #[test]
    fn one_value_has_no_variance() {
        let (one, two) =
            (Moments::of("x", &[2.0]).unwrap(), Moments::of("x", &[2.0, 4.0]).unwrap());
        assert!(matches!(welch_t(&one, &two, 0.05), Err(StatsError::TooFew { len: 1, .. })));
    }

    #[test]
    fn the_interval_and_the_p_value_agree() {
        let a = Moments::of("a", &[1.0, 2.0, 4.0, 5.0]).unwrap();
        let b = Moments::of("b", &[6.0, 7.0, 9.0, 4.0, 8.0]).unwrap();
        let test = welch_t(&a, &b, 0.05).unwrap();
        let at_p = welch_t(&a, &b, test.p).unwrap();
        assert!(at_p.interval.hi.abs() < 1e-12, "{at_p:?}");
    }

    #[test]
    fn a_relative_difference_needs_a_baseline() {
        let zero = Moments::of("a", &[-1.0, 1.0]).unwrap();
        assert!(welch_relative_uplift(&zero, &zero, 0.05).is_err());
    }
}
