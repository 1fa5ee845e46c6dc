//! An interval one may look at as often as one likes.

/// Two ends that hold at all times at once: with probability at least `1 − α` the true value lies
/// between them after *every* observation, so one may look, and stop, whenever one likes.
///
/// It is a type of its own because an interval for one look has the same two numbers and none of
/// this property.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnytimeInterval {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

impl AnytimeInterval {
    /// From `lo` to `hi`, cut to what is possible for a mean of values in `[0, 1]`.
    pub(crate) fn within_unit(lo: f64, hi: f64) -> Self {
        Self { lo: lo.clamp(0.0, 1.0), hi: hi.clamp(0.0, 1.0) }
    }

    /// Whether the interval contains `value`. NaN is contained in nothing.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        value >= self.lo && value <= self.hi
    }

    /// Upper end minus lower end.
    #[must_use]
    pub fn width(&self) -> f64 {
        self.hi - self.lo
    }
}
