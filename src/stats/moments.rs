//! Mean and variance of a stream, in constant memory, mergeable.
//!
//! Sums of squares cancel: three values near 10^9 leave no digit of their variance. These
//! accumulators keep the mean and the squared deviations from it instead, and two of them merge
//! into what one would have held, so replicas and windows add up. Values that are not finite are
//! counted and left out, never mixed in: one NaN would make every later answer NaN.
//!
//! Source: B. P. Welford, Technometrics 4 (1962), 419-420; T. F. Chan and others, The American
//! Statistician 37 (1983), 242-247.

use crate::stats::check::count;
use crate::stats::error::{StatsError, finite};
use crate::stats::special::real;
use serde::{Deserialize, Serialize};

/// Count, mean and squared deviations of the values seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    n: u64,
    rejected: u64,
    mean: f64,
    /// What rounding took from the mean.
    low: f64,
    m2: f64,
}

impl Moments {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { n: 0, rejected: 0, mean: 0.0, low: 0.0, m2: 0.0 }
    }

    /// Takes one value in. NaN and infinities are counted in [`Moments::rejected`] only.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            self.rejected += 1;
            return;
        }
        self.n += 1;
        let step = (value - self.mean) - self.low;
        self.shift(step / real(self.n));
        self.m2 += step * ((value - self.mean) - self.low);
    }

    /// Moves the mean without losing what falls below its last digit.
    fn shift(&mut self, by: f64) {
        let by = by + self.low;
        let mean = self.mean + by;
        let taken = mean - self.mean;
        self.low = (self.mean - (mean - taken)) + (by - taken);
        self.mean = mean;
    }

    /// Takes in everything `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        self.rejected += other.rejected;
        if other.n == 0 {
            return;
        }
        if self.n == 0 {
            *self = Self { rejected: self.rejected, ..*other };
            return;
        }
        let n = self.n + other.n;
        let gap = (other.mean - self.mean) + (other.low - self.low);
        let weight = real(other.n) / real(n);
        self.shift(gap * weight);
        self.m2 += other.m2 + gap * gap * (real(self.n) * weight);
        self.n = n;
    }

    /// The moments of a whole sample, none of whose values may be missing.
    ///
    /// # Errors
    ///
    /// [`StatsError::NotFinite`], naming the sample `name`, if a value is not finite.
    pub fn of(name: &'static str, values: &[f64]) -> Result<Self, StatsError> {
        let mut moments = Self::new();
        for &value in values {
            moments.push(finite(name, value)?);
        }
        Ok(moments)
    }

    /// The moments behind a mean and an unbiased variance that were computed elsewhere.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when `n` is not a whole number of at least 1, a value is not finite or the
    /// variance is negative.
    pub fn from_mean(n: f64, mean: f64, variance: f64) -> Result<Self, StatsError> {
        let units = whole("n", n)?;
        finite("mean", mean)?;
        finite("variance", variance)?;
        if variance < 0.0 {
            let (name, expected) = ("variance", "at least 0");
            return Err(StatsError::OutOfRange { name, value: variance, expected });
        }
        Ok(Self { n: units, rejected: 0, mean, low: 0.0, m2: variance * (n - 1.0) })
    }

    /// The moments behind a sum and a sum of squares.
    ///
    /// Where the spread is small beside the mean, digits were lost before this call: prefer
    /// [`Moments::push`].
    ///
    /// # Errors
    ///
    /// [`StatsError`] when `n` is not a whole number of at least 1, a value is not finite, or no
    /// sample has these sums.
    pub fn from_sums(n: f64, sum: f64, sum_of_squares: f64) -> Result<Self, StatsError> {
        let units = whole("n", n)?;
        finite("sum", sum)?;
        finite("sum of squares", sum_of_squares)?;
        let mean = sum / n;
        let m2 = spread("sum of squares", sum_of_squares, mean * sum)?;
        Ok(Self { n: units, rejected: 0, mean, low: 0.0, m2 })
    }

    /// Values taken in.
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// Values refused because they were not finite.
    #[must_use]
    pub const fn rejected(&self) -> u64 {
        self.rejected
    }

    /// The mean, if there is a value.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then_some(self.mean)
    }

    /// The unbiased variance, if there are two values.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        (self.n > 1).then(|| self.m2 / (real(self.n) - 1.0))
    }

    /// Squared standard error of the mean, if there are two values.
    pub(crate) fn error_squared(&self) -> Option<f64> {
        self.variance().map(|variance| variance / real(self.n))
    }
}

