//! What a monitor must not lose over a restart.
//!
//! An alarm that needs a month of evidence never comes if every restart begins it anew. So a
//! monitor's state is taken ([`DriftMonitor::state`]), stored by whoever has a place for it, in any
//! format serde knows, and given to the next process ([`DriftMonitor::restore`]). The stream that was
//! cut raises the same alarms, at the same rows, as one that was not.
//!
//! A state says under which settings, reference and deployment it came about, and goes on under no
//! others: evidence against one null is none against another, and a threshold that is changed in
//! between promises nothing. What differs is named. Numbers are stored as their bits, since one in
//! the last place is enough to move an alarm; a checksum covers them, and every one is looked at
//! before it counts.
//!
//! Size: some 40 bytes for each question of a feature (about 25 to 50 of them) and its counts.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Moment;
use crate::drift::error::DriftError;
use crate::drift::monitor::{DriftMonitor, HISTORY};
use crate::drift::population::Population;
use crate::drift::reference::Reference;
use crate::drift::report::WindowSummary;
use crate::drift::settings::{Deployment, MonitorSettings};
use crate::drift::verdict::Aspect;
use crate::ids::Arm;

/// The format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;

/// A monitor's state, to be stored.
///
/// ```
/// use std::time::Duration;
/// use pilotage::clock::Moment;
/// use pilotage::drift::monitor::DriftMonitor;
/// # use pilotage::drift::reference::{FeatureSpec, ReferenceBuilder, Source};
/// use pilotage::drift::settings::{Deployment, MonitorSettings};
/// use pilotage::drift::state::{MonitorState, StateError};
/// # use pilotage::drift::value::Value;
/// # use pilotage::ids::Name;
/// # let features = vec![FeatureSpec::numeric(Name::new("pressure")?)];
/// # let mut builder = ReferenceBuilder::new(Name::new("v3")?, Source::Baseline, features)?;
/// # for at in 0..300_u32 {
/// #     builder.row(&[Value::Number(f64::from(at))])?;
/// # }
/// # let reference = builder.finish();
///
/// let (settings, model) = (MonitorSettings::default(), Deployment::new(Name::new("v3")?));
/// let monitor = DriftMonitor::new(settings, reference.clone(), model.clone(), Moment::ZERO)?;
/// let stored = serde_json::to_string(&monitor.state())?;
///
/// // In the next process, two minutes later:
/// let state: MonitorState = serde_json::from_str(&stored)?;
/// let (now, gone) = (Moment::ZERO, Duration::from_secs(120));
/// let other = MonitorSettings { alpha: 0.05, ..settings };
/// let refused = DriftMonitor::restore(other, reference.clone(), model.clone(), &state, now, gone);
/// assert!(matches!(refused, Err(StateError::Differs { what, .. }) if what == "alpha"));
/// let monitor = DriftMonitor::restore(settings, reference, model, &state, now, gone)?;
/// assert_eq!(monitor.report().age_seconds, 120);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorState {
    format: u32,
    /// What it came about under, name by name.
    under: Vec<(String, String)>,
    checksum: String,
    age: Duration,
    since_window: Duration,
    since_call: Option<Duration>,
    rows: u64,
    features: Vec<FeatureState>,
    accuracy: Option<Vec<u64>>,
    labels: (u64, u64),
    due: Vec<(Arm, u64, u64)>,
    open: Vec<String>,
    window: Population,
    history: VecDeque<WindowSummary>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureState {
    words: Vec<u64>,
    alarm: Option<(u64, Aspect)>,
}

/// A state that a monitor does not go on from. Begin a new monitor, or bring back what differs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another release wrote it.
    #[error("the state has format {found}, and this release reads format {expected}; begin anew")]
    Format {
        /// Its format.
        found: u32,
        /// What this release reads.
        expected: u32,
    },
    /// It came about under something else.
    #[error(
        "the state came about with {what} {stored}, and here it is {given}; its evidence does not count then: bring that back, or begin anew"
    )]
    Differs {
        /// What differs first: a setting's name, the reference, or a part of the deployment.
        what: String,
        /// As the state says.
        stored: String,
        /// As it is here.
        given: String,
    },
    /// It is not what was stored, or holds what can never have been.
    #[error("the state is damaged: {what}; begin anew")]
    Damaged {
        /// What does not fit.
        what: String,
    },
    /// The settings are no settings.
    #[error(transparent)]
    Drift(#[from] DriftError),
}

impl DriftMonitor {
    /// All that it must not lose over a restart, as of the last input.
    #[must_use]
    pub fn state(&self) -> MonitorState {
        let features = self
            .features
            .iter()
            .map(|of| FeatureState { words: of.watch.words(), alarm: of.alarm });
        let mut state = MonitorState {
            format: FORMAT,
            under: under(&self.settings, &self.reference, &self.deployment),
            checksum: String::new(),
            age: self.age,
            since_window: self.since_window,
            since_call: self.since_call,
            rows: self.rows,
            features: features.collect(),
            accuracy: self.accuracy.as_ref().map(|watch| watch.words()),
            labels: self.labels.counts(),
            due: self.due.clone(),
            open: self.open.clone(),
            window: self.window.clone(),
            history: self.history.clone(),
        };
        state.checksum = state.sum();
        state
    }

