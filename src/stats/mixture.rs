//! Mixtures: evidence averaged over all the effects one might have feared.
//!
//! Each mixture here is anytime-valid: with `s` a sum whose variance process is `v`,
//! `exp(log mixture)` starts at 1 and does not grow on average while the null hypothesis holds,
//! so it exceeds `1/alpha` at any time whatever with probability at most `alpha`. Turned round,
//! the *bound* is the value of `s` that such a sum stays below for ever with probability
//! `1 - alpha`. One may look after every observation.
//!
//! A mixture is tuned to be tight at one variance, `v_opt`; it is valid, and a little wider, at
//! every other. Source: Howard and others 2021 (sections 3 and A), whose
//! parameters these functions take.

use crate::stats::anytime::AnytimeInterval;
use crate::stats::check::{in_range, positive, successes_of};
use crate::stats::error::{StatsError, finite, open_unit};
use crate::stats::special::stirling_rest;
use crate::stats::surprise::deviance;
use crate::stats::tails::{
    ln_beta_over, ln_incomplete_beta, ln_incomplete_gamma, ln_normal_cdf_over_density,
};

/// Whether a sum is watched for being too large, or for being too far off in either direction.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Sides {
    /// Only too large counts.
    One,
    /// Too large and too small both count.
    Two,
}

/// Where a mixture is tight: at variance `v_opt`, for a bound of level `alpha_opt`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// The variance at which the bound is to be narrowest, above 0.
    pub v_opt: f64,
    /// The level for which it is to be narrowest, strictly between 0 and 1.
    pub alpha_opt: f64,
}

impl Tuning {
    /// The variance a normal prior should have, as `v_opt / (l + ln(1 + l))` with `l = 2 ln(1/a)`.
    fn rho(self, sides: Sides) -> Result<f64, StatsError> {
        in_range("v_opt", self.v_opt, 1e-100, 1e100, "from 1e-100 to 1e100")?;
        open_unit("alpha_opt", self.alpha_opt)?;
        let alpha = match sides {
            Sides::One => {
                if self.alpha_opt >= 0.5 {
                    return Err(StatsError::OutOfRange {
                        name: "alpha_opt",
                        value: self.alpha_opt,
                        expected: "below 0.5 for a one-sided bound",
                    });
                }
                2.0 * self.alpha_opt
            }
            Sides::Two => self.alpha_opt,
        };
        let l = -2.0 * alpha.ln();
        let rho = self.v_opt / (l + l.ln_1p());
        positive("v_opt", rho)
    }
}

/// The log evidence of a normal mixture. Anytime-valid for sub-Gaussian sums.
///
/// `s` is the sum of deviations from the null, positive where the null is exceeded, and `v >= 0`
/// its variance process (for independent normal terms, the sum of their variances). Two-sided:
/// `ln sqrt(rho/(v+rho)) + s^2 / (2(v+rho))`; one-sided: the half-normal prior's. With no data,
/// `s = 0` and `v = 0`, the evidence is 0. Source: Robbins 1970; Howard and others 2021.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range.
pub fn normal_log_mixture(s: f64, v: f64, tuning: Tuning, sides: Sides) -> Result<f64, StatsError> {
    in_range("s", s, -1e100, 1e100, "at most 1e100 in size")?;
    in_range("v", v, 0.0, 1e100, "from 0 to 1e100")?;
    Ok(ln_normal(s, v, tuning.rho(sides)?, sides))
}

/// The bound of a normal mixture: what a sub-Gaussian sum stays below at all times with
/// probability `1 - alpha`. Anytime-valid.
///
/// Two-sided, it bounds `|s|`. `v >= 0` is the variance process at the time of looking.
/// Source: Howard and others 2021, proposition 5.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range.
pub fn normal_mixture_bound(
    v: f64,
    alpha: f64,
    tuning: Tuning,
    sides: Sides,
) -> Result<f64, StatsError> {
    in_range("v", v, 0.0, 1e100, "from 0 to 1e100")?;
    let evidence = -open_unit("alpha", alpha)?.ln();
    let rho = tuning.rho(sides)?;
    let bound = match sides {
        Sides::Two => (v + rho).sqrt() * ((v / rho).ln_1p() + 2.0 * evidence).sqrt(),
        Sides::One => root_above_zero(|s| ln_normal(s, v, rho, sides) - evidence, rho.sqrt()),
    };
    finite("bound", bound)
}

