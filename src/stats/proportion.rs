//! Success rates: a checked count of successes, and the tests that compare two of them.

use crate::stats::check::successes_of;
use crate::stats::error::{StatsError, finite};
use crate::stats::special::{normal_cdf, normal_sf, normal_two_sided, real};
use serde::{Deserialize, Serialize};

/// Successes out of at least one trial.
///
/// ```
/// use pilotage::stats::proportion::Proportion;
///
/// let arm = Proportion::new(43, 50)?;
/// assert_eq!(arm.rate(), 0.86);
/// assert!(Proportion::new(51, 50).is_err());
/// assert!(Proportion::from_f64(f64::NAN, 50.0).is_err());
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Proportion {
    successes: u64,
    trials: u64,
}

impl Proportion {
    /// `successes` out of `trials`.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when there is no trial or there are more successes than trials.
    pub const fn new(successes: u64, trials: u64) -> Result<Self, StatsError> {
        if trials == 0 {
            let (name, expected) = ("trials", "at least 1");
            return Err(StatsError::OutOfRange { name, value: 0.0, expected });
        }
        if successes > trials {
            let (successes, trials) = (real(successes), real(trials));
            return Err(StatsError::MoreSuccessesThanTrials { successes, trials });
        }
        Ok(Self { successes, trials })
    }

    /// The same from numbers that may come from anywhere.
    ///
    /// # Errors
    ///
    /// [`StatsError`] as [`Proportion::new`], and when a number is not finite, not whole, negative
    /// or above 1e19.
    pub fn from_f64(successes: f64, trials: f64) -> Result<Self, StatsError> {
        successes_of(("successes", "trials"), successes, trials)?;
        if trials > 1e19 {
            let (name, expected) = ("trials", "at most 1e19");
            return Err(StatsError::OutOfRange { name, value: trials, expected });
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=1e19")]
        Self::new(successes as u64, trials as u64)
    }

    /// Successes.
    #[must_use]
    pub const fn successes(self) -> u64 {
        self.successes
    }

    /// Trials, at least 1.
    #[must_use]
    pub const fn trials(self) -> u64 {
        self.trials
    }

    /// Successes per trial, from 0 to 1.
    #[must_use]
    pub const fn rate(self) -> f64 {
        real(self.successes) / real(self.trials)
    }

    /// The same trials with success and failure exchanged.
    pub(crate) const fn flip(self) -> Self {
        Self { successes: self.trials - self.successes, trials: self.trials }
    }

    /// Failures per trial, not rounded through the rate.
    pub(crate) const fn failure_rate(self) -> f64 {
        self.flip().rate()
    }

    /// Variance of the rate, estimated by the rate itself.
    pub(crate) const fn error_squared(self) -> f64 {
        self.rate() * self.failure_rate() / real(self.trials)
    }

    /// `self.rate() - other.rate()`, exact until its last rounding, however close the two are.
    #[expect(clippy::cast_precision_loss, reason = "one rounding is what is promised")]
    pub(crate) fn minus(self, other: Self) -> f64 {
        let left = u128::from(self.successes) * u128::from(other.trials);
        let right = u128::from(other.successes) * u128::from(self.trials);
        let apart = left.abs_diff(right) as f64 / real(self.trials) / real(other.trials);
        if left < right { -apart } else { apart }
    }
}

/// Which departures from "no difference" count as evidence.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alternative {
    /// Either direction.
    #[default]
    TwoSided,
    /// The first is larger.
    Larger,
    /// The first is smaller.
    Smaller,
}

impl Alternative {
    /// The p-value of a standard normal statistic.
    pub(crate) fn normal_p(self, z: f64) -> f64 {
        match self {
            Self::TwoSided => normal_two_sided(z),
            Self::Larger => normal_sf(z),
            Self::Smaller => normal_cdf(z),
        }
    }
}

/// A statistic that is standard normal if there is no difference, and its p-value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZTest {
    /// The statistic; 0 when the data say nothing.
    pub z: f64,
    /// The p-value; 1 when the data say nothing.
    pub p: f64,
}

impl ZTest {
    /// The data say nothing: neither evidence nor a winner.
    pub(crate) const NOTHING: Self = Self { z: 0.0, p: 1.0 };
}

/// Valid for one look only: tests whether two success rates differ, with the pooled variance.
///
/// Positive `z` means that `first` has the higher rate. Outcomes must be independent; repeated
/// looks at this p-value find a difference sooner or later where there is none. Below about five
/// successes or failures in an arm use [`fisher_exact_two_sided`]. Where all trials of both arms
/// had the same outcome there is no evidence: `z = 0`, `p = 1`.
///
/// Source: the two-sample score test, for example A. Agresti, Categorical Data Analysis (2013),
/// section 3.2.
///
/// ```
/// use pilotage::stats::proportion::{Alternative, Proportion, two_proportion_z_pooled};
///
/// let test = two_proportion_z_pooled(
///     Proportion::new(43, 50)?,
///     Proportion::new(44, 50)?,
///     Alternative::TwoSided,
/// );
/// assert!((test.p - 0.766).abs() < 0.001); // fifty samples say nothing about two points
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
///
/// [`fisher_exact_two_sided`]: crate::stats::exact::fisher_exact_two_sided
#[must_use]
pub fn two_proportion_z_pooled(
    first: Proportion,
    second: Proportion,
    alternative: Alternative,
) -> ZTest {
    let (n1, n2) = (real(first.trials), real(second.trials));
    let n = n1 + n2;
    let success = (real(first.successes) + real(second.successes)) / n;
    let failure = (real(first.flip().successes) + real(second.flip().successes)) / n;
    let variance = success * failure * (1.0 / n1 + 1.0 / n2);
    if variance > 0.0 {
        let z = first.minus(second) / variance.sqrt();
        ZTest { z, p: alternative.normal_p(z) }
    } else {
        ZTest::NOTHING
    }
}

