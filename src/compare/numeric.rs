//! Numbers.

use crate::compare::comparator::{Comparator, Incomparable};

/// Compares two numbers: 1 when their distance is within the tolerance, and beyond it the
/// tolerance over the distance, so 0.5 at twice the tolerance and towards 0 far away. With a
/// tolerance of 0, 1 for equal numbers and 0 for others.
///
/// NaN and infinite numbers are incomparable. Zeros of both signs are one number.
///
/// ```
/// use pilotage::compare::comparator::Comparator;
/// use pilotage::compare::numeric::Numeric;
///
/// let price = Numeric::relative(0.01);
/// assert_eq!(price.compare(&200.0, &201.0), Ok(1.0));
/// assert_eq!(price.compare(&100.0, &98.0), Ok(0.5));
/// assert!(price.compare(&100.0, &f64::NAN).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numeric {
    distance: Distance,
    tolerance: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Distance {
    Absolute,
    Relative,
    Ulps,
}

impl Numeric {
    /// By the difference itself, in the numbers' own unit. A tolerance that is negative or not a
    /// number counts as 0.
    #[must_use]
    pub fn absolute(tolerance: f64) -> Self {
        Self::new(Distance::Absolute, tolerance)
    }

    /// By the difference over the larger of the two sizes: 0.01 is one percent. Near 0 every
    /// difference is large by this measure; use [`Numeric::absolute`] there. A tolerance that is
    /// negative or not a number counts as 0.
    #[must_use]
    pub fn relative(tolerance: f64) -> Self {
        Self::new(Distance::Relative, tolerance)
    }

    /// By how many numbers of the type (`f32` or `f64`) lie between the two, plus one: what
    /// another order of summation or a fused instruction changes.
    #[must_use]
    pub fn ulps(tolerance: u32) -> Self {
        Self::new(Distance::Ulps, f64::from(tolerance))
    }

    fn new(distance: Distance, tolerance: f64) -> Self {
        Self { distance, tolerance: tolerance.max(0.0) } // `max` makes NaN 0
    }

    fn similarity(&self, a: f64, b: f64, ulps: u64) -> Result<f64, Incomparable> {
        if !(a.is_finite() && b.is_finite()) {
            return Err(Incomparable::NotFinite);
        }
        if a == b {
            return Ok(1.0);
        }
        // Halves, so that the difference of the largest numbers stays finite.
        let half = (a / 2.0 - b / 2.0).abs();
        let (distance, tolerance) = match self.distance {
            Distance::Absolute => (half, self.tolerance / 2.0),
            Distance::Relative => (half / a.abs().max(b.abs()), self.tolerance / 2.0),
            Distance::Ulps => (ulps as f64, self.tolerance),
        };
        Ok(if distance <= tolerance { 1.0 } else { (tolerance / distance).clamp(0.0, 1.0) })
    }
}

impl Comparator<f64> for Numeric {
    fn compare(&self, baseline: &f64, candidate: &f64) -> Result<f64, Incomparable> {
        let place = |x: f64| {
            let size = (x.abs().to_bits()) as i64;
            if x < 0.0 { -size } else { size }
        };
        self.similarity(*baseline, *candidate, place(*baseline).abs_diff(place(*candidate)))
    }
}

impl Comparator<f32> for Numeric {
    fn compare(&self, baseline: &f32, candidate: &f32) -> Result<f64, Incomparable> {
        let place = |x: f32| {
            let size = i64::from(x.abs().to_bits());
            if x < 0.0 { -size } else { size }
        };
        let ulps = place(*baseline).abs_diff(place(*candidate));
        self.similarity(f64::from(*baseline), f64::from(*candidate), ulps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_the_tolerance_is_1_and_beyond_it_falls() {
        let close = Numeric::absolute(0.5);
        assert_eq!(close.compare(&1.0, &1.5), Ok(1.0));
        assert_eq!(close.compare(&1.0, &2.0), Ok(0.5));
        assert_eq!(close.compare(&1.0, &-9.0), Ok(0.05));
        assert_eq!(Numeric::absolute(0.0).compare(&1.0, &1.0), Ok(1.0));
        assert_eq!(Numeric::absolute(0.0).compare(&1.0, &1.1), Ok(0.0));
        assert_eq!(Numeric::absolute(f64::NAN).compare(&1.0, &1.1), Ok(0.0));
    }

    #[test]
    fn the_largest_numbers_have_a_similarity() {
        for numeric in [Numeric::absolute(1.0), Numeric::relative(0.1), Numeric::ulps(4)] {
            let far = numeric.compare(&f64::MAX, &f64::MIN).unwrap();
            assert!((0.0..0.1).contains(&far), "{far}");
            assert_eq!(numeric.compare(&0.0, &-0.0), Ok(1.0));
            for odd in [f64::NAN, f64::INFINITY] {
                assert_eq!(numeric.compare(&odd, &odd), Err(Incomparable::NotFinite));
            }
        }
    }

    #[test]
    fn ulps_are_those_of_the_type() {
        let four = Numeric::ulps(4);
        assert_eq!(four.compare(&1.0_f64, &(1.0 + 4.0 * f64::EPSILON)), Ok(1.0));
        assert_eq!(four.compare(&1.0_f64, &(1.0 + 8.0 * f64::EPSILON)), Ok(0.5));
        assert_eq!(four.compare(&1.0_f32, &(1.0 + 8.0 * f32::EPSILON)), Ok(0.5));
        let least = f64::from_bits(1);
        assert_eq!(Numeric::ulps(2).compare(&least, &-least), Ok(1.0));
    }
}
