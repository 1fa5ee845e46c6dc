//! What no statistic can be computed from is refused by name; whatever else, an answer is a number.

use pilotage::stats::exact::{
    Events, fisher_exact_two_sided, rate_ratio_exact_conditional, rate_ratio_score,
};
use pilotage::stats::interval::{
    self, agresti_coull_interval, clopper_pearson_interval, newcombe_diff_interval,
    risk_ratio_katz_log_interval, wilson_interval,
};
use pilotage::stats::means::{welch_relative_uplift, welch_t};
use pilotage::stats::moments::{Moments, PairMoments};
use pilotage::stats::power::{
    Design, power_two_proportions_cohen_h, sample_size_two_proportions_cohen_h,
};
use pilotage::stats::proportion::{
    Alternative, Proportion, equivalence_tost_diff_wald, noninferiority_diff_wald,
    two_proportion_z_pooled, two_proportion_z_unpooled,
};
use pilotage::stats::quantile::{Definition, order_statistic_ranks, quantile};
use pilotage::stats::rank::{self, Continuity};
use pilotage::stats::ratio::{ratio_metric_delta_method, ratio_metric_welch};
use pilotage::stats::{bayes, cuped, divergence, imbalance, multiplicity, stratified};
use proptest::prelude::*;

/// Numbers as they come from outside: sensible ones, huge and tiny ones, and no numbers at all.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0_u32..200).prop_map(f64::from),
        2 => -10.0..10.0,
        2 => (0.0..1.0).prop_map(|x: f64| x * 1e-9),
        2 => (0.0..1.0).prop_map(|x: f64| (x * 1e18).floor()),
        1 => prop_oneof![
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(f64::MAX),
            Just(f64::MIN_POSITIVE),
            Just(-0.0),
        ],
    ]
}

/// Levels: mostly ones that are.
fn any_level() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 1e-12..1.0_f64, 1 => any_number()]
}

/// Counts that exist, from one trial to a billion billion.
fn any_arm() -> impl Strategy<Value = Proportion> {
    (0.0..18.0_f64, 0.0..=1.0_f64, 0_u64..4).prop_map(|(digits, rate, kind)| {
        let trials = 10_f64.powf(digits) as u64;
        let successes = match kind {
            0 => 0,
            1 => trials,
            2 => trials.min(3),
            _ => (trials as f64 * rate) as u64,
        };
        Proportion::new(successes.min(trials), trials).unwrap()
    })
}

fn numbers(most: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(any_number(), 0..most)
}

fn probability(p: f64) -> bool {
    (0.0..=1.0).contains(&p)
}

const fn bad_level(level: f64) -> bool {
    !(level > 0.0 && level < 1.0)
}

