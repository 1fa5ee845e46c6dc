//! How far one distribution lies from another.

use crate::stats::error::{StatsError, finite};
use crate::stats::special::ln_1p_minus;

/// The population stability index of counts in fixed bins: `Σ (a − e) ln(a / e)` over the bins' parts,
/// each taken as at least `floor`.
///
/// 0 for equal parts. The habit of calling 0.1 and 0.2 drift ignores the sample size: without any
/// drift it is about `(bins − 1)(1/n + 1/m)`, which for two samples of 100 in 10 bins is 0.18.
///
/// # Errors
///
/// [`StatsError`] when the lists differ in length, are shorter than 2, hold counts that are negative
/// or not finite, sum to 0, or `floor` is not strictly between 0 and 1.
pub fn population_stability_index(
    expected: &[f64],
    actual: &[f64],
    floor: f64,
) -> Result<f64, StatsError> {
    crate::stats::error::open_unit("floor", floor)?;
    let (expected, actual) = both(("expected", expected), ("actual", actual))?;
    let parts = expected.iter().zip(&actual);
    Ok(parts
        .map(|(e, a)| {
            let (e, a) = (e.max(floor), a.max(floor));
            (a - e) * ((a - e) / e).ln_1p()
        })
        .sum())
}

/// Jensen and Shannon's distance of two lists of weights, in the base of natural logarithms: the root
/// of their divergence, from 0 (the same) to `sqrt(ln 2)` (nothing in common). Divide by that for the
/// distance in base 2.
///
/// # Errors
///
/// As [`population_stability_index`].
///
/// ```
/// use pilotage::stats::divergence::jensen_shannon_distance;
///
/// assert_eq!(jensen_shannon_distance(&[1.0, 1.0], &[5.0, 5.0])?, 0.0);
/// let apart = jensen_shannon_distance(&[1.0, 0.0], &[0.0, 1.0])?;
/// assert!((apart - std::f64::consts::LN_2.sqrt()).abs() < 1e-15);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
pub fn jensen_shannon_distance(p: &[f64], q: &[f64]) -> Result<f64, StatsError> {
    let (p, q) = both(("p", p), ("q", q))?;
    let divergence: f64 = p
        .iter()
        .zip(&q)
        .map(|(p, q)| {
            let middle = f64::midpoint(*p, *q);
            if middle <= 0.0 {
                return 0.0;
            }
            // ½ [p ln(p/m) + q ln(q/m)], by the distance from the middle so that near ones do not
            // cancel.
            let u = (p - q) / (p + q);
            let side = |u: f64| if u <= -1.0 { 0.0 } else { (1.0 + u) * ln_1p_minus(u) };
            middle * (side(u) + side(-u) + 2.0 * u * u) / 2.0
        })
        .sum();
    Ok(divergence.max(0.0).sqrt())
}

/// Wasserstein's first distance of two samples: how far values must be moved, on average, to turn one
/// into the other. In the values' own unit.
///
/// # Errors
///
/// [`StatsError`] when a sample is empty or holds a value that is not finite.
pub fn wasserstein_1(a: &[f64], b: &[f64]) -> Result<f64, StatsError> {
    let (a, b) = (sorted("a", a)?, sorted("b", b)?);
    let (m, n) = (a.len() as f64, b.len() as f64);
    let mut all: Vec<f64> = a.iter().chain(&b).copied().collect();
    all.sort_by(f64::total_cmp);
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    for pair in all.windows(2) {
        while i < a.len() && a[i] <= pair[0] {
            i += 1;
        }
        while j < b.len() && b[j] <= pair[0] {
            j += 1;
        }
        sum += (i as f64 / m - j as f64 / n).abs() * (pair[1] - pair[0]);
    }
    finite("distance", sum)
}

fn sorted(name: &'static str, values: &[f64]) -> Result<Vec<f64>, StatsError> {
    if values.is_empty() {
        return Err(StatsError::TooFew { name, len: 0, needed: 1 });
    }
    for value in values {
        finite(name, *value)?;
    }
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    Ok(values)
}

/// Two lists of counts as parts of their sums.
fn both(
    left: (&'static str, &[f64]),
    right: (&'static str, &[f64]),
) -> Result<(Vec<f64>, Vec<f64>), StatsError> {
    if left.1.len() != right.1.len() {
        return Err(StatsError::LengthMismatch {
            left: left.0,
            left_len: left.1.len(),
            right: right.0,
            right_len: right.1.len(),
        });
    }
    Ok((parts(left.0, left.1)?, parts(right.0, right.1)?))
}

fn parts(name: &'static str, counts: &[f64]) -> Result<Vec<f64>, StatsError> {
    if counts.len() < 2 {
        return Err(StatsError::TooFew { name, len: counts.len(), needed: 2 });
    }
    for value in counts {
        finite(name, *value)?;
        if *value < 0.0 {
            return Err(StatsError::OutOfRange { name, value: *value, expected: "at least 0" });
        }
    }
    let total = finite(name, counts.iter().sum())?;
    if total <= 0.0 {
        return Err(StatsError::Degenerate { what: "all counts are 0" });
    }
    Ok(counts.iter().map(|count| count / total).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_distributions_keep_their_digits() {
        let (p, q) = ([0.5, 0.5], [0.5 + 1e-7, 0.5 - 1e-7]);
        let distance = jensen_shannon_distance(&p, &q).unwrap();
        // For small shifts the divergence is Σ (p − q)² / (8 m), here 5e-15 in all.
        assert!((distance / (5e-15_f64).sqrt() - 1.0).abs() < 1e-6, "{distance}");
    }

    #[test]
    fn lists_that_are_no_distributions_are_refused() {
        assert!(population_stability_index(&[0.0, 0.0], &[1.0, 1.0], 1e-4).is_err());
        assert!(population_stability_index(&[1.0, -1.0], &[1.0, 1.0], 1e-4).is_err());
        assert!(population_stability_index(&[1.0, 1.0], &[1.0, 1.0], 0.0).is_err());
        assert!(jensen_shannon_distance(&[f64::NAN, 1.0], &[1.0, 1.0]).is_err());
        assert!(wasserstein_1(&[], &[1.0]).is_err());
    }
}
