//! From figures to verdicts: what is certain, what is large, and what follows.

use crate::drift::accuracy::Accuracy;
use crate::drift::compare::{Comparison, shape};
use crate::drift::population::{FeatureCounts, Population};
use crate::drift::reference::{FeatureReference, Reference};
use crate::drift::report::{
    FeatureHealth, HealthReport, Performance, Rate, Recommendation, percent,
};
use crate::drift::settings::MonitorSettings;
use crate::drift::value::Role;
use crate::drift::verdict::{Aspect, Size, Verdict};
use crate::stats::multiplicity::holm;

/// The fewest effective rows of a reference that says anything of a distribution.
const LEAST_EFFECTIVE: f64 = 50.0;

/// Judges every feature of a window. A move is certain when its p-value holds over all features
/// (Holm) or its alarm is raised; it is drift when it is also large.
pub(crate) fn features(
    settings: &MonitorSettings,
    reference: &Reference,
    window: &Population,
    compared: Vec<Comparison>,
    alarms: &[Option<(u64, Aspect)>],
) -> Vec<FeatureHealth> {
    let p: Vec<f64> = compared.iter().map(|of| of.p).collect();
    // The p-values are from 0 to 1 and alpha was checked: without features there is nothing to judge.
    let certain = holm(&p, settings.alpha).map_or_else(|_| vec![false; p.len()], |all| all.reject);
    let of = reference.features().iter().zip(&window.features).zip(compared);
    of.zip(certain.iter().zip(alarms))
        .map(|(((feature, counts), comparison), (certain, alarm))| {
            let certain = *certain || alarm.is_some();
            let rows = window.rows().max(counts.cells.iter().sum());
            let mut health = feature_of(
                settings,
                feature,
                comparison,
                (certain, *alarm),
                (reference.rows(), rows),
            );
            if certain {
                health.shape = shape(feature, counts, window.rows());
            }
            match health.aspect {
                Some(Aspect::Unseen) => health.note += &strangers(counts),
                Some(Aspect::Values) => health.note += &most_moved(&health.shape),
                _ => {}
            }
            health
        })
        .collect()
}

/// The cell that gained most, or lost most where that is more, as people say it.
fn most_moved(shape: &[(String, f64, f64)]) -> String {
    let by = |cell: &&(String, f64, f64)| (cell.2 - cell.1).abs();
    let most = shape.iter().max_by(|a, b| by(a).total_cmp(&by(b)));
    most.map_or_else(String::new, |(name, then, now)| {
        format!("; most: {name}, {} and was {}", percent(*now), percent(*then))
    })
}

/// The categories that were never seen before, the frequent ones first, as people say it.
pub(crate) fn strangers(counts: &FeatureCounts) -> String {
    let mut all = counts.strangers.clone();
    all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    if all.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = all.iter().take(4).map(|(name, _)| name.as_str()).collect();
    format!(" ({}{})", names.join(", "), if all.len() > 4 { ", …" } else { "" })
}

fn feature_of(
    settings: &MonitorSettings,
    feature: &FeatureReference,
    comparison: Comparison,
    (certain, alarm): (bool, Option<(u64, Aspect)>),
    (then, rows): (u64, u64),
) -> FeatureHealth {
    let outside = (comparison.outside.1 - comparison.outside.0).max(0.0);
    let missing = (comparison.missing.1 - comparison.missing.0).abs();
    let strange = match feature.kind() {
        crate::drift::value::Kind::Numeric => Aspect::Range,
        crate::drift::value::Kind::Categorical => Aspect::Unseen,
    };
    let of_values = comparison.chi_square_p.unwrap_or(1.0);
    let mut moves = [
        (Aspect::Missing, comparison.missing_p, Size::of(missing, settings.missing_limit)),
        (strange, comparison.outside_p, Size::of(outside, settings.outside_limit)),
        (Aspect::Values, of_values, Size::of(comparison.psi_excess(), settings.psi_limit)),
    ];
    // What is named is the most certain of the largest: strange values also move the distribution,
    // so at equal size they come first.
    moves.sort_by(|a, b| b.2.cmp(&a.2).then(a.1.total_cmp(&b.1)));
    // Of an aspect only a move that is itself no chance has a size.
    let level = settings.alpha;
    let seen = moves.iter().find(|(_, p, _)| *p < level).copied();
    let named = seen.map(|(aspect, _, _)| aspect).or(alarm.map(|(_, aspect)| aspect));
    let size = seen.map_or(Size::Tiny, |(_, _, size)| size);
    let enough_reference = then >= settings.min_reference
        && feature.values() as f64 / feature.design_effect() >= LEAST_EFFECTIVE;
    // A feature that had no value then can still be seen to have some now.
    let enough_reference = enough_reference || (then >= settings.min_reference && certain);
    let verdict = if !enough_reference || rows == 0 {
        Verdict::NotEnough
    } else if certain && size == Size::Large {
        Verdict::Drifted
    } else if certain {
        Verdict::Watch
    } else if rows < settings.min_window || feature.is_constant() || !comparison.could_see {
        Verdict::NotEnough
    } else {
        Verdict::Stable
    };
    let aspect = (certain && verdict != Verdict::NotEnough).then_some(named).flatten();
    let mut health = FeatureHealth {
        name: feature.name().clone(),
        role: feature.role(),
        verdict,
        aspect,
        size,
        certain,
        alarmed_after: alarm.map(|(rows, _)| rows),
        comparison,
        note: String::new(),
        shape: Vec::new(),
    };
    health.note = note(&health, feature, (then, rows), settings);
    health
}

