//! Whatever comes in: a typed error or "not enough", never "stable".

use pilotage::clock::Moment;
use pilotage::drift::error::DriftError;
use pilotage::drift::monitor::{DriftInput, DriftMonitor};
use pilotage::drift::population::Population;
use pilotage::drift::reference::{
    FeatureReference, FeatureSpec, Reference, ReferenceBuilder, Source,
};
use pilotage::drift::settings::{Deployment, MonitorSettings};
use pilotage::drift::stream::{Recorder, Sampling};
use pilotage::drift::value::Value;
use pilotage::drift::verdict::{Aspect, Verdict};
use pilotage::ids::Name;
use pilotage::sim::rng::Rng;

pub fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

/// A reference of one number `x` and one category `k`, each made by a function of a draw.
pub fn reference(
    rows: usize,
    mut x: impl FnMut(&mut Rng) -> f64,
    mut k: impl FnMut(&mut Rng) -> String,
) -> Reference {
    let features = vec![FeatureSpec::numeric(name("x")), FeatureSpec::categorical(name("k"))];
    let mut builder = ReferenceBuilder::new(name("v1"), Source::Baseline, features).unwrap();
    let mut rng = Rng::new(1);
    for _ in 0..rows {
        let k = k(&mut rng);
        builder.row(&[Value::Number(x(&mut rng)), Value::Category(&k)]).unwrap();
    }
    builder.finish()
}

pub fn letter(rng: &mut Rng) -> String {
    ["a", "b", "c"][rng.below(3) as usize].to_owned()
}

pub fn monitor(reference: Reference) -> DriftMonitor {
    let deployment = Deployment::new(name("v1"));
    DriftMonitor::new(MonitorSettings::default(), reference, deployment, Moment::ZERO).unwrap()
}

/// The verdicts on `x`, `k` and all after a window of these rows.
fn verdicts(
    reference: Reference,
    rows: usize,
    mut x: impl FnMut(&mut Rng) -> f64,
    mut k: impl FnMut(&mut Rng) -> String,
) -> [Verdict; 3] {
    let mut monitor = monitor(reference);
    let mut population = Population::new(monitor.reference());
    let mut rng = Rng::new(2);
    for _ in 0..rows {
        let k = k(&mut rng);
        let row = [Value::Number(x(&mut rng)), Value::Category(&k)];
        population.row(monitor.reference(), &row).unwrap();
    }
    monitor.handle(Moment::from_secs(60), DriftInput::Seen(Box::new(population))).unwrap();
    let report = monitor.report();
    let of = |wanted: &str| {
        report.features.iter().find(|of| of.name.as_str() == wanted).unwrap().verdict
    };
    [of("x"), of("k"), report.data]
}

#[test]
fn the_same_again_is_stable() {
    let same = verdicts(reference(5_000, Rng::normal, letter), 5_000, Rng::normal, letter);
    assert_eq!(same, [Verdict::Stable; 3]);
}

#[test]
fn a_reference_of_ten_rows_is_not_enough_whatever_comes() {
    let short = || reference(10, Rng::normal, letter);
    assert_eq!(verdicts(short(), 5_000, Rng::normal, letter), [Verdict::NotEnough; 3]);
    let moved = |rng: &mut Rng| rng.normal() + 50.0;
    assert_eq!(verdicts(short(), 5_000, moved, letter), [Verdict::NotEnough; 3]);
}

#[test]
fn an_empty_window_is_not_enough() {
    let empty = verdicts(reference(5_000, Rng::normal, letter), 0, Rng::normal, letter);
    assert_eq!(empty, [Verdict::NotEnough; 3]);
    assert_eq!(monitor(reference(5_000, Rng::normal, letter)).report().data, Verdict::NotEnough);
}

#[test]
fn a_constant_feature_is_never_called_stable_and_its_departure_is_seen() {
    let constant = || reference(5_000, |_| 0.42, |_| "only".to_owned());
    let same = verdicts(constant(), 5_000, |_| 0.42, |_| "only".to_owned());
    assert_eq!(same, [Verdict::NotEnough; 3]);
    let moved = verdicts(constant(), 500, |_| 0.43, |_| "other".to_owned());
    assert_eq!(moved, [Verdict::Drifted; 3]);
}

#[test]
fn a_feature_without_any_value_is_not_enough_until_it_has_some() {
    let nothing = || reference(5_000, |_| f64::NAN, letter);
    let same = verdicts(nothing(), 5_000, |_| f64::NAN, letter);
    assert_eq!(same[0], Verdict::NotEnough);
    let appeared = verdicts(nothing(), 500, Rng::normal, letter);
    assert_eq!(appeared[0], Verdict::Drifted);
}

