//! How far one window of a feature lies from the reference, and whether that can be chance.
//!
//! Each figure answers another question. *Certain?* is a p-value: of the bins' counts (chi-square, of
//! which PSI is another form), of the largest gap between the two distribution functions
//! (Kolmogorov-Smirnov), of the rates of missing and of strange values. *How far?* is a distance: PSI
//! and Jensen-Shannon without a unit, Wasserstein in the feature's own. With much data everything is
//! certain, so the two are never mixed.
//!
//! The habit of calling a PSI above 0.1 or 0.2 drift ignores the sample: two samples of 100 that come
//! from the same source are at 0.19 on average. Here PSI comes with what it would be without drift, and
//! with the limit it then exceeds once in `1/alpha` windows.
//!
//! Everything in this file is valid for one look at one window. What is watched request by request
//! is in `drift::monitor`.

use serde::{Deserialize, Serialize};

use crate::drift::cells::{BELOW_OR_UNSEEN, FIRST, INVALID, MISSING};
use crate::drift::population::FeatureCounts;
use crate::drift::reference::FeatureReference;
use crate::drift::value::Kind;
use crate::stats::divergence::{jensen_shannon_distance, population_stability_index};
use crate::stats::exact::fisher_exact_two_sided;
use crate::stats::incomplete::chi_square_sf;
use crate::stats::kolmogorov::kolmogorov_sf;
use crate::stats::proportion::{Alternative, Proportion, two_proportion_z_pooled};

/// Cells that expect fewer than this are put together with their neighbours before a chi-square test.
const EXPECTED: f64 = 5.0;

/// One window of one feature, held against the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Values in the window that can be compared.
    pub values: u64,
    /// Population stability index over all cells of values, strange ones included; half a count is
    /// added to each cell, so that it stays finite. `None` without values on either side.
    pub psi: Option<f64>,
    /// What the index is on average without drift, for samples of these sizes.
    pub psi_without_drift: f64,
    /// What the index exceeds without drift in a part `alpha` of the windows.
    pub psi_limit: f64,
    /// Jensen and Shannon's distance, in base 2: from 0 (the same) to 1 (nothing in common).
    pub jensen_shannon: Option<f64>,
    /// Wasserstein's first distance, in the feature's unit; numbers only. Values are taken as spread
    /// evenly within a bin.
    pub wasserstein: Option<f64>,
    /// The largest gap between the two distribution functions, at the bins' edges; numbers only.
    pub kolmogorov_smirnov: Option<f64>,
    /// The gap's p-value; too large rather than too small, as the gap is looked at only at edges.
    pub kolmogorov_smirnov_p: Option<f64>,
    /// Chi-square statistic of the cells' counts over the design effect, and its degrees of freedom.
    pub chi_square: Option<(f64, f64)>,
    /// Its p-value; `None` when there are not two cells to compare.
    pub chi_square_p: Option<f64>,
    /// The part of rows without a value, then and now.
    pub missing: (f64, f64),
    /// P-value of the missing rate.
    pub missing_p: f64,
    /// The part of values that are out of range, never seen or invalid, then and now. For categories
    /// "then" is how often one was new in the latter half of the reference.
    pub outside: (f64, f64),
    /// P-value of that part, against no more than then.
    pub outside_p: f64,
    /// P-value of the feature: the smallest of the aspects', times their number.
    pub p: f64,
    /// Whether a true PSI at the limit asked for would have been found with 90 % probability.
    pub could_see: bool,
}

/// What is asked of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Asked {
    /// Level of one feature's test.
    pub(crate) alpha: f64,
    /// The PSI that should be found, where it is there.
    pub(crate) psi: f64,
}

