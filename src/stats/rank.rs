//! Two samples compared without a model of their distribution: ranks and distribution functions.
//!
//! All of these are valid for one look only, and for independent values.

use crate::stats::error::{StatsError, finite};
use crate::stats::incomplete::beta_tails;
use crate::stats::kolmogorov::kolmogorov_sf;
use crate::stats::proportion::Alternative;
use crate::stats::special::{normal_sf, normal_two_sided};

/// A rank test's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankTest {
    /// Mann and Whitney's `U` of the first sample: pairs in which its value is the larger, ties
    /// counting half.
    pub u: f64,
    /// The p-value.
    pub p: f64,
}

/// Whether Mann and Whitney's statistic is moved half a step towards its mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Continuity {
    /// It is: closer to the exact test for small samples.
    Corrected,
    /// It is not.
    Plain,
}

/// Valid for one look only: Mann and Whitney's test by its normal limit, with the correction for
/// ties.
///
/// For samples of about 20 and more. If all values are equal there is no evidence: `p` is 1. Source:
/// Mann & Whitney, Annals of Mathematical Statistics 18 (1947).
///
/// # Errors
///
/// [`StatsError`] when a sample is empty or holds a value that is not finite.
pub fn mann_whitney_asymptotic(
    a: &[f64],
    b: &[f64],
    alternative: Alternative,
    continuity: Continuity,
) -> Result<RankTest, StatsError> {
    let ranked = Ranked::of(a, b)?;
    let (n1, n2) = (a.len() as f64, b.len() as f64);
    let (n, pairs) = (n1 + n2, n1 * n2);
    let tied = ranked.tie_sum / (n * (n - 1.0));
    let deviation = (pairs / 12.0 * ((n + 1.0) - tied)).max(0.0).sqrt();
    let u = match alternative {
        Alternative::TwoSided => ranked.u.max(pairs - ranked.u),
        Alternative::Larger => ranked.u,
        Alternative::Smaller => pairs - ranked.u,
    };
    let half = if continuity == Continuity::Corrected { 0.5 } else { 0.0 };
    let above = u - pairs / 2.0 - half;
    let p = if deviation <= 0.0 {
        1.0
    } else if alternative == Alternative::TwoSided {
        (2.0 * normal_sf(above / deviation)).min(1.0)
    } else {
        normal_sf(above / deviation)
    };
    Ok(RankTest { u: ranked.u, p })
}

/// Valid for one look only: Mann and Whitney's test by the exact distribution of `U`.
///
/// For small samples without ties; the work grows as `n1² n2`, and samples whose product exceeds
/// 250,000 are refused: the normal limit is good there.
///
/// # Errors
///
/// [`StatsError`] when a sample is empty, too large, holds ties or a value that is not finite.
pub fn mann_whitney_exact(
    a: &[f64],
    b: &[f64],
    alternative: Alternative,
) -> Result<RankTest, StatsError> {
    let ranked = Ranked::of(a, b)?;
    if ranked.tie_sum > 0.0 {
        return Err(StatsError::Degenerate { what: "the samples hold ties" });
    }
    let pairs = a.len() * b.len();
    if pairs > 250_000 {
        let (name, value) = ("n1 times n2", pairs as f64);
        return Err(StatsError::OutOfRange { name, value, expected: "at most 250000" });
    }
    let chances = u_distribution(a.len(), b.len());
    let at_least = |u: f64| chances[(u.ceil() as usize).min(pairs)..].iter().sum::<f64>();
    let other = pairs as f64 - ranked.u;
    let p = match alternative {
        Alternative::TwoSided => (2.0 * at_least(ranked.u.max(other))).min(1.0),
        Alternative::Larger => at_least(ranked.u).min(1.0),
        Alternative::Smaller => at_least(other).min(1.0),
    };
    Ok(RankTest { u: ranked.u, p })
}

