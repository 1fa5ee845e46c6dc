//! Two-by-two tables: over strata, of two raters, of pairs.

use crate::stats::error::StatsError;
use crate::stats::incomplete::chi_square_sf;
use crate::stats::rank::{mcnemar_limit, sign_test};

/// Counts `[[a, b], [c, d]]`.
pub type Table = [[u64; 2]; 2];

/// What Cochran, Mantel and Haenszel's test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stratified {
    /// The statistic, chi-square with one degree of freedom if no stratum has an association.
    pub stat: f64,
    /// Its p-value.
    pub p: f64,
    /// Mantel and Haenszel's common odds ratio; infinite when nothing contradicts that.
    pub odds_ratio: f64,
    /// Breslow and Day's statistic of "the odds ratio is the same in all strata".
    pub heterogeneity: f64,
    /// Its p-value; 1 with one stratum.
    pub heterogeneity_p: f64,
}

/// Valid for one look only: whether rows and columns are associated within strata, without
/// continuity correction.
///
/// Strata are never pooled, so a mix that differs between rows misleads nobody (Simpson). Strata
/// with an empty row or column say nothing and are left out. Sources: Mantel & Haenszel, JNCI 22
/// (1959); Breslow & Day, IARC Scientific Publications 32 (1980).
///
/// # Errors
///
/// [`StatsError::Degenerate`] when no stratum says anything.
pub fn cochran_mantel_haenszel(tables: &[Table]) -> Result<Stratified, StatsError> {
    let (mut excess, mut variance) = (0.0, 0.0);
    let (mut top, mut bottom) = (0.0, 0.0);
    let mut used = Vec::new();
    for table in tables {
        let [[a, b], [c, d]] = table.map(|row| row.map(|count| count as f64));
        let n = a + b + c + d;
        let (row, column) = (a + b, a + c);
        let spread = row * (c + d) * column * (b + d);
        if spread <= 0.0 {
            continue;
        }
        excess += a - row * column / n;
        variance += spread / (n * n) / (n - 1.0);
        top += a * d / n;
        bottom += b * c / n;
        used.push([a, b, c, d]);
    }
    if used.is_empty() || variance <= 0.0 {
        return Err(StatsError::Degenerate { what: "no stratum has both rows and both columns" });
    }
    let stat = excess * excess / variance;
    let odds_ratio = top / bottom;
    let mut heterogeneity = 0.0;
    if odds_ratio.is_finite() && odds_ratio > 0.0 {
        for table in &used {
            heterogeneity += breslow_day(table, odds_ratio);
        }
    }
    let df = used.len() as f64 - 1.0;
    let heterogeneity_p = if df > 0.0 { chi_square_sf(heterogeneity, df) } else { 1.0 };
    let p = chi_square_sf(stat, 1.0);
    Ok(Stratified { stat, p, odds_ratio, heterogeneity, heterogeneity_p })
}

fn breslow_day([a, b, c, d]: &[f64; 4], ratio: f64) -> f64 {
    let (row, column, rest) = (a + b, a + c, d - a);
    let n = a + b + c + d;
    // The count the common odds ratio would give with these margins: a root of a quadratic, in the
    // form that does not cancel.
    let (qa, qb, qc) = (1.0 - ratio, ratio * (row + column) + rest, -ratio * row * column);
    let expected = if qa.abs() < 1e-12 {
        row * column / n
    } else {
        let root = (qb * qb - 4.0 * qa * qc).max(0.0).sqrt();
        if qb >= 0.0 { -2.0 * qc / (qb + root) } else { (root - qb) / (2.0 * qa) }
    };
    let cells = [expected, column - expected, row - expected, rest + expected];
    let precision: f64 = cells.iter().map(|cell| 1.0 / cell).sum();
    let term = (a - expected).powi(2) * precision;
    if term.is_finite() { term } else { 0.0 }
}

/// How much two raters agree beyond chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kappa {
    /// Cohen's kappa: 1 for full agreement, 0 for as much as chance gives, negative below.
    pub kappa: f64,
    /// Its standard error.
    pub std: f64,
}

