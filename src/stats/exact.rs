//! Tests of counts that do not lean on a normal limit, and the one score test beside them.

use crate::stats::check::{count, positive};
use crate::stats::error::StatsError;
use crate::stats::incomplete::{Split, beta_tails, integrate};
use crate::stats::proportion::{Proportion, ZTest};
use crate::stats::special::{LN_SQRT_TAU, deviance, normal_sf, real, stirling_rest};

/// Terms that are added one by one before the tail is integrated instead.
const TERMS: u32 = 200_000;

/// Valid for one look only: Fisher's exact test of two success rates, two-sided p-value.
///
/// Sums the probability, given both margins, of all tables no likelier than the one seen; tables
/// within one part in 10^7 count as equally likely. Exact for any counts, and conservative: at
/// small counts it rejects less often than its level says. Tails of more than 200,000 tables are
/// integrated (Euler and Maclaurin) rather than added, with an error below 1e-9 relative. Where
/// the margins leave one table only, `p = 1`.
///
/// Source: R. A. Fisher, J. Royal Statistical Society 98 (1935), 39-82.
///
/// ```
/// use pilotage::stats::{exact::fisher_exact_two_sided, proportion::Proportion};
///
/// let p = fisher_exact_two_sided(Proportion::new(0, 10)?, Proportion::new(5, 10)?);
/// assert!((p - 0.0325).abs() < 1e-4);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[must_use]
pub fn fisher_exact_two_sided(first: Proportion, second: Proportion) -> f64 {
    // The smaller arm and the rarer outcome keep every count exact, and p is the same.
    let (first, second) =
        if first.trials() > second.trials() { (second, first) } else { (first, second) };
    let rare = real(first.successes()) + real(second.successes())
        <= 0.5 * (real(first.trials()) + real(second.trials()));
    let (first, second) = if rare { (first, second) } else { (first.flip(), second.flip()) };
    let (n1, n2) = (real(first.trials()), real(second.trials()));
    let (x, drawn) = (real(first.successes()), real(first.successes()) + real(second.successes()));
    let urn = Urn { n1, n2, drawn };
    let (least, most) = ((drawn - n2).max(0.0), n1.min(drawn));
    if least >= most {
        return 1.0;
    }
    let mode = ((drawn + 1.0) * ((n1 + 1.0) / (n1 + n2 + 2.0))).floor().clamp(least, most);
    let limit = urn.ln_mass(x) + 1e-7;
    // The nearest table on the other side of the mode that is no likelier.
    let bisect = |mut likely: f64, end: f64| -> Option<f64> {
        if urn.ln_mass(end) > limit {
            return None;
        }
        let mut far = end;
        while (far - likely).abs() > 1.0 {
            let middle = (0.5 * (far + likely)).floor();
            if middle == far || middle == likely {
                break;
            }
            if urn.ln_mass(middle) > limit { likely = middle } else { far = middle }
        }
        Some(far)
    };
    if urn.ln_mass(mode) <= limit {
        return 1.0;
    }
    let (low, high) =
        if x <= mode { (Some(x), bisect(mode, most)) } else { (bisect(mode, least), Some(x)) };
    let tail =
        |from: Option<f64>, step: f64, end: f64| from.map_or(0.0, |from| urn.tail(from, step, end));
    (tail(low, -1.0, least) + tail(high, 1.0, most)).min(1.0)
}

/// An urn with `n1` marked and `n2` other balls, from which `drawn` are taken.
#[derive(Clone, Copy, Debug)]
struct Urn {
    n1: f64,
    n2: f64,
    drawn: f64,
}

impl Urn {
    /// Logarithm of the probability that `x` of the drawn balls are marked.
    fn ln_mass(self, x: f64) -> f64 {
        let n = self.n1 + self.n2;
        let at = Split::odds(self.drawn, n - self.drawn);
        ln_binomial(x, self.n1, at) + ln_binomial(self.drawn - x, self.n2, at)
            - ln_binomial(self.drawn, n, at)
    }

