//! Two rates with beta priors: which is larger, and what a wrong choice would cost.
//!
//! What a p-value is often taken for. Priors are the user's; the posterior may be looked at whenever
//! one likes, but a rule "stop as soon as it says 95 %" has no bounded error rate over its looks:
//! decide by the e-processes, display this.

use crate::stats::error::StatsError;
use crate::stats::incomplete::{RULE, Split, beta_quantile, beta_tails, ln_beta_front};

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
/// By quadrature of both distributions' tails: no term is negative, so a loss of a millionth of a
/// rate keeps its digits, at a billion trials too. About 1e-9 relative.
///
/// # Errors
///
/// [`StatsError`] when successes exceed trials, a count is not a whole number from 0 up, or a prior's
/// parameter is not from 0.01 to 1e9.
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
    for (name, value) in [("prior_a", prior.0), ("prior_b", prior.1)] {
        let expected = "from 0.01 to 1e9";
        crate::stats::check::in_range(name, value, 0.01, 1e9, expected)?;
    }
    let posterior = |(x, n): (f64, f64)| {
        crate::stats::check::successes_of(("successes", "trials"), x, n)?;
        Ok::<_, StatsError>(Beta { alpha: prior.0 + x, beta: prior.1 + (n - x) })
    };
    let (a, b) = (posterior(a)?, posterior(b)?);
    let mut edges = a.landmarks();
    edges.extend(b.landmarks());
    let (least, most) = edges
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &u| (low.min(u), high.max(u)));
    // Between two posteriors far apart x (1-x) itself bends.
    edges.extend((-20..=20).map(|i| 1.5 * f64::from(i)).filter(|u| (least..=most).contains(u)));
    edges.sort_by(f64::total_cmp);
    edges.dedup_by(|next, last| *next - *last <= 1e-13 * last.abs().max(1.0));
    // On the scale of log odds, where a density is x^a (1-x)^b / B(a, b) and dx = x (1-x) du.
    let [mut win, mut lose, mut choose_b, mut choose_a] = [0.0; 4];
    quadrature(&edges, |u, weight| {
        let at = Split::odds(u.exp(), 1.0);
        let (below_a, above_a) = beta_tails(a.alpha, a.beta, at);
        let (below_b, above_b) = beta_tails(b.alpha, b.beta, at);
        let mass_b = weight * ln_beta_front(b.alpha, b.beta, at).exp();
        win += mass_b * below_a;
        lose += mass_b * above_a;
        // E[max(p_A - p_B, 0)] is the integral of P(p_B < x < p_A).
        let width = weight * at.x * at.rest;
        choose_b += width * below_b * above_a;
        choose_a += width * below_a * above_b;
    });
    // Both add up to 1 but for the error of the rule, most of which this takes out.
    Ok(Posterior {
        prob_b_beats_a: win / (win + lose),
        expected_loss_choose_b: choose_b,
        expected_loss_choose_a: choose_a,
    })
}

#[derive(Clone, Copy, Debug)]
struct Beta {
    alpha: f64,
    beta: f64,
}

impl Beta {
    /// Log odds between which the distribution function bends gently.
    fn landmarks(self) -> Vec<f64> {
        const TAILS: [f64; 14] = [
            1e-290, 1e-200, 1e-120, 1e-70, 1e-40, 1e-22, 1e-13, 1e-8, 1e-5, 1e-3, 0.02, 0.1, 0.25,
            0.5,
        ];
        let ln_odds = |at: Split| (at.x / at.rest).ln();
        let mut edges = Vec::with_capacity(2 * TAILS.len());
        for tail in TAILS {
            edges.push(ln_odds(beta_quantile(self.alpha, self.beta, tail)));
            edges.push(-ln_odds(beta_quantile(self.beta, self.alpha, tail)));
        }
        edges.retain(|edge| edge.is_finite());
        edges
    }
}

/// Visits the points of the rule, with their weights, between all edges.
fn quadrature(edges: &[f64], mut visit: impl FnMut(f64, f64)) {
    for pair in edges.windows(2) {
        let (middle, half) = (0.5 * (pair[0] + pair[1]), 0.5 * (pair[1] - pair[0]));
        for (node, weight) in RULE {
            visit(middle - half * node, half * weight);
            visit(middle + half * node, half * weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: (f64, f64) = (1.0, 1.0);

    #[test]
    fn losses_differ_by_the_difference_of_means() {
        for (a, b) in [
            ((17.0, 20.0), (18.0, 20.0)),
            ((0.0, 1.0), (1.0, 1.0)),
            ((5.0, 5_000.0), (9.0, 5_000.0)),
            ((3.0, 1e9), (40.0, 100.0)),
            ((0.0, 7_376.0), (2_698_539_118_096.0, 2_698_539_118_096.0)),
            ((5e8, 1e9), (5.0003e8, 1e9)),
        ] {
            let known = beta_binomial(a, b, FLAT).unwrap();
            let mean = |(x, n): (f64, f64)| (x + 1.0) / (n + 2.0);
            let gap = known.expected_loss_choose_a - known.expected_loss_choose_b;
            let want = mean(b) - mean(a);
            assert!((gap - want).abs() <= 1e-8 * want.abs(), "{a:?} {b:?}: {gap} {want}");
        }
    }

    #[test]
    fn equal_data_are_a_toss_up_at_any_size() {
        for n in [2.0, 10.0, 1e6, 1e18] {
            let known = beta_binomial((0.5 * n, n), (0.5 * n, n), FLAT).unwrap();
            assert!((known.prob_b_beats_a - 0.5).abs() < 1e-9, "{n}: {known:?}");
        }
    }

    #[test]
    fn a_rate_of_nothing_has_a_closed_form() {
        // A ~ Beta(2, 2) against B ~ Beta(1, 2).
        let known = beta_binomial((1.0, 2.0), (0.0, 1.0), FLAT).unwrap();
        assert!((known.prob_b_beats_a - 0.3).abs() < 1e-10);
        assert!((known.expected_loss_choose_a - 1.0 / 15.0).abs() < 1e-10);
    }

    #[test]
    fn impossible_counts_are_refused() {
        assert!(beta_binomial((3.0, 2.0), (1.0, 2.0), (1.0, 1.0)).is_err());
        assert!(beta_binomial((1.0, 2.0), (f64::NAN, 2.0), (1.0, 1.0)).is_err());
        assert!(beta_binomial((1.0, 2.0), (1.0, 2.0), (0.0, 1.0)).is_err());
        assert!(beta_binomial((1e17, 1e18), (1e17, 1e18), (1.0, 1.0)).is_ok());
    }
}