/// Count, means, squared deviations and their product for pairs of values: a metric and its
/// covariate, a numerator and its denominator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairMoments {
    n: u64,
    rejected: u64,
    mean_x: f64,
    mean_y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

impl PairMoments {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { n: 0, rejected: 0, mean_x: 0.0, mean_y: 0.0, xx: 0.0, yy: 0.0, xy: 0.0 }
    }

    /// Takes one pair in. A pair with a NaN or an infinity is counted as rejected only.
    pub fn push(&mut self, x: f64, y: f64) {
        if x.is_finite() && y.is_finite() {
            self.merge(&Self { n: 1, mean_x: x, mean_y: y, ..Self::new() });
        } else {
            self.rejected += 1;
        }
    }

    /// Takes in everything `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        let rejected = self.rejected + other.rejected;
        if other.n > 0 && self.n == 0 {
            *self = *other;
        } else if other.n > 0 {
            let n = self.n + other.n;
            let weight = real(other.n) / real(n);
            let both = real(self.n) * weight;
            let (dx, dy) = (other.mean_x - self.mean_x, other.mean_y - self.mean_y);
            self.mean_x += dx * weight;
            self.mean_y += dy * weight;
            self.xx += other.xx + dx * dx * both;
            self.yy += other.yy + dy * dy * both;
            self.xy += other.xy + dx * dy * both;
            self.n = n;
        }
        self.rejected = rejected;
    }

    /// The moments of two whole samples, value by value.
    ///
    /// # Errors
    ///
    /// [`StatsError::LengthMismatch`] or [`StatsError::NotFinite`].
    pub fn of(
        (name_x, xs): (&'static str, &[f64]),
        (name_y, ys): (&'static str, &[f64]),
    ) -> Result<Self, StatsError> {
        if xs.len() != ys.len() {
            return Err(StatsError::LengthMismatch {
                left: name_x,
                left_len: xs.len(),
                right: name_y,
                right_len: ys.len(),
            });
        }
        let mut moments = Self::new();
        for (&x, &y) in xs.iter().zip(ys) {
            moments.push(finite(name_x, x)?, finite(name_y, y)?);
        }
        Ok(moments)
    }

    /// The moments behind the five sums of `n` pairs: of x, x squared, y, y squared and x times y.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when `n` is not a whole number of at least 1, a value is not finite, or no
    /// sample has these sums.
    pub fn from_sums(
        n: f64,
        (sum_x, squares_x): (f64, f64),
        (sum_y, squares_y): (f64, f64),
        cross: f64,
    ) -> Result<Self, StatsError> {
        let x = Moments::from_sums(n, sum_x, squares_x)?;
        let y = Moments::from_sums(n, sum_y, squares_y)?;
        let xy = finite("cross", cross)? - x.mean * sum_y;
        // Cauchy and Schwarz, with room for rounding.
        if xy * xy > x.m2 * y.m2 * 1.000_001 + 1e-12 * (cross * cross) {
            return Err(StatsError::OutOfRange {
                name: "cross",
                value: cross,
                expected: "possible beside the sums of squares",
            });
        }
        let (mean_x, mean_y) = (x.mean, y.mean);
        Ok(Self { n: x.n, rejected: 0, mean_x, mean_y, xx: x.m2, yy: y.m2, xy })
    }

    /// Pairs taken in.
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// Pairs refused because a value was not finite.
    #[must_use]
    pub const fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Mean of the first values; 0 before there is one.
    pub(crate) const fn mean_x(&self) -> f64 {
        self.mean_x
    }

    /// Mean of the second values; 0 before there is one.
    pub(crate) const fn mean_y(&self) -> f64 {
        self.mean_y
    }

    /// Sums of squared deviations and of their product: `(xx, yy, xy)`.
    pub(crate) const fn deviations(&self) -> (f64, f64, f64) {
        (self.xx, self.yy, self.xy)
    }
}

/// `n` as a count of at least 1.
fn whole(name: &'static str, n: f64) -> Result<u64, StatsError> {
    count(name, n)?;
    if (1.0..=1e19).contains(&n) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1..=1e19")]
        Ok(n as u64)
    } else {
        Err(StatsError::OutOfRange { name, value: n, expected: "from 1 to 1e19" })
    }
}

