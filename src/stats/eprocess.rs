//! Evidence about yes/no events that holds at every look and at any count, however small.
//!
//! Each function returns the logarithm of an e-value: under the null hypothesis its mean is at
//! most 1 at every stopping time, so it exceeds `1/alpha` at any time with probability at most
//! `alpha` (Ville). Anytime-valid and exact; no normal limit is taken. The counts are totals since
//! the start, under one constant null: where the null probability changes from batch to batch,
//! evidence is to be accumulated batch by batch over a fixed grid of alternatives.

use crate::stats::check::{in_range, successes_of};
use crate::stats::error::{StatsError, open_unit};
use crate::stats::quadrature::ln_integral_of_falling;
use crate::stats::surprise::deviance;
use crate::stats::tails::{ln_beta_over, ln_incomplete_beta};

/// Alternatives in the grid of [`eprocess_rate_ratio_grid`].
const GRID: u32 = 30;

/// The largest ratio of rates the grid reaches.
const LARGEST_RATIO: f64 = 1000.0;

/// Log evidence that a success rate is not `q0`, in either direction. Anytime-valid, exact.
///
/// `successes` of `trials`; `q0` from 1e-15 to 1 - 1e-15; `a, b > 0` are the beta prior over the
/// rate (1/2 and 1/2 is usual). The evidence is the marginal likelihood under the prior over the
/// likelihood under `q0`. With no trial it is 0. Source: Robbins 1970; Ramdas, Grünwald, Vovk and
/// Shafer 2023.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range, or successes exceed trials.
pub fn eprocess_binomial_two_sided_beta_mixture(
    successes: f64,
    trials: f64,
    q0: f64,
    a: f64,
    b: f64,
) -> Result<f64, StatsError> {
    counts(successes, trials)?;
    in_range("q0", q0, 1e-15, 1.0 - 1e-15, "from 1e-15 to 1 - 1e-15")?;
    in_range("a", a, 1e-9, 1e18, "from 1e-9 to 1e18")?;
    in_range("b", b, 1e-9, 1e18, "from 1e-9 to 1e18")?;
    if trials == 0.0 {
        return Ok(0.0);
    }
    let mass = |x: f64, y: f64| ln_beta_over(x, y, q0, 1.0 - q0);
    Ok(mass(a + successes, b + (trials - successes)) - mass(a, b))
}

/// Log evidence that a success rate is above `q0`. Anytime-valid, exact, for any rate up to `q0`.
///
/// `successes` of `trials`; `q0` from 1e-15 to 1 - 1e-15. The prior is a beta distribution with
/// mean `q0` and the weight of two trials, cut off below `q0`. With no trial the evidence is 0.
/// Source: Howard and others, Annals of Statistics 49 (2021).
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range, or successes exceed trials.
pub fn eprocess_binomial_one_sided_beta_mixture(
    successes: f64,
    trials: f64,
    q0: f64,
) -> Result<f64, StatsError> {
    counts(successes, trials)?;
    in_range("q0", q0, 1e-15, 1.0 - 1e-15, "from 1e-15 to 1 - 1e-15")?;
    if trials == 0.0 {
        return Ok(0.0);
    }
    let p0 = 1.0 - q0;
    // The mass above q0 is that of failures below 1 - q0.
    let mass = |x: f64, y: f64| {
        if x < 1.0 && y >= 1.0 {
            // Next to all of the mass lies below q0, so what lies above is summed by itself, over
            // the log odds beyond those of q0.
            let grown = |t: f64| {
                if t < 1.0 { (q0 * t.exp_m1()).ln_1p() } else { t + (q0 + p0 * (-t).exp()).ln() }
            };
            ln_integral_of_falling(|t| x * t - (x + y) * grown(t))
        } else {
            ln_beta_over(x, y, q0, p0) + ln_incomplete_beta(y, x, p0, q0)
        }
    };
    let (a, b) = (2.0 * q0, 2.0 * p0);
    Ok(mass(a + successes, b + (trials - successes)) - mass(a, b))
}