    /// The mass from `from` to `end`, in steps of plus or minus one away from the mode.
    fn tail(self, from: f64, step: f64, end: f64) -> f64 {
        // The mass of the next table over that of this one.
        let ratio = |x: f64| {
            if step > 0.0 {
                (self.n1 - x) / (x + 1.0) * ((self.drawn - x) / (self.n2 - self.drawn + x + 1.0))
            } else {
                x / (self.n1 - x + 1.0) * ((self.n2 - self.drawn + x) / (self.drawn - x + 1.0))
            }
        };
        let first = self.ln_mass(from);
        let (mut x, mut term, mut sum) = (from, 1.0, 1.0);
        for _ in 0..TERMS {
            if x == end {
                return first.exp() * sum;
            }
            term *= ratio(x);
            sum += term;
            x += step;
            if term < sum * 1e-17 {
                return first.exp() * sum;
            }
        }
        // Too many: integrate, with Euler and Maclaurin's first corrections.
        let slope = -ratio(from).ln();
        let curve = 1.0 / self.n1 + 1.0 / self.n2 + 1.0 / self.drawn;
        let curve = curve.max((slope - -ratio(from + step * 1000.0).ln()).abs() / 1000.0);
        let area = integrate(slope, curve, (end - from).abs(), |distance| {
            self.ln_mass(from + step * distance) - first
        });
        first.exp() * (area + 0.5 + slope / 12.0)
    }
}

/// Logarithm of the binomial probability of `x` successes in `n`.
///
/// Source: C. Loader, Fast and accurate computation of binomial probabilities (2000).
pub(crate) fn ln_binomial(x: f64, n: f64, at: Split) -> f64 {
    let y = n - x;
    if x <= 0.0 {
        return n * ln_of(at.rest, at.x);
    }
    if y <= 0.0 {
        return n * ln_of(at.x, at.rest);
    }
    let excess = y * at.x - x * at.rest; // n p - x
    0.5 * (n.ln() - x.ln() - y.ln()) - LN_SQRT_TAU + stirling_rest(n)
        - stirling_rest(x)
        - stirling_rest(y)
        - deviance(x, n * at.x, excess)
        - deviance(y, n * at.rest, -excess)
}

/// `ln p` where `p + rest = 1`, exact near 1.
fn ln_of(p: f64, rest: f64) -> f64 {
    if rest < 0.5 { (-rest).ln_1p() } else { p.ln() }
}

/// `(P(X <= k), P(X >= k))` for `X` successes in `n` trials of probability `at.x`.
pub(crate) fn binomial_tails(k: f64, n: f64, at: Split) -> (f64, f64) {
    let up_to = if k >= n { 1.0 } else { beta_tails(k + 1.0, n - k, at).1 };
    let from = if k <= 0.0 { 1.0 } else { beta_tails(k, n - k + 1.0, at).0 };
    (up_to, from)
}

/// Events in an exposure: errors among requests, calls in an hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Events {
    count: f64,
    exposure: f64,
}

impl Events {
    /// `count` events in an `exposure` of any unit, the same for both arms.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when the count is not a whole number of at least 0, the exposure not above
    /// 0, or one of them is not finite.
    pub fn new(count_of: f64, exposure: f64) -> Result<Self, StatsError> {
        Ok(Self { count: count("events", count_of)?, exposure: positive("exposure", exposure)? })
    }
}

/// Valid for one look only: the exact test that the rate of `new` exceeds `null_ratio` times that
/// of `old`, one-sided p-value.
///
/// Given the events of both arms together, those of the new one are binomial. Needs independent
/// (Poisson) events; works with no event in the old arm. With no event at all `p = 1`.
///
/// Source: J. Przyborowski and H. Wilenski, Biometrika 31 (1940), 313-323.
///
/// # Errors
///
/// [`StatsError`] when `null_ratio` is not finite and above 0.
pub fn rate_ratio_exact_conditional(
    new: Events,
    old: Events,
    null_ratio: f64,
) -> Result<f64, StatsError> {
    positive("null ratio", null_ratio)?;
    let at = Split::odds(null_ratio * (new.exposure / old.exposure), 1.0);
    Ok(binomial_tails(new.count, new.count + old.count, at).1)
}