impl Comparison {
    pub(crate) fn of(
        feature: &FeatureReference,
        counts: &FeatureCounts,
        rows: u64,
        asked: Asked,
    ) -> Self {
        let (then, now) = (&feature.gathered.counts, &counts.of_rows(rows));
        let effect = feature.gathered.design_effect;
        let reference = feature.values() as f64;
        let values: u64 = now[BELOW_OR_UNSEEN..].iter().sum();
        let window = values as f64;
        // One over the effective sizes, added: what a distance between two samples is made of.
        let sampling = if reference > 0.0 && window > 0.0 {
            effect * (1.0 / reference + 1.0 / window)
        } else {
            f64::INFINITY
        };
        let smooth = |cells: &[u64]| -> Vec<f64> {
            cells[BELOW_OR_UNSEEN..].iter().map(|count| *count as f64 + 0.5).collect()
        };
        let (a, b) = (smooth(then), smooth(now));
        let some = reference > 0.0 && window > 0.0;
        let psi = if some { population_stability_index(&a, &b, 1e-12).ok() } else { None };
        let raw = |cells: &[u64]| -> Vec<f64> {
            cells[BELOW_OR_UNSEEN..].iter().map(|count| *count as f64).collect()
        };
        let js = if some { jensen_shannon_distance(&raw(then), &raw(now)).ok() } else { None };
        let freedom = feature.gathered.cells.inside().len().saturating_sub(1) as f64;
        let critical = if freedom > 0.0 { chi_square_isf(asked.alpha, freedom) } else { 0.0 };

        let chi_square = chi_square(feature, then, now, effect);
        let chi_square_p = chi_square.map(|(stat, freedom)| chi_square_sf(stat, freedom));
        let gap = (some && feature.kind() == Kind::Numeric).then(|| largest_gap(then, now));
        let missing = (then[MISSING], then.iter().sum::<u64>(), now[MISSING], now.iter().sum());
        let missing_p = rate_p(missing, feature.gathered.missing_design_effect, false);
        let (outside_then, of_then) = match feature.kind() {
            // The range is that of the sample itself, so the next value is beyond it with
            // probability 2/(n + 1). The chance of so many beyond is that of a sample with one.
            Kind::Numeric => (then[INVALID] + 1, feature.values() + then[INVALID] + 1),
            Kind::Categorical => {
                let (novel, since) = feature.gathered.novel;
                (novel + then[INVALID], since + then[INVALID])
            }
        };
        let above = feature.gathered.cells.above();
        let outside_now = now[BELOW_OR_UNSEEN] + now[INVALID] + above.map_or(0, |cell| now[cell]);
        let outside = (outside_then, of_then, outside_now, values + now[INVALID]);
        let outside_p = rate_p(outside, effect, true);
        let ps: Vec<f64> =
            [Some(missing_p), Some(outside_p), chi_square_p].into_iter().flatten().collect();
        let p = (ps.iter().copied().fold(1.0, f64::min) * ps.len() as f64).min(1.0);
        // The statistic under a PSI of that size: noncentral chi-square, taken as normal.
        let shift = asked.psi / sampling;
        let could_see = freedom > 0.0
            && freedom + shift - 1.2816 * (2.0 * (freedom + 2.0 * shift)).sqrt() >= critical;
        Self {
            values,
            psi,
            psi_without_drift: if some { freedom * sampling } else { 0.0 },
            psi_limit: if some { critical * sampling } else { 0.0 },
            jensen_shannon: js.map(|distance| distance / std::f64::consts::LN_2.sqrt()),
            wasserstein: gap.and_then(|_| wasserstein(feature, counts, then, now)),
            kolmogorov_smirnov: gap,
            kolmogorov_smirnov_p: gap
                .map(|gap| kolmogorov_sf(gap, (1.0 / sampling).round().max(1.0))),
            chi_square,
            chi_square_p,
            missing: (part(missing.0, missing.1), part(missing.2, missing.3)),
            missing_p,
            outside: (outside_rate(feature), part(outside.2, outside.3)),
            outside_p,
            p,
            could_see,
        }
    }

    /// PSI beyond what it is without drift, at least 0.
    #[must_use]
    pub fn psi_excess(&self) -> f64 {
        self.psi.map_or(0.0, |psi| (psi - self.psi_without_drift).max(0.0))
    }
}

/// How often a value was invalid, or new among categories, in the reference.
fn outside_rate(feature: &FeatureReference) -> f64 {
    let invalid = feature.gathered.counts[INVALID];
    match feature.kind() {
        Kind::Numeric => part(invalid, feature.values() + invalid),
        Kind::Categorical => {
            part(feature.gathered.novel.0 + invalid, feature.gathered.novel.1 + invalid)
        }
    }
}

fn part(hits: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { hits as f64 / of as f64 }
}

