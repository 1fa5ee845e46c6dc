//! Many questions asked of one set of data.

use crate::stats::error::{StatsError, open_unit};

/// Adjusted p-values and which of them reject, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub struct Adjusted {
    /// Adjusted p-values, at most 1.
    pub p: Vec<f64>,
    /// Whether each is rejected at the level asked for.
    pub reject: Vec<bool>,
}

/// Bonferroni's: the chance of any false rejection is at most `alpha`, whatever the dependence.
///
/// # Errors
///
/// [`StatsError`] for a p-value outside `0..=1`, or an `alpha` not strictly between 0 and 1.
pub fn bonferroni(p: &[f64], alpha: f64) -> Result<Adjusted, StatsError> {
    check(p, alpha)?;
    let m = p.len() as f64;
    Ok(rejecting(p.iter().map(|p| (p * m).min(1.0)).collect(), alpha))
}

/// Holm's: the same promise as Bonferroni's, and never fewer rejections.
///
/// Source: Holm, Scandinavian Journal of Statistics 6 (1979).
///
/// # Errors
///
/// As [`bonferroni`].
///
/// ```
/// let holm = pilotage::stats::multiplicity::holm(&[0.01, 0.04, 0.03], 0.05)?;
/// assert_eq!(holm.p, [0.03, 0.06, 0.06]);
/// assert_eq!(holm.reject, [true, false, false]);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
pub fn holm(p: &[f64], alpha: f64) -> Result<Adjusted, StatsError> {
    check(p, alpha)?;
    let order = ascending(p);
    let m = p.len();
    let mut adjusted = vec![0.0; m];
    let mut most: f64 = 0.0;
    for (rank, at) in order.into_iter().enumerate() {
        most = most.max((m - rank) as f64 * p[at]).min(1.0);
        adjusted[at] = most;
    }
    Ok(rejecting(adjusted, alpha))
}

/// Benjamini and Hochberg's: of the rejections, at most the part `alpha` is false on average, for
/// independent or positively dependent p-values.
///
/// Source: Benjamini & Hochberg, JRSS B 57 (1995).
///
/// # Errors
///
/// As [`bonferroni`].
pub fn benjamini_hochberg(p: &[f64], alpha: f64) -> Result<Adjusted, StatsError> {
    check(p, alpha)?;
    Ok(rejecting(step_up(p, 1.0), alpha))
}

/// Benjamini and Yekutieli's: as [`benjamini_hochberg`], under any dependence.
///
/// Source: Benjamini & Yekutieli, Annals of Statistics 29 (2001).
///
/// # Errors
///
/// As [`bonferroni`].
pub fn benjamini_yekutieli(p: &[f64], alpha: f64) -> Result<Adjusted, StatsError> {
    check(p, alpha)?;
    let harmonic: f64 = (1..=p.len()).map(|i| 1.0 / i as f64).sum();
    Ok(rejecting(step_up(p, harmonic), alpha))
}

/// Which e-values reject with a false discovery rate of at most `alpha`, under any dependence.
///
/// `ln_e` are logarithms of e-values. The `k` largest are rejected for the largest `k` with
/// `k e_(k) / m >= 1 / alpha`. E-processes may be stopped and read at any time, so this may too.
/// Source: Wang & Ramdas, JRSS B 84 (2022).
///
/// # Errors
///
/// [`StatsError`] for an e-value that is NaN or an `alpha` not strictly between 0 and 1.
pub fn e_benjamini_hochberg(ln_e: &[f64], alpha: f64) -> Result<Vec<bool>, StatsError> {
    open_unit("alpha", alpha)?;
    if let Some(value) = ln_e.iter().find(|value| value.is_nan()) {
        return Err(StatsError::NotFinite { name: "ln_e", value: *value });
    }
    let mut order: Vec<usize> = (0..ln_e.len()).collect();
    order.sort_by(|one, two| ln_e[*two].total_cmp(&ln_e[*one]));
    let m = ln_e.len() as f64;
    let passes = |rank: usize| ln_e[order[rank]] + ((rank + 1) as f64 / m).ln() >= -alpha.ln();
    let rejected = (0..order.len()).rev().find(|rank| passes(*rank)).map_or(0, |rank| rank + 1);
    let mut reject = vec![false; ln_e.len()];
    order[..rejected].iter().for_each(|at| reject[*at] = true);
    Ok(reject)
}

fn step_up(p: &[f64], factor: f64) -> Vec<f64> {
    let m = p.len();
    let mut adjusted = vec![0.0; m];
    let mut least: f64 = 1.0;
    for (rank, at) in ascending(p).into_iter().enumerate().rev() {
        // A factor of at least 1, so that rounding takes no p-value below itself.
        least = least.min(p[at] * (m as f64 * factor / (rank + 1) as f64));
        adjusted[at] = least;
    }
    adjusted
}

fn rejecting(p: Vec<f64>, alpha: f64) -> Adjusted {
    let reject = p.iter().map(|p| *p <= alpha).collect();
    Adjusted { p, reject }
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|one, two| p[*one].total_cmp(&p[*two]));
    order
}

fn check(p: &[f64], alpha: f64) -> Result<(), StatsError> {
    open_unit("alpha", alpha)?;
    for value in p {
        if !value.is_finite() {
            return Err(StatsError::NotFinite { name: "p", value: *value });
        }
        if !(0.0..=1.0).contains(value) {
            return Err(StatsError::OutOfRange {
                name: "p",
                value: *value,
                expected: "from 0 to 1",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_e_values_are_rejected_together() {
        let e = [100.0_f64, 30.0, 1.0, 0.1].map(f64::ln);
        // Of four at 0.1: the first needs 40, two together 20 each.
        assert_eq!(e_benjamini_hochberg(&e, 0.1).unwrap(), [true, true, false, false]);
        assert_eq!(e_benjamini_hochberg(&e, 0.01).unwrap(), [false; 4]);
        assert!(e_benjamini_hochberg(&[f64::NAN], 0.1).is_err());
        assert!(e_benjamini_hochberg(&[], 0.1).unwrap().is_empty());
    }

    #[test]
    fn asking_more_questions_lowers_no_p_value() {
        let p = [0.809_225_812_336_216_4, f64::MIN_POSITIVE, 0.0];
        assert!(benjamini_hochberg(&p, 0.05).unwrap().p[0] >= p[0]);
    }

    #[test]
    fn nothing_asked_is_nothing_answered() {
        assert!(holm(&[], 0.05).unwrap().p.is_empty());
        assert!(holm(&[0.1], 0.0).is_err() && holm(&[1.1], 0.05).is_err());
    }
}