/// The probability of each `U` from 0 to `m·n`, if the samples do not differ.
fn u_distribution(m: usize, n: usize) -> Vec<f64> {
    // chance[j][u]: of the orders of i values of the first sample and j of the second, the part
    // with this U. Built up in i; each step conditions on which sample holds the largest value.
    let mut chance = vec![vec![1.0]; n + 1];
    for i in 1..=m {
        let mut next: Vec<Vec<f64>> = vec![vec![1.0]];
        for j in 1..=n {
            let (first, second) = (i as f64 / (i + j) as f64, j as f64 / (i + j) as f64);
            let mut row = vec![0.0; i * j + 1];
            for (u, p) in chance[j].iter().enumerate() {
                row[u + j] += first * p;
            }
            for (u, p) in next[j - 1].iter().enumerate() {
                row[u] += second * p;
            }
            next.push(row);
        }
        chance = next;
    }
    chance.pop().unwrap_or_else(|| vec![1.0])
}

struct Ranked {
    u: f64,
    /// Σ (t³ − t) over groups of `t` equal values.
    tie_sum: f64,
}

impl Ranked {
    fn of(a: &[f64], b: &[f64]) -> Result<Self, StatsError> {
        let (a, b) = (sorted("a", a)?, sorted("b", b)?);
        let mut all: Vec<(f64, bool)> =
            a.iter().map(|x| (*x, true)).chain(b.iter().map(|x| (*x, false))).collect();
        all.sort_by(|one, two| one.0.total_cmp(&two.0));
        let (mut rank_sum, mut tie_sum, mut at) = (0.0, 0.0, 0);
        while at < all.len() {
            let equal = all[at..].iter().take_while(|(value, _)| *value == all[at].0).count();
            let rank = at as f64 + (equal as f64 + 1.0) / 2.0;
            let mine = all[at..at + equal].iter().filter(|(_, first)| *first).count();
            rank_sum += rank * mine as f64;
            let t = equal as f64;
            tie_sum += t * (t * t - 1.0);
            at += equal;
        }
        let n = a.len() as f64;
        Ok(Self { u: rank_sum - n * (n + 1.0) / 2.0, tie_sum })
    }
}

fn sorted(name: &'static str, values: &[f64]) -> Result<Vec<f64>, StatsError> {
    if values.is_empty() {
        return Err(StatsError::TooFew { name, len: 0, needed: 1 });
    }
    for value in values {
        finite(name, *value)?;
    }
    // Zeros of both signs are one value.
    let mut values: Vec<f64> = values.iter().map(|value| value + 0.0).collect();
    values.sort_by(f64::total_cmp);
    Ok(values)
}

/// Kolmogorov and Smirnov's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KsTest {
    /// The largest distance between the two empirical distribution functions, from 0 to 1.
    pub d: f64,
    /// The p-value.
    pub p: f64,
}

/// Valid for one look only: Kolmogorov and Smirnov's test of two samples, exactly.
///
/// The probability that two samples of one continuous distribution lie as far apart; with ties it
/// errs on the safe side. The work grows as `n1 n2`; products above 10^8 are refused. Source: Hodges,
/// Arkiv för Matematik 3 (1958).
///
/// # Errors
///
/// [`StatsError`] when a sample is empty, too large, or holds a value that is not finite.
pub fn ks_two_sample_exact(a: &[f64], b: &[f64]) -> Result<KsTest, StatsError> {
    let (a, b) = (sorted("a", a)?, sorted("b", b)?);
    let (m, n) = (a.len() as u64, b.len() as u64);
    if m.saturating_mul(n) > 100_000_000 {
        let (name, value) = ("n1 times n2", m as f64 * n as f64);
        return Err(StatsError::OutOfRange { name, value, expected: "at most 10^8" });
    }
    // In whole steps of 1 / (m n), so that equal distances are equal.
    let steps = distance(&a, &b);
    let d = steps as f64 / (m * n) as f64;
    if steps == 0 {
        return Ok(KsTest { d, p: 1.0 });
    }
    // The part of lattice paths to (i, j) that have touched the boundary, row by row.
    let outside = |i: u64, j: u64| (i * n).abs_diff(j * m) >= steps;
    let mut row: Vec<f64> = Vec::with_capacity(n as usize + 1);
    let mut touched = 0.0;
    for j in 0..=n {
        touched = if outside(0, j) { 1.0 } else { touched };
        row.push(touched);
    }
    for i in 1..=m {
        row[0] = if outside(i, 0) { 1.0 } else { row[0] };
        for j in 1..=n {
            let (at, sum) = (j as usize, (i + j) as f64);
            row[at] = if outside(i, j) {
                1.0
            } else {
                row[at] * i as f64 / sum + row[at - 1] * j as f64 / sum
            };
        }
    }
    Ok(KsTest { d, p: row[n as usize].min(1.0) })
}

