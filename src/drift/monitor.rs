//! Watches a deployed model: its inputs, its answers, and how often they are right.
//!
//! A [`DriftMonitor`] is a machine: it is told what was counted, which labels came due and what time
//! it is, and answers with what people must know. It looks in two ways. *Request by request* it adds
//! up evidence, and raises an alarm as soon as that is enough; the mean number of requests between
//! false alarms is at least the stated one, over all features together. *Window by window* it says
//! what moved and how far, and what to do about it.
//!
//! It asks for a new model, and never puts one into service: there is no effect that moves traffic.
//! A retrained model begins the plan like every other candidate.
//!
//! Memory: a watch of at most 5 KiB a feature beside the reference, one window's counts, and
//! [`HISTORY`] summaries.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::drift::accuracy::{Accuracy, AccuracyWatch};
use crate::drift::compare::{Asked, Comparison};
use crate::drift::error::DriftError;
use crate::drift::judge;
use crate::drift::labels::{Cohort, missingness_p};
use crate::drift::population::Population;
use crate::drift::reference::{FeatureReference, Reference};
use crate::drift::report::{
    HealthReport, LabelHealth, Performance, Recommendation, WindowSummary, percent,
};
use crate::drift::settings::{Deployment, MonitorSettings};
use crate::drift::verdict::{Aspect, Verdict};
use crate::drift::watch::{DOUBT, FeatureWatch};
use crate::ids::Name;

/// How many windows are remembered.
pub const HISTORY: usize = 104;

/// What a monitor may be told. Every input also tells it what time it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DriftInput {
    /// Only the time.
    Tick,
    /// Rows that were counted since the last of these.
    Seen(Box<Population>),
    /// Requests that came due, with the labels they got, of all arms. Like every
    /// input they close a window that is due. Where rows of the same moment follow, give the labels
    /// the moment of the input before: then both count in the window that ends with those rows.
    Matured(Vec<Cohort>),
    /// Which other model is warm, if any.
    Warm(Option<Name>),
    /// Somebody knows about the alarms: they are cleared, and so is the evidence behind them.
    Acknowledged,
}

/// What a monitor may ask for. None of these moves traffic.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DriftEffect {
    /// Tell people.
    Alert(DriftNews),
    /// Ask for a new model.
    Retrain(RetrainRequest),
    /// A window is over: how the model is.
    Report(Box<HealthReport>),
}

/// How soon somebody must look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Good to know.
    Info,
    /// Somebody should look during working hours.
    Warning,
    /// Answers are getting worse now.
    Critical,
}

/// News for people.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DriftNews {
    /// Which incident: the same key is the same news.
    pub key: String,
    /// How soon somebody must look.
    pub urgency: Urgency,
    /// One sentence.
    pub summary: String,
    /// Whether the incident is over.
    pub resolved: bool,
}

/// A call for a new model: what a retraining pipeline is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RetrainRequest {
    /// The model that serves.
    pub model: Name,
    /// Why, in one sentence.
    pub why: String,
    /// The features that moved, what moved most first.
    pub moved: Vec<Name>,
    /// How old the last training is, in seconds.
    pub trained_seconds: u64,
}