/// Log evidence that the canary's rate of events exceeds `null_ratio` times the control's.
/// Anytime-valid, exact, for any ratio up to the null one.
///
/// Of `total_events` events in both arms (errors, timeouts), `canary_events` were the canary's,
/// which carried `canary_share` of the traffic, strictly between 0 and 1. Only how the events
/// divide is used, so a shared incident, which raises both arms' rates, is no evidence, and a
/// control without events is no obstacle. Averages the likelihood over 30 ratios, evenly spaced
/// in the logarithm between `null_ratio` and 1,000; `null_ratio` lies above 0 and below 1,000.
/// Events must be independent: a client that retries is one event. With no event it is 0. Source:
/// Lindon and Malek 2022; Ramdas, Grünwald, Vovk and Shafer 2023.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range, or the canary has more events than
/// there are.
pub fn eprocess_rate_ratio_grid(
    canary_events: f64,
    total_events: f64,
    canary_share: f64,
    null_ratio: f64,
) -> Result<f64, StatsError> {
    counts(canary_events, total_events)?;
    open_unit("canary_share", canary_share)?;
    in_range("null_ratio", null_ratio, 1e-100, 1e100, "above 1e-100 and below 1000")?;
    if null_ratio >= LARGEST_RATIO {
        return Err(StatsError::OutOfRange {
            name: "null_ratio",
            value: null_ratio,
            expected: "below 1000",
        });
    }
    let control_events = total_events - canary_events;
    let rest = 1.0 - canary_share;
    let null_total = null_ratio * canary_share + rest;
    let step = (LARGEST_RATIO / null_ratio).ln() / f64::from(GRID);
    let mut evidence = [0.0; GRID as usize];
    let mut best = f64::NEG_INFINITY;
    for (j, slot) in (0..GRID).zip(&mut evidence) {
        let ln_ratio = (f64::from(j) + 0.5) * step;
        // q_j/q_0 and (1-q_j)/(1-q_0): the second is what the total weight grew by.
        let grown = null_ratio * canary_share * ln_ratio.exp_m1() / null_total;
        let ln_control = -grown.ln_1p();
        *slot = canary_events * (ln_ratio + ln_control) + control_events * ln_control;
        best = best.max(*slot);
    }
    let sum: f64 = evidence.iter().map(|&ln_e| (ln_e - best).exp()).sum();
    Ok(best + (sum / f64::from(GRID)).ln())
}

/// Log evidence that a success rate is not `q0` if the rate were known to be `q1` instead.
///
/// The likelihood ratio of Wald's sequential test, exact and anytime-valid: the yardstick no
/// mixture beats when `q1` is right, and the wrong one to use when it is not.
///
/// # Errors
///
/// [`StatsError`] when a rate is not strictly between 0 and 1 or the counts do not fit.
pub fn likelihood_ratio(successes: f64, trials: f64, q0: f64, q1: f64) -> Result<f64, StatsError> {
    counts(successes, trials)?;
    in_range("q0", q0, 1e-15, 1.0 - 1e-15, "from 1e-15 to 1 - 1e-15")?;
    open_unit("q1", q1)?;
    let failures = trials - successes;
    if trials == 0.0 {
        return Ok(0.0);
    }
    // Differences of deviances, so that close rates keep their digits at large counts.
    let from =
        |q: f64, rest: f64| deviance(successes, trials * q) + deviance(failures, trials * rest);
    Ok(from(q0, 1.0 - q0) - from(q1, 1.0 - q1))
}