fn note(
    health: &FeatureHealth,
    feature: &FeatureReference,
    (then, rows): (u64, u64),
    settings: &MonitorSettings,
) -> String {
    let comparison = &health.comparison;
    let figures = match health.aspect {
        Some(Aspect::Missing) => format!(
            "missing in {} of rows, was {}",
            percent(comparison.missing.1),
            percent(comparison.missing.0)
        ),
        Some(Aspect::Range) => format!(
            "{} of values out of range, was {}",
            percent(comparison.outside.1),
            percent(comparison.outside.0)
        ),
        Some(Aspect::Unseen) => format!(
            "{} of values never seen before, was {}",
            percent(comparison.outside.1),
            percent(comparison.outside.0)
        ),
        Some(Aspect::Values) | None => match comparison.psi {
            Some(psi) => format!(
                "PSI {psi:.3} (chance alone {:.3}, at most {:.3})",
                comparison.psi_without_drift, comparison.psi_limit
            ),
            None => "no values to compare".to_owned(),
        },
    };
    let alarm =
        health.alarmed_after.map_or_else(String::new, |rows| format!("; alarm after {rows} rows"));
    match health.verdict {
        Verdict::Drifted => format!("{figures}{alarm}"),
        Verdict::Watch => format!("{figures}, certain and {}{alarm}", health.size),
        Verdict::Stable => figures,
        Verdict::NotEnough if then < settings.min_reference => {
            format!("the reference has {then} rows; {} are needed", settings.min_reference)
        }
        Verdict::NotEnough if rows == 0 => "no rows in this window".to_owned(),
        Verdict::NotEnough if feature.values() == 0 => "no values in the reference".to_owned(),
        Verdict::NotEnough if feature.is_constant() => {
            "constant in the reference: only a departure can be seen, and there is none".to_owned()
        }
        Verdict::NotEnough if rows < settings.min_window => {
            format!("{rows} rows in this window; {} are needed", settings.min_window)
        }
        Verdict::NotEnough => format!(
            "a PSI of {} could be missed: {} values worth {:.0} independent ones",
            settings.psi_limit,
            comparison.values,
            comparison.values as f64 / feature.design_effect()
        ),
    }
}

/// What moved most first.
pub(crate) fn sort(features: &mut [FeatureHealth]) {
    let rank = |verdict: Verdict| match verdict {
        Verdict::Drifted => 0,
        Verdict::Watch => 1,
        Verdict::NotEnough => 2,
        Verdict::Stable => 3,
    };
    features.sort_by(|a, b| {
        let psi = |of: &FeatureHealth| of.comparison.psi_excess();
        rank(a.verdict)
            .cmp(&rank(b.verdict))
            .then(b.size.cmp(&a.size))
            .then(psi(b).total_cmp(&psi(a)))
    });
}

/// The verdict on the data. A feature that was constant in the reference, or had no values there, and
/// has not moved, has nothing to say; all others must be stable.
pub(crate) fn overall(features: &[FeatureHealth], appeared: usize) -> Verdict {
    let any = |verdict: Verdict| features.iter().any(|feature| feature.verdict == verdict);
    if any(Verdict::Drifted) {
        return Verdict::Drifted;
    }
    if any(Verdict::Watch) || appeared > 0 {
        return Verdict::Watch;
    }
    let silent = |feature: &FeatureHealth| {
        feature.note.starts_with("constant in") || feature.note.starts_with("no values in the ref")
    };
    let lacking =
        features.iter().any(|feature| feature.verdict == Verdict::NotEnough && !silent(feature));
    if lacking || !any(Verdict::Stable) { Verdict::NotEnough } else { Verdict::Stable }
}

