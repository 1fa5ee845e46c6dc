//! How surprising a rate is if another one were true.
//!
//! The Kullback-Leibler divergence of two yes/no rates is the average evidence, in nats, that one
//! observation brings. It prices every sequential test: none that holds its error rate can decide
//! faster than Wald's bound, `ln(1/alpha)` divided by it.

use crate::stats::check::closed_unit;
use crate::stats::error::{StatsError, open_unit};

/// The evidence an observation brings, and what that means for the length of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surprise {
    /// Divergence in nats for each observation; zero when the rates agree, infinite when the
    /// observed rate is impossible under the other.
    pub kl: f64,
    /// Observations that any test of this level needs on average to tell the rates apart;
    /// infinite when the rates agree, zero when one observation settles it.
    pub wald_bound: f64,
}

/// The Kullback-Leibler divergence of a rate `p` from a rate `q`, both from 0 to 1, in nats.
///
/// `p ln(p/q) + (1-p) ln((1-p)/(1-q))`, with `0 ln 0 = 0`; infinite when `q` makes impossible
/// what `p` allows. Accurate to rounding also where `p` and `q` nearly agree. It says nothing
/// about data, so there is no question of how often one may look. Source: Kullback and Leibler
/// 1951.
///
/// # Errors
///
/// [`StatsError`] when a rate is not finite or lies outside `[0, 1]`.
pub fn bernoulli_kl(p: f64, q: f64) -> Result<f64, StatsError> {
    closed_unit("p", p)?;
    closed_unit("q", q)?;
    Ok(divergence(p, q))
}

/// The divergence of [`bernoulli_kl`] together with Wald's bound at a level `alpha`.
///
/// The bound is the mean number of observations below which no test that errs with probability
/// `alpha` or less, at any number of looks, can tell `p` from `q` when `p` is true. Source: Wald
/// 1945; it is what the tests of this crate are measured against.
///
/// # Errors
///
/// As [`bernoulli_kl`]; also when `alpha` is not strictly between 0 and 1.
pub fn surprise(p: f64, q: f64, alpha: f64) -> Result<Surprise, StatsError> {
    let kl = bernoulli_kl(p, q)?;
    let evidence = -open_unit("alpha", alpha)?.ln();
    let wald_bound = if kl > 0.0 { evidence / kl } else { f64::INFINITY };
    Ok(Surprise { kl, wald_bound })
}

/// The divergence of rates already checked.
pub(crate) fn divergence(p: f64, q: f64) -> f64 {
    if p == q {
        return 0.0;
    }
    if (q == 0.0) || (q == 1.0) {
        return f64::INFINITY;
    }
    // The two deviances share the difference p - q exactly, which 1 - p and 1 - q have lost.
    deviance_with(p, q, p - q) + deviance_with(1.0 - p, 1.0 - q, q - p)
}

/// `x ln(x/m) + m - x` for `x >= 0` and `m > 0`: how far a count lies from its mean, without the
/// cancellation of the naive formula when they are close.
pub(crate) fn deviance(x: f64, m: f64) -> f64 {
    deviance_with(x, m, x - m)
}

/// [`deviance`] where the difference `d = x - m` is known better than subtraction would tell.
fn deviance_with(x: f64, m: f64, d: f64) -> f64 {
    if x == 0.0 {
        return m;
    }
    let v = d / (x + m);
    if v.abs() >= 0.1 {
        return x * (x / m).ln() - d;
    }
    // x ln((1+v)/(1-v)) - d, where the artanh series' first term all but cancels d.
    let mut sum = d * v;
    let mut power = 2.0 * x * v;
    let square = v * v;
    let mut odd = 3.0;
    loop {
        power *= square;
        let next = sum + power / odd;
        if next == sum || odd > 200.0 {
            return next;
        }
        sum = next;
        odd += 2.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_rates_keep_their_digits() {
        // For close rates the divergence tends to (p-q)^2 / (2 q (1-q)).
        let kl = bernoulli_kl(0.25 + 1e-9, 0.25).unwrap();
        let expected = 1e-18 / (2.0 * 0.25 * 0.75);
        assert!((kl / expected - 1.0).abs() < 1e-6, "{kl} against {expected}");
    }

    #[test]
    fn what_the_other_rate_forbids_is_infinitely_surprising() {
        assert_eq!(bernoulli_kl(0.1, 0.0).unwrap(), f64::INFINITY);
        assert_eq!(bernoulli_kl(0.0, 0.0).unwrap(), 0.0);
        assert_eq!(bernoulli_kl(1.0, 1.0).unwrap(), 0.0);
        assert_eq!(surprise(0.5, 0.0, 0.01).unwrap().wald_bound, 0.0);
        assert_eq!(surprise(0.5, 0.5, 0.01).unwrap().wald_bound, f64::INFINITY);
    }

    #[test]
    fn the_deviance_is_never_negative() {
        for k in 0..400 {
            let x = 1e6 * (1.0 + f64::from(k - 200) * 1e-3);
            assert!(deviance(x, 1e6) >= 0.0, "at {x}");
        }
    }
}