/// The two-sample chi-square statistic of the cells of values, over the design effect. Values beyond
/// the range count with the bin beside them; cells that expect little are put together.
fn chi_square(
    feature: &FeatureReference,
    then: &[u64],
    now: &[u64],
    effect: f64,
) -> Option<(f64, f64)> {
    let inside = feature.gathered.cells.inside();
    let above = feature.gathered.cells.above();
    let own = |cells: &[u64]| -> Vec<f64> {
        let mut own: Vec<f64> = cells[inside.clone()].iter().map(|count| *count as f64).collect();
        if let (Some(above), Some(last)) = (above, own.len().checked_sub(1)) {
            own[0] += cells[BELOW_OR_UNSEEN] as f64;
            own[last] += cells[above] as f64;
        }
        own
    };
    let (then, now) = (own(then), own(now));
    let (n, m): (f64, f64) = (then.iter().sum(), now.iter().sum());
    if n <= 0.0 || m <= 0.0 {
        return None;
    }
    let enough = EXPECTED * effect * (n + m) / n.min(m);
    let mut pairs: Vec<(f64, f64)> = Vec::new();
    let mut open = (0.0, 0.0);
    for (a, b) in then.into_iter().zip(now) {
        open = (open.0 + a, open.1 + b);
        if open.0 + open.1 >= enough {
            pairs.push(std::mem::take(&mut open));
        }
    }
    match pairs.last_mut() {
        Some(last) => *last = (last.0 + open.0, last.1 + open.1),
        None => return None,
    }
    let freedom = pairs.len() as f64 - 1.0;
    if freedom < 1.0 {
        return None;
    }
    let (up, down) = ((m / n).sqrt(), (n / m).sqrt());
    let stat: f64 = pairs.iter().map(|(a, b)| (up * a - down * b).powi(2) / (a + b)).sum();
    Some((stat / effect, freedom))
}

/// P-value of two rates, `(hits then, of, hits now, of)`; `rises` when only a rise counts. Counts are
/// first divided by the design effect.
fn rate_p((x, n, y, m): (u64, u64, u64, u64), effect: f64, rises: bool) -> f64 {
    let fewer = |count: u64| (count as f64 / effect).round() as u64;
    let (x, n, y, m) = (fewer(x), fewer(n), fewer(y), fewer(m));
    let rate = |hits: u64, of: u64| Proportion::new(hits.min(of), of).ok();
    let (Some(then), Some(now)) = (rate(x, n), rate(y, m)) else { return 1.0 };
    if rises && now.rate() <= then.rate() {
        return 1.0;
    }
    let (hits, total) = ((x + y) as f64, (n + m) as f64);
    let least = hits.min(total - hits) * n.min(m) as f64 / total;
    if least >= 10.0 {
        let side = if rises { Alternative::Larger } else { Alternative::TwoSided };
        two_proportion_z_pooled(now, then, side).p
    } else {
        // Two-sided, also where only a rise counts: no more than half as sharp.
        fisher_exact_two_sided(now, then)
    }
}

/// The largest gap of the distribution functions at the edges.
fn largest_gap(then: &[u64], now: &[u64]) -> f64 {
    gaps(then, now).fold(0.0, |most, gap| f64::max(most, gap.abs()))
}

/// `F_now − F_then` at each edge, the first being the one below the first bin.
fn gaps<'a>(then: &'a [u64], now: &'a [u64]) -> impl Iterator<Item = f64> + 'a {
    let (then, now) = (&then[BELOW_OR_UNSEEN..], &now[BELOW_OR_UNSEEN..]);
    let (n, m) = (then.iter().sum::<u64>().max(1) as f64, now.iter().sum::<u64>().max(1) as f64);
    let edges = then.len().saturating_sub(1);
    then.iter().zip(now).take(edges).scan((0, 0), move |sums, (a, b)| {
        *sums = (sums.0 + a, sums.1 + b);
        Some(sums.1 as f64 / m - sums.0 as f64 / n)
    })
}

fn wasserstein(
    feature: &FeatureReference,
    counts: &FeatureCounts,
    then: &[u64],
    now: &[u64],
) -> Option<f64> {
    let crate::drift::cells::Cells::Numeric { edges } = &feature.gathered.cells else {
        return None;
    };
    let gaps: Vec<f64> = gaps(then, now).collect();
    let mut sum = 0.0;
    for (edge, gap) in edges.windows(2).zip(gaps.windows(2)) {
        // A gap that changes its sign within a bin is two triangles.
        let (a, b) = (gap[0].abs(), gap[1].abs());
        let mean = if gap[0] * gap[1] < 0.0 {
            (a * a + b * b) / (2.0 * (a + b))
        } else {
            f64::midpoint(a, b)
        };
        sum += mean * (edge[1] - edge[0]);
    }
    let total: u64 = now[BELOW_OR_UNSEEN..].iter().sum();
    let beyond = (counts.below + counts.above) / total.max(1) as f64;
    let distance = sum + beyond * feature.gathered.cells.width();
    distance.is_finite().then_some(distance)
}