pub(crate) fn performance(
    settings: &MonitorSettings,
    then: Option<Accuracy>,
    now: Accuracy,
    alarmed_after: Option<u64>,
) -> Performance {
    let rate = |accuracy: Accuracy| -> Option<Rate> {
        let interval = accuracy.interval()?;
        let (rate, labels) = (accuracy.rate()?, accuracy.labelled());
        Some(Rate { rate, low: interval.lo, high: interval.hi, labels })
    };
    let mut performance = Performance {
        then: then.and_then(rate),
        now: rate(now),
        alarmed_after,
        ..Performance::default()
    };
    let (Some(then), Some(before), Some(after)) = (then, performance.then, performance.now) else {
        return performance;
    };
    if before.labels < settings.min_labels || before.rate <= 0.0 {
        return performance;
    }
    let loss = (before.rate - after.rate) / before.rate;
    let p = now.fell_p(then);
    performance.loss = Some(loss);
    performance.p = Some(p);
    let certain = p < settings.alpha || alarmed_after.is_some();
    // Would a decay have been seen? Its size must be 2.5 standard errors of the difference at least.
    let error = then.error().unwrap_or(1.0).hypot(now.error().unwrap_or(1.0));
    let could_see = settings.decay * before.rate >= 2.5 * error;
    performance.verdict = if after.labels < settings.min_labels {
        Verdict::NotEnough
    } else if certain && loss >= settings.decay {
        Verdict::Drifted
    } else if certain || loss >= settings.decay {
        Verdict::Watch
    } else if could_see {
        Verdict::Stable
    } else {
        Verdict::NotEnough
    };
    performance
}

/// What to do, and why. Accuracy speaks first: data that moved and do no harm are looked at, not
/// acted upon.
pub(crate) fn recommend(report: &HealthReport) -> (Recommendation, String) {
    let moved: Vec<String> = report
        .moved_of(Role::Input)
        .filter(|feature| feature.verdict == Verdict::Drifted)
        .map(|feature| feature.name.to_string())
        .collect();
    let named = || {
        let rest = moved.len().saturating_sub(4);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        format!("{}{more}", moved.iter().take(4).cloned().collect::<Vec<_>>().join(", "))
    };
    let performance = &report.performance;
    if performance.verdict == Verdict::Drifted {
        let loss = percent(performance.loss.unwrap_or_default());
        let rate = |rate: Option<Rate>| rate.map_or_else(String::new, |rate| percent(rate.rate));
        let fell = format!(
            "accuracy fell from {} to {}, a loss of {loss}",
            rate(performance.then),
            rate(performance.now)
        );
        return match &report.warm {
            _ if report.labels.suspicious => (
                Recommendation::Investigate,
                format!("{fell}, but labels are not missing at random: check them first"),
            ),
            _ if !moved.is_empty() => {
                (Recommendation::Retrain, format!("{fell}, and inputs moved: {}", named()))
            }
            Some(warm) if report.data == Verdict::Stable => (
                Recommendation::RollBack,
                format!("{fell} while no input moved; {warm} is still warm"),
            ),
            _ => (Recommendation::Retrain, fell),
        };
    }
    if report.training_due_seconds <= 0 {
        let since = crate::drift::report::span(report.trained_seconds);
        return (Recommendation::Retrain, format!("the last training is {since} old"));
    }
    if report.data == Verdict::Drifted {
        let of: Vec<String> = report
            .features
            .iter()
            .filter(|feature| feature.verdict == Verdict::Drifted)
            .take(4)
            .map(|feature| feature.name.to_string())
            .collect();
        let accuracy = match performance.verdict {
            Verdict::Stable => "accuracy holds",
            Verdict::Watch => "accuracy may be falling",
            _ => "accuracy is not known",
        };
        return (Recommendation::Investigate, format!("{} moved; {accuracy}", of.join(", ")));
    }
    if report.labels.suspicious {
        let why = "labels are not missing at random, so the accuracy is in doubt".to_owned();
        return (Recommendation::Investigate, why);
    }
    if performance.verdict == Verdict::Watch {
        return (Recommendation::Investigate, "accuracy may be falling".to_owned());
    }
    match report.data {
        Verdict::Watch => {
            let mut of: Vec<String> =
                report.moved().take(4).map(|feature| feature.name.to_string()).collect();
            of.extend(report.appeared.iter().take(4).map(|name| format!("{name} (new)")));
            let why = format!("moved a little: {}", of.join(", "));
            (Recommendation::Investigate, why)
        }
        Verdict::NotEnough => {
            (Recommendation::Investigate, "not enough data to say how it is".to_owned())
        }
        _ => (Recommendation::None, "nothing moved that matters".to_owned()),
    }
}