    /// Goes on from `state`, at `now`, after the process was `gone` for so long: its age, its window
    /// and its cool-down count that time too. Which model is warm is what `deployment` says.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state is of another format, came about under other settings, another
    /// reference or another deployment, or is damaged.
    pub fn restore(
        settings: MonitorSettings,
        reference: Reference,
        deployment: Deployment,
        state: &MonitorState,
        now: Moment,
        gone: Duration,
    ) -> Result<Self, StateError> {
        if state.format != FORMAT {
            return Err(StateError::Format { found: state.format, expected: FORMAT });
        }
        let given = under(&settings, &reference, &deployment);
        if let Some((what, stored, given)) = difference(&state.under, &given) {
            return Err(StateError::Differs { what, stored, given });
        }
        if state.checksum != state.sum() {
            return Err(damaged("its checksum is another"));
        }
        let mut all = Self::new(settings, reference, deployment, now)?;
        state.check(&all)?;
        for (of, stored) in all.features.iter_mut().zip(&state.features) {
            of.watch
                .set_words(&stored.words)
                .ok_or_else(|| damaged("a feature's evidence can never have been"))?;
            of.alarm = stored.alarm;
        }
        all.accuracy = match (all.accuracy, &state.accuracy) {
            (None, None) => None,
            (Some(watch), Some(words)) => {
                let watch = watch.with_words(words);
                Some(watch.ok_or_else(|| damaged("the accuracy's evidence can never have been"))?)
            }
            _ => return Err(damaged("the accuracy is watched on one side only")),
        };
        all.age = state.age.saturating_add(gone);
        all.since_window = state.since_window.saturating_add(gone);
        all.since_call = state.since_call.map(|since| since.saturating_add(gone));
        all.rows = state.rows;
        all.labels.add(state.labels.0, state.labels.1);
        all.due.clone_from(&state.due);
        all.open.clone_from(&state.open);
        all.window = state.window.clone();
        all.history.clone_from(&state.history);
        Ok(all)
    }
}

impl MonitorState {
    /// Of everything whose every bit counts. What a format may round in its last place (distances
    /// beyond the range, rates of windows past) is checked by itself.
    fn sum(&self) -> String {
        let Self { format, under, age, since_window, since_call, rows, .. } = self;
        let Self { features, accuracy, labels, due, open, window, history, .. } = self;
        let cells: Vec<&Vec<u64>> = window.features.iter().map(|counts| &counts.cells).collect();
        let past: Vec<_> = history.iter().map(|of| (of.age_seconds, of.rows, of.drifted)).collect();
        let all = (
            (format, under, age, since_window, since_call, rows, features),
            (accuracy, labels, due, open, window.rows(), cells, past),
        );
        format!("{:016x}", xxh3_64(format!("{all:?}").as_bytes()))
    }

    /// Whether it can have come about in `monitor`, as far as counts tell.
    fn check(&self, monitor: &DriftMonitor) -> Result<(), StateError> {
        let fits = |fits: bool, what: &str| if fits { Ok(()) } else { Err(damaged(what)) };
        fits(self.features.len() == monitor.features.len(), "it has another number of features")?;
        let late = |of: &FeatureState| of.alarm.is_some_and(|(at, _)| at > self.rows);
        fits(!self.features.iter().any(late), "an alarm is of a row that was not yet seen")?;
        let window = &self.window;
        fits(window.belongs_to(&monitor.reference).is_ok(), "its window is of another reference")?;
        fits(window.is_sound(), "its window holds what cannot be counted")?;
        fits(window.rows() <= self.rows, "its window has more rows than were seen")?;
        fits(self.history.len() <= HISTORY, "it has more windows than are kept")?;
        let good = |rate: f64| rate.is_finite() && (0.0..=1.0).contains(&rate);
        let sound = |of: &WindowSummary| {
            of.accuracy.is_none_or(|rate| [rate.rate, rate.low, rate.high].into_iter().all(good))
        };
        fits(self.history.iter().all(sound), "a window past has a rate that is none")?;
        fits(self.due.len() <= MOST_ARMS, "it has labels of too many arms")?;
        fits(self.open.len() <= self.features.len() + OTHER_KEYS, "too many alerts are open")
    }
}