/// Valid for one look only: Kolmogorov and Smirnov's test of two samples, by the distribution of one
/// sample of the equivalent size `n1 n2 / (n1 + n2)`, rounded.
///
/// For large samples, where the exact test would take long. Source: Simard and L'Ecuyer, Journal of
/// Statistical Software 39 (2011); good to 1e-6.
///
/// # Errors
///
/// [`StatsError`] when a sample is empty or holds a value that is not finite.
pub fn ks_two_sample_asymptotic(a: &[f64], b: &[f64]) -> Result<KsTest, StatsError> {
    let (a, b) = (sorted("a", a)?, sorted("b", b)?);
    let (m, n) = (a.len() as f64, b.len() as f64);
    let d = distance(&a, &b) as f64 / (m * n);
    let size = (m * n / (m + n)).round_ties_even();
    Ok(KsTest { d, p: kolmogorov_sf(d, size.max(1.0)) })
}

/// The largest distance in steps of `1 / (m n)`.
fn distance(a: &[f64], b: &[f64]) -> u64 {
    let (m, n) = (a.len() as u64, b.len() as u64);
    let (mut i, mut j, mut most) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let value = a[i].min(b[j]);
        while i < a.len() && a[i] <= value {
            i += 1;
        }
        while j < b.len() && b[j] <= value {
            j += 1;
        }
        most = most.max((i as u64 * n).abs_diff(j as u64 * m));
    }
    most
}

/// Valid for one look only: the sign test, whether positives and negatives are equally likely; 1
/// without either. It is McNemar's exact test of discordant pairs.
#[must_use]
pub fn sign_test(positive: u64, negative: u64) -> f64 {
    let (less, all) = (positive.min(negative) as f64, positive as f64 + negative as f64);
    if all == 0.0 || positive == negative {
        return 1.0;
    }
    let half = crate::stats::incomplete::Split::odds(1.0, 1.0);
    (2.0 * beta_tails(all - less, less + 1.0, half).0).min(1.0)
}

/// Valid for one look only: the two-sided p-value of McNemar's statistic without correction, by its
/// normal limit.
#[must_use]
pub(crate) fn mcnemar_limit(positive: u64, negative: u64) -> (f64, f64) {
    let (b, c) = (positive as f64, negative as f64);
    if b + c == 0.0 {
        return (0.0, 1.0);
    }
    let z = (b - c) / (b + c).sqrt();
    (z * z, normal_two_sided(z))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_no_evidence() {
        let same = [5.0; 4];
        let test = |a, b| mann_whitney_asymptotic(a, b, Alternative::TwoSided, Continuity::Plain);
        assert_eq!(test(&same, &same).unwrap().p, 1.0);
        assert_eq!(ks_two_sample_exact(&same, &same).unwrap().p, 1.0);
        assert!(test(&[f64::NAN], &same).is_err() && test(&[], &same).is_err());
    }

    #[test]
    fn the_exact_and_the_limiting_distributions_meet() {
        let (a, b): (Vec<f64>, Vec<f64>) =
            (0..80).map(|i| (f64::from(i), f64::from(i) * 1.0737 + 6.533)).unzip();
        let exact = mann_whitney_exact(&a, &b, Alternative::TwoSided).unwrap().p;
        let limit = mann_whitney_asymptotic(&a, &b, Alternative::TwoSided, Continuity::Corrected);
        assert!((exact - limit.unwrap().p).abs() < 2e-3);
    }

    #[test]
    fn swapping_the_samples_changes_no_distance() {
        let (a, b) = ([1.0, 2.0, 2.0, 9.0], [2.0, 3.0, 4.0]);
        let (one, two) = (ks_two_sample_exact(&a, &b), ks_two_sample_exact(&b, &a));
        assert!((one.unwrap().p - two.unwrap().p).abs() < 1e-12);
    }

    #[test]
    fn the_sign_test_of_a_tie_is_one() {
        assert_eq!(sign_test(0, 0), 1.0);
        assert_eq!(sign_test(7, 7), 1.0);
        assert!((sign_test(0, 5) - 0.0625).abs() < 1e-15);
    }
}