const ALTERNATIVES: [Alternative; 3] =
    [Alternative::TwoSided, Alternative::Larger, Alternative::Smaller];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn counts_are_whole_and_fit_together(x in any_number(), n in any_number()) {
        let fits = x.fract() == 0.0 && n.fract() == 0.0 && x >= 0.0 && n >= 1.0 && x <= n;
        prop_assert_eq!(Proportion::from_f64(x, n).is_ok(), fits && n <= 1e19);
    }

    #[test]
    fn an_interval_of_a_rate_lies_in_the_unit_interval(arm in any_arm(), alpha in any_level()) {
        for f in [wilson_interval, agresti_coull_interval, clopper_pearson_interval] {
            match f(arm, alpha) {
                Ok(at) => prop_assert!(
                    probability(at.lo) && probability(at.hi) && at.lo <= at.hi,
                    "{at:?}"
                ),
                Err(_) => prop_assert!(bad_level(alpha)),
            }
        }
    }

    #[test]
    fn two_rates_give_numbers_or_reasons(
        a in any_arm(),
        b in any_arm(),
        alpha in any_level(),
        margin in any_number(),
    ) {
        if let Ok(at) = risk_ratio_katz_log_interval(a, b, alpha) {
            prop_assert!(at.lo >= 0.0 && at.lo <= at.hi);
        }
        for alternative in ALTERNATIVES {
            let test = two_proportion_z_pooled(a, b, alternative);
            prop_assert!(test.z.is_finite() && probability(test.p), "{test:?}");
        }
        for test in [two_proportion_z_unpooled(a, b), noninferiority_diff_wald(a, b, margin)] {
            prop_assert!(test.is_err() || test.is_ok_and(|t| t.z.is_finite() && probability(t.p)));
        }
        if let Ok(test) = equivalence_tost_diff_wald(a, b, -margin.abs(), margin.abs()) {
            prop_assert!(probability(test.p) && test.z().is_finite());
        }
        let p = fisher_exact_two_sided(a, b);
        prop_assert!(probability(p), "{p}");
        let swapped = fisher_exact_two_sided(b, a);
        prop_assert!((p - swapped).abs() <= 1e-6 * p.max(1e-250), "{p} {swapped}");
    }

    #[test]
    fn events_give_numbers_or_reasons(
        new in (any_number(), any_number()),
        old in (any_number(), any_number()),
        ratio in any_number(),
    ) {
        let arms = Events::new(new.0, new.1).and_then(|a| Ok((a, Events::new(old.0, old.1)?)));
        if let Ok((new, old)) = arms {
            if let Ok(p) = rate_ratio_exact_conditional(new, old, ratio) {
                prop_assert!(probability(p), "{p}");
            }
            if let Ok(test) = rate_ratio_score(new, old, ratio) {
                prop_assert!(!test.z.is_nan() && probability(test.p), "{test:?}");
            }
        } else {
            let fine = |(count, exposure): (f64, f64)| {
                count >= 0.0 && count.fract() == 0.0 && exposure > 0.0 && exposure.is_finite()
            };
            prop_assert!(!(fine(new) && fine(old) && new.0 <= 1e18 && old.0 <= 1e18));
        }
    }

    #[test]
    fn plans_give_numbers_or_reasons(
        rates in (any_level(), any_level()),
        alpha in any_level(),
        ratio in any_number(),
        n1 in any_number(),
        power in any_level(),
    ) {
        for alternative in ALTERNATIVES {
            let design = Design { p1: rates.0, p2: rates.1, alpha, ratio, alternative };
            if let Ok(power) = power_two_proportions_cohen_h(design, n1) {
                prop_assert!(probability(power), "{power}");
                prop_assert!(probability(rates.0) && probability(rates.1) && !bad_level(alpha));
            }
            if let Ok(size) = sample_size_two_proportions_cohen_h(design, power) {
                prop_assert!(size.first > 0.0 && size.second > 0.0, "{size:?}");
            }
        }
    }

    #[test]
    fn samples_give_numbers_or_reasons(a in numbers(12), b in numbers(12), alpha in any_level()) {
        let finite = a.iter().chain(&b).all(|x| x.is_finite());
        let (one, two) = (Moments::of("a", &a), Moments::of("b", &b));
        prop_assert_eq!(one.is_ok() && two.is_ok(), finite);
        if let (Ok(one), Ok(two)) = (one, two) {
            for f in [welch_t, welch_relative_uplift] {
                if let Ok(test) = f(&one, &two, alpha) {
                    prop_assert!(probability(test.p) && !test.t.is_nan(), "{test:?}");
                    prop_assert!(test.interval.lo <= test.interval.hi, "{test:?}");
                }
            }
        }
        for alternative in ALTERNATIVES {
            let limit = rank::mann_whitney_asymptotic(&a, &b, alternative, Continuity::Corrected);
            prop_assert_eq!(limit.is_ok(), finite && !a.is_empty() && !b.is_empty());
            for test in [limit, rank::mann_whitney_exact(&a, &b, alternative)] {
                prop_assert!(test.is_err() || test.is_ok_and(|t| probability(t.p)));
            }
        }
        for f in [rank::ks_two_sample_exact, rank::ks_two_sample_asymptotic] {
            let test = f(&a, &b);
            prop_assert_eq!(test.is_ok(), finite && !a.is_empty() && !b.is_empty());
            prop_assert!(test.is_err() || test.is_ok_and(|t| probability(t.p) && probability(t.d)));
        }
        let distance = divergence::wasserstein_1(&a, &b);
        prop_assert!(distance.is_err() || distance.is_ok_and(|d| d >= 0.0 && d.is_finite()));
        for definition in [Definition::Linear, Definition::Hazen, Definition::Higher] {
            if let Ok(value) = quantile(&a, alpha, definition) {
                prop_assert!(value.is_finite());
            }
        }
    }

    #[test]
    fn pairs_give_numbers_or_reasons(
        a in prop::collection::vec((any_number(), any_number()), 0..12),
        b in prop::collection::vec((any_number(), any_number()), 0..12),
        alpha in any_level(),
    ) {
        let fill = |pairs: &[(f64, f64)]| {
            let mut moments = PairMoments::new();
            pairs.iter().for_each(|(x, y)| moments.push(*x, *y));
            moments
        };
        let (one, two) = (fill(&a), fill(&b));
        prop_assert_eq!(one.n() + one.rejected(), a.len() as u64);
        if let Ok(cuped) = cuped::cuped_diff(&one, &two, alpha) {
            prop_assert!(probability(cuped.test.p) && probability(cuped.variance_left));
        }
        if let Ok(test) = ratio_metric_delta_method(&one, &two, alpha) {
            prop_assert!(probability(test.p) && !test.z.is_nan(), "{test:?}");
        }
        if let Ok(test) = ratio_metric_welch(&one, &two, alpha) {
            prop_assert!(probability(test.p) && !test.t.is_nan(), "{test:?}");
        }
    }

    #[test]
    fn lists_give_numbers_or_reasons(
        a in numbers(6),
        b in numbers(6),
        alpha in any_level(),
        floor in any_level(),
    ) {
        for f in [
            multiplicity::bonferroni,
            multiplicity::holm,
            multiplicity::benjamini_hochberg,
            multiplicity::benjamini_yekutieli,
        ] {
            let answer = f(&a, alpha);
            let fine = a.iter().all(|p| probability(*p)) && !bad_level(alpha);
            prop_assert_eq!(answer.is_ok(), fine);
            prop_assert!(answer.is_err() || answer.is_ok_and(|own| own.p.iter().all(|p| probability(*p))));
        }
        if let Ok(reject) = multiplicity::e_benjamini_hochberg(&a, alpha) {
            prop_assert_eq!(reject.len(), a.len());
        }
        for f in [imbalance::chi_square_fit, imbalance::g_fit] {
            if let Ok(fit) = f(&a, &b) {
                prop_assert!(probability(fit.p) && fit.stat >= 0.0, "{fit:?}");
            }
        }
        if let Ok(psi) = divergence::population_stability_index(&a, &b, floor) {
            prop_assert!(psi >= 0.0 && psi.is_finite(), "{psi}");
        }
        if let Ok(distance) = divergence::jensen_shannon_distance(&a, &b) {
            prop_assert!((0.0..=0.832_555).contains(&distance), "{distance}");
        }
        let effects: Vec<(f64, f64)> = a.iter().copied().zip(b.iter().copied()).collect();
        if let Ok(test) = stratified::gail_simon(&effects) {
            prop_assert!(probability(test.p), "{test:?}");
        }
    }

    #[test]
    fn tables_give_numbers_or_reasons(
        tables in prop::collection::vec(prop::array::uniform2(prop::array::uniform2(
            prop_oneof![Just(0_u64), 0_u64..50, 0_u64..1_000_000_000_000_000_000]
        )), 0..4),
    ) {
        if let Ok(test) = stratified::cochran_mantel_haenszel(&tables) {
            prop_assert!(probability(test.p) && probability(test.heterogeneity_p), "{test:?}");
        }
        for table in &tables {
            if let Ok(kappa) = stratified::cohens_kappa(table) {
                prop_assert!(kappa.kappa <= 1.0 && kappa.std >= 0.0, "{kappa:?}");
            }
            let test = stratified::mcnemar(table);
            prop_assert!(probability(test.p_exact) && probability(test.p_chi2), "{test:?}");
        }
    }

    #[test]
    fn ranks_of_a_quantile_are_in_order(n in 0_u64..1_000_000, q in any_level(), c in any_level()) {
        if let Ok(ranks) = order_statistic_ranks(n, q, c) {
            if let (Some(low), Some(high)) = (ranks.low, ranks.high) {
                prop_assert!(low >= 1 && low <= high && high <= n, "{ranks:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn an_interval_of_a_difference_lies_between_minus_one_and_one(
        a in any_arm(),
        b in any_arm(),
        alpha in any_level(),
    ) {
        for f in [
            newcombe_diff_interval,
            interval::score_diff_interval,
            interval::miettinen_nurminen_diff_interval_uncorrected,
        ] {
            match f(a, b, alpha) {
                Ok(at) => prop_assert!(
                    at.lo >= -1.000_001 && at.lo <= at.hi && at.hi <= 1.000_001,
                    "{at:?}"
                ),
                Err(_) => prop_assert!(bad_level(alpha)),
            }
        }
    }

    #[test]
    fn beliefs_are_numbers(a in any_arm(), b in any_arm(), prior in (any_number(), any_number())) {
        let counts = |arm: Proportion| (arm.successes() as f64, arm.trials() as f64);
        for prior in [prior, (1.0, 1.0)] {
            if let Ok(known) = bayes::beta_binomial(counts(a), counts(b), prior) {
                prop_assert!(
                    probability(known.prob_b_beats_a)
                        && probability(known.expected_loss_choose_a)
                        && probability(known.expected_loss_choose_b),
                    "{known:?}"
                );
            }
        }
    }
}
