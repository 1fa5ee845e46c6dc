//! Rates of false alarms, counted over seeded simulations. The whole study is
//! `cargo run --release --example drift -- --study`.

use pilotage::clock::Moment;
use pilotage::drift::accuracy::{Accuracy, AccuracyRule, AccuracyWatch};
use pilotage::drift::monitor::{DriftInput, DriftMonitor};
use pilotage::drift::population::Population;
use pilotage::drift::settings::{Deployment, MonitorSettings};
use pilotage::drift::value::Value;
use pilotage::drift::verdict::Verdict;
use pilotage::sim::rng::Rng;

use crate::bad_input::{letter, name, reference};

/// `runs` windows of `rows` rows of nothing but chance: how many are said to have moved.
fn windows_called_moved(runs: u64, reference_rows: usize, rows: usize) -> u64 {
    let settings = MonitorSettings { alpha: 0.05, ..MonitorSettings::default() };
    let reference = reference(reference_rows, Rng::normal, letter);
    (0..runs)
        .filter(|run| {
            let deployment = Deployment::new(name("v1"));
            let mut monitor =
                DriftMonitor::new(settings, reference.clone(), deployment, Moment::ZERO).unwrap();
            let mut rng = Rng::new(100 + run);
            let mut window = Population::new(monitor.reference());
            for _ in 0..rows {
                let k = letter(&mut rng);
                let row = [Value::Number(rng.normal()), Value::Category(&k)];
                window.row(monitor.reference(), &row).unwrap();
            }
            monitor.handle(Moment::ZERO, DriftInput::Seen(Box::new(window))).unwrap();
            monitor.report().features.iter().any(|of| of.certain)
        })
        .count() as u64
}

#[test]
fn a_window_of_chance_is_called_moved_no_more_often_than_the_level() {
    // 5 % of 60 is 3; a binomial count exceeds 9 less than once in a thousand times. One
    // reference serves all windows, which is why its own luck is in the count: hence two of them.
    for (reference_rows, rows) in [(4_000, 300), (800, 400)] {
        let moved = windows_called_moved(60, reference_rows, rows);
        assert!(moved <= 9, "{moved} of 60 with a reference of {reference_rows}");
    }
}

/// Rows until a false alarm, at most `cap`.
fn rows_until_alarm(reference_rows: usize, between: f64, cap: usize, seed: u64) -> usize {
    let settings = MonitorSettings { requests_between: between, ..MonitorSettings::default() };
    let mut rng = Rng::new(seed);
    let draw = rng.bits();
    let reference = {
        let mut own = Rng::new(draw);
        reference(reference_rows, move |_| own.normal(), letter)
    };
    let mut monitor =
        DriftMonitor::new(settings, reference, Deployment::new(name("v1")), Moment::ZERO).unwrap();
    for at in (0..cap).step_by(20) {
        let mut batch = Population::new(monitor.reference());
        for _ in 0..20 {
            let k = letter(&mut rng);
            let row = [Value::Number(rng.normal()), Value::Category(&k)];
            batch.row(monitor.reference(), &row).unwrap();
        }
        if !monitor.handle(Moment::ZERO, DriftInput::Seen(Box::new(batch))).unwrap().is_empty() {
            return at + 20;
        }
    }
    cap
}

#[test]
fn rows_between_false_alarms_are_at_least_those_promised_with_a_small_reference_too() {
    for reference_rows in [300, 3_000] {
        let lengths: Vec<usize> =
            (0..10).map(|run| rows_until_alarm(reference_rows, 400.0, 1_600, run)).collect();
        let mean = lengths.iter().sum::<usize>() as f64 / 10.0;
        // Stopped at four times the promise, so the mean is a lower bound; its own error is at most
        // 1600 / 2 / 3 = 270, and it has been 1,300 and more.
        assert!(mean >= 400.0 + 540.0, "{mean} with a reference of {reference_rows}");
    }
}

#[test]
fn errors_that_come_in_runs_are_no_alarm_when_their_clustering_is_known() {
    let labels = |seed: u64, n: usize| {
        let mut rng = Rng::new(seed);
        let mut wrong = false;
        let mut all = Vec::new();
        for _ in 0..n {
            if rng.chance(0.1) {
                wrong = rng.chance(0.2);
            }
            all.push(wrong);
        }
        all
    };
    let taken = labels(1, 8_000);
    let wrong = taken.iter().filter(|wrong| **wrong).count() as u64;
    let plain = Accuracy::new(8_000 - wrong, wrong);
    let known = plain.clustered(pilotage::drift::dependence::design_effect(taken)).unwrap();
    assert!((12.0..40.0).contains(&known.design_effect()), "{}", known.design_effect());
    let rule = AccuracyRule::Detector { labels_between: 2_000.0 };
    let alarms = |accuracy: Accuracy| {
        (0..40)
            .filter(|seed| {
                let mut watch = AccuracyWatch::new(accuracy, rule).unwrap();
                labels(100 + seed, 1_000)
                    .into_iter()
                    .any(|wrong| watch.push((!wrong).into(), wrong.into()))
            })
            .count()
    };
    // A mean of 2,000 labels between alarms allows an alarm within 1,000 in less than half the runs.
    assert!(alarms(known) <= 20, "{}", alarms(known));
    assert!(alarms(plain) >= 36, "taken as independent nearly every run alarms");
}

#[test]
fn a_move_that_is_certain_and_tiny_is_told_from_one_that_is_large() {
    let verdict = |shift: f64| {
        let reference = reference(20_000, Rng::normal, letter);
        let settings = MonitorSettings::default();
        let mut monitor =
            DriftMonitor::new(settings, reference, Deployment::new(name("v1")), Moment::ZERO)
                .unwrap();
        let mut rng = Rng::new(9);
        let mut window = Population::new(monitor.reference());
        for _ in 0..20_000 {
            let k = letter(&mut rng);
            let row = [Value::Number(rng.normal() + shift), Value::Category(&k)];
            window.row(monitor.reference(), &row).unwrap();
        }
        monitor.handle(Moment::ZERO, DriftInput::Seen(Box::new(window))).unwrap();
        let report = monitor.report();
        let x = report.features.iter().find(|of| of.name.as_str() == "x").unwrap();
        (x.verdict, x.certain)
    };
    assert_eq!(verdict(0.12), (Verdict::Watch, true));
    assert_eq!(verdict(0.8), (Verdict::Drifted, true));
}
