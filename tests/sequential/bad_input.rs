//! Whatever goes in, out comes an error or numbers; never a panic, never NaN.

use pilotage::stats::adwin::{Adwin, AdwinSettings};
use pilotage::stats::asymptotic::{
    AnytimeDifference, EffectScale, RatioSums, Successes, Sums, asymptotic_cs_means,
    asymptotic_cs_ratios, asymptotic_cs_two_proportions, msprt_ln_e, ratio_variance,
};
use pilotage::stats::betting::{betting_cs, betting_martingale_hedged};
use pilotage::stats::eprocess::{
    eprocess_binomial_one_sided_beta_mixture, eprocess_binomial_two_sided_beta_mixture,
    eprocess_rate_ratio_grid, likelihood_ratio,
};
use pilotage::stats::error::StatsError;
use pilotage::stats::mixture::{
    Sides, Tuning, bernoulli_confidence_sequence, beta_binomial_mixture_bound,
    gamma_exponential_mixture_bound, normal_log_mixture, normal_mixture_bound,
};
use pilotage::stats::page_hinkley::{PageHinkley, PageHinkleySettings};
use pilotage::stats::predmix::{predmix_empirical_bernstein_cs, predmix_hoeffding_cs};
use pilotage::stats::quantile_bound::{
    QuantileTuning, Stitching, empirical_process_lil_bound, poly_stitching_bound,
    quantile_ab_p_value, quantile_double_stitching_bound,
};
use pilotage::stats::sample_ratio::SampleRatioTest;
use pilotage::stats::spending::{Boundaries, Spending, lan_demets};
use pilotage::stats::surprise::{bernoulli_kl, surprise};
use pilotage::stats::two_stream::TwoStreamTest;
use proptest::prelude::*;

/// Numbers that break things, ordinary ones, and any bits at all.
fn number() -> impl Strategy<Value = f64> {
    const SPECIAL: [f64; 24] = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        -0.0,
        0.0,
        -1.0,
        -1e18,
        1e-18,
        1e-9,
        0.05,
        0.5,
        0.75,
        1.0 - f64::EPSILON,
        1.0,
        1.0 + f64::EPSILON,
        2.0,
        3.0,
        1e3,
        1e9,
        1e18,
        1e300,
    ];
    prop_oneof![
        4 => proptest::sample::select(SPECIAL.to_vec()),
        2 => 0.0..1.0_f64,
        2 => (0..100_000_u32).prop_map(f64::from),
        1 => any::<f64>(),
    ]
}

/// Ordinary arguments are likelier here, so that answers are tested and not only refusals.
fn plausible() -> impl Strategy<Value = f64> {
    prop_oneof![
        (0..2_000_u32).prop_map(f64::from),
        proptest::sample::select(vec![0.0, 1.0, 1e6, 1e9, 1e12, 1e15, 1e18]),
    ]
}

fn rate() -> impl Strategy<Value = f64> {
    prop_oneof![
        1e-12..1.0_f64,
        proptest::sample::select(vec![1e-9, 1e-6, 1e-3, 0.5, 0.999, 1.0 - 1e-9]),
    ]
}