#[test]
fn a_feature_that_goes_missing_or_infinite_drifts() {
    let usual = || reference(5_000, Rng::normal, letter);
    assert_eq!(verdicts(usual(), 300, |_| f64::NAN, letter)[0], Verdict::Drifted);
    assert_eq!(verdicts(usual(), 300, |_| f64::INFINITY, letter)[0], Verdict::Drifted);
    assert_eq!(verdicts(usual(), 300, Rng::normal, |_| String::new())[1], Verdict::Drifted);
}

#[test]
fn a_feature_that_disappears_or_appears_is_noticed() {
    let recorder = Recorder::new(reference(5_000, Rng::normal, letter), Sampling::ALL);
    for _ in 0..400 {
        recorder.named([("k", Value::Category("a")), ("new", Value::Number(1.0))]);
    }
    let mut monitor = monitor(recorder.reference().clone());
    let seen = DriftInput::Seen(Box::new(recorder.drain()));
    monitor.handle(Moment::from_secs(60), seen).unwrap();
    let report = monitor.report();
    assert_eq!(report.appeared, ["new"]);
    let x = report.features.iter().find(|of| of.name.as_str() == "x").unwrap();
    assert_eq!((x.verdict, x.aspect), (Verdict::Drifted, Some(Aspect::Missing)));
}

#[test]
fn categories_by_the_million_stay_small_and_say_no_more_than_they_know() {
    let mut at = 0_u64;
    let mut id = move |_: &mut Rng| {
        at += 1;
        format!("id-{at}")
    };
    let many = reference(20_000, Rng::normal, &mut id);
    assert!(many.memory_bytes() < 2 * FeatureReference::MAX_BYTES, "{}", many.memory_bytes());
    let recorder = Recorder::new(many.clone(), Sampling::ALL);
    let before = recorder.memory_bytes();
    for at in 0..20_000 {
        recorder.row(&[Value::Number(0.0), Value::Category(&format!("new-{at}"))]).unwrap();
    }
    assert_eq!(recorder.memory_bytes(), before);
    // New ids are what this feature always had.
    assert_eq!(verdicts(many, 5_000, Rng::normal, &mut id)[1], Verdict::NotEnough);
}

#[test]
fn counts_of_another_reference_are_refused_and_change_nothing() {
    let mut monitor = monitor(reference(5_000, Rng::normal, letter));
    let other = Population::new(&reference(4_999, Rng::normal, letter));
    let error =
        monitor.handle(Moment::from_secs(1), DriftInput::Seen(Box::new(other))).unwrap_err();
    assert!(matches!(error, DriftError::AnotherReference { .. }), "{error}");
    assert_eq!(monitor.report().age_seconds, 0);
}

#[test]
fn settings_out_of_their_range_are_refused_with_their_name() {
    let good = MonitorSettings::default();
    for (bad, what) in [
        (MonitorSettings { alpha: f64::NAN, ..good }, "alpha"),
        (MonitorSettings { requests_between: 0.0, ..good }, "between false alarms"),
        (MonitorSettings { decay: f64::INFINITY, ..good }, "decay"),
        (MonitorSettings { min_reference: 10, ..good }, "rows of the reference"),
    ] {
        let reference = reference(300, Rng::normal, letter);
        let deployment = Deployment::new(name("v1"));
        let error = DriftMonitor::new(bad, reference, deployment, Moment::ZERO).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_thousand_features_fit_into_sixteen_mebibytes_with_their_watch() {
    let specs = (0..1_000).map(|at| {
        let name = name(&format!("feature {at}"));
        if at % 2 == 0 { FeatureSpec::numeric(name) } else { FeatureSpec::categorical(name) }
    });
    let mut builder = ReferenceBuilder::new(name("v1"), Source::File, specs.collect()).unwrap();
    let mut rng = Rng::new(3);
    for _ in 0..300 {
        let texts: Vec<String> =
            (0..1_000).map(|_| format!("category {}", rng.below(40))).collect();
        let row: Vec<Value<'_>> = texts
            .iter()
            .enumerate()
            .map(
                |(at, text)| {
                    if at % 2 == 0 { Value::Number(rng.normal()) } else { Value::Category(text) }
                },
            )
            .collect();
        builder.row(&row).unwrap();
    }
    let reference = builder.finish();
    for feature in reference.features() {
        assert!(feature.memory_bytes() <= FeatureReference::MAX_BYTES);
    }
    let recorder = Recorder::new(reference.clone(), Sampling::ALL);
    let bytes = recorder.memory_bytes() + monitor(reference).memory_bytes();
    println!("1,000 features: {} KiB in recorder and monitor", bytes / 1024);
    assert!(bytes <= 16 << 20, "{bytes}");
}
