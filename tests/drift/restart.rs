//! A monitor that is stored and comes back is the one that was stored, or none.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::drift::accuracy::{Accuracy, AccuracyRule};
use pilotage::drift::labels::{Cohort, LabelLedger};
use pilotage::drift::monitor::{DriftEffect, DriftInput, DriftMonitor};
use pilotage::drift::population::Population;
use pilotage::drift::reference::Reference;
use pilotage::drift::settings::{Deployment, MonitorSettings};
use pilotage::drift::state::{MonitorState, StateError};
use pilotage::drift::value::Value;
use pilotage::ids::{Arm, Epoch};
use pilotage::sim::rng::Rng;
use pilotage::stats::adwin::AdwinSettings;
use pilotage::stats::page_hinkley::PageHinkleySettings;
use proptest::prelude::*;

use crate::bad_input::{letter, name, reference};

const BATCHES: usize = 60;
const ROWS: usize = 40;
const STEP: Duration = Duration::from_secs(600);

fn settings(rule: AccuracyRule) -> MonitorSettings {
    MonitorSettings {
        window: 20 * STEP,
        requests_between: 5_000.0,
        accuracy: rule,
        ..MonitorSettings::default()
    }
}

fn deployment() -> Deployment {
    Deployment::new(name("v3")).accuracy(Accuracy::new(920, 80)).labels(1_000, 1_000)
}

fn begun(settings: MonitorSettings, reference: &Reference) -> DriftMonitor {
    DriftMonitor::new(settings, reference.clone(), deployment(), Moment::ZERO).unwrap()
}

/// What comes in batch `at` of a stream that moves at batch 30: rows, and labels that go bad.
fn batch(reference: &Reference, seed: u64, at: usize) -> (Population, Vec<Cohort>) {
    let mut rng = Rng::new(seed.wrapping_mul(1_000_003) + at as u64);
    let moved = at >= 30;
    let mut rows = Population::new(reference);
    for row in 0..ROWS {
        let k = if moved && row % 9 == 0 { "new".to_owned() } else { letter(&mut rng) };
        let x = rng.normal() + if moved { 0.7 } else { 0.0 };
        rows.row(reference, &[Value::Number(x), Value::Category(&k)]).unwrap();
    }
    let mut ledger = LabelLedger::new(Duration::ZERO, Duration::from_secs(1)).unwrap();
    ledger.served(Arm::BASELINE, Epoch::new(1), Moment::ZERO, ROWS as u64);
    for _ in 0..ROWS {
        let right = rng.below(100) < if moved { 60 } else { 92 };
        ledger.labelled(Arm::BASELINE, Epoch::new(1), Moment::ZERO, right);
    }
    (rows, ledger.matured(Moment::from_secs(2)))
}

/// Feeds batches; every alert and call for retraining, with the batch it came in.
fn feed(
    monitor: &mut DriftMonitor,
    reference: &Reference,
    seed: u64,
    batches: std::ops::Range<usize>,
    origin: Moment,
) -> Vec<(usize, DriftEffect)> {
    let begin = batches.start;
    let mut told = Vec::new();
    for at in batches {
        let now = origin.after(STEP * (at + 1 - begin) as u32);
        let (rows, labels) = batch(reference, seed, at);
        let mut effects = monitor.handle(now, DriftInput::Matured(labels)).unwrap();
        effects.extend(monitor.handle(now, DriftInput::Seen(Box::new(rows))).unwrap());
        if at == 45 {
            effects.extend(monitor.handle(now, DriftInput::Acknowledged).unwrap());
        }
        let said = |effect: &DriftEffect| !matches!(effect, DriftEffect::Report(_));
        told.extend(effects.into_iter().filter(said).map(|effect| (at, effect)));
    }
    told
}

