//! Ratios of sums, where the unit that was assigned is not the unit that is counted.
//!
//! Users are assigned, requests are counted. The requests of a user are alike, so a test that
//! takes them for independent finds differences that are not there: with ten requests a user,
//! more than a third of tests of nothing come out significant. The delta method takes the
//! variance between users instead.

use crate::stats::error::{StatsError, finite, open_unit};
use crate::stats::interval::Interval;
use crate::stats::means::{Part, TTest, compare};
use crate::stats::moments::PairMoments;
use crate::stats::special::{normal_isf, normal_two_sided, real};
use serde::{Deserialize, Serialize};

/// A ratio of means of one arm, and how much one unit contributes to its variance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioEstimate {
    /// Units.
    pub n: u64,
    /// Sum of numerators over sum of denominators.
    pub ratio: f64,
    /// Variance of the ratio times the number of units.
    pub variance: f64,
}

/// The ratio of an arm, whose units are (numerator, denominator) pairs.
///
/// Variance is `(s_y^2 - 2 R s_xy + R^2 s_x^2) / xbar^2`, never negative.
///
/// Source: A. Deng, U. Knoblich and J. Lu, KDD 2018.
///
/// # Errors
///
/// [`StatsError::TooFew`] with fewer than two units, [`StatsError::OutOfRange`] when the
/// denominators' mean is 0.
pub fn ratio_estimate(
    name: &'static str,
    units: &PairMoments,
) -> Result<RatioEstimate, StatsError> {
    if units.n() < 2 {
        let len = usize::try_from(units.n()).unwrap_or(usize::MAX);
        return Err(StatsError::TooFew { name, len, needed: 2 });
    }
    let below = units.mean_y();
    if below == 0.0 {
        let (name, expected) = ("mean denominator", "other than 0");
        return Err(StatsError::OutOfRange { name, value: below, expected });
    }
    let ratio = units.mean_x() / below;
    let (xx, yy, xy) = units.deviations();
    let spread = (xx - 2.0 * ratio * xy + ratio * ratio * yy).max(0.0);
    let variance = spread / (real(units.n()) - 1.0) / (below * below);
    if !(ratio.is_finite() && variance.is_finite()) {
        let (name, expected) = ("mean denominator", "farther from 0, for the ratio is no number");
        return Err(StatsError::OutOfRange { name, value: below, expected });
    }
    Ok(RatioEstimate { n: units.n(), ratio, variance })
}

impl RatioEstimate {
    fn part(self) -> Part {
        let n = real(self.n);
        Part { n, mean: self.ratio, error_squared: self.variance / n }
    }
}

/// A difference of two ratios, by the normal limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioTest {
    /// `b - a`.
    pub effect: f64,
    /// Its interval.
    pub interval: Interval,
    /// The statistic; 0 when the data say nothing.
    pub z: f64,
    /// Two-sided p-value; 1 when the data say nothing.
    pub p: f64,
}

/// Valid for one look only: the difference `b - a` of two ratios of sums, by the delta method and
/// the normal limit.
///
/// Units (users) must be independent, and there should be a hundred or more in each arm. When no
/// unit differs from its arm's ratio and the ratios agree, `z = 0`, `p = 1`.
///
/// Source: A. Deng, U. Knoblich and J. Lu, KDD 2018.
///
/// # Errors
///
/// As [`ratio_estimate`]; [`StatsError::Degenerate`] when there is no variance but a difference;
/// [`StatsError::OutOfRange`] or [`StatsError::NotFinite`] for a bad `alpha`.
pub fn ratio_metric_delta_method(
    a: &PairMoments,
    b: &PairMoments,
    alpha: f64,
) -> Result<RatioTest, StatsError> {
    open_unit("alpha", alpha)?;
    let (a, b) = (ratio_estimate("a", a)?, ratio_estimate("b", b)?);
    let effect = finite("difference of ratios", b.ratio - a.ratio)?;
    let variance = a.part().error_squared + b.part().error_squared;
    if variance > 0.0 {
        let error = variance.sqrt();
        let z = effect / error;
        let interval = Interval::around(effect, normal_isf(0.5 * alpha) * error);
        Ok(RatioTest { effect, interval, z, p: normal_two_sided(z) })
    } else if effect == 0.0 {
        Ok(RatioTest { effect, interval: Interval { lo: 0.0, hi: 0.0 }, z: 0.0, p: 1.0 })
    } else {
        Err(StatsError::Degenerate { what: "no unit differs from its arm's ratio" })
    }
}

/// Valid for one look only: as [`ratio_metric_delta_method`], by Student's distribution with
/// Welch's degrees of freedom, which matters below a hundred units.
///
/// # Errors
///
/// As [`ratio_metric_delta_method`].
pub fn ratio_metric_welch(
    a: &PairMoments,
    b: &PairMoments,
    alpha: f64,
) -> Result<TTest, StatsError> {
    let (a, b) = (ratio_estimate("a", a)?.part(), ratio_estimate("b", b)?.part());
    compare(b.mean - a.mean, [a, b], [1.0, 1.0], alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_who_are_all_alike_say_nothing() {
        let alike = PairMoments::of(("y", &[1.0, 2.0, 3.0]), ("x", &[2.0, 4.0, 6.0])).unwrap();
        let test = ratio_metric_delta_method(&alike, &alike, 0.05).unwrap();
        assert_eq!((test.z, test.p), (0.0, 1.0));
    }

    #[test]
    fn sticky_users_do_not_make_differences() {
        // Two users who fail at everything among hundreds: per request significant, per user not.
        let mut a = PairMoments::new();
        let mut b = PairMoments::new();
        for user in 0..200 {
            a.push(0.0, 10.0);
            b.push(if user < 2 { 10.0 } else { 0.0 }, 10.0);
        }
        let test = ratio_metric_delta_method(&a, &b, 0.05).unwrap();
        assert!(test.p > 0.1, "{test:?}");
    }

    #[test]
    fn a_ratio_beyond_all_numbers_is_refused() {
        let tiny = PairMoments::of(("y", &[1.0, 1e308]), ("x", &[0.5, 2e-308])).unwrap();
        let fine = PairMoments::of(("y", &[1.0, 2.0]), ("x", &[1.0, 3.0])).unwrap();
        assert!(ratio_metric_delta_method(&tiny, &fine, 0.05).is_err());
        let zero = PairMoments::of(("y", &[1.0, 1e308]), ("x", &[1e-308, 2e-308])).unwrap();
        assert!(ratio_metric_delta_method(&zero, &fine, 0.05).is_err());
    }

    #[test]
    fn no_denominator_is_no_ratio() {
        let none = PairMoments::of(("y", &[1.0, 2.0]), ("x", &[0.0, 0.0])).unwrap();
        assert!(ratio_estimate("a", &none).is_err());
    }
}
