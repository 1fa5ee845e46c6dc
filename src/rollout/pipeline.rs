//! The journey itself: one machine that takes a candidate through a plan.
//!
//! A stage is left forward only by positive evidence, or by an operator's recorded override; it is
//! left backward by evidence of harm, or by anybody who says so. Time alone does neither. Every
//! transition carries the sentence that explains it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::alert::Severity;
use crate::clock::Moment;
use crate::ids::Name;
use crate::judge::verdict::Reading;
use crate::machine::{Command, Effect, Input, Machine, News, Order, Seen, Shadowing, Transition};
use crate::observe::snapshot::ArmCounts;
use crate::rollout::plan::{Plan, Stage, StageKind};
use crate::rollout::trial::{Trial, TrialError};
use crate::share::TrafficShare;
use crate::strategy::conclusion::{Conclusion, Step};

/// A candidate on its way through a [`Plan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    candidate: Name,
    plan: Plan,
    state: State,
}

/// Where a rollout stands. What only makes sense in one state lives in that state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// In a stage, gathering evidence.
    Running(Box<Running>),
    /// Over. Nothing leads out of here.
    Ended(Ended),
}

/// A stage under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Running {
    /// Index of the stage in the plan.
    pub stage: usize,
    /// When it was entered.
    pub entered: Moment,
    /// The time of the last batch.
    pub last: Moment,
    /// Time observed in this stage, without gaps.
    pub observed: Duration,
    /// An operator's pause, with the reason.
    pub paused: Option<String>,
    /// Whether people were told that this stage holds.
    pub told: bool,
    /// The evidence so far.
    trial: Trial,
    /// What the baseline did in the last stage it was seen beside the candidate.
    control: ArmCounts,
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ended {
    /// In which way.
    pub end: End,
    /// The stage it was in.
    pub stage: String,
    /// When.
    pub at: Moment,
    /// Why, in one sentence.
    pub reason: String,
    /// Each guardrail's numbers at that moment.
    pub readings: Vec<Reading>,
}

/// The ways in which a rollout ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The candidate became the baseline.
    Promoted,
    /// The candidate had served users, and everything went back.
    RolledBack,
    /// The candidate was turned away before it served anybody.
    Refused,
    /// An operator ended it.
    Aborted,
    /// An operator ended it for good.
    Killed,
}

impl End {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::Aborted => "aborted",
            Self::Killed => "killed",
        }
    }
}

impl Rollout {
    /// A rollout of `candidate` that enters its first stage at `now`, and what to do for that.
    ///
    /// # Errors
    ///
    /// [`TrialError`] when a stage of the plan cannot be judged.
    pub fn begin(
        candidate: Name,
        plan: Plan,
        now: Moment,
    ) -> Result<(Self, Vec<Effect>), TrialError> {
        for stage in plan.stages() {
            Trial::new(&plan, stage, &ArmCounts::default())?;
        }
        let first = &plan.stages()[0];
        let trial = Trial::new(&plan, first, &ArmCounts::default())?;
        let effects = enter(first, now, "start", "pilotage", format!("{candidate} begins"));
        let running = Running::new(0, now, trial, ArmCounts::default());
        Ok((Self { candidate, plan, state: State::Running(Box::new(running)) }, effects))
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The candidate's name.
    #[must_use]
    pub const fn candidate(&self) -> &Name {
        &self.candidate
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The stage it is in; `None` once it is over.
    #[must_use]
    pub fn stage(&self) -> Option<&Stage> {
        match &self.state {
            State::Running(running) => self.plan.stages().get(running.stage),
            State::Ended(_) => None,
        }
    }

    /// The share the candidate is meant to have now.
    #[must_use]
    pub fn share(&self) -> TrafficShare {
        self.stage().map_or(TrafficShare::NONE, |stage| stage.share)
    }

    /// What follows from the evidence of the present stage; `None` once it is over.
    #[must_use]
    pub fn conclusion(&self) -> Option<Conclusion> {
        match &self.state {
            State::Running(running) => Some(running.trial.conclusion()),
            State::Ended(_) => None,
        }
    }

    /// The trial of the present stage; `None` once it is over.
    #[must_use]
    pub fn trial(&self) -> Option<&Trial> {
        match &self.state {
            State::Running(running) => Some(&running.trial),
            State::Ended(_) => None,
        }
    }

    /// The evidence of the present stage, guardrail by guardrail, or that it ended on.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        match &self.state {
            State::Running(running) => running.trial.readings(),
            State::Ended(ended) => ended.readings.clone(),
        }
    }

