//! The machine: windows, accuracy, recommendations.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::drift::accuracy::Accuracy;
use pilotage::drift::labels::{Cohort, LabelLedger};
use pilotage::drift::monitor::{DriftEffect, DriftInput, DriftMonitor, Urgency};
use pilotage::drift::population::Population;
use pilotage::drift::reference::Reference;
use pilotage::drift::report::{HealthReport, Recommendation};
use pilotage::drift::settings::{Deployment, MonitorSettings};
use pilotage::drift::value::Value;
use pilotage::drift::verdict::Verdict;
use pilotage::ids::{Arm, Epoch};
use pilotage::sim::rng::Rng;

use crate::bad_input::{letter, name, reference};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn deployed() -> Deployment {
    Deployment::new(name("v3")).accuracy(Accuracy::new(9_200, 800)).labels(10_000, 10_000)
}

/// Labels of a week, all due.
fn labels(arm: Arm, correct: u64, wrong: u64, served: u64) -> Vec<Cohort> {
    let mut ledger = LabelLedger::new(Duration::ZERO, Duration::from_secs(1)).unwrap();
    let epoch = Epoch::new(1);
    ledger.served(arm, epoch, Moment::ZERO, served);
    (0..correct).for_each(|_| _ = ledger.labelled(arm, epoch, Moment::ZERO, true));
    (0..wrong).for_each(|_| _ = ledger.labelled(arm, epoch, Moment::ZERO, false));
    ledger.matured(Moment::from_secs(2))
}

fn rows(reference: &Reference, shift: f64, seed: u64) -> DriftInput {
    let mut population = Population::new(reference);
    let mut rng = Rng::new(seed);
    for _ in 0..3_000 {
        let k = letter(&mut rng);
        let row = [Value::Number(rng.normal() + shift), Value::Category(&k)];
        population.row(reference, &row).unwrap();
    }
    DriftInput::Seen(Box::new(population))
}

/// One week of a model: its effects, and the report among them.
fn week(
    deployment: Deployment,
    shift: f64,
    labels: Vec<Cohort>,
) -> (Vec<DriftEffect>, HealthReport) {
    let reference = reference(5_000, Rng::normal, letter);
    let settings = MonitorSettings::default();
    let mut monitor =
        DriftMonitor::new(settings, reference.clone(), deployment, Moment::ZERO).unwrap();
    let mut effects = monitor.handle(Moment::ZERO, DriftInput::Matured(labels)).unwrap();
    effects.extend(monitor.handle(Moment::ZERO, rows(&reference, shift, 5)).unwrap());
    effects.extend(monitor.handle(Moment::ZERO.after(WEEK), DriftInput::Tick).unwrap());
    let report = effects.iter().find_map(|effect| match effect {
        DriftEffect::Report(report) => Some((**report).clone()),
        _ => None,
    });
    (effects, report.expect("the week is over"))
}

fn calls(effects: &[DriftEffect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, DriftEffect::Retrain(_))).count()
}

#[test]
fn a_week_in_which_nothing_moved_asks_for_nothing() {
    let (effects, report) = week(deployed(), 0.0, labels(Arm::BASELINE, 2_760, 240, 3_000));
    assert_eq!(
        (report.data, report.performance.verdict),
        (Verdict::Stable, Verdict::Stable),
        "{report}"
    );
    assert_eq!(report.recommendation, Recommendation::None);
    assert_eq!(effects.len(), 1, "{effects:?}");
}

#[test]
fn data_that_moved_without_harm_are_looked_at_and_not_acted_upon() {
    let (effects, report) = week(deployed(), 1.0, labels(Arm::BASELINE, 2_760, 240, 3_000));
    assert_eq!(report.recommendation, Recommendation::Investigate, "{report}");
    assert!(report.why.contains('x') && report.why.contains("accuracy holds"), "{}", report.why);
    assert_eq!(calls(&effects), 0);
}

#[test]
fn a_decay_with_inputs_that_moved_calls_for_retraining_once() {
    let fell = labels(Arm::BASELINE, 2_550, 450, 3_000);
    let (effects, report) = week(deployed().warm(name("v2")), 1.0, fell);
    assert_eq!(report.performance.verdict, Verdict::Drifted);
    assert_eq!(report.recommendation, Recommendation::Retrain, "{report}");
    assert_eq!(calls(&effects), 1);
    let urgent = effects.iter().any(
        |effect| matches!(effect, DriftEffect::Alert(news) if news.urgency == Urgency::Critical),
    );
    assert!(urgent, "{effects:?}");
}

#[test]
fn a_decay_with_inputs_as_they_were_asks_for_the_model_that_is_still_warm() {
    let fell = || labels(Arm::BASELINE, 2_550, 450, 3_000);
    let (effects, report) = week(deployed().warm(name("v2")), 0.0, fell());
    assert_eq!(report.recommendation, Recommendation::RollBack, "{report}");
    assert!(report.why.contains("v2"));
    assert_eq!(calls(&effects), 0);
    let (_, report) = week(deployed(), 0.0, fell());
    assert_eq!(report.recommendation, Recommendation::Retrain, "nothing is warm: {report}");
}

#[test]
fn a_loss_below_a_twentieth_is_no_decay_however_certain() {
    let mut precise = deployed();
    precise.accuracy = Some(Accuracy::new(920_000, 80_000));
    let (_, report) = week(precise, 0.0, labels(Arm::BASELINE, 27_000, 3_000, 30_000));
    assert_eq!(report.performance.verdict, Verdict::Watch, "{report}");
    assert!(report.performance.p.unwrap() < 1e-10);
}

