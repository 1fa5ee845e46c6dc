//! Quantiles of a list of values, and how surely they are known.

use crate::stats::error::{StatsError, finite, open_unit};
use crate::stats::incomplete::{Split, beta_tails};

/// Which of the customary definitions is meant. They differ by less than the distance between
/// neighbouring values.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Definition {
    /// Between the values around `q (n − 1)`, in proportion. The habit of most software.
    #[default]
    Linear,
    /// The smallest value that at least the part `q` does not exceed.
    InvertedCdf,
    /// The value at `q (n − 1)`, rounded up.
    Higher,
    /// Linear between values taken to stand at `(i − ½) / n`.
    Hazen,
    /// Nearly unbiased in the median, for any distribution (Hyndman & Fan, American Statistician 50
    /// (1996), definition 8).
    MedianUnbiased,
    /// The value at `q (n − 1)`, rounded down: what a sketch with a relative error promises to
    /// approximate.
    RankFloor,
}

/// The `q` quantile of `values`, `0 <= q <= 1`.
///
/// Sorts a copy. On the request path use [`crate::observe::histogram::Histogram`], which keeps counts.
///
/// # Errors
///
/// [`StatsError`] without values, with one that is not finite, or when `q` is not from 0 to 1.
///
/// ```
/// use pilotage::stats::quantile::{Definition, quantile};
///
/// let values = [4.0, 1.0, 3.0, 2.0];
/// assert_eq!(quantile(&values, 0.5, Definition::Linear)?, 2.5);
/// assert_eq!(quantile(&values, 0.5, Definition::InvertedCdf)?, 2.0);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
pub fn quantile(values: &[f64], q: f64, definition: Definition) -> Result<f64, StatsError> {
    crate::stats::check::closed_unit("q", q)?;
    if values.is_empty() {
        return Err(StatsError::TooFew { name: "values", len: 0, needed: 1 });
    }
    for value in values {
        finite("value", *value)?;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (n, last) = (sorted.len() as f64, sorted.len() - 1);
    let at = |index: f64| sorted[(index.max(0.0) as usize).min(last)];
    let between = |index: f64| {
        let index = index.clamp(0.0, n - 1.0);
        let (low, high, part) = (at(index.floor()), at(index.floor() + 1.0), index.fract());
        // From the nearer end, so that the ends themselves are hit.
        if part < 0.5 { low + (high - low) * part } else { high - (high - low) * (1.0 - part) }
    };
    Ok(match definition {
        Definition::Linear => between(q * (n - 1.0)),
        Definition::InvertedCdf => at((n * q).ceil() - 1.0),
        Definition::Higher => at((q * (n - 1.0)).ceil()),
        Definition::Hazen => between(n * q - 0.5),
        Definition::MedianUnbiased => between(n * q + (1.0 / 3.0 + q / 3.0) - 1.0),
        Definition::RankFloor => at((q * (n - 1.0)).floor()),
    })
}

/// Two order statistics, by their ranks from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ranks {
    /// The lower one; `None` when even the smallest value may lie above the quantile.
    pub low: Option<u64>,
    /// The upper one; `None` when even the largest may lie below it.
    pub high: Option<u64>,
}

/// Valid for one look only: which two of `n` sorted values enclose the `q` quantile with at least this
/// confidence, whatever the distribution.
///
/// The number of values below the quantile is binomial; each side is missed with at most half of what
/// is left of the confidence.
///
/// # Errors
///
/// [`StatsError`] when `n` is 0 or above 2^53, or `q` or `confidence` is not strictly between 0 and 1.
pub fn order_statistic_ranks(n: u64, q: f64, confidence: f64) -> Result<Ranks, StatsError> {
    open_unit("q", q)?;
    open_unit("confidence", confidence)?;
    if n == 0 || n > 1 << 53 {
        let (name, value) = ("n", n as f64);
        return Err(StatsError::OutOfRange { name, value, expected: "from 1 to 2^53" });
    }
    let tail = (1.0 - confidence) / 2.0;
    // P(count <= k) and P(count > k).
    let tails = |k: u64| {
        if k >= n {
            return (1.0, 0.0);
        }
        let (below, above) = beta_tails(k as f64 + 1.0, (n - k) as f64, Split::at(q));
        (above, below)
    };
    let smallest = |enough: &dyn Fn(u64) -> bool| {
        let (mut low, mut high) = (0, n);
        while low < high {
            let middle = low + (high - low) / 2;
            if enough(middle) { high = middle } else { low = middle + 1 }
        }
        low
    };
    let low = smallest(&|k| tails(k).0 >= tail);
    let high = smallest(&|k| tails(k).1 <= tail) + 1;
    Ok(Ranks { low: (low >= 1).then_some(low), high: (high <= n).then_some(high) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_enclose_no_extreme_quantile() {
        let ranks = order_statistic_ranks(5, 0.99, 0.95).unwrap();
        assert_eq!(ranks.high, None);
        assert!(order_statistic_ranks(0, 0.5, 0.95).is_err());
        assert!(quantile(&[1.0], f64::NAN, Definition::Linear).is_err());
    }
}