/// The bound of a gamma-exponential mixture: what a sub-exponential sum of scale `c` stays below
/// at all times with probability `1 - alpha`. Anytime-valid, one-sided.
///
/// `c > 0` is the scale of the heaviest single step, in units of `s`; `v >= 0` the variance
/// process. For sums of bounded steps whose variance is estimated as one goes. Source: Howard and
/// others 2021, proposition 9.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range.
pub fn gamma_exponential_mixture_bound(
    v: f64,
    alpha: f64,
    tuning: Tuning,
    c: f64,
) -> Result<f64, StatsError> {
    in_range("v", v, 0.0, 1e100, "from 0 to 1e100")?;
    let evidence = -open_unit("alpha", alpha)?.ln();
    let rho = tuning.rho(Sides::One)?;
    in_range("c", c, 1e-100, 1e100, "from 1e-100 to 1e100")?;
    let prior = positive("v_opt divided by the square of c", rho / (c * c))?;
    let posterior = finite("v divided by the square of c", v / (c * c) + prior)?;
    let mixture = |s: f64| {
        // Stirling's formula has cancelled the large parts of both gamma functions.
        let reach = posterior + s / c;
        deviance(posterior, reach) + 0.5 * (prior / posterior).ln() + stirling_rest(posterior)
            - stirling_rest(prior)
            + ln_incomplete_gamma(posterior, reach)
            - ln_incomplete_gamma(prior, prior)
    };
    finite("bound", root_above_zero(|s| mixture(s) - evidence, rho.sqrt().max(c)))
}

/// The bound of a beta-binomial mixture: what a sum of bounded steps stays below at all times
/// with probability `1 - alpha`. Anytime-valid.
///
/// Each step lies between `-g` and `h` (both above 0) and has mean 0 under the null, so `v` is
/// `g h` times the number of steps; `s` can then not exceed `v / g`, and where no sum can carry
/// that much evidence yet, `v / g` is what is returned. `Sides::Two` bounds the upper side of a
/// mixture that also watches the lower. For a rate `p`: `g = p`, `h = 1 - p`. Source: Howard and
/// others 2021, proposition 7.
///
/// # Errors
///
/// [`StatsError`] when a value is not finite or out of range.
pub fn beta_binomial_mixture_bound(
    v: f64,
    alpha: f64,
    tuning: Tuning,
    g: f64,
    h: f64,
    sides: Sides,
) -> Result<f64, StatsError> {
    in_range("v", v, 0.0, 1e100, "from 0 to 1e100")?;
    let evidence = -open_unit("alpha", alpha)?.ln();
    let mixture = BetaBinomial::new(tuning, g, h, sides)?;
    let top = finite("v / g", v / g)?;
    if mixture.ln(top, v) <= evidence {
        return Ok(top);
    }
    Ok(bisect(0.0, top, |s| mixture.ln(s, v) > evidence))
}

/// A confidence sequence for a rate: valid at every look, however often one looks.
///
/// `successes` of `trials` are exchangeable yes/no outcomes of one rate. Returns
/// the rates whose two-sided beta-binomial mixture has never carried evidence `1/alpha`. Exact at
/// any sample size, also for no success or no failure, where it reaches 0 or 1. `t_opt` is the
/// number of trials at which the interval is to be narrowest, `alpha_opt` the level of that
/// tuning (0.05 is a good choice). Wider than Wilson's interval by about a factor of 1.5 there:
/// the price of looking as one likes. Source: Howard and others, Annals of Statistics 49 (2021).
///
/// # Errors
///
/// [`StatsError`] when there is no trial, more successes than trials, or a value out of range.
pub fn bernoulli_confidence_sequence(
    successes: f64,
    trials: f64,
    alpha: f64,
    t_opt: f64,
    alpha_opt: f64,
) -> Result<AnytimeInterval, StatsError> {
    successes_of(("successes", "trials"), successes, trials)?;
    in_range("trials", trials, 1.0, f64::MAX, "at least 1")?;
    let evidence = -open_unit("alpha", alpha)?.ln();
    positive("t_opt", t_opt)?;
    open_unit("alpha_opt", alpha_opt)?;
    let rate = successes / trials;
    let refuted = |p: f64| {
        let q = 1.0 - p;
        if p <= 0.0 || q <= 0.0 {
            return true;
        }
        let tuning = Tuning { v_opt: t_opt * p * q, alpha_opt };
        match BetaBinomial::new(tuning, p, q, Sides::Two) {
            Ok(mixture) => mixture.ln_counts(trials - successes, successes) > evidence,
            // A rate so near 0 or 1 that the prior underflows, while outcomes say otherwise.
            Err(_) => true,
        }
    };
    let lo = if successes > 0.0 { bisect(rate, 0.0, refuted) } else { 0.0 };
    let hi = if successes < trials { bisect(rate, 1.0, refuted) } else { 1.0 };
    Ok(AnytimeInterval { lo, hi })
}