/// Watches a deployed model; see the module's documentation.
///
/// ```
/// use std::time::Duration;
/// use pilotage::clock::Moment;
/// use pilotage::drift::monitor::{DriftEffect, DriftInput, DriftMonitor};
/// use pilotage::drift::population::Population;
/// use pilotage::drift::reference::{FeatureSpec, ReferenceBuilder, Source};
/// use pilotage::drift::settings::{Deployment, MonitorSettings};
/// use pilotage::drift::value::Value;
/// use pilotage::ids::Name;
///
/// let features = vec![FeatureSpec::numeric(Name::new("pressure")?)];
/// let mut builder = ReferenceBuilder::new(Name::new("v3")?, Source::Baseline, features)?;
/// for at in 0..3_000_u32 {
///     builder.row(&[Value::Number(f64::from(at.wrapping_mul(2_654_435_761) >> 20))])?;
/// }
/// let reference = builder.finish();
///
/// let deployed = Deployment::new(Name::new("v3")?);
/// let mut monitor =
///     DriftMonitor::new(MonitorSettings::default(), reference.clone(), deployed, Moment::ZERO)?;
/// let mut broken = Population::new(&reference);
/// for _ in 0..5 {
///     broken.row(&reference, &[Value::Number(-1.0)])?; // a sensor that came off
/// }
/// let effects = monitor.handle(Moment::from_secs(60), DriftInput::Seen(Box::new(broken)))?;
/// let DriftEffect::Alert(news) = &effects[0] else { panic!("it says nothing") };
/// assert!(news.summary.contains("pressure: out of range"), "{}", news.summary);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DriftMonitor {
    pub(super) settings: MonitorSettings,
    pub(super) reference: Reference,
    pub(super) deployment: Deployment,
    /// Time is added up from differences, so that it survives a clock with another origin.
    pub(super) last: Moment,
    pub(super) age: Duration,
    pub(super) since_window: Duration,
    pub(super) since_call: Option<Duration>,
    pub(super) rows: u64,
    pub(super) window: Population,
    pub(super) features: Vec<Watched>,
    pub(super) accuracy: Option<AccuracyWatch>,
    pub(super) labels: Accuracy,
    pub(super) due: Vec<(crate::ids::Arm, u64, u64)>,
    pub(super) open: Vec<String>,
    pub(super) history: VecDeque<WindowSummary>,
}

#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) watch: FeatureWatch,
    pub(super) alarm: Option<(u64, Aspect)>,
}

impl DriftMonitor {
    /// Watches `deployment` from `now` on.
    ///
    /// # Errors
    ///
    /// [`DriftError`] when a setting is out of its range.
    pub fn new(
        settings: MonitorSettings,
        reference: Reference,
        deployment: Deployment,
        now: Moment,
    ) -> Result<Self, DriftError> {
        settings.check()?;
        let watched = reference.features();
        let features = watched.iter().map(|feature| Watched {
            watch: FeatureWatch::new(feature, watched.len()),
            alarm: None,
        });
        let accuracy = deployment
            .accuracy
            .filter(|accuracy| accuracy.labelled() >= settings.min_labels)
            .map(|accuracy| AccuracyWatch::new(accuracy, settings.accuracy))
            .transpose()?;
        Ok(Self {
            features: features.collect(),
            window: Population::new(&reference),
            accuracy,
            labels: Self::no_labels(&deployment),
            settings,
            reference,
            deployment,
            last: now,
            age: Duration::ZERO,
            since_window: Duration::ZERO,
            since_call: None,
            rows: 0,
            due: Vec::new(),
            open: Vec::new(),
            history: VecDeque::new(),
        })
    }

    /// Advances by one input, and says what people must know and what should be done.
    ///
    /// The same state, input and `now` always give the same effects. Time that steps back stands
    /// still. A window that is due is closed once, however late the call comes.
    ///
    /// # Errors
    ///
    /// [`DriftError::AnotherReference`] for rows that were counted against another reference; they
    /// are not counted, and no time passes.
    pub fn handle(
        &mut self,
        now: Moment,
        input: DriftInput,
    ) -> Result<Vec<DriftEffect>, DriftError> {
        if let DriftInput::Seen(population) = &input {
            population.belongs_to(&self.reference)?;
        }
        self.pass(now);
        let mut effects = Vec::new();
        match input {
            DriftInput::Tick => {}
            DriftInput::Seen(population) => self.see(&population, &mut effects)?,
            DriftInput::Matured(cohorts) => self.mature(&cohorts, &mut effects),
            DriftInput::Warm(model) => self.deployment.warm = model,
            DriftInput::Acknowledged => self.acknowledge(&mut effects),
        }
        if self.since_window >= self.settings.window {
            self.close(&mut effects);
        }
        Ok(effects)
    }

