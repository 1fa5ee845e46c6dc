//! Assignment: even, monotone, independent.

use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{Context, FeatureFlag, FlagSpec, Reason, Value};
use proptest::prelude::*;

fn ppm(ppm: u32) -> TrafficShare {
    TrafficShare::from_ppm(ppm).unwrap()
}

fn flag(name: &str, share: u32) -> FeatureFlag {
    FeatureFlag::alone(FlagSpec::new(name).share(ppm(share))).unwrap()
}

/// Pearson's statistic of counts that should all be `expected`.
fn chi_square(counts: &[u32], expected: f64) -> f64 {
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn sequential_ids_spread_evenly() {
    // 100 shares of 1 %, by the share at which an id comes in, for near-identical salts. With 99
    // degrees of freedom 1 in 10^6 even spreads exceeds 177.
    for name in ["model-1", "model-2", "model-11", "model_1", "Model-1"] {
        let steps: Vec<FeatureFlag> = (1..=100).map(|step| flag(name, step * 10_000)).collect();
        let mut counts = [0_u32; 100];
        for id in 0..100_000 {
            let subject = Context::of_number(id);
            // The first share that lets the id in, by bisection: shares are monotone.
            let at = steps.partition_point(|flag| !flag.is_on(&subject));
            counts[at] += 1;
        }
        let statistic = chi_square(&counts, 1000.0);
        assert!(statistic < 177.0, "{name}: {statistic}");
    }
}

#[test]
fn two_flags_with_near_identical_salts_are_independent() {
    let names = ["exp-1", "exp-2", "exp-12", "exp_1", "exp-1 "];
    let flags = names.map(|name| flag(name, 500_000));
    for (at, left) in flags.iter().enumerate() {
        for right in &flags[at + 1..] {
            let mut table = [0_u32; 4];
            for id in 0..100_000 {
                let subject = Context::of_number(id);
                let cell =
                    usize::from(left.is_on(&subject)) * 2 + usize::from(right.is_on(&subject));
                table[cell] += 1;
            }
            // 3 degrees of freedom; 1 in 10^6 independent tables exceeds 30.7.
            assert!(chi_square(&table, 25_000.0) < 30.7, "{table:?}");
        }
    }
}

#[test]
fn the_arm_does_not_depend_on_who_is_exposed() {
    let spec = FlagSpec::choosing(
        "x",
        ("old", Value::Int(0)),
        [("a", Value::Int(1), 1), ("b", Value::Int(2), 1)],
    );
    let narrow = FeatureFlag::alone(spec.clone().share(ppm(100_000))).unwrap();
    let wide = FeatureFlag::alone(spec.share(ppm(900_000))).unwrap();
    let (mut exposed, mut in_a) = (0, 0);
    for id in 0..100_000 {
        let subject = Context::of_number(id);
        let before = narrow.evaluate(&subject);
        if before.is_on() {
            exposed += 1;
            in_a += i32::from(before.variant() == "a");
            assert_eq!(before.variant(), wide.evaluate(&subject).variant(), "{id} moved");
        }
    }
    // Half of about 10,000, within 4 standard errors.
    assert!((in_a - exposed / 2).abs() < 200, "{in_a} of {exposed}");
}

#[test]
fn users_moved_by_a_ramp_are_those_added() {
    let [before, after] = [50_000, 100_000].map(|share| flag("ramp", share));
    let (mut left, mut joined) = (0, 0);
    for id in 0..100_000 {
        let subject = Context::of_number(id);
        match (before.is_on(&subject), after.is_on(&subject)) {
            (true, false) => left += 1,
            (false, true) => joined += 1,
            _ => {}
        }
    }
    assert_eq!(left, 0);
    assert!((4700..5300).contains(&joined), "{joined} joined on the way from 5 % to 10 %");
}

/// 0.01 % of 10^7 is 1000, with a standard error of 31.6.
#[test]
fn a_ten_thousandth_serves_a_ten_thousandth() {
    let rare = flag("rare", 100);
    // In debug mode a tenth of the ids: 100, with a standard error of 10.
    let (ids, expected, error) =
        if cfg!(debug_assertions) { (1_000_000, 100.0, 10.0) } else { (10_000_000, 1000.0, 31.6) };
    let on = (0..ids).filter(|id| rare.is_on(&Context::of_number(*id))).count();
    assert!((on as f64 - expected).abs() <= 3.0 * error, "{on} of {ids}");
}

#[test]
fn a_rename_moves_nobody_and_new_salts_do() {
    let handle = flag("before", 500_000);
    let draw = |handle: &FeatureFlag| -> Vec<bool> {
        (0..1000).map(|id| handle.is_on(&Context::of_number(id))).collect()
    };
    let (before, version) = (draw(&handle), handle.spec().version());
    handle.set().change(|draft| draft.rename("before", "after")).unwrap();
    assert_eq!(draw(&handle), before);
    assert_eq!(handle.spec().name(), "after");
    handle.set().change(|draft| draft.resalt("after", "s2", "s2/arm")).unwrap();
    assert_ne!(draw(&handle), before);
    assert_eq!(handle.spec().version(), version + 2);
}

proptest! {
    #[test]
    fn a_growing_share_drops_nobody(
        name in "[a-z0-9-]{1,20}",
        subject in "\\PC{1,40}",
        low in 0..=1_000_000_u32,
        high in 0..=1_000_000_u32,
    ) {
        let (low, high) = (low.min(high), low.max(high));
        let context = Context::of(&subject);
        let [narrow, wide] = [low, high].map(|share| flag(&name, share));
        prop_assert!(!narrow.is_on(&context) || wide.is_on(&context));
    }

    #[test]
    fn a_killed_flag_is_off_whatever_is_asked(
        subject in proptest::option::of("\\PC{0,20}"),
        segment in proptest::option::of("[a-z]{1,8}"),
        share in 0..=1_000_000_u32,
    ) {
        let spec = FlagSpec::new("x").share(ppm(share)).default_variant("on").enable_segment("a");
        let flag = FeatureFlag::alone(spec).unwrap();
        flag.kill();
        let mut context = subject.as_deref().map_or_else(Context::anonymous, Context::of);
        if let Some(segment) = &segment {
            context = context.segment(segment);
        }
        let answer = flag.evaluate(&context);
        prop_assert_eq!((answer.is_on(), answer.reason()), (false, Reason::Killed));
    }
}