fn counts(successes: f64, trials: f64) -> Result<(), StatsError> {
    successes_of(("successes", "trials"), successes, trials).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of `exp(ln_e)` over all outcomes of `n` trials of rate `q`.
    fn mean(n: u32, q: f64, ln_e: impl Fn(f64) -> f64) -> f64 {
        let mut chance = (1.0 - q).powi(i32::try_from(n).unwrap());
        let mut mean = 0.0;
        for x in 0..=n {
            mean += chance * ln_e(f64::from(x)).exp();
            chance *= f64::from(n - x) / f64::from(x + 1) * q / (1.0 - q);
        }
        mean
    }

    #[test]
    fn under_the_null_the_evidence_averages_one() {
        for q in [0.02, 0.3, 0.9] {
            let two = mean(30, q, |x| {
                eprocess_binomial_two_sided_beta_mixture(x, 30.0, q, 0.5, 0.5).unwrap()
            });
            let one =
                mean(30, q, |x| eprocess_binomial_one_sided_beta_mixture(x, 30.0, q).unwrap());
            assert!((two - 1.0).abs() < 1e-9, "{two} at {q}");
            assert!((one - 1.0).abs() < 1e-9, "{one} at {q}");
        }
        let share = 0.05;
        let grid = mean(30, share, |x| eprocess_rate_ratio_grid(x, 30.0, share, 1.0).unwrap());
        assert!((grid - 1.0).abs() < 1e-9, "{grid}");
    }

    #[test]
    fn a_rate_below_the_tolerated_one_gives_still_less_evidence() {
        let below =
            mean(40, 0.2, |x| eprocess_binomial_one_sided_beta_mixture(x, 40.0, 0.3).unwrap());
        assert!(below < 1.0, "{below}");
        let better = mean(40, 0.03, |x| eprocess_rate_ratio_grid(x, 40.0, 0.05, 1.0).unwrap());
        assert!(better < 1.0, "{better}");
    }

    #[test]
    fn two_errors_on_a_small_canary_suffice_at_one_percent() {
        let after = |n: f64| eprocess_rate_ratio_grid(n, n, 0.05, 1.0).unwrap().exp();
        assert!((after(1.0) - 11.4).abs() < 0.1, "{}", after(1.0));
        assert!((after(2.0) - 174.0).abs() < 1.0, "{}", after(2.0));
        assert!((after(3.0) - 2917.0).abs() < 5.0, "{}", after(3.0));
    }

    #[test]
    fn no_trial_is_no_evidence() {
        assert_eq!(eprocess_binomial_one_sided_beta_mixture(0.0, 0.0, 0.3).unwrap(), 0.0);
        assert_eq!(eprocess_binomial_two_sided_beta_mixture(0.0, 0.0, 0.3, 0.5, 0.5).unwrap(), 0.0);
        assert!(eprocess_rate_ratio_grid(0.0, 0.0, 0.3, 1.0).unwrap().abs() < 1e-12);
        assert_eq!(likelihood_ratio(0.0, 0.0, 0.3, 0.2).unwrap(), 0.0);
    }

    #[test]
    fn huge_counts_keep_their_evidence_finite() {
        for (x, n, q) in
            [(1e18, 1e18, 1e-9), (0.0, 1e18, 1e-9), (1e9, 1e18, 1e-9), (5e17, 1e18, 0.5)]
        {
            assert!(eprocess_binomial_one_sided_beta_mixture(x, n, q).unwrap().is_finite());
            assert!(
                eprocess_binomial_two_sided_beta_mixture(x, n, q, 0.5, 0.5).unwrap().is_finite()
            );
            assert!(eprocess_rate_ratio_grid(x, n, 0.05, 1.0).unwrap().is_finite());
        }
    }

    #[test]
    fn a_mixture_stays_below_the_likelihood_ratio_of_the_truth_and_near_it() {
        let known = likelihood_ratio(1200.0, 20_000.0, 0.05, 0.06).unwrap();
        let mixed = eprocess_binomial_one_sided_beta_mixture(1200.0, 20_000.0, 0.05).unwrap();
        assert!(mixed < known && mixed > known - 6.0, "{mixed} against {known}");
    }
}