/// Valid for one look only: the score test that the rate of `new` exceeds `null_ratio` times that
/// of `old`, one-sided.
///
/// Leans on a normal limit: below about ten events use [`rate_ratio_exact_conditional`]. With no
/// event at all `z = 0`, `p = 1`.
///
/// Source: K. Gu, H. K. T. Ng, M. L. Tang and W. R. Schucany, Biometrical Journal 50 (2008),
/// 283-298.
///
/// # Errors
///
/// [`StatsError`] when `null_ratio` is not finite and above 0, or its product with the exposures'
/// ratio is too small or large for a number.
pub fn rate_ratio_score(new: Events, old: Events, null_ratio: f64) -> Result<ZTest, StatsError> {
    positive("null ratio", null_ratio)?;
    let events = new.count + old.count;
    if events == 0.0 {
        return Ok(ZTest::NOTHING);
    }
    let weight = null_ratio * (new.exposure / old.exposure);
    if !weight.is_normal() {
        let (name, expected) =
            ("null ratio times exposures", "a number that is neither 0 nor infinite");
        return Err(StatsError::OutOfRange { name, value: weight, expected });
    }
    let z = (new.count / weight.sqrt() - old.count * weight.sqrt()) / events.sqrt();
    Ok(ZTest { z, p: normal_sf(z) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(successes: u64, trials: u64) -> Proportion {
        Proportion::new(successes, trials).unwrap()
    }

    #[test]
    fn margins_that_allow_one_table_only_are_no_evidence() {
        assert_eq!(fisher_exact_two_sided(of(0, 10), of(0, 20)), 1.0);
        assert_eq!(fisher_exact_two_sided(of(10, 10), of(20, 20)), 1.0);
    }

    #[test]
    fn counts_beyond_whole_floats_give_one_answer_in_any_order() {
        let (a, b) = (of(23_715_939_974_465_776, 61_284_753_659_498_024), of(0, 354));
        let p = fisher_exact_two_sided(a, b);
        assert!((p / fisher_exact_two_sided(b, a) - 1.0).abs() < 1e-12);
        // Against so large an arm the other is binomial: one tail of it, or both.
        let least = 354.0 * (-a.rate()).ln_1p();
        assert!(p.ln() >= least && p.ln() < least + 1.0, "{} {least}", p.ln());
    }

    #[test]
    fn a_table_is_its_own_mirror() {
        let (a, b) = (of(3, 17), of(12, 29));
        let p = fisher_exact_two_sided(a, b);
        for other in [fisher_exact_two_sided(b, a), fisher_exact_two_sided(a.flip(), b.flip())] {
            assert!((p / other - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn integrating_a_tail_agrees_with_the_normal_limit_at_huge_counts() {
        // Four standard errors apart at 10^14 trials: the limit is then exact to six digits.
        let n = 100_000_000_000_000;
        let p = fisher_exact_two_sided(of(n / 2, n), of(n / 2 + 28_284_271, n));
        assert!((p / (2.0 * normal_sf(28_284_271.0 / (0.5 * n as f64).sqrt())) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn added_and_integrated_tails_meet() {
        let urn = Urn { n1: 4e8, n2: 5e8, drawn: 3e8 };
        let from = (3e8f64 * 4.0 / 9.0).floor() + 8_000.0;
        let added = urn.tail(from, 1.0, 3e8);
        let first = urn.ln_mass(from);
        let slope = -(((4e8 - from) / (from + 1.0)) * ((3e8 - from) / (2e8 + from + 1.0))).ln();
        let area = integrate(slope, 1e-8, 1e8, |distance| urn.ln_mass(from + distance) - first);
        assert!((added / (first.exp() * (area + 0.5 + slope / 12.0)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn no_event_anywhere_is_no_evidence() {
        let none = Events::new(0.0, 100.0).unwrap();
        assert_eq!(rate_ratio_exact_conditional(none, none, 1.0), Ok(1.0));
        assert_eq!(rate_ratio_score(none, none, 1.0), Ok(ZTest::NOTHING));
        assert!(Events::new(1.0, 0.0).is_err());
        let (brief, one) = (Events::new(0.0, 5e-324).unwrap(), Events::new(1.0, 2.0).unwrap());
        assert!(rate_ratio_score(brief, one, 0.5).is_err());
        assert!(Events::new(-1.0, 1.0).is_err());
    }
}
