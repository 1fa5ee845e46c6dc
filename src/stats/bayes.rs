//! Two rates with beta priors: which is larger, and what a wrong choice would cost.
//!
//! What a p-value is often taken for. Priors are the user's; the posterior may be looked at whenever
//! one likes, but a rule "stop as soon as it says 95 %" has no bounded error rate over its looks:
//! decide by the e-processes, display this.

use crate::stats::error::StatsError;
use crate::stats::incomplete::beta_quantile;
use crate::stats::special::ln_beta;

/// What the posteriors of two rates say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// The probability that B's rate is the larger.
    pub prob_b_beats_a: f64,
    /// How much rate is lost on average by choosing B: `E[max(p_A − p_B, 0)]`.
    pub expected_loss_choose_b: f64,
    /// How much is lost on average by choosing A.
    pub expected_loss_choose_a: f64,
}

/// Compares two rates of `successes` out of `trials`, each with the prior `Beta(prior.0, prior.1)`.
///
/// A closed sum where one of the posteriors' parameters is a whole number up to a million, numeric
/// integration otherwise; both to about 1e-9 of the probability.
///
/// # Errors
///
/// [`StatsError`] when successes exceed trials, a count is not a whole number from 0 up, or a prior's
/// parameter is not above 0.
///
/// ```
/// use pilotage::stats::bayes::beta_binomial;
///
/// // 17 of 20 against 18 of 20: nearly nothing is known.
/// let known = beta_binomial((17.0, 20.0), (18.0, 20.0), (1.0, 1.0))?;
/// assert!((known.prob_b_beats_a - 0.6686).abs() < 1e-4);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
pub fn beta_binomial(
    a: (f64, f64),
    b: (f64, f64),
    prior: (f64, f64),
) -> Result<Posterior, StatsError> {
    crate::stats::check::positive("prior_a", prior.0)?;
    crate::stats::check::positive("prior_b", prior.1)?;
    let posterior = |(x, n): (f64, f64)| {
        crate::stats::check::successes_of(("successes", "trials"), x, n)?;
        Ok::<_, StatsError>(Beta { alpha: prior.0 + x, beta: prior.1 + (n - x) })
    };
    let (a, b) = (posterior(a)?, posterior(b)?);
    // E[(p_A − p_B)⁺] = E[p_A] P(A⁺ > B) − E[p_B] P(A > B⁺), where ⁺ has one more success.
    let loss = |from: Beta, to: Beta| {
        let gain = from.mean() * exceeds(from.more(), to) - to.mean() * exceeds(from, to.more());
        gain.max(0.0)
    };
    Ok(Posterior {
        prob_b_beats_a: exceeds(b, a),
        expected_loss_choose_b: loss(a, b),
        expected_loss_choose_a: loss(b, a),
    })
}

#[derive(Clone, Copy, Debug)]
struct Beta {
    alpha: f64,
    beta: f64,
}

impl Beta {
    fn mean(self) -> f64 {
        self.alpha / (self.alpha + self.beta)
    }

    fn more(self) -> Self {
        Self { alpha: self.alpha + 1.0, ..self }
    }

    /// The distribution of one minus the rate.
    const fn mirrored(self) -> Self {
        Self { alpha: self.beta, beta: self.alpha }
    }
}

/// `P(X > Y)`.
fn exceeds(x: Beta, y: Beta) -> f64 {
    let whole = |value: f64| value.fract() == 0.0 && value <= LONGEST_SUM;
    // Sums over X's successes, or (mirrored) over Y's failures: whichever is shorter.
    let (first, second) = ((x, y), (y.mirrored(), x.mirrored()));
    if whole(x.alpha) && (x.alpha <= y.beta || !whole(y.beta)) {
        sum(first.0, first.1)
    } else if whole(y.beta) {
        sum(second.0, second.1)
    } else {
        integral(x, y)
    }
}

/// `P(X > Y)` for a whole `x.alpha`, as a sum of positive terms.
fn sum(x: Beta, y: Beta) -> f64 {
    // Terms B(y.α + i, y.β + x.β) / ((x.β + i) B(1 + i, x.β) B(y.α, y.β)), each from the one before.
    let mut ln_term = ln_beta(y.alpha, y.beta + x.beta) - ln_beta(y.alpha, y.beta);
    let (mut top, mut scaled) = (ln_term, 1.0);
    let total = y.alpha + y.beta + x.beta;
    let mut i = 0.0;
    while i + 1.0 < x.alpha {
        ln_term += ((y.alpha + i) / (total + i)).ln() + ((x.beta + i) / (i + 1.0)).ln();
        if ln_term > top {
            scaled = scaled * (top - ln_term).exp() + 1.0;
            top = ln_term;
        } else {
            scaled += (ln_term - top).exp();
        }
        i += 1.0;
    }
    (top + scaled.ln()).exp().min(1.0)
}

/// `P(X > Y)` by the trapezoidal rule in the log odds of the rate, where both densities fall off at
/// both ends and the rule converges faster than any power.
fn integral(x: Beta, y: Beta) -> f64 {
    let logit = |of: Beta, p: f64| {
        let at = beta_quantile(of.alpha, of.beta, p);
        (at.x / at.rest).ln()
    };
    let ends = [x, y].map(|of| (logit(of, 1e-18), logit(of, 1.0 - 1e-16)));
    let low = ends[0].0.min(ends[1].0);
    let high = ends[0].1.max(ends[1].1);
    let step = (high - low) / f64::from(STEPS);
    // d/dt of p = 1/(1+e^-t) adds one to each exponent.
    let ln_density = |of: Beta, t: f64| {
        let (ln_p, ln_q) = (-ln_1p_exp(-t), -ln_1p_exp(t));
        of.alpha * ln_p + of.beta * ln_q - ln_beta(of.alpha, of.beta)
    };
    let (mut below, mut above) = (0.0, 0.0);
    for i in 0..=STEPS {
        let t = low + step * f64::from(i);
        let mass = ln_density(y, t).exp() * step;
        below += mass / 2.0;
        above += ln_density(x, t).exp() * step * below;
        below += mass / 2.0;
    }
    above.clamp(0.0, 1.0)
}

fn ln_1p_exp(t: f64) -> f64 {
    if t > 0.0 { t + (-t).exp().ln_1p() } else { t.exp().ln_1p() }
}

const LONGEST_SUM: f64 = 1e6;
const STEPS: u32 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_and_the_integral_agree() {
        for (x, y) in [(3.0, 5.0), (40.0, 35.0), (400.0, 380.0)] {
            let (a, b) = (Beta { alpha: x, beta: 60.0 }, Beta { alpha: y, beta: 70.0 });
            let (sum, integral) = (sum(a, b), integral(a, b));
            assert!((sum - integral).abs() < 1e-6, "{sum} {integral}");
            assert!((exceeds(a, b) + exceeds(b, a) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn impossible_counts_are_refused() {
        assert!(beta_binomial((3.0, 2.0), (1.0, 2.0), (1.0, 1.0)).is_err());
        assert!(beta_binomial((1.0, 2.0), (f64::NAN, 2.0), (1.0, 1.0)).is_err());
        assert!(beta_binomial((1.0, 2.0), (1.0, 2.0), (0.0, 1.0)).is_err());
        assert!(beta_binomial((1e17, 1e18), (1e17, 1e18), (1.0, 1.0)).is_ok());
    }
}