fn rules() -> [AccuracyRule; 3] {
    let page = PageHinkleySettings { threshold: 10.0, ..PageHinkleySettings::default() };
    [
        AccuracyRule::Detector { labels_between: 5_000.0 },
        AccuracyRule::Adwin(AdwinSettings::default()),
        AccuracyRule::PageHinkley(page),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Also cut more than once, with a clock that begins elsewhere each time.
    #[test]
    fn a_stream_that_restarts_cut_raises_the_alarms_of_one_that_ran_through(
        seed in 0_u64..1_000,
        rule in 0_usize..3,
        mut cuts in prop::collection::vec(0..=BATCHES, 1..4),
    ) {
        let reference = reference(1_000, Rng::normal, letter);
        let settings = settings(rules()[rule]);
        let mut whole = begun(settings, &reference);
        let expected = feed(&mut whole, &reference, seed, 0..BATCHES, Moment::ZERO);
        prop_assert!(expected.len() > 3, "{expected:?}");

        cuts.sort_unstable();
        let (mut monitor, mut found, mut from) = (begun(settings, &reference), Vec::new(), 0);
        let mut origin = Moment::ZERO;
        for cut in cuts.into_iter().chain([BATCHES]) {
            found.extend(feed(&mut monitor, &reference, seed, from..cut, origin));
            let stored = serde_json::to_string(&monitor.state()).unwrap();
            let state: MonitorState = serde_json::from_str(&stored).unwrap();
            origin = Moment::from_secs(7_000 * (1 + cut as u64));
            let gone = Duration::ZERO;
            let (at, of) = (reference.clone(), deployment());
            monitor = DriftMonitor::restore(settings, at, of, &state, origin, gone).unwrap();
            prop_assert_eq!(monitor.state(), state, "nothing is lost");
            from = cut;
        }
        prop_assert_eq!(found, expected);
        prop_assert_eq!(monitor.evidence().to_bits(), whole.evidence().to_bits());
        let alarms = |of: &DriftMonitor| {
            of.alarms().map(|(of, rows, aspect)| (of.name().clone(), rows, aspect)).collect::<Vec<_>>()
        };
        prop_assert_eq!(alarms(&monitor), alarms(&whole));
        prop_assert_eq!(monitor.accuracy_alarm(), whole.accuracy_alarm());
    }
}

#[test]
fn the_time_a_process_was_gone_counts_for_age_and_window() {
    let reference = reference(500, Rng::normal, letter);
    let settings = settings(rules()[0]);
    let state = begun(settings, &reference).state();
    let gone = 21 * STEP;
    let at = Moment::from_secs(5);
    let mut monitor =
        DriftMonitor::restore(settings, reference, deployment(), &state, at, gone).unwrap();
    assert_eq!(monitor.report().age_seconds, gone.as_secs());
    let effects = monitor.handle(at, DriftInput::Tick).unwrap();
    assert!(effects.iter().any(|effect| matches!(effect, DriftEffect::Report(_))));
}

#[test]
fn a_state_goes_on_only_under_what_it_came_about_under_and_what_differs_is_named() {
    let own = reference(500, Rng::normal, letter);
    let usual = settings(rules()[0]);
    let state = begun(usual, &own).state();
    let restored = |settings: MonitorSettings, reference: &Reference, deployment: Deployment| {
        let (now, gone) = (Moment::ZERO, Duration::ZERO);
        DriftMonitor::restore(settings, reference.clone(), deployment, &state, now, gone)
    };
    assert!(restored(usual, &own, deployment()).is_ok());
    assert!(restored(usual, &own, deployment().warm(name("v2"))).is_ok(), "that may change");
    let differs = |result: Result<DriftMonitor, StateError>, name: &str| {
        let error = result.unwrap_err();
        assert!(matches!(&error, StateError::Differs { what, .. } if what == name), "{error}");
    };
    differs(restored(MonitorSettings { alpha: 0.02, ..usual }, &own, deployment()), "alpha");
    let between = MonitorSettings { requests_between: 5_001.0, ..usual };
    differs(restored(between, &own, deployment()), "requests_between");
    let page = MonitorSettings { accuracy: rules()[2], ..usual };
    differs(restored(page, &own, deployment()), "accuracy");
    differs(restored(usual, &reference(501, Rng::normal, letter), deployment()), "reference");
    differs(restored(usual, &own, Deployment::new(name("v4"))), "model");
    let other = deployment().accuracy(Accuracy::new(919, 81));
    differs(restored(usual, &own, other), "accuracy at deployment");
}

/// Each number of a stored state, one after the other, replaced by garbage.
#[test]
fn garbage_is_refused_wherever_it_stands() {
    let reference = reference(500, Rng::normal, letter);
    for rule in rules() {
        let settings = settings(rule);
        let mut monitor = begun(settings, &reference);
        feed(&mut monitor, &reference, 7, 0..40, Moment::ZERO);
        let good = serde_json::to_value(monitor.state()).unwrap();
        let mut paths = Vec::new();
        numbers(&good, String::new(), &mut paths);
        assert!(paths.len() > 200, "{}", paths.len());
        // What a format may round is looked at by its range, and not by its bits.
        let rounded = |path: &str| {
            ["/below", "/above", "/accuracy/rate", "/accuracy/low", "/accuracy/high", "/labels"]
                .iter()
                .any(|end| path.ends_with(end) && path.starts_with("/window/features"))
                || path.starts_with("/history") && path.contains("/accuracy/")
                || path.contains("/strangers/")
        };
        // Every word of some, some words of all: a checksum covers them alike.
        for path in paths.iter().step_by(7) {
            let number = good.pointer(path).unwrap();
            let nan = f64::NAN.to_bits();
            let garbage = if rounded(path) {
                serde_json::json!(-1.0)
            } else {
                serde_json::json!(if number.as_u64() == Some(nan) { 1 } else { nan })
            };
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = garbage;
            let state: MonitorState = match serde_json::from_value(bad) {
                Ok(state) => state,
                Err(_) => continue, // refused by its type
            };
            let (now, gone) = (Moment::ZERO, Duration::ZERO);
            let (at, of) = (reference.clone(), deployment());
            let result = DriftMonitor::restore(settings, at, of, &state, now, gone);
            let fits =
                matches!(result, Err(StateError::Damaged { .. } | StateError::Format { .. }));
            assert!(fits, "{path}: {:?}", result.map(|_| "taken"));
        }
        let mut unknown = good.clone();
        unknown["mood"] = serde_json::json!("fine");
        assert!(serde_json::from_value::<MonitorState>(unknown).is_err());
        assert!(serde_json::from_str::<MonitorState>("{}").is_err());
    }
}

fn numbers(value: &serde_json::Value, at: String, paths: &mut Vec<String>) {
    match value {
        serde_json::Value::Number(_) => paths.push(at),
        serde_json::Value::Array(all) => {
            all.iter().enumerate().for_each(|(n, one)| numbers(one, format!("{at}/{n}"), paths));
        }
        serde_json::Value::Object(all) => {
            all.iter().for_each(|(name, one)| numbers(one, format!("{at}/{name}"), paths));
        }
        _ => {}
    }
}
