//! Everything there is to know of a rollout, as one value.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Moment;
use crate::control::alert_queue::{AlertCounts, Untold};
use crate::ids::Name;
use crate::judge::paired::{Agreement, PairedQuality, PairedReading};
use crate::judge::verdict::Reading;
use crate::machine::{At, Drilled, Transition};
use crate::observe::shadow::{PairedTruth, ShadowCounts};
use crate::observe::snapshot::ArmCounts;
use crate::outcome::Status as Ending;
use crate::rollout::pipeline::{End, Hold, Rollout, State, Try};
use crate::route::switch::Split;
use crate::share::TrafficShare;
use crate::strategy::ab_test::report::Report;
use crate::strategy::ab_test::stage::Compared;
use crate::strategy::conclusion::Conclusion;

/// A rollout at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The rollout's name.
    pub rollout: Name,
    /// The model that is the baseline now.
    pub baseline: Name,
    /// The model that is, or was, to be proved.
    pub candidate: Name,
    /// The stage it is in, or ended in.
    pub stage: String,
    /// That stage's number, from 1, and how many there are.
    pub step: (usize, usize),
    /// Where it is, to give an order for it ([`Pilot::order_at`]).
    ///
    /// [`Pilot::order_at`]: crate::control::pilot::Pilot::order_at
    pub at: At,
    /// How it ended; `None` while it is under way.
    pub end: Option<End>,
    /// Until when one order takes a promotion back; `None` where there is none that could be.
    pub way_back_until: Option<Moment>,
    /// Why it stands where it stands, in one sentence.
    pub reason: String,
    /// What follows from the evidence now; `None` once it is over.
    pub conclusion: Option<Conclusion>,
    /// What it waits for, while it stays where it is; `None` while it simply runs.
    pub hold: Option<Hold>,
    /// The tries of stages that failed and were repeated.
    pub tries: Vec<Try>,
    /// What the A/B test has come to, measure by measure, where the stage is one.
    pub comparisons: Vec<(Compared, Report)>,
    /// Why an operator paused it, if one did.
    pub paused: Option<String>,
    /// When the stage was entered, or the rollout ended.
    pub since: Moment,
    /// The present moment.
    pub now: Moment,
    /// The candidate's share in force.
    pub share: TrafficShare,
    /// The share it is meant to have. Another than `share` while a switch does not obey, or a
    /// journal cannot be written.
    pub wanted: TrafficShare,
    /// A step that was decided and is not in force yet.
    pub change: Option<ChangeStatus>,
    /// Whether it moves the router's traffic. What is over does not, nor what was left.
    pub owner: bool,
    /// Why everything went back although it is not over: nobody looked after it.
    pub parked: Option<String>,
    /// Candidate samples of this stage so far, and how many it needs at least.
    pub samples: (u64, u64),
    /// Calls of both arms since the router was built.
    pub arms: Vec<ArmStatus>,
    /// Each guardrail's numbers.
    pub guardrails: Vec<Reading>,
    /// The evidence on quality in a shadow.
    pub quality: Option<PairedReading>,
    /// The evidence on agreement in a shadow.
    pub agreement: Option<PairedReading>,
    /// What the shadow saw.
    pub shadow: Option<ShadowStatus>,
    /// Every transition so far, oldest first.
    pub history: Vec<Transition>,
    /// The journal, where one is kept.
    pub journal: Option<JournalStatus>,
    /// The switch outside, where there is one.
    pub switch: Option<SwitchStatus>,
    /// The last rollback drill; `None` when none was made since the pilot began.
    pub drill: Option<Drilled>,
    /// Whether the last passed drill is older than it may be.
    pub drill_overdue: bool,
    /// What became of the alerts.
    pub alerts: AlertCounts,
    /// What people could not be told.
    pub untold: Vec<Untold>,
    /// How often the pilot looked.
    pub ticks: u64,
    /// How long ago it looked last, by this machine's clock.
    pub last_look: Duration,
    /// How long nobody may look while the candidate has users; `None` where that was declined.
    pub unattended_after: Option<Duration>,
    /// Windows that a metrics sink was not told, since it was too slow.
    pub sinks_behind: u64,
}

/// A step that was decided and is not in force yet.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ChangeStatus {
    /// What is to be in force.
    pub to: String,
    /// What it waits for: the journal, the switch, or nothing.
    pub waits_for: &'static str,
}

/// A switch outside.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SwitchStatus {
    /// Why it does not do as it is asked, or how long it has not answered.
    pub trouble: Option<String>,
    /// Whether it has not been told yet that everybody is back.
    pub owes_back: bool,
    /// Whether an order waits for it, or is under way.
    pub busy: bool,
}

/// How far a rollout is written down.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JournalStatus {
    /// The number of the last entry.
    pub entries: u64,
    /// Why nothing can be written at present; `None` while all is well.
    pub gap: Option<String>,
    /// Entries, or groups of them, that are not written yet.
    pub waiting: u64,
    /// Why a step back is written nowhere; `None` where each is.
    pub unkept: Option<String>,
}

/// One arm's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ArmStatus {
    /// Calls begun.
    pub started: u64,
    /// Calls answered.
    pub ok: u64,
    /// Calls that returned an error.
    pub error: u64,
    /// Calls that were too slow.
    pub timeout: u64,
    /// Calls whose caller went away.
    pub cancelled: u64,
    /// Calls that panicked.
    pub panicked: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// Errors and panics among judged calls; `None` without calls.
    pub error_rate: Option<f64>,
    /// Median latency of answers, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 95th percentile, in milliseconds.
    pub p95_ms: Option<f64>,
    /// 99th percentile, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Answers known to be right.
    pub correct: u64,
    /// Answers known to be wrong.
    pub wrong: u64,
}