#[test]
fn labels_of_other_arms_are_not_this_models_accuracy() {
    let mut both = labels(Arm::BASELINE, 2_760, 240, 3_000);
    both.extend(labels(Arm::CANDIDATE, 0, 3_000, 3_000));
    let (_, report) = week(deployed(), 0.0, both);
    assert_eq!(report.performance.now.unwrap().labels, 3_000);
    assert_eq!(report.performance.verdict, Verdict::Stable);
}

#[test]
fn labels_that_go_missing_put_the_accuracy_in_doubt() {
    let (effects, report) = week(deployed(), 0.0, labels(Arm::BASELINE, 1_500, 500, 3_000));
    assert!(report.labels.suspicious, "{report}");
    assert_eq!(report.recommendation, Recommendation::Investigate);
    assert_eq!(calls(&effects), 0);
}

#[test]
fn too_few_labels_are_not_enough_and_never_stable() {
    let (_, report) = week(deployed(), 0.0, labels(Arm::BASELINE, 46, 4, 50));
    assert_eq!(report.performance.verdict, Verdict::NotEnough, "{report}");
    let (_, report) = week(deployed(), 0.0, Vec::new());
    assert_eq!(report.performance.verdict, Verdict::NotEnough);
}

#[test]
fn a_month_after_the_last_training_the_next_is_due() {
    let reference = reference(5_000, Rng::normal, letter);
    let mut monitor =
        DriftMonitor::new(MonitorSettings::default(), reference.clone(), deployed(), Moment::ZERO)
            .unwrap();
    let mut called = Vec::new();
    for at in 1..=8_u32 {
        let now = Moment::ZERO.after(WEEK * at);
        monitor.handle(now, rows(&reference, 0.0, at.into())).unwrap().iter().for_each(|effect| {
            if let DriftEffect::Retrain(request) = effect {
                called.push((at, request.why.clone()));
            }
        });
    }
    // Thirty days are over in the fifth week; a week of cool-down lies between two calls.
    assert_eq!(called.first().map(|(week, _)| *week), Some(5), "{called:?}");
    assert!(called[0].1.contains("35 days"), "{called:?}");
    assert_eq!(called.len(), 4);
}

#[test]
fn a_clock_that_steps_back_or_leaps_closes_one_window_at_a_time() {
    let reference = reference(5_000, Rng::normal, letter);
    let mut monitor =
        DriftMonitor::new(MonitorSettings::default(), reference, deployed(), Moment::from_secs(10))
            .unwrap();
    let quiet = monitor.handle(Moment::ZERO, DriftInput::Tick).unwrap();
    assert_eq!(quiet, []);
    let leap = monitor.handle(Moment::ZERO.after(WEEK * 50), DriftInput::Tick).unwrap();
    let reports = leap.iter().filter(|effect| matches!(effect, DriftEffect::Report(_))).count();
    assert_eq!(reports, 1);
    assert!(monitor.handle(Moment::ZERO.after(WEEK * 50), DriftInput::Tick).unwrap().is_empty());
}

#[test]
fn an_incident_is_told_once_and_its_end_too() {
    let reference = reference(5_000, Rng::normal, letter);
    let mut monitor =
        DriftMonitor::new(MonitorSettings::default(), reference.clone(), deployed(), Moment::ZERO)
            .unwrap();
    let mut told = Vec::new();
    for (at, shift) in [(1, 1.0), (2, 1.0), (3, 0.0)] {
        if shift == 0.0 {
            monitor.handle(Moment::ZERO.after(WEEK * 2), DriftInput::Acknowledged).unwrap();
        }
        let now = Moment::ZERO.after(WEEK * at);
        for effect in monitor.handle(now, rows(&reference, shift, at.into())).unwrap() {
            if let DriftEffect::Alert(news) = effect {
                told.push((at, news.key, news.resolved));
            }
        }
    }
    let expected =
        [(1, "drift/feature/x".to_owned(), false), (1, "drift/window".to_owned(), false)];
    assert_eq!(told, expected);
}

#[test]
fn the_same_history_gives_the_same_report_and_it_comes_back_from_json() {
    let run = || week(deployed(), 1.0, labels(Arm::BASELINE, 2_550, 450, 3_000)).1;
    let report = run();
    assert_eq!(report, run());
    let stored = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<HealthReport>(&stored).unwrap(), report);
    let page = report.to_svg();
    assert!(page.starts_with("<svg") && page.trim_end().ends_with("</svg>"));
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}

#[test]
fn rows_and_labels_of_the_moment_in_which_a_window_ends_count_in_it() {
    let reference = reference(5_000, Rng::normal, letter);
    let settings = MonitorSettings::default();
    let mut monitor =
        DriftMonitor::new(settings, reference.clone(), deployed(), Moment::ZERO).unwrap();
    let mut was = Moment::ZERO;
    for day in 1..=7 {
        let now = Moment::ZERO.after(day * WEEK / 7);
        let due = labels(Arm::BASELINE, 92, 8, 100);
        let mut effects = monitor.handle(was, DriftInput::Matured(due)).unwrap();
        was = now;
        effects.extend(monitor.handle(now, rows(&reference, 0.0, u64::from(day))).unwrap());
        let report = effects.iter().find_map(|effect| match effect {
            DriftEffect::Report(report) => Some((report.rows, report.labels.served)),
            _ => None,
        });
        assert_eq!(report, (day == 7).then_some((7 * 3_000, 700)), "day {day}");
    }
}