/// Valid for one look only: tests whether two success rates differ, with each arm's own variance
/// (Wald), two-sided.
///
/// As [`two_proportion_z_pooled`], and less exact at small counts. When neither arm's estimate
/// has a variance and the rates agree, `z = 0` and `p = 1`.
///
/// # Errors
///
/// [`StatsError::Degenerate`] when neither estimate has a variance and the rates differ (none
/// succeeded in one arm, all in the other): Wald's statistic is then infinite, which the data do
/// not support. Use the pooled or the exact test.
pub fn two_proportion_z_unpooled(
    first: Proportion,
    second: Proportion,
) -> Result<ZTest, StatsError> {
    wald(first.minus(second), first, second, Alternative::TwoSided)
}

/// Valid for one look only: tests whether `new` is better than `old` minus a margin (Wald).
///
/// `margin` is the difference of rates under the null hypothesis: -0.01 asks whether the new rate
/// is at most one point worse. A small p-value shows that it is not worse than that.
///
/// # Errors
///
/// [`StatsError::NotFinite`] or [`StatsError::OutOfRange`] when `margin` is not between -1 and 1,
/// [`StatsError::Degenerate`] when neither arm's estimate has a variance.
pub fn noninferiority_diff_wald(
    new: Proportion,
    old: Proportion,
    margin: f64,
) -> Result<ZTest, StatsError> {
    difference("margin", margin)?;
    wald(new.rate() - old.rate() - margin, new, old, Alternative::Larger)
}

/// Two one-sided tests of a difference of rates against the ends of a margin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    /// The test against the lower end: small p shows that the difference is above it.
    pub above_low: ZTest,
    /// The test against the upper end: small p shows that the difference is below it.
    pub below_high: ZTest,
    /// The larger of the two p-values, which is the p-value of "not equivalent".
    pub p: f64,
}

impl Equivalence {
    /// The statistic of the test that decides: the one with the larger p-value.
    #[must_use]
    pub fn z(&self) -> f64 {
        if self.above_low.p < self.below_high.p { self.below_high.z } else { self.above_low.z }
    }
}

/// Valid for one look only: tests whether two rates are equivalent, that is whether their
/// difference `first - second` lies between `low` and `high` (two one-sided Wald tests).
///
/// Equivalence has to be shown: a difference that is "not significant" shows nothing. The rates
/// are equivalent at level alpha when `p <= alpha`.
///
/// Source: D. J. Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680.
///
/// # Errors
///
/// [`StatsError`] when an end is not between -1 and 1, `low` is not below `high`, or neither
/// estimate has a variance.
pub fn equivalence_tost_diff_wald(
    first: Proportion,
    second: Proportion,
    low: f64,
    high: f64,
) -> Result<Equivalence, StatsError> {
    difference("low", low)?;
    difference("high", high)?;
    if low >= high {
        return Err(StatsError::OutOfRange { name: "low", value: low, expected: "below high" });
    }
    let gap = first.rate() - second.rate();
    let above_low = wald(gap - low, first, second, Alternative::Larger)?;
    let below_high = wald(gap - high, first, second, Alternative::Smaller)?;
    Ok(Equivalence { above_low, below_high, p: above_low.p.max(below_high.p) })
}

fn wald(
    gap: f64,
    first: Proportion,
    second: Proportion,
    alternative: Alternative,
) -> Result<ZTest, StatsError> {
    let variance = first.error_squared() + second.error_squared();
    if variance > 0.0 {
        let z = gap / variance.sqrt();
        Ok(ZTest { z, p: alternative.normal_p(z) })
    } else if gap == 0.0 {
        Ok(ZTest::NOTHING)
    } else {
        Err(StatsError::Degenerate { what: "neither rate's estimate has a variance" })
    }
}

fn difference(name: &'static str, value: f64) -> Result<f64, StatsError> {
    finite(name, value)?;
    if value.abs() < 1.0 {
        Ok(value)
    } else {
        Err(StatsError::OutOfRange { name, value, expected: "strictly between -1 and 1" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(successes: u64, trials: u64) -> Proportion {
        Proportion::new(successes, trials).unwrap()
    }

    #[test]
    fn equal_outcomes_everywhere_are_no_evidence() {
        for x in [0, 1] {
            let (a, b) = (of(10 * x, 10), of(20 * x, 20));
            assert_eq!(two_proportion_z_pooled(a, b, Alternative::TwoSided), ZTest::NOTHING);
            assert_eq!(two_proportion_z_unpooled(a, b), Ok(ZTest::NOTHING));
        }
    }

    #[test]
    fn rates_closer_than_a_rounding_are_told_apart() {
        let (a, b) = (of(500_000_000_000_000_001, 1_000_000_000_000_000_000), of(1, 2));
        assert!((a.minus(b) - 1e-18).abs() < 1e-30);
    }

    #[test]
    fn a_p_value_of_equivalence_is_a_probability() {
        // Far outside the margin the deciding statistic exceeds 1; its p-value does not.
        let test =
            equivalence_tost_diff_wald(of(7_700, 10_000), of(7_500, 10_000), -0.01, 0.01).unwrap();
        assert!((test.z() - 1.656).abs() < 1e-3);
        assert!((test.p - 0.951_15).abs() < 1e-4, "{}", test.p);
    }

    #[test]
    fn numbers_that_count_nothing_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.5, 1e300] {
            assert!(Proportion::from_f64(1.0, bad).is_err(), "{bad}");
            assert!(Proportion::from_f64(bad, 10.0).is_err(), "{bad}");
        }
        assert!(Proportion::new(0, 0).is_err());
    }
}