/// What a shadow saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ShadowStatus {
    /// Requests chosen by the sampling.
    pub sampled: u64,
    /// Shadow calls that ran.
    pub run: u64,
    /// Shadow calls that found the queue full.
    pub shed: u64,
    /// Shadow calls not made: too large, or not allowed.
    pub skipped: u64,
    /// Requests both models answered.
    pub pairs: u64,
    /// Of those, how many agreed; `None` without pairs.
    pub agreement: Option<f64>,
    /// Which of the two was right, where the truth is known.
    pub truth: PairedTruth,
    /// How much lower the candidate's accuracy is; `None` without truths.
    pub loss: Option<f64>,
    /// The baseline's calls on the shadowed requests.
    pub baseline: ArmStatus,
    /// The candidate's calls on the same requests.
    pub candidate: ArmStatus,
}

impl From<&ArmCounts> for ArmStatus {
    fn from(counts: &ArmCounts) -> Self {
        let judged = counts.judged();
        let millis = |q| counts.latency.quantile(q).map(|nanos| nanos as f64 / 1e6);
        Self {
            started: counts.started,
            ok: counts.of(Ending::Ok),
            error: counts.of(Ending::Error),
            timeout: counts.of(Ending::Timeout),
            cancelled: counts.of(Ending::Cancelled),
            panicked: counts.of(Ending::Panicked),
            in_flight: counts.in_flight(),
            error_rate: (judged > 0).then(|| counts.failures() as f64 / judged as f64),
            p50_ms: millis(0.5),
            p95_ms: millis(0.95),
            p99_ms: millis(0.99),
            correct: counts.correct,
            wrong: counts.wrong,
        }
    }
}

impl From<&ShadowCounts> for ShadowStatus {
    fn from(counts: &ShadowCounts) -> Self {
        Self {
            sampled: counts.sampled,
            run: counts.run,
            shed: counts.shed,
            skipped: counts.skipped,
            pairs: counts.pairs,
            agreement: counts.agreement(),
            truth: counts.truth,
            loss: counts.truth.loss(),
            baseline: (&counts.baseline).into(),
            candidate: (&counts.candidate).into(),
        }
    }
}

impl Status {
    /// What the machine knows; the pilot adds the rest.
    pub(crate) fn of(rollout: &Rollout, now: Moment, split: Split, totals: &[ArmCounts]) -> Self {
        let stages = rollout.plan().stages();
        let trial = rollout.trial();
        let shadow = trial.and_then(|trial| trial.shadow());
        let (stage, at, end, since, paused, needed) = match rollout.state() {
            State::Waiting(waiting) => {
                let paused = waiting.paused.clone();
                ("waiting".to_owned(), 0, None, waiting.since, paused, 0)
            }
            State::Running(running) => {
                let stage = &stages[running.stage];
                let paused = running.paused.clone();
                (
                    stage.name.to_string(),
                    running.stage,
                    None,
                    running.entered,
                    paused,
                    stage.min_samples,
                )
            }
            State::Ended(ended) => {
                let at = stages.iter().position(|stage| stage.name.as_str() == ended.stage);
                (ended.stage.clone(), at.unwrap_or(0), Some(ended.end), ended.at, None, 0)
            }
        };
        let conclusion = rollout.conclusion();
        let reason = match (rollout.state(), &conclusion) {
            (State::Ended(ended), _) => ended.reason.clone(),
            (State::Running(_), Some(conclusion)) => conclusion.why.clone(),
            (State::Waiting(waiting), _) => {
                waiting.hold.as_ref().map_or_else(String::new, |hold| hold.why.clone())
            }
            (State::Running(_), None) => String::new(),
        };
        Self {
            rollout: rollout.candidate().clone(),
            baseline: rollout.candidate().clone(),
            candidate: rollout.candidate().clone(),
            stage,
            step: (at + 1, stages.len()),
            at: rollout.at(),
            end,
            way_back_until: match rollout.state() {
                State::Ended(ended) => ended.way_back_until(),
                State::Waiting(_) | State::Running(_) => None,
            },
            reason,
            conclusion,
            hold: rollout.hold().cloned(),
            tries: rollout.tries().to_vec(),
            comparisons: trial
                .and_then(|trial| trial.ab_test())
                .map_or_else(Vec::new, |test| test.reports()),
            paused,
            since,
            now,
            share: split.candidate,
            wanted: rollout.share(),
            change: None,
            owner: false,
            parked: None,
            samples: (trial.map_or(0, |trial| trial.samples()), needed),
            arms: totals.iter().map(Into::into).collect(),
            guardrails: rollout.readings(),
            quality: shadow.and_then(|shadow| shadow.quality()).map(PairedQuality::reading),
            agreement: shadow.and_then(|shadow| shadow.agreement()).map(Agreement::reading),
            shadow: None,
            history: Vec::new(),
            journal: None,
            switch: None,
            drill: None,
            drill_overdue: false,
            alerts: AlertCounts::default(),
            untold: Vec::new(),
            ticks: 0,
            last_look: Duration::ZERO,
            unattended_after: None,
            sinks_behind: 0,
        }
    }
}