/// `squares - taken`, which no sample makes negative by more than rounding.
fn spread(name: &'static str, squares: f64, taken: f64) -> Result<f64, StatsError> {
    let rest = squares - taken;
    if rest < -1e-9 * squares.abs() || !rest.is_finite() {
        return Err(StatsError::OutOfRange {
            name,
            value: squares,
            expected: "at least the squared sum divided by n",
        });
    }
    Ok(rest.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_mean_does_not_swallow_a_small_variance() {
        let moments = Moments::of("x", &[1e9, 1e9 + 1.0, 1e9 + 2.0]).unwrap();
        assert_eq!((moments.mean(), moments.variance()), (Some(1e9 + 1.0), Some(1.0)));
    }

    #[test]
    fn a_long_stream_does_not_move_its_mean() {
        // A third has no end in binary; a million of them would drift without the compensation.
        let mut moments = Moments::new();
        for i in 0..1_000_000 {
            moments.push(1e6 + f64::from(i % 3) / 3.0);
        }
        let want = 1e6 + 333_333.0 / 1e6; // the sum of the parts is 999,999 / 3
        assert!((moments.mean().unwrap() - want).abs() <= 2e-10, "{:?}", moments.mean());
    }

    #[test]
    fn parts_merge_into_the_whole() {
        let values: Vec<f64> = (0..1000).map(|i| (f64::from(i) * 0.37).sin() * 5.0 + 3.0).collect();
        let whole = Moments::of("x", &values).unwrap();
        let mut parts = Moments::new();
        for part in values.chunks(37) {
            parts.merge(&Moments::of("x", part).unwrap());
        }
        assert_eq!(parts.n(), whole.n());
        assert!((parts.mean().unwrap() - whole.mean().unwrap()).abs() < 1e-13);
        assert!((parts.variance().unwrap() - whole.variance().unwrap()).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_finite_is_counted_and_left_out() {
        let mut moments = Moments::new();
        let mut pairs = PairMoments::new();
        for value in [1.0, f64::NAN, 3.0, f64::INFINITY] {
            moments.push(value);
            pairs.push(value, 1.0);
        }
        assert_eq!((moments.n(), moments.rejected(), moments.mean()), (2, 2, Some(2.0)));
        assert_eq!((pairs.n(), pairs.rejected(), pairs.mean_x()), (2, 2, 2.0));
    }

    #[test]
    fn nothing_has_neither_mean_nor_variance() {
        assert_eq!((Moments::new().mean(), Moments::new().variance()), (None, None));
    }

    #[test]
    fn sums_that_no_sample_has_are_refused() {
        assert!(Moments::from_sums(2.0, 10.0, 1.0).is_err());
        assert!(PairMoments::from_sums(2.0, (2.0, 2.0), (2.0, 2.0), 9.0).is_err());
        assert!(Moments::from_sums(f64::NAN, 1.0, 1.0).is_err());
    }
}