/// A beta prior on where a bounded step's mean lies, and the evidence it gathers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BetaBinomial {
    /// Prior weights of the steps down and up.
    down: f64,
    up: f64,
    g: f64,
    h: f64,
    /// `h / (g + h)` and `g / (g + h)`: the null's probabilities of a step down and up.
    p: f64,
    q: f64,
    sides: Sides,
    prior: f64,
}

impl BetaBinomial {
    pub(crate) fn new(tuning: Tuning, g: f64, h: f64, sides: Sides) -> Result<Self, StatsError> {
        in_range("g", g, 1e-100, 1e100, "from 1e-100 to 1e100")?;
        in_range("h", h, 1e-100, 1e100, "from 1e-100 to 1e100")?;
        let width = finite("g + h", g + h)?;
        let r = (tuning.rho(sides)? - g * h).max(1e-3 * g * h);
        let (down, up) = (r / (g * width), r / (h * width));
        positive("the prior's weight", down)?;
        positive("the prior's weight", up)?;
        let (p, q) = (h / width, g / width);
        positive("h / (g + h)", p)?;
        positive("g / (g + h)", q)?;
        let mut mixture = Self { down, up, g, h, p, q, sides, prior: 0.0 };
        mixture.prior = mixture.ln_mass(0.0, 0.0);
        Ok(mixture)
    }

    /// Log evidence of a sum `s` at variance `v`.
    pub(crate) fn ln(&self, s: f64, v: f64) -> f64 {
        let width = self.g + self.h;
        let down = (v - self.g * s).max(0.0) / (self.g * width);
        let up = (v + self.h * s).max(0.0) / (self.h * width);
        self.ln_counts(down, up)
    }

    /// Log evidence of so many steps down and up.
    pub(crate) fn ln_counts(&self, down: f64, up: f64) -> f64 {
        self.ln_mass(down, up) - self.prior
    }

    fn ln_mass(&self, down: f64, up: f64) -> f64 {
        let (a, b) = (self.down + down, self.up + up);
        let all = ln_beta_over(a, b, self.p, self.q);
        match self.sides {
            Sides::Two => all,
            Sides::One => all + ln_incomplete_beta(a, b, self.p, self.q),
        }
    }
}

fn ln_normal(s: f64, v: f64, rho: f64, sides: Sides) -> f64 {
    let z = s / (v + rho).sqrt();
    let width = -0.5 * (v / rho).ln_1p();
    match sides {
        Sides::Two => width + 0.5 * z * z,
        Sides::One => width + std::f64::consts::LN_2 + ln_normal_cdf_over_density(z),
    }
}

/// The positive root of a rising function that is negative at 0.
fn root_above_zero(f: impl Fn(f64) -> f64, start: f64) -> f64 {
    let mut high = start;
    while f(high) < 0.0 {
        high *= 2.0;
        if !high.is_finite() {
            return high;
        }
    }
    bisect(0.0, high, |s| f(s) >= 0.0)
}