    /// Takes in labels without letting time pass: the rows of the same moment follow.
    pub(crate) fn labels_now(&mut self, cohorts: &[Cohort]) -> Vec<DriftEffect> {
        let mut effects = Vec::new();
        self.mature(cohorts, &mut effects);
        effects
    }

    /// How the model is, as of the window under way.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let alpha = self.settings.alpha;
        let count = self.features.len().max(1) as f64;
        let asked = Asked { alpha: alpha / count, psi: self.settings.psi_limit };
        let compared: Vec<Comparison> = self
            .reference
            .features()
            .iter()
            .zip(&self.window.features)
            .map(|(feature, counts)| Comparison::of(feature, counts, self.window.rows(), asked))
            .collect();
        let alarms: Vec<Option<(u64, Aspect)>> = self.features.iter().map(|of| of.alarm).collect();
        let mut features =
            judge::features(&self.settings, &self.reference, &self.window, compared, &alarms);
        judge::sort(&mut features);
        let data = judge::overall(&features, self.window.appeared().len());
        let performance = self.performance();
        let labels = self.label_health();
        let trained = self.deployment.trained_before.saturating_add(self.age).as_secs();
        let due = self.settings.retrain_every.as_secs();
        let due = i64::try_from(due).unwrap_or(i64::MAX).saturating_sub_unsigned(trained);
        let mut report = HealthReport {
            model: self.deployment.model.clone(),
            age_seconds: self.age.as_secs(),
            window_seconds: self.since_window.as_secs(),
            rows: self.window.rows(),
            reference_rows: self.reference.rows(),
            reference: self.reference.id().to_owned(),
            data,
            performance,
            features,
            appeared: self.window.appeared().to_vec(),
            labels,
            trained_seconds: trained,
            training_due_seconds: due,
            recommendation: Recommendation::None,
            why: String::new(),
            warm: self.deployment.warm.clone(),
            requests_between: self.settings.requests_between,
            alpha,
            history: self.history.iter().copied().collect(),
        };
        (report.recommendation, report.why) = judge::recommend(&report);
        report
    }

    /// After how many rows each feature's alarm was raised, and about what, for those it was.
    pub fn alarms(&self) -> impl Iterator<Item = (&FeatureReference, u64, Aspect)> {
        let features = self.reference.features().iter().zip(&self.features);
        features.filter_map(|(feature, of)| of.alarm.map(|(rows, aspect)| (feature, rows, aspect)))
    }

    /// After how many labels the alarm on the accuracy was raised, if it was.
    #[must_use]
    pub fn accuracy_alarm(&self) -> Option<u64> {
        self.accuracy.as_ref()?.alarmed_at()
    }

    /// The most evidence any feature has, in rows: an alarm is raised when it reaches the stated mean
    /// between false alarms, times the number of features, over 0.95.
    #[must_use]
    pub fn evidence(&self) -> f64 {
        self.features.iter().map(|of| of.watch.evidence()).fold(0.0, f64::max)
    }

    /// What rows are compared with.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Bytes of memory it holds, the reference's included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let watches: usize = self.features.iter().map(|of| of.watch.memory_bytes()).sum();
        let counts: usize =
            self.window.features.iter().map(|of| 48 + of.cells.capacity() * size_of::<u64>()).sum();
        size_of::<Self>()
            + self.reference.memory_bytes()
            + watches
            + counts
            + HISTORY * size_of::<WindowSummary>()
    }

    fn pass(&mut self, now: Moment) {
        let passed = now.since(self.last);
        self.last = now;
        self.age = self.age.saturating_add(passed);
        self.since_window = self.since_window.saturating_add(passed);
        self.since_call = self.since_call.map(|since| since.saturating_add(passed));
    }

    fn see(
        &mut self,
        population: &Population,
        effects: &mut Vec<DriftEffect>,
    ) -> Result<(), DriftError> {
        self.window.merge(population)?;
        self.rows = self.rows.saturating_add(population.rows());
        // A reference that is too small says nothing; its bounds would, and nobody would believe it.
        if self.reference.rows() < self.settings.min_reference {
            return Ok(());
        }
        let between = self.settings.requests_between;
        let threshold = between * self.features.len() as f64 / (1.0 - DOUBT);
        let mut news = Vec::new();
        let watched = self.reference.features().iter().zip(&population.features);
        for ((of, (feature, counts)), window) in
            self.features.iter_mut().zip(watched).zip(&self.window.features)
        {
            let recorded: u64 = counts.cells.iter().sum();
            of.watch.push(feature, counts, population.rows().max(recorded));
            if of.alarm.is_none() && of.watch.evidence() >= threshold {
                let aspect = of.watch.aspect();
                of.alarm = Some((self.rows, aspect));
                let which =
                    if aspect == Aspect::Unseen { judge::strangers(window) } else { String::new() };
                news.push((feature.name().clone(), aspect, which));
            }
        }
        for (name, aspect, which) in news {
            let rows = self.rows;
            let summary = format!(
                "{name}: {aspect}{which}, seen after {rows} rows (at least {between:.0} rows between \
                 false alarms on average)"
            );
            self.tell(effects, format!("drift/feature/{name}"), Urgency::Warning, summary);
        }
        Ok(())
    }

    fn mature(&mut self, cohorts: &[Cohort], effects: &mut Vec<DriftEffect>) {
        for cohort in cohorts {
            match self.due.iter_mut().find(|(arm, ..)| *arm == cohort.arm) {
                Some((_, labelled, served)) => {
                    *labelled = labelled.saturating_add(cohort.labelled());
                    *served = served.saturating_add(cohort.served);
                }
                None => self.due.push((cohort.arm, cohort.labelled(), cohort.served)),
            }
        }
        let own = cohorts.iter().filter(|cohort| cohort.arm == self.settings.arm);
        let mut raised = false;
        for cohort in own {
            self.labels.add(cohort.correct, cohort.wrong);
            if let Some(watch) = &mut self.accuracy {
                let before = watch.alarmed_at().is_some();
                raised |= watch.push(cohort.correct, cohort.wrong) && !before;
            }
        }
        if let (true, Some(watch)) = (raised, &self.accuracy) {
            let then = watch.deployed().rate().map_or_else(String::new, percent);
            let now = self.labels.rate().map_or_else(String::new, percent);
            let after = watch.alarmed_at().unwrap_or_default();
            let summary = format!(
                "answers are right less often than the {then} at deployment: {now} in this window, \
                 seen after {after} labels"
            );
            self.tell(effects, "drift/accuracy".to_owned(), Urgency::Critical, summary);
        }
    }

    fn acknowledge(&mut self, effects: &mut Vec<DriftEffect>) {
        for of in &mut self.features {
            of.alarm = None;
            of.watch.clear();
        }
        if let Some(watch) = &mut self.accuracy {
            watch.reset();
        }
        for key in std::mem::take(&mut self.open) {
            let summary = "acknowledged".to_owned();
            let news = DriftNews { key, urgency: Urgency::Info, summary, resolved: true };
            effects.push(DriftEffect::Alert(news));
        }
    }

    /// The window is over: it is judged, and the next begins.
    fn close(&mut self, effects: &mut Vec<DriftEffect>) {
        let report = self.report();
        self.tell_of(&report, effects);
        if report.recommendation == Recommendation::Retrain
            && self.since_call.is_none_or(|since| since >= self.settings.retrain_cooldown)
        {
            self.since_call = Some(Duration::ZERO);
            effects.push(DriftEffect::Retrain(RetrainRequest {
                model: report.model.clone(),
                why: report.why.clone(),
                moved: report.moved().map(|feature| feature.name.clone()).collect(),
                trained_seconds: report.trained_seconds,
            }));
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(WindowSummary {
            age_seconds: report.age_seconds,
            rows: report.rows,
            accuracy: report.performance.now,
            drifted: report.features.iter().filter(|of| of.verdict == Verdict::Drifted).count(),
            data: report.data,
            performance: report.performance.verdict,
        });
        effects.push(DriftEffect::Report(Box::new(report)));
        self.window = Population::new(&self.reference);
        self.labels = Self::no_labels(&self.deployment);
        self.due.clear();
        self.since_window = Duration::ZERO;
    }

    fn tell_of(&mut self, report: &HealthReport, effects: &mut Vec<DriftEffect>) {
        let key = "drift/window".to_owned();
        let first: Vec<String> =
            report.moved().take(5).map(|of| format!("{} ({})", of.name, of.note)).collect();
        match report.data {
            Verdict::Drifted => {
                self.tell(effects, key, Urgency::Warning, format!("drifted: {}", first.join("; ")));
            }
            Verdict::NotEnough => {
                let rows = report.rows;
                let summary = format!("not enough to say whether anything moved: {rows} rows");
                self.tell(effects, key, Urgency::Info, summary);
            }
            Verdict::Watch => {}
            Verdict::Stable => self.resolve(effects, &key, "the data look as they did"),
        }
        let key = "drift/accuracy".to_owned();
        match report.performance.verdict {
            Verdict::Drifted => {
                self.tell(effects, key, Urgency::Critical, report.why.clone());
            }
            Verdict::Stable => self.resolve(effects, &key, "answers are as right as they were"),
            Verdict::Watch | Verdict::NotEnough => {}
        }
        if report.labels.suspicious {
            let summary = "labels are not missing at random: the accuracy is in doubt".to_owned();
            self.tell(effects, "drift/labels".to_owned(), Urgency::Warning, summary);
        }
        if report.training_due_seconds < 0 {
            let summary =
                format!("training is {}", crate::drift::report::due(report.training_due_seconds));
            self.tell(effects, "drift/training".to_owned(), Urgency::Info, summary);
        }
    }

    /// Tells people once of an incident.
    fn tell(
        &mut self,
        effects: &mut Vec<DriftEffect>,
        key: String,
        urgency: Urgency,
        summary: String,
    ) {
        if self.open.contains(&key) {
            return;
        }
        self.open.push(key.clone());
        effects.push(DriftEffect::Alert(DriftNews { key, urgency, summary, resolved: false }));
    }

    fn resolve(&mut self, effects: &mut Vec<DriftEffect>, key: &str, summary: &str) {
        let Some(at) = self.open.iter().position(|open| open == key) else { return };
        let key = self.open.remove(at);
        let (urgency, summary) = (Urgency::Info, summary.to_owned());
        effects.push(DriftEffect::Alert(DriftNews { key, urgency, summary, resolved: true }));
    }

    fn performance(&self) -> Performance {
        let alarmed = self.accuracy_alarm();
        judge::performance(&self.settings, self.deployment.accuracy, self.labels, alarmed)
    }

    fn label_health(&self) -> LabelHealth {
        let arms: Vec<(u64, u64)> = self.due.iter().map(|(_, k, n)| (*k, *n)).collect();
        let own = self.due.iter().find(|(arm, ..)| *arm == self.settings.arm);
        let (labelled, served) = own.map_or((0, 0), |(_, k, n)| (*k, *n));
        let by_arm_p = (arms.len() > 1).then(|| missingness_p(&arms));
        let over_time_p =
            self.deployment.labels.map(|then| missingness_p(&[then, (labelled, served)]));
        let level = self.settings.alpha / 2.0;
        let suspicious = [by_arm_p, over_time_p].into_iter().flatten().any(|p| p < level);
        LabelHealth { served, labelled, over_time_p, by_arm_p, suspicious }
    }

    /// No labels yet, and the design effect they will have.
    fn no_labels(deployment: &Deployment) -> Accuracy {
        let effect = deployment.accuracy.map_or(1.0, Accuracy::design_effect);
        Accuracy::new(0, 0).clustered(effect).unwrap_or(Accuracy::new(0, 0))
    }
}