/// Everything a monitor's evidence depends on, by name.
fn under(
    settings: &MonitorSettings,
    reference: &Reference,
    deployment: &Deployment,
) -> Vec<(String, String)> {
    let &MonitorSettings {
        window,
        alpha,
        requests_between,
        psi_limit,
        missing_limit,
        outside_limit,
        decay,
        accuracy,
        min_reference,
        min_window,
        min_labels,
        retrain_every,
        retrain_cooldown,
        arm,
    } = settings;
    let all: [(&str, &dyn fmt::Debug); 19] = [
        ("reference", &reference.id()),
        ("model", &deployment.model.as_str()),
        ("accuracy at deployment", &deployment.accuracy),
        ("labels at deployment", &deployment.labels),
        ("age of the training", &deployment.trained_before),
        ("window", &window),
        ("alpha", &alpha),
        ("requests_between", &requests_between),
        ("psi_limit", &psi_limit),
        ("missing_limit", &missing_limit),
        ("outside_limit", &outside_limit),
        ("decay", &decay),
        ("accuracy", &accuracy),
        ("min_reference", &min_reference),
        ("min_window", &min_window),
        ("min_labels", &min_labels),
        ("retrain_every", &retrain_every),
        ("retrain_cooldown", &retrain_cooldown),
        ("arm", &arm),
    ];
    all.iter().map(|(name, value)| ((*name).to_owned(), format!("{value:?}"))).collect()
}

fn difference(
    stored: &[(String, String)],
    given: &[(String, String)],
) -> Option<(String, String, String)> {
    let none = "nothing".to_owned();
    for (name, value) in given {
        let there = stored.iter().find(|(stored, _)| stored == name).map(|(_, value)| value);
        if there != Some(value) {
            return Some((name.clone(), there.cloned().unwrap_or(none), value.clone()));
        }
    }
    let unknown = stored.iter().find(|(name, _)| !given.iter().any(|(given, _)| given == name))?;
    Some((unknown.0.clone(), unknown.1.clone(), none))
}

fn damaged(what: &str) -> StateError {
    StateError::Damaged { what: what.to_owned() }
}

const MOST_ARMS: usize = 256;
/// Alerts that are about no feature.
const OTHER_KEYS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::accuracy::{Accuracy, AccuracyRule};
    use crate::drift::reference::{FeatureSpec, ReferenceBuilder, Source};
    use crate::drift::value::Value;
    use crate::ids::Name;
    use crate::stats::adwin::AdwinSettings;
    use crate::stats::page_hinkley::PageHinkleySettings;

    /// Whoever writes garbage may write its checksum too.
    #[test]
    fn numbers_that_can_never_have_been_are_refused_under_a_good_checksum() {
        let name = |name: &str| Name::new(name).unwrap();
        let features = vec![FeatureSpec::numeric(name("x"))];
        let mut builder = ReferenceBuilder::new(name("v1"), Source::File, features).unwrap();
        (0..300).for_each(|at| builder.row(&[Value::Number(f64::from(at))]).unwrap());
        let reference = builder.finish();
        let deployment = Deployment::new(name("v1")).accuracy(Accuracy::new(900, 100));
        let rules = [
            AccuracyRule::default(),
            AccuracyRule::Adwin(AdwinSettings::default()),
            AccuracyRule::PageHinkley(PageHinkleySettings::default()),
        ];
        for rule in rules {
            let settings = MonitorSettings { accuracy: rule, ..MonitorSettings::default() };
            let mut monitor =
                DriftMonitor::new(settings, reference.clone(), deployment.clone(), Moment::ZERO)
                    .unwrap();
            let watch = monitor.accuracy.as_mut().unwrap();
            (0..90).for_each(|at| _ = watch.push(9, at % 2));
            let restored = |change: &dyn Fn(&mut MonitorState)| {
                let mut state = monitor.state();
                change(&mut state);
                state.checksum = state.sum();
                let (reference, deployment) = (reference.clone(), deployment.clone());
                let (now, gone) = (Moment::ZERO, Duration::ZERO);
                DriftMonitor::restore(settings, reference, deployment, &state, now, gone).map(drop)
            };
            assert_eq!(restored(&|_| ()), Ok(()));
            let refused = |change: &dyn Fn(&mut MonitorState)| {
                assert!(matches!(restored(change), Err(StateError::Damaged { .. })), "{rule:?}");
            };
            for garbage in [f64::NAN, f64::INFINITY, -1.0, 1e301] {
                refused(&|state| state.features[0].words[3] = garbage.to_bits());
            }
            for garbage in [f64::NAN, f64::NEG_INFINITY] {
                let last = monitor.state().accuracy.unwrap().len() - 1;
                let at = if matches!(rule, AccuracyRule::Detector { .. }) { 4 } else { last };
                refused(&|state| state.accuracy.as_mut().unwrap()[at] = garbage.to_bits());
            }
            refused(&|state| state.accuracy.as_mut().unwrap().truncate(4));
            refused(&|state| state.accuracy.as_mut().unwrap().push(u64::MAX));
            refused(&|state| state.accuracy = None);
            refused(&|state| _ = state.features[0].words.pop());
            refused(&|state| _ = state.features.pop());
            refused(&|state| state.features[0].alarm = Some((1, Aspect::Values)));
            refused(&|state| state.window.features[0].below = f64::NAN);
            refused(&|state| _ = state.window.features[0].cells.pop());
        }
    }
}