/// Valid for one look only (its standard error): Cohen's kappa of `[[both yes, first only],
/// [second only, both no]]`.
///
/// Where nine of ten answers are the same class anyway, 85 % agreement is worse than chance; kappa
/// says so. Sources: Cohen, Educational and Psychological Measurement 20 (1960); Fleiss, Cohen &
/// Everitt, Psychological Bulletin 72 (1969).
///
/// # Errors
///
/// [`StatsError::Degenerate`] when there are no pairs, or both raters only ever say one thing.
pub fn cohens_kappa(table: &Table) -> Result<Kappa, StatsError> {
    let counts = table.map(|row| row.map(|count| count as f64));
    let n: f64 = counts.iter().flatten().sum();
    let p = counts.map(|row| row.map(|count| count / n));
    let rows = [p[0][0] + p[0][1], p[1][0] + p[1][1]];
    let columns = [p[0][0] + p[1][0], p[0][1] + p[1][1]];
    // Disagreement, seen and by chance: near full agreement these keep their digits.
    let seen = p[0][1] + p[1][0];
    let apart_by_chance = rows[0] * columns[1] + rows[1] * columns[0];
    if n <= 0.0 || apart_by_chance <= 0.0 {
        return Err(StatsError::Degenerate { what: "the raters leave no room for disagreement" });
    }
    let (kappa, chance) = (1.0 - seen / apart_by_chance, 1.0 - apart_by_chance);
    let (mut same, mut apart) = (0.0, 0.0);
    for i in 0..2 {
        same += p[i][i] * (1.0 - (rows[i] + columns[i]) * (1.0 - kappa)).powi(2);
        let j = 1 - i;
        apart += p[i][j] * (columns[i] + rows[j]).powi(2);
    }
    apart *= (1.0 - kappa).powi(2);
    let both = (kappa - chance * (1.0 - kappa)).powi(2);
    let variance = (same + apart - both) / (apart_by_chance.powi(2) * n);
    Ok(Kappa { kappa, std: variance.max(0.0).sqrt() })
}

/// What McNemar's test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// The exact p-value.
    pub p_exact: f64,
    /// The statistic without continuity correction.
    pub chi2: f64,
    /// Its p-value in the limit.
    pub p_chi2: f64,
}

/// Valid for one look only: whether two answers to the same questions are right equally often, from
/// `[[both right, old only], [new only, both wrong]]`.
///
/// Only the pairs on which they differ tell; without any, `p` is 1. For a test that may be watched
/// see [`crate::judge::paired::PairedQuality`]. Source: McNemar, Psychometrika 12 (1947).
#[must_use]
pub fn mcnemar(table: &Table) -> McNemar {
    let (old, new) = (table[0][1], table[1][0]);
    let (chi2, p_chi2) = mcnemar_limit(old, new);
    McNemar { p_exact: sign_test(old, new), chi2, p_chi2 }
}

/// What Gail and Simon's test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QualitativeInteraction {
    /// The smaller of the two one-sided sums of squares.
    pub stat: f64,
    /// The p-value of "all strata's effects have the same sign".
    pub p: f64,
}

/// Valid for one look only: whether an effect changes its sign between strata.
///
/// `effects` are estimates with their standard errors. A small `p` says that one arm is better in
/// some strata and worse in others, so that none is best for all. Source: Gail & Simon, Biometrics
/// 41 (1985).
///
/// # Errors
///
/// [`StatsError`] below two strata, or when an effect or standard error is not finite, or an error
/// not above 0.
pub fn gail_simon(effects: &[(f64, f64)]) -> Result<QualitativeInteraction, StatsError> {
    if effects.len() < 2 {
        return Err(StatsError::TooFew { name: "effects", len: effects.len(), needed: 2 });
    }
    let (mut up, mut down) = (0.0, 0.0);
    for (effect, error) in effects {
        crate::stats::error::finite("effect", *effect)?;
        crate::stats::check::positive("standard error", *error)?;
        let square = (effect / error).powi(2);
        if *effect > 0.0 { up += square } else { down += square }
    }
    let stat = f64::min(up, down);
    let k = effects.len() - 1;
    let p = if stat <= 0.0 {
        1.0
    } else {
        let weight = |h: usize| {
            let ln = crate::stats::special::ln_choose(k as f64, h as f64);
            (ln - k as f64 * std::f64::consts::LN_2).exp()
        };
        (1..=k).map(|h| weight(h) * chi_square_sf(stat, h as f64)).sum()
    };
    Ok(QualitativeInteraction { stat, p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_two_strata_the_five_percent_point_is_the_published_one() {
        // Gail and Simon's table: 2.71 for two strata at 5 %.
        let at = |z: f64| gail_simon(&[(z, 1.0), (-z, 1.0)]).unwrap().p;
        assert!((at(2.71_f64.sqrt()) - 0.05).abs() < 5e-4, "{}", at(2.71_f64.sqrt()));
        assert_eq!(gail_simon(&[(1.0, 1.0), (2.0, 1.0)]).unwrap().p, 1.0);
        assert!(gail_simon(&[(1.0, 0.0), (2.0, 1.0)]).is_err());
    }

    #[test]
    fn tables_without_information_win_nothing() {
        assert!(cochran_mantel_haenszel(&[]).is_err());
        assert!(cochran_mantel_haenszel(&[[[0, 0], [3, 4]]]).is_err());
        assert!(cohens_kappa(&[[0, 0], [0, 0]]).is_err());
        assert!(cohens_kappa(&[[9, 0], [0, 0]]).is_err());
        assert_eq!(mcnemar(&[[5, 0], [0, 5]]).p_exact, 1.0);
    }

    #[test]
    fn strata_that_agree_are_not_pooled_into_a_contradiction() {
        // The second row is better in both strata, and worse over all.
        let tables = [[[81, 6], [234, 36]], [[192, 71], [55, 25]]];
        let test = cochran_mantel_haenszel(&tables).unwrap();
        assert!(test.odds_ratio > 1.0, "{test:?}");
    }
}