/// Fails on NaN in an answer, and on an answer to a question with something other than a number.
fn sound(
    name: &str,
    given: &[f64],
    answer: Result<Vec<f64>, StatsError>,
) -> Result<(), TestCaseError> {
    match answer {
        Ok(numbers) => {
            prop_assert!(numbers.iter().all(|n| !n.is_nan()), "{name}{given:?} = {numbers:?}");
            prop_assert!(given.iter().all(|n| n.is_finite()), "{name}{given:?} was answered");
        }
        Err(error) => prop_assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

fn four(found: AnytimeDifference) -> Vec<f64> {
    vec![found.effect, found.low, found.high, found.p, found.ln_e]
}

/// Every function of five numbers or fewer.
fn ask_all(n: [f64; 5]) -> Result<(), TestCaseError> {
    let [a, b, c, d, e] = n;
    let one = |answer: Result<f64, StatsError>| answer.map(|number| vec![number]);
    let tuning = Tuning { v_opt: d, alpha_opt: e };
    sound("bernoulli_kl", &n[..2], one(bernoulli_kl(a, b)))?;
    sound("surprise", &n[..3], surprise(a, b, c).map(|s| vec![s.kl, s.wald_bound]))?;
    sound("one_sided", &n[..3], one(eprocess_binomial_one_sided_beta_mixture(a, b, c)))?;
    sound("two_sided", &n, one(eprocess_binomial_two_sided_beta_mixture(a, b, c, d, e)))?;
    sound("rate_ratio", &n[..4], one(eprocess_rate_ratio_grid(a, b, c, d)))?;
    sound("likelihood_ratio", &n[..4], one(likelihood_ratio(a, b, c, d)))?;
    sound("msprt", &n[..3], one(msprt_ln_e(a, b, c)))?;
    sound(
        "bernoulli_cs",
        &n,
        bernoulli_confidence_sequence(a, b, c, d, e).map(|i| vec![i.lo, i.hi]),
    )?;
    for sides in [Sides::One, Sides::Two] {
        sound("log_mixture", &[a, b, d, e], one(normal_log_mixture(a, b, tuning, sides)))?;
        sound("normal_bound", &[a, b, d, e], one(normal_mixture_bound(a, b, tuning, sides)))?;
        sound("beta_bound", &n, one(beta_binomial_mixture_bound(a, b, tuning, c, 1.0, sides)))?;
    }
    sound("gamma_bound", &n, one(gamma_exponential_mixture_bound(a, b, tuning, c)))?;
    let stitching = Stitching::default();
    sound("poly_stitching", &n[..4], one(poly_stitching_bound(a, b, c, d, stitching)))?;
    sound("lil", &n[..4], one(empirical_process_lil_bound(a, b, c, d)))?;
    let quantile = QuantileTuning { t_opt: d, delta: e, stitching };
    sound("double_stitching", &n, one(quantile_double_stitching_bound(a, b, c, quantile)))?;
    let answer = poly_stitching_bound(100.0, 0.05, 10.0, a, Stitching { s: b, eta: c });
    sound("stitching", &n[..3], one(answer))?;
    for scale in [EffectScale::Absolute, EffectScale::Relative] {
        let arms = (Successes { n: a, x: b }, Successes { n: c, x: d });
        let answer = asymptotic_cs_two_proportions(arms.0, arms.1, scale, 0.05, e);
        sound("two_proportions", &n, answer.map(four))?;
        let arm = Sums { n: a, sum: b, sum_of_squares: c };
        let answer = asymptotic_cs_means(arm, arm, scale, d, e);
        sound("means", &n, answer.map(four))?;
        let sums = RatioSums {
            n: a,
            numerator: b,
            numerator_squares: c,
            denominator: d,
            denominator_squares: e,
            cross: 1.0,
        };
        let answer = asymptotic_cs_ratios(sums, sums, scale, 0.05, 1000.0);
        sound("ratios", &n, answer.map(four))?;
        sound("ratio_variance", &n, ratio_variance(sums).map(|v| vec![v]))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3000 }))]

    #[test]
    fn any_numbers_give_an_error_or_numbers(n in [number(), number(), number(), number(), number()]) {
        ask_all(n)?;
    }

    #[test]
    fn plausible_counts_and_rates_are_answered(
        x in plausible(),
        y in plausible(),
        p in rate(),
        q in rate(),
        alpha in 0.001..0.3_f64,
    ) {
        let trials = x + y;
        let answers = [
            bernoulli_kl(p, q),
            eprocess_binomial_one_sided_beta_mixture(x, trials, p),
            eprocess_binomial_two_sided_beta_mixture(x, trials, p, 0.5, 0.5),
            eprocess_rate_ratio_grid(x, trials, p, 1.0 + q),
            normal_mixture_bound(x, alpha, Tuning { v_opt: y + 1.0, alpha_opt: 0.05 }, Sides::One),
        ];
        for answer in answers {
            prop_assert!(answer.as_ref().is_ok_and(|n| n.is_finite()), "{answer:?}");
        }
        if trials > 0.0 {
            let found = bernoulli_confidence_sequence(x, trials, alpha, 1000.0, 0.05).unwrap();
            prop_assert!(found.contains(x / trials), "{found:?} around {x} of {trials}");
        }
    }

    #[test]
    fn scores_and_settings_of_any_kind_are_refused_or_answered(
        scores in proptest::collection::vec(prop_oneof![8 => 0.0..=1.0_f64, 1 => number()], 0..40),
        m in number(),
        alpha in number(),
    ) {
        let mut given = scores.clone();
        given.push(alpha);
        let range = |i: pilotage::stats::anytime::AnytimeInterval| vec![i.lo, i.hi];
        sound("betting_cs", &given, betting_cs(&scores, alpha).map(range))?;
        given.push(m);
        sound("hoeffding", &given, predmix_hoeffding_cs(&scores, alpha, m).map(range))?;
        sound("bernstein", &given, predmix_empirical_bernstein_cs(&scores, alpha, m).map(range))?;
        let answer = betting_martingale_hedged(&scores, m, alpha).map(|n| vec![n]);
        sound("betting", &given, answer)?;
    }

    #[test]
    fn planned_looks_are_refused_or_bounded(
        looks in proptest::collection::vec(prop_oneof![4 => 1e-6..2.0_f64, 1 => number()], 0..6),
        alpha in prop_oneof![3 => 1e-6..0.5_f64, 1 => number()],
        rho in prop_oneof![3 => 0.1..5.0_f64, 1 => number()],
        sorted in any::<bool>(),
    ) {
        let mut looks = looks;
        if sorted {
            looks.sort_by(f64::total_cmp);
        }
        let mut given = looks.clone();
        given.push(alpha);
        for spending in [Spending::OBrienFleming, Spending::Pocock, Spending::Power { rho }] {
            if spending == (Spending::Power { rho }) {
                given.push(rho);
            }
            sound("lan_demets", &given, lan_demets(spending, &looks, alpha))?;
        }
    }

    #[test]
    fn a_refused_look_leaves_the_boundaries_as_they_were(bad in number()) {
        let mut boundaries = Boundaries::new(Spending::Pocock, 0.025).unwrap();
        boundaries.next(0.3).unwrap();
        let before = boundaries.clone();
        if boundaries.next(bad).is_err() {
            prop_assert_eq!(boundaries, before);
        } else {
            prop_assert!(bad > 0.3);
        }
    }

    #[test]
    fn quantiles_of_any_two_lists_are_compared_or_refused(
        a in proptest::collection::vec(prop_oneof![8 => 0.0..10.0_f64, 1 => number()], 0..30),
        b in proptest::collection::vec(prop_oneof![8 => 0.0..10.0_f64, 1 => number()], 0..30),
        q in number(),
        t_opt in number(),
    ) {
        let given: Vec<f64> = a.iter().chain(&b).chain([&q, &t_opt]).copied().collect();
        let tuning = Tuning { v_opt: t_opt, alpha_opt: 0.05 };
        let answer = quantile_ab_p_value(&a, &b, q, tuning);
        sound("quantile_ab", &given, answer.map(|p| vec![p]))?;
    }

    #[test]
    fn accumulators_refuse_what_they_cannot_count(values in proptest::collection::vec(number(), 4..60)) {
        let mut streams = TwoStreamTest::new(0.18).unwrap();
        let mut ratio = SampleRatioTest::new(&[0.95, 0.05], 1000.0).unwrap();
        for four in values.chunks_exact(4) {
            let given = streams.push_block((four[0], four[1]), (four[2], four[3]));
            sound("two_stream", four, given.map(|()| vec![streams.log_e()]))?;
            let given = ratio.push(&four[..2]);
            sound("sample_ratio", &four[..2], given.map(|()| vec![ratio.log_e(), ratio.p()]))?;
            if ratio.change_weights(&four[2..]).is_ok() {
                prop_assert!(four[2..].iter().all(|w| w.is_finite() && *w > 0.0));
            }
        }
    }

    #[test]
    fn drift_alarms_refuse_what_is_no_number(
        settings in [number(), number(), number()],
        values in proptest::collection::vec(number(), 0..200),
    ) {
        let [delta, threshold, alpha] = settings;
        let window = Adwin::new(AdwinSettings { delta, clock: 1, ..AdwinSettings::default() });
        let alarm = PageHinkley::new(PageHinkleySettings { min_instances: 2, delta, threshold, alpha });
        prop_assert_eq!(window.is_ok(), delta > 0.0 && delta < 1.0);
        if let Ok(mut window) = window {
            for value in &values {
                prop_assert_eq!(window.push(*value).is_ok(), value.abs() <= 1e100);
                prop_assert!(window.mean().is_none_or(|mean| mean.is_finite()));
            }
        }
        if let Ok(mut alarm) = alarm {
            for value in &values {
                prop_assert_eq!(alarm.push(*value).is_ok(), value.abs() <= 1e100);
            }
        }
    }
}