    /// Takes in a batch and concludes nothing from it yet; the next batch that is handled does.
    ///
    /// For a rehearsal, in which looking is what takes time: what was seen adds up to the same
    /// evidence however it is cut.
    pub fn take_in(&mut self, now: Moment, seen: &Seen) {
        let State::Running(running) = &mut self.state else { return };
        running.take_in(now, &self.plan.stages()[running.stage], seen);
    }

    fn seen(&mut self, now: Moment, seen: &Seen) -> Vec<Effect> {
        let State::Running(running) = &mut self.state else { return Vec::new() };
        let stage = &self.plan.stages()[running.stage];
        running.take_in(now, stage, seen);
        let silent = running.told || running.observed < stage.tell_after;
        match running.trial.step() {
            // Most looks end here, before a sentence is made of them.
            Step::Wait if silent => return Vec::new(),
            Step::Pass if silent && !running.may_advance(stage) => return Vec::new(),
            Step::Pause if running.told => return Vec::new(),
            Step::Wait | Step::Pass | Step::Pause | Step::TakeBack => {}
        }
        let conclusion = running.trial.conclusion();
        match conclusion.step {
            Step::TakeBack => self.take_back(now, conclusion.why),
            Step::Pass if running.may_advance(stage) => {
                self.advance(now, "pilotage", conclusion.why)
            }
            Step::Pause => self.tell(now, &conclusion.why),
            _ if running.observed >= stage.tell_after => self.tell(now, &conclusion.why),
            Step::Pass | Step::Wait => Vec::new(),
        }
    }

    fn command(&mut self, now: Moment, command: &Command) -> Vec<Effect> {
        let State::Running(running) = &mut self.state else { return Vec::new() };
        let who = command.who.as_str();
        let why = format!("{}: {}", command.who, command.why);
        match command.order {
            Order::Kill => self.end(now, End::Killed, who, why),
            Order::Abort => self.end(now, End::Aborted, who, why),
            Order::Pause => {
                running.paused = Some(why.clone());
                let stage = self.plan.stages()[running.stage].name.to_string();
                vec![record(now, stage.clone(), format!("{stage} (paused)"), who, why)]
            }
            Order::Resume => {
                if running.paused.take().is_none() {
                    return Vec::new();
                }
                let stage = self.plan.stages()[running.stage].name.to_string();
                vec![record(now, format!("{stage} (paused)"), stage, who, why)]
            }
            Order::PromoteStage => self.advance(now, who, format!("override by {why}")),
            Order::PromoteFully => self.promote(now, who, format!("override by {why}")),
            // The plan's side of these follows.
            Order::Start | Order::Approve | Order::Extend { .. } | Order::Retry => Vec::new(),
        }
    }

    /// Evidence of harm: back, and over.
    fn take_back(&mut self, now: Moment, why: String) -> Vec<Effect> {
        let serving = self.share() > TrafficShare::NONE;
        let end = if serving { End::RolledBack } else { End::Refused };
        self.end(now, end, "pilotage", why)
    }

    /// To the next stage, or to the end of the plan.
    fn advance(&mut self, now: Moment, who: &str, why: String) -> Vec<Effect> {
        let State::Running(running) = &self.state else { return Vec::new() };
        let next = running.stage + 1;
        let Some(stage) = self.plan.stages().get(next) else {
            return self.promote(now, who, why);
        };
        let control = running.trial.control().cloned().unwrap_or_else(|| running.control.clone());
        let from = &self.plan.stages()[running.stage];
        let trial = match Trial::new(&self.plan, stage, &control) {
            Ok(trial) => trial,
            // Checked when the rollout began; if it fails all the same, staying is what is safe.
            Err(error) => return vec![hold(from, "stuck", error.to_string())],
        };
        let mut effects = Vec::new();
        if running.told {
            effects.push(hold_is_over(from));
        }
        effects.extend(enter(stage, now, from.name.as_str(), who, why));
        if from.kind == StageKind::Shadow && stage.kind != StageKind::Shadow {
            effects.push(Effect::Shadow(Shadowing::Off));
        }
        self.state = State::Running(Box::new(Running::new(next, now, trial, control)));
        effects
    }

    fn promote(&mut self, now: Moment, who: &str, why: String) -> Vec<Effect> {
        let mut effects = self.end(now, End::Promoted, who, why);
        // A promotion is written down before it is done; the machine's ends put safety first.
        effects.retain(|effect| !matches!(effect, Effect::Shift(_)));
        let at = effects.iter().position(|effect| matches!(effect, Effect::Record(_)));
        effects.insert(at.map_or(0, |at| at + 1), Effect::Promote);
        effects
    }