/// The value that a chi-square variable exceeds with probability `p`.
pub(crate) fn chi_square_isf(p: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, freedom + 10.0);
    while chi_square_sf(high, freedom) > p && high < 1e9 {
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if chi_square_sf(middle, freedom) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Counts then and now by cell, as parts, with the cells' names: what moved where.
pub(crate) fn shape(
    feature: &FeatureReference,
    counts: &FeatureCounts,
    rows: u64,
) -> Vec<(String, f64, f64)> {
    let (then, now) = (&feature.gathered.counts, counts.of_rows(rows));
    let (n, m) = (then.iter().sum::<u64>(), now.iter().sum::<u64>());
    let cells = (0..then.len()).filter(|cell| *cell >= FIRST || then[*cell] + now[*cell] > 0);
    let cells = cells
        .map(|cell| (feature.gathered.cells.name(cell), part(then[cell], n), part(now[cell], m)));
    cells.filter(|(_, then, now)| *then > 0.0 || *now > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::population::Population;
    use crate::drift::reference::{FeatureSpec, Reference, ReferenceBuilder, Source};
    use crate::drift::value::Value;
    use crate::ids::Name;

    const ASKED: Asked = Asked { alpha: 0.01, psi: 0.2 };

    fn reference(values: impl Iterator<Item = f64>) -> Reference {
        let name = |name: &str| Name::new(name).unwrap();
        let features = vec![FeatureSpec::numeric(name("x"))];
        let mut builder = ReferenceBuilder::new(name("v1"), Source::File, features).unwrap();
        values.for_each(|value| builder.row(&[Value::Number(value)]).unwrap());
        builder.finish()
    }

    fn compared(reference: &Reference, values: impl Iterator<Item = f64>) -> Comparison {
        let mut population = Population::new(reference);
        values.for_each(|value| population.row(reference, &[Value::Number(value)]).unwrap());
        let feature = &reference.features()[0];
        Comparison::of(feature, &population.features[0], population.rows(), ASKED)
    }

    /// A stream without order: the fractional parts of multiples of the golden section.
    fn uniform(n: u32) -> impl Iterator<Item = f64> {
        (1..=n).map(|j| {
            let mixed = (u64::from(j) ^ 0x5bd1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1_u64 << 53) as f64
        })
    }

    #[test]
    fn the_critical_value_of_chi_square_is_the_tables() {
        assert!((chi_square_isf(0.05, 9.0) - 16.918_977_604_620_45).abs() < 1e-9);
        assert!((chi_square_isf(0.01, 1.0) - 6.634_896_601_021_214).abs() < 1e-9);
    }

    #[test]
    fn a_shift_by_a_fifth_of_the_range_is_a_fifth_of_the_range_in_wasserstein() {
        let reference = reference(uniform(5_000));
        let moved = compared(&reference, uniform(5_000).map(|x| x + 0.2));
        let distance = moved.wasserstein.unwrap();
        assert!((distance - 0.2).abs() < 0.01, "{distance}");
        let gap = moved.kolmogorov_smirnov.unwrap();
        assert!((gap - 0.2).abs() < 0.03, "{gap}");
        assert!(moved.p < 1e-30 && moved.psi.unwrap() > moved.psi_limit);
    }

    #[test]
    fn the_same_again_is_neither_certain_nor_far() {
        let reference = reference(uniform(5_000));
        let same = compared(&reference, uniform(9_000).skip(5_000));
        assert!(same.p > 0.01 && same.psi.unwrap() < same.psi_limit, "{same:?}");
        assert!(same.could_see && same.psi_excess() < 0.01);
    }

    #[test]
    fn nothing_is_neither_near_nor_far() {
        let reference = reference(uniform(5_000));
        let nothing = compared(&reference, std::iter::empty());
        assert_eq!((nothing.psi, nothing.p, nothing.could_see), (None, 1.0, false));
        let missing = compared(&reference, std::iter::repeat_n(f64::NAN, 500));
        assert!(missing.p < 1e-100 && missing.missing == (0.0, 1.0), "{missing:?}");
    }

    #[test]
    fn a_constant_that_moves_is_out_of_range() {
        let reference = reference(std::iter::repeat_n(0.25, 2_000));
        let same = compared(&reference, std::iter::repeat_n(0.25, 500));
        assert_eq!((same.p, same.chi_square), (1.0, None));
        let moved = compared(&reference, std::iter::repeat_n(0.5, 500));
        assert!(moved.p < 1e-100 && moved.outside == (0.0, 1.0), "{moved:?}");
        assert!((moved.wasserstein.unwrap() - 0.25).abs() < 1e-9);
    }
}