/// The point between `inside` and `outside` where `is_outside` turns true, to the last digit.
fn bisect(mut inside: f64, mut outside: f64, is_outside: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..1100 {
        let middle = 0.5 * (inside + outside);
        if (outside - inside).abs() <= 1e-13 * outside.abs().min(inside.abs()) || middle == inside {
            break;
        }
        if is_outside(middle) {
            outside = middle;
        } else {
            inside = middle;
        }
    }
    0.5 * (inside + outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNING: Tuning = Tuning { v_opt: 100.0, alpha_opt: 0.05 };

    #[test]
    fn no_data_is_no_evidence() {
        for sides in [Sides::One, Sides::Two] {
            assert!(normal_log_mixture(0.0, 0.0, TUNING, sides).unwrap().abs() < 1e-15);
            let mixture = BetaBinomial::new(TUNING, 0.1, 0.9, sides).unwrap();
            assert_eq!(mixture.ln_counts(0.0, 0.0), 0.0);
        }
    }

    #[test]
    fn a_sum_on_its_bound_carries_exactly_the_evidence_asked_for() {
        for sides in [Sides::One, Sides::Two] {
            for v in [0.5, 100.0, 1e9] {
                let s = normal_mixture_bound(v, 0.01, TUNING, sides).unwrap();
                let evidence = normal_log_mixture(s, v, TUNING, sides).unwrap();
                assert!((evidence - 100f64.ln()).abs() < 1e-6, "{evidence} at {v}");
            }
        }
    }

    #[test]
    fn the_evidence_of_a_rate_averages_one_over_all_outcomes_of_the_null() {
        // An e-value's mean is at most 1; this one's is 1 exactly.
        for sides in [Sides::One, Sides::Two] {
            let (p, n) = (0.3, 40);
            let mixture =
                BetaBinomial::new(Tuning { v_opt: 8.0, alpha_opt: 0.05 }, p, 1.0 - p, sides)
                    .unwrap();
            let mut chance = (1.0 - p).powi(n);
            let mut mean = 0.0;
            for x in 0..=n {
                let up = f64::from(x);
                mean += chance * mixture.ln_counts(f64::from(n) - up, up).exp();
                chance *= f64::from(n - x) / (up + 1.0) * p / (1.0 - p);
            }
            assert!((mean - 1.0).abs() < 1e-9, "{mean}");
        }
    }

    #[test]
    fn an_interval_without_success_starts_at_zero_and_shrinks() {
        let mut last = 1.0;
        for n in [1.0, 10.0, 1e3, 1e6, 1e12, 1e18] {
            let AnytimeInterval { lo, hi } =
                bernoulli_confidence_sequence(0.0, n, 0.05, 1000.0, 0.05).unwrap();
            assert_eq!(lo, 0.0);
            assert!(hi > 0.0 && hi < last, "{hi} after {n}");
            last = hi;
        }
    }

    #[test]
    fn huge_counts_keep_an_interval_of_the_right_width() {
        let n = 1e18;
        let AnytimeInterval { lo, hi } =
            bernoulli_confidence_sequence(0.25 * n, n, 0.05, n, 0.05).unwrap();
        let sigma = (0.25f64 * 0.75 / n).sqrt();
        for side in [(0.25 - lo) / sigma, (hi - 0.25) / sigma] {
            assert!(side > 2.5 && side < 3.5, "{side} standard deviations");
        }
    }

    #[test]
    fn the_evidence_of_nonsense_is_an_error() {
        assert!(bernoulli_confidence_sequence(1.0, 0.0, 0.05, 10.0, 0.05).is_err());
        assert!(bernoulli_confidence_sequence(3.0, 2.0, 0.05, 10.0, 0.05).is_err());
        assert!(normal_mixture_bound(-1.0, 0.05, TUNING, Sides::Two).is_err());
        assert!(normal_mixture_bound(f64::NAN, 0.05, TUNING, Sides::Two).is_err());
        assert!(normal_mixture_bound(1.0, 1.0, TUNING, Sides::Two).is_err());
        assert!(gamma_exponential_mixture_bound(1.0, 0.05, TUNING, 0.0).is_err());
        let one = Tuning { v_opt: 1.0, alpha_opt: 0.6 };
        assert!(normal_mixture_bound(1.0, 0.05, one, Sides::One).is_err());
    }
}