    fn end(&mut self, now: Moment, end: End, who: &str, why: String) -> Vec<Effect> {
        let (stage, told) = match &self.state {
            State::Running(running) => (&self.plan.stages()[running.stage], running.told),
            State::Ended(_) => return Vec::new(),
        };
        let severity = match end {
            End::Promoted => Severity::Info,
            End::Refused | End::Aborted => Severity::Warning,
            End::RolledBack | End::Killed => Severity::Critical,
        };
        let summary = format!("{} {} in stage {}: {why}", self.candidate, end.phrase(), stage.name);
        let key = format!("{}/{}", self.candidate, end.word());
        let mut effects = vec![
            Effect::Shift(TrafficShare::NONE),
            Effect::Shadow(Shadowing::Off),
            record(now, stage.name.to_string(), end.word().into(), who, why.clone()),
            Effect::Alert(News { key, severity, summary, resolved: false }),
        ];
        if told {
            effects.push(hold_is_over(stage));
        }
        let stage = stage.name.to_string();
        let readings = self.readings();
        self.state = State::Ended(Ended { end, stage, at: now, reason: why, readings });
        effects
    }

    /// Tells people, once a stage, that it holds.
    fn tell(&mut self, now: Moment, why: &str) -> Vec<Effect> {
        let State::Running(running) = &mut self.state else { return Vec::new() };
        if std::mem::replace(&mut running.told, true) {
            return Vec::new();
        }
        let stage = &self.plan.stages()[running.stage];
        let held = now.since(running.entered);
        let summary =
            format!("{} holds in stage {} after {held:.0?}: {why}", self.candidate, stage.name);
        vec![hold(stage, "holds", summary)]
    }
}

impl Machine for Rollout {
    fn handle(&mut self, now: Moment, input: &Input) -> Vec<Effect> {
        match input {
            Input::Seen(seen) => self.seen(now, seen),
            Input::Command(command) => self.command(now, command),
            Input::Wall(_) | Input::Drilled(_) => Vec::new(),
            Input::NotShifted { in_force, reason } => {
                let Some(stage) = self.stage() else { return Vec::new() };
                let summary = format!(
                    "stage {}: the traffic switch failed ({reason}); the candidate gets {in_force} instead of {}",
                    stage.name, stage.share
                );
                vec![hold(stage, "switch", summary)]
            }
        }
    }
}

impl Running {
    fn new(stage: usize, now: Moment, trial: Trial, control: ArmCounts) -> Self {
        Self {
            stage,
            entered: now,
            last: now,
            observed: Duration::ZERO,
            paused: None,
            told: false,
            trial,
            control,
        }
    }

    fn take_in(&mut self, now: Moment, stage: &Stage, seen: &Seen) {
        self.observed = self.observed.saturating_add(now.since(self.last).min(LONGEST_GAP));
        self.last = self.last.max(now);
        // A batch made under another share says nothing of this stage.
        if seen.share == stage.share {
            self.trial.observe(seen);
        }
    }

    fn may_advance(&self, stage: &Stage) -> bool {
        self.paused.is_none()
            && self.observed >= stage.at_least
            && self.trial.samples() >= stage.min_samples
    }

    /// Judged calls of the candidate in this stage; in a shadow, pairs.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.trial.samples()
    }
}

impl End {
    const fn phrase(self) -> &'static str {
        match self {
            Self::Promoted => "was promoted",
            Self::RolledBack => "was rolled back",
            Self::Refused => "was refused",
            Self::Aborted => "was aborted",
            Self::Killed => "was killed",
        }
    }
}

/// Entering a stage: written down first, then done.
fn enter(stage: &Stage, now: Moment, from: &str, who: &str, why: String) -> Vec<Effect> {
    let mut effects = vec![
        record(now, from.to_owned(), stage.name.to_string(), who, why),
        Effect::Shift(stage.share),
    ];
    if stage.kind == StageKind::Shadow {
        effects.push(Effect::Shadow(Shadowing::On));
    }
    effects
}

fn record(at: Moment, from: String, to: String, who: &str, why: String) -> Effect {
    Effect::Record(Transition { at, from, to, who: who.to_owned(), why })
}

fn hold(stage: &Stage, what: &str, summary: String) -> Effect {
    let key = format!("{what}/{}", stage.name);
    Effect::Alert(News { key, severity: Severity::Warning, summary, resolved: false })
}

fn hold_is_over(stage: &Stage) -> Effect {
    let key = format!("holds/{}", stage.name);
    let summary = format!("stage {} no longer holds", stage.name);
    Effect::Alert(News { key, severity: Severity::Info, summary, resolved: true })
}

/// A longer silence between two looks counts as this long.
const LONGEST_GAP: Duration = Duration::from_secs(60);
