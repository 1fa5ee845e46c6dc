//! The journey itself: one machine that takes a candidate through a plan.
//!
//! A stage is left forward only by positive evidence, or by an operator's recorded override; it is
//! left backward by evidence of harm, by the plan's own answer to a stage that stays undecided, or
//! by anybody who says so. Time alone never promotes. Every transition carries the sentence that
//! explains it.
//!
//! # Orders
//!
//! | order | while it waits to begin | in a stage | after a rollback or refusal | after another end |
//! |--|--|--|--|--|
//! | kill | ends it | ends it | marks it killed | as left; marks an abort killed |
//! | abort | ends it | ends it | refused | refused |
//! | pause, resume | keeps it from beginning | keeps the stage; guardrails stay armed | refused | refused |
//! | promote stage, promote fully | refused | override, unless paused | refused | refused |
//! | start | begins it | refused | refused | refused |
//! | approve | refused | where the stage waits for it | refused | refused |
//! | extend | refused | more time | refused | refused |
//! | retry | refused | refused | the same stage with fresh evidence | refused |
//!
//! A refused order is answered and written down, and changes nothing.
//!
//! # A stage that is tried again
//!
//! A retry enters the stage anew, with nothing of the failed try's evidence: that stays in
//! [`Rollout::tries`]. A candidate that was taken back from everybody begins again one stage
//! before, since what it was held against has aged. Every try may take a healthy candidate back
//! with the stage's part of α again; whoever retries until it passes has spent the error budget so
//! often, which is why a rollout has [`MOST_TRIES`] of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::alert::Severity;
use crate::clock::Moment;
use crate::date::Date;
use crate::ids::Name;
use crate::judge::verdict::{Cause, Reading, Verdict};
use crate::machine::{
    Command, Drilled, Effect, Input, Machine, News, Order, Refusal, Refused, Seen, Shadowing,
    Transition,
};
use crate::observe::snapshot::ArmCounts;
use crate::rollout::freeze::thaw;
use crate::rollout::human::show_duration;
use crate::rollout::plan::Plan;
use crate::rollout::stage::{Stage, StageKind, Undecided};
use crate::rollout::trial::{Trial, TrialError};
use crate::share::TrafficShare;
use crate::strategy::canary::Canary;
use crate::strategy::conclusion::{Conclusion, Step};

pub use crate::rollout::state::{End, Ended, Hold, HoldKind, Running, State, Try, Waiting};

/// A candidate on its way through a [`Plan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    candidate: Name,
    plan: Plan,
    state: State,
    /// A moment, and what a wall clock read then.
    wall: Option<(Moment, Date)>,
    /// The last rollback drill.
    drill: Option<Drilled>,
    tries: Vec<Try>,
    /// Whether people were told that a switch does not obey.
    switch_fails: bool,
    wake: Option<Moment>,
}

impl Rollout {
    /// A rollout of `candidate` that enters its first stage at `now`, and what to do for that. One
    /// whose plan names a date, an order, a drill or a freeze to wait for begins by waiting.
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
        let waits = plan.needs_wall_time() || plan.start_by_hand() || plan.fresh_drill().is_some();
        let why = format!("{candidate} begins");
        let waiting = Waiting { since: now, paused: None, hold: None, told: Vec::new() };
        let mut rollout = Self {
            candidate,
            plan,
            state: State::Waiting(waiting),
            wall: None,
            drill: None,
            tries: Vec::new(),
            switch_fails: false,
            wake: None,
        };
        let mut effects = if waits {
            vec![record(now, "start".to_owned(), WAITING.to_owned(), MACHINE, why)]
        } else {
            rollout.enter(0, 1, now, "start", MACHINE, why, ArmCounts::default())?
        };
        effects.extend(rollout.new_wake(now));
        Ok((rollout, effects))
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

    /// The stage it is in; `None` before it begins and once it is over.
    #[must_use]
    pub fn stage(&self) -> Option<&Stage> {
        match &self.state {
            State::Running(running) => self.plan.stages().get(running.stage),
            State::Waiting(_) | State::Ended(_) => None,
        }
    }

    /// The share the candidate is meant to have now.
    #[must_use]
    pub fn share(&self) -> TrafficShare {
        self.stage().map_or(TrafficShare::NONE, |stage| stage.share)
    }

    /// Why it stays where it is; `None` while it simply runs, and once it is over.
    #[must_use]
    pub const fn hold(&self) -> Option<&Hold> {
        match &self.state {
            State::Waiting(waiting) => waiting.hold.as_ref(),
            State::Running(running) => running.hold.as_ref(),
            State::Ended(_) => None,
        }
    }

    /// The tries that failed and were repeated, oldest first.
    #[must_use]
    pub fn tries(&self) -> &[Try] {
        &self.tries
    }

    /// What follows from the evidence of the present stage; `None` outside of a stage.
    #[must_use]
    pub fn conclusion(&self) -> Option<Conclusion> {
        match &self.state {
            State::Running(running) => Some(running.conclusion(&self.plan)),
            State::Waiting(_) | State::Ended(_) => None,
        }
    }

    /// The trial of the present stage; `None` outside of a stage.
    #[must_use]
    pub fn trial(&self) -> Option<&Trial> {
        match &self.state {
            State::Running(running) => Some(&running.trial),
            State::Waiting(_) | State::Ended(_) => None,
        }
    }

    /// The evidence of the present stage, guardrail by guardrail, or that it ended on.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        match &self.state {
            State::Waiting(_) => Vec::new(),
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
        let mut effects = self.switch_obeys(seen);
        match &mut self.state {
            State::Waiting(_) => effects.extend(self.look_to_begin(now)),
            State::Running(running) => {
                running.take_in(now, &self.plan.stages()[running.stage], seen);
                effects.extend(self.look(now));
            }
            State::Ended(_) => {}
        }
        effects
    }

    /// Begins, if nothing is to be waited for any more.
    fn look_to_begin(&mut self, now: Moment) -> Vec<Effect> {
        let State::Waiting(waiting) = &self.state else { return Vec::new() };
        if waiting.paused.is_some() {
            return Vec::new(); // people were told when it was paused
        }
        match self.reason_to_wait(now) {
            Some((kind, why)) => self.holds(now, kind, &why),
            None => {
                let why = format!("{} begins: nothing is left to wait for", self.candidate);
                self.start(now, MACHINE, why)
            }
        }
    }

    fn reason_to_wait(&self, now: Moment) -> Option<(HoldKind, String)> {
        if let Some(within) = self.needs_drill(now) {
            let found = match &self.drill {
                Some(drill) if !drill.passed => format!("the last failed ({})", drill.report),
                Some(_) => "the last is older".to_owned(),
                None => "none was made".to_owned(),
            };
            let why = format!(
                "the plan asks for a rollback drill within the last {}, and {found}; make one",
                show_duration(within)
            );
            return Some((HoldKind::Drill, why));
        }
        if self.plan.start_by_hand() {
            return Some((HoldKind::Start, "the plan asks for an order to start".to_owned()));
        }
        let Some(date) = self.date(now) else {
            return self.plan.needs_wall_time().then(unknown_time);
        };
        if let Some(first) = self.plan.not_before().filter(|first| date < *first) {
            return Some((HoldKind::NotBefore, format!("the plan lets it begin on {first}")));
        }
        self.frozen(date).map(|why| (HoldKind::Freeze, why))
    }

    /// How old a drill may be, where the plan asks for one and there is none so young.
    fn needs_drill(&self, now: Moment) -> Option<Duration> {
        let within = self.plan.fresh_drill()?;
        let fresh = |drill: &Drilled| drill.passed && now.since(drill.at) <= within;
        (!self.drill.as_ref().is_some_and(fresh)).then_some(within)
    }

    fn start(&mut self, now: Moment, who: &str, why: String) -> Vec<Effect> {
        let over = self.holds_are_over();
        match self.enter(0, 1, now, WAITING, who, why, ArmCounts::default()) {
            Ok(mut effects) => {
                effects.extend(over);
                effects
            }
            // Checked when the rollout began; if it fails all the same, staying is what is safe.
            Err(error) => self.holds(now, HoldKind::Stuck, &error.to_string()),
        }
    }

    /// What follows from the evidence of the present stage and from the time.
    fn look(&mut self, now: Moment) -> Vec<Effect> {
        let State::Running(running) = &self.state else { return Vec::new() };
        let stage = &self.plan.stages()[running.stage];
        if running.hold.is_none() && self.plan.deadline().is_none() {
            let in_time = running.observed < running.longest(stage);
            match running.step(stage) {
                // Most looks end here, before a sentence is made of them.
                Step::Wait if in_time => return Vec::new(),
                Step::Pass if in_time && !running.may_advance(stage) => return Vec::new(),
                Step::Wait | Step::Pass | Step::Pause | Step::TakeBack => {}
            }
        }
        let conclusion = running.conclusion(&self.plan);
        if conclusion.step == Step::TakeBack {
            return self.take_back(now, conclusion.why);
        }
        let late = self.is_late(now);
        if let (Some(why), Undecided::RollBack) = (&late, self.plan.when_late()) {
            return self.take_back(now, format!("{why}; {}", conclusion.why));
        }
        if running.paused.is_some() {
            return Vec::new(); // people were told when it was paused
        }
        if conclusion.step == Step::Pause {
            return self.holds(now, HoldKind::Person, &conclusion.why);
        }
        if conclusion.step == Step::Pass && running.may_advance(stage) {
            return match self.obstacle(now, late, &conclusion) {
                Some((kind, why)) => self.holds(now, kind, &why),
                None => {
                    let approved = running.approved.as_ref();
                    let approved = approved.map(|by| format!("; approved by {by}"));
                    let why = format!("{}{}", conclusion.why, approved.unwrap_or_default());
                    self.advance(now, MACHINE, why)
                }
            };
        }
        if let Some(why) = late {
            return self.holds(now, HoldKind::Late, &format!("{why}; {}", conclusion.why));
        }
        if running.observed >= running.longest(stage) {
            return self.undecided(now, &conclusion);
        }
        if let State::Running(running) = &mut self.state {
            running.hold = None;
        }
        Vec::new()
    }

    /// Why a stage that has passed is not left, where that is so.
    fn obstacle(
        &self,
        now: Moment,
        late: Option<String>,
        conclusion: &Conclusion,
    ) -> Option<(HoldKind, String)> {
        let State::Running(running) = &self.state else { return None };
        let stage = &self.plan.stages()[running.stage];
        if let Some(why) = late {
            return Some((HoldKind::Late, format!("{why}; {}", conclusion.why)));
        }
        if self.plan.needs_wall_time() {
            let Some(date) = self.date(now) else { return Some(unknown_time()) };
            if let Some(why) = self.frozen(date) {
                return Some((HoldKind::Freeze, format!("it has passed, and {why}")));
            }
        }
        if stage.approval && running.approved.is_none() {
            let why = format!("it has passed and waits for an approval: {}", conclusion.why);
            return Some((HoldKind::Approval, why));
        }
        None
    }

    /// Its time is up without a verdict.
    fn undecided(&mut self, now: Moment, conclusion: &Conclusion) -> Vec<Effect> {
        let State::Running(running) = &mut self.state else { return Vec::new() };
        let stage = &self.plan.stages()[running.stage];
        let samples = running.samples();
        let (kind, then) = if samples == 0 {
            (HoldKind::NoData, stage.when_no_data)
        } else if samples < stage.min_samples {
            (HoldKind::Underpowered, stage.when_underpowered)
        } else {
            (HoldKind::Inconclusive, stage.when_inconclusive)
        };
        let observed = show_duration(Duration::from_secs(running.observed.as_secs()));
        let why = format!(
            "{} after {observed} and {samples} of the {} samples asked for: {}",
            kind.word().replace('_', " "),
            stage.min_samples,
            conclusion.why
        );
        match then {
            Undecided::RollBack => {
                self.take_back(now, format!("{why}; the plan asks to take it back then"))
            }
            Undecided::Extend { by, times } if running.extensions < times => {
                running.extensions += 1;
                running.extended = running.extended.saturating_add(by);
                running.hold = None;
                let name = stage.name.to_string();
                let why = format!(
                    "{why}; the plan gives it {} more ({} of {times})",
                    show_duration(by),
                    running.extensions
                );
                vec![record(now, name.clone(), name, MACHINE, why)]
            }
            Undecided::Hold | Undecided::Extend { .. } => self.holds(now, kind, &why),
        }
    }

    fn command(&mut self, now: Moment, command: &Command) -> Vec<Effect> {
        let answer = match &self.state {
            State::Waiting(_) => self.command_before(now, command),
            State::Running(_) => self.command_within(now, command),
            State::Ended(_) => self.command_after(now, command),
        };
        answer.unwrap_or_else(|because| {
            let place = self.place();
            let why = format!(
                "{} ordered {} ({}), which has no effect: {because}",
                command.who, command.order, command.why
            );
            vec![
                record(now, place.clone(), place, command.who.as_str(), why),
                Effect::Refused(Refused { at: now, command: command.clone(), because }),
            ]
        })
    }

    fn command_before(&mut self, now: Moment, command: &Command) -> Result<Vec<Effect>, Refusal> {
        let (who, why) = (command.who.as_str(), format!("{}: {}", command.who, command.why));
        let State::Waiting(waiting) = &mut self.state else { return Err(Refusal::AlreadyStarted) };
        match command.order {
            Order::Kill => Ok(self.end(now, End::Killed, who, why)),
            Order::Abort => Ok(self.end(now, End::Aborted, who, why)),
            Order::Pause => {
                waiting.paused = Some(why.clone());
                Ok(self.paused(now, who, &why))
            }
            Order::Resume => {
                waiting.paused.take().ok_or(Refusal::NotPaused)?;
                Ok(self.resumed(now, who, why))
            }
            Order::Start => {
                if let Some(why) = waiting.paused.clone() {
                    return Err(Refusal::Paused { why });
                }
                match self.needs_drill(now) {
                    Some(within) => Err(Refusal::NoDrill { within }),
                    None => Ok(self.start(now, who, format!("started by {why}"))),
                }
            }
            Order::PromoteFully
            | Order::PromoteStage
            | Order::Approve
            | Order::Extend { .. }
            | Order::Retry => Err(Refusal::NotStarted),
        }
    }

    fn command_within(&mut self, now: Moment, command: &Command) -> Result<Vec<Effect>, Refusal> {
        let (who, why) = (command.who.as_str(), format!("{}: {}", command.who, command.why));
        let State::Running(running) = &mut self.state else { return Err(Refusal::NotStarted) };
        let stage = &self.plan.stages()[running.stage];
        match command.order {
            Order::Kill => Ok(self.end(now, End::Killed, who, why)),
            Order::Abort => Ok(self.end(now, End::Aborted, who, why)),
            Order::Pause => {
                running.paused = Some(why.clone());
                Ok(self.paused(now, who, &why))
            }
            Order::Resume => {
                running.paused.take().ok_or(Refusal::NotPaused)?;
                Ok(self.resumed(now, who, why))
            }
            Order::PromoteFully | Order::PromoteStage => {
                if let Some(why) = running.paused.clone() {
                    return Err(Refusal::Paused { why });
                }
                let evidence = running.conclusion(&self.plan).why;
                let why = format!("override by {why} (the evidence then: {evidence})");
                match command.order {
                    Order::PromoteFully => Ok(self.promote(now, who, why)),
                    _ => {
                        self.may_enter_next().map_err(|why| Refusal::Unjudgeable { why })?;
                        Ok(self.advance(now, who, why))
                    }
                }
            }
            Order::Approve => {
                let (asked, name) =
                    (running.told.contains(&HoldKind::Approval), stage.name.to_string());
                let refuse = |why: &str| {
                    let (stage, why) = (name.clone(), why.to_owned());
                    Err(Refusal::NothingToApprove { stage, why })
                };
                if !stage.approval {
                    return refuse("the plan does not ask for one");
                }
                if let Some(by) = &running.approved {
                    return refuse(&format!("it was given by {by}"));
                }
                if !asked {
                    return refuse("it has not passed yet");
                }
                running.approved = Some(why.clone());
                let mut effects = vec![record(
                    now,
                    name.clone(),
                    name.clone(),
                    who,
                    format!("approved by {why}"),
                )];
                effects.extend(self.hold_is_over(HoldKind::Approval));
                Ok(effects)
            }
            Order::Extend { by } => {
                if by < Duration::from_secs(1) || by > LONGEST_EXTENSION {
                    return Err(Refusal::Extension { by });
                }
                running.extended = running.extended.saturating_add(by);
                let name = stage.name.to_string();
                let why = format!("extended by {} by {why}", show_duration(by));
                let mut effects = vec![record(now, name.clone(), name, who, why)];
                for kind in [HoldKind::NoData, HoldKind::Underpowered, HoldKind::Inconclusive] {
                    effects.extend(self.hold_is_over(kind));
                }
                Ok(effects)
            }
            Order::Start => Err(Refusal::AlreadyStarted),
            Order::Retry => Err(Refusal::NothingToRetry),
        }
    }

    fn command_after(&mut self, now: Moment, command: &Command) -> Result<Vec<Effect>, Refusal> {
        let (who, why) = (command.who.as_str(), format!("{}: {}", command.who, command.why));
        let State::Ended(ended) = &self.state else { return Err(Refusal::NothingToRetry) };
        let failed = matches!(ended.end, End::RolledBack | End::Refused);
        match command.order {
            Order::Kill if failed || ended.end == End::Aborted => {
                Ok(self.end(now, End::Killed, who, why))
            }
            Order::Retry if failed => self.retry(now, who, &why),
            Order::Kill
            | Order::Abort
            | Order::Pause
            | Order::Resume
            | Order::PromoteFully
            | Order::PromoteStage
            | Order::Start
            | Order::Approve
            | Order::Extend { .. }
            | Order::Retry => {
                let (end, remedy) = (ended.end.word().to_owned(), ended.end.remedy().to_owned());
                Err(Refusal::Over { end, remedy })
            }
        }
    }

    /// The failed stage once more, with nothing of its evidence.
    fn retry(&mut self, now: Moment, who: &str, why: &str) -> Result<Vec<Effect>, Refusal> {
        let State::Ended(ended) = &self.state else { return Err(Refusal::NothingToRetry) };
        if self.tries.len() >= MOST_TRIES {
            let (stage, tries) = (ended.stage.clone(), self.tries.len() + 1);
            return Err(Refusal::TooManyTries { stage, tries });
        }
        let from_everybody = self.plan.stages()[ended.index].kind == StageKind::Full;
        let index = if from_everybody { ended.index - 1 } else { ended.index };
        let failed = Try {
            stage: ended.stage.clone(),
            attempt: ended.attempt,
            end: ended.end,
            at: ended.at,
            reason: ended.reason.clone(),
            readings: ended.readings.clone(),
            retried_by: why.to_owned(),
        };
        let (end, control, attempt) = (ended.end, ended.control.clone(), ended.attempt + 1);
        let why = format!(
            "tried again (try {attempt}) by {why}; it had failed at {}: {}",
            failed.stage, failed.reason
        );
        let effects = self.enter(index, attempt, now, end.word(), who, why, *control);
        let mut effects =
            effects.map_err(|error| Refusal::Unjudgeable { why: error.to_string() })?;
        let summary = format!("{} is tried again in stage {}", self.candidate, self.place());
        effects.push(self.resolved(self.end_key(end), summary));
        self.tries.push(failed);
        Ok(effects)
    }

    fn paused(&mut self, now: Moment, who: &str, why: &str) -> Vec<Effect> {
        let place = self.place();
        let mut effects =
            vec![record(now, place.clone(), format!("{place} (paused)"), who, why.to_owned())];
        effects.extend(self.holds(now, HoldKind::Paused, why));
        effects
    }

    fn resumed(&mut self, now: Moment, who: &str, why: String) -> Vec<Effect> {
        let place = self.place();
        let mut effects = vec![record(now, format!("{place} (paused)"), place, who, why)];
        effects.extend(self.hold_is_over(HoldKind::Paused));
        effects
    }

    /// Evidence of harm: back, and over.
    fn take_back(&mut self, now: Moment, why: String) -> Vec<Effect> {
        let serving = self.share() > TrafficShare::NONE;
        let end = if serving { End::RolledBack } else { End::Refused };
        self.end(now, end, MACHINE, why)
    }

    fn may_enter_next(&self) -> Result<(), String> {
        let State::Running(running) = &self.state else { return Ok(()) };
        match self.plan.stages().get(running.stage + 1) {
            Some(next) => Trial::new(&self.plan, next, running.known_control())
                .map(drop)
                .map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// To the next stage, or to the end of the plan.
    fn advance(&mut self, now: Moment, who: &str, why: String) -> Vec<Effect> {
        let State::Running(running) = &self.state else { return Vec::new() };
        let (at, next) = (running.stage, running.stage + 1);
        if next >= self.plan.stages().len() {
            return self.promote(now, who, why);
        }
        let (from, kind) = (self.place(), self.plan.stages()[at].kind);
        let control = running.known_control().clone();
        let over = self.holds_are_over();
        match self.enter(next, 1, now, &from, who, why, control) {
            Ok(mut effects) => {
                let next = self.stage().map(|stage| stage.kind);
                if kind == StageKind::Shadow && next != Some(StageKind::Shadow) {
                    effects.push(Effect::Shadow(Shadowing::Off));
                }
                effects.extend(over);
                effects
            }
            // Checked when the rollout began; if it fails all the same, staying is what is safe.
            Err(error) => self.holds(now, HoldKind::Stuck, &error.to_string()),
        }
    }

    /// Into a stage: written down first, then done.
    #[expect(clippy::too_many_arguments, reason = "each says one thing of a transition")]
    fn enter(
        &mut self,
        index: usize,
        attempt: usize,
        now: Moment,
        from: &str,
        who: &str,
        why: String,
        control: ArmCounts,
    ) -> Result<Vec<Effect>, TrialError> {
        let stage = &self.plan.stages()[index];
        let trial = Trial::new(&self.plan, stage, &control)?;
        let warming = Trial::warming(&self.plan, stage, &control)?;
        let mut effects = vec![
            record(now, from.to_owned(), stage.name.to_string(), who, why),
            Effect::Shift(stage.share),
        ];
        if stage.kind == StageKind::Shadow {
            effects.push(Effect::Shadow(Shadowing::On));
        }
        self.state = State::Running(Box::new(Running {
            stage: index,
            attempt,
            entered: now,
            last: now,
            observed: Duration::ZERO,
            extended: Duration::ZERO,
            paused: None,
            approved: None,
            hold: None,
            told: Vec::new(),
            extensions: 0,
            trial,
            warming,
            control,
        }));
        Ok(effects)
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
        let stage = self.place();
        let over = self.holds_are_over();
        let summary = format!("{} {} in stage {stage}: {why}", self.candidate, end.phrase());
        let severity = end.severity();
        let news = News { key: self.end_key(end), severity, summary, resolved: false };
        let mut effects = vec![
            Effect::Shift(TrafficShare::NONE),
            Effect::Shadow(Shadowing::Off),
            record(now, stage.clone(), end.word().to_owned(), who, why.clone()),
            Effect::Alert(news),
        ];
        effects.extend(over);
        let readings = self.readings();
        let (index, attempt, control) = match &self.state {
            State::Waiting(_) => (0, 1, Box::default()),
            State::Running(running) => {
                (running.stage, running.attempt, Box::new(running.control.clone()))
            }
            State::Ended(ended) => (ended.index, ended.attempt, ended.control.clone()),
        };
        let ended = Ended { end, stage, at: now, reason: why, readings, index, attempt, control };
        self.state = State::Ended(ended);
        effects
    }

    /// Stays where it is, and tells people once.
    fn holds(&mut self, now: Moment, kind: HoldKind, why: &str) -> Vec<Effect> {
        let place = self.place();
        let (hold, told, since) = match &mut self.state {
            State::Waiting(waiting) => (&mut waiting.hold, &mut waiting.told, waiting.since),
            State::Running(running) => (&mut running.hold, &mut running.told, running.entered),
            State::Ended(_) => return Vec::new(),
        };
        let began = hold.as_ref().filter(|hold| hold.kind == kind).map_or(now, |hold| hold.since);
        *hold = Some(Hold { kind, since: began, why: why.to_owned() });
        if told.contains(&kind) {
            return Vec::new();
        }
        told.push(kind);
        let after = show_duration(Duration::from_secs(now.since(since).as_secs()));
        let summary = format!("{} holds in stage {place} after {after}: {why}", self.candidate);
        let key = hold_key(&place, kind);
        vec![Effect::Alert(News { key, severity: kind.severity(), summary, resolved: false })]
    }

    /// What people were told of is over, all of it, since the stage is left.
    fn holds_are_over(&mut self) -> Vec<Effect> {
        let told = match &mut self.state {
            State::Waiting(waiting) => std::mem::take(&mut waiting.told),
            State::Running(running) => std::mem::take(&mut running.told),
            State::Ended(_) => Vec::new(),
        };
        let place = self.place();
        let over =
            |kind| self.resolved(hold_key(&place, kind), format!("stage {place} holds no longer"));
        told.into_iter().map(over).collect()
    }

    fn hold_is_over(&mut self, kind: HoldKind) -> Option<Effect> {
        let place = self.place();
        let (hold, told) = match &mut self.state {
            State::Waiting(waiting) => (&mut waiting.hold, &mut waiting.told),
            State::Running(running) => (&mut running.hold, &mut running.told),
            State::Ended(_) => return None,
        };
        if hold.as_ref().is_some_and(|hold| hold.kind == kind) {
            *hold = None;
        }
        let at = told.iter().position(|told| *told == kind)?;
        told.remove(at);
        Some(self.resolved(hold_key(&place, kind), format!("stage {place} holds no longer")))
    }

    fn not_shifted(&mut self, in_force: TrafficShare, reason: &str) -> Vec<Effect> {
        if std::mem::replace(&mut self.switch_fails, true) {
            return Vec::new();
        }
        let (place, share) = (self.place(), self.share());
        let summary = format!(
            "stage {place}: the traffic switch failed ({reason}); the candidate gets {in_force} \
             instead of {share}"
        );
        // Too much of a candidate is harm; too little of it is only waiting.
        let severity = if in_force > share { Severity::Critical } else { Severity::Warning };
        vec![Effect::Alert(News { key: SWITCH.to_owned(), severity, summary, resolved: false })]
    }

    /// What was seen was seen under the share that was asked for.
    fn switch_obeys(&mut self, seen: &Seen) -> Vec<Effect> {
        if !self.switch_fails || seen.share != self.share() {
            return Vec::new();
        }
        self.switch_fails = false;
        vec![self.resolved(SWITCH.to_owned(), "the traffic switch obeys again".to_owned())]
    }

    #[expect(clippy::unused_self, reason = "an alert is the rollout's")]
    fn resolved(&self, key: String, summary: String) -> Effect {
        Effect::Alert(News { key, severity: Severity::Info, summary, resolved: true })
    }

    fn end_key(&self, end: End) -> String {
        format!("{}/{}", self.candidate, end.word())
    }

    /// The stage's name, or the word for where it stands outside of a stage.
    fn place(&self) -> String {
        match &self.state {
            State::Waiting(_) => WAITING.to_owned(),
            State::Running(running) => self.plan.stages()[running.stage].name.to_string(),
            State::Ended(ended) => ended.stage.clone(),
        }
    }

    fn date(&self, now: Moment) -> Option<Date> {
        self.wall.map(|(at, date)| date.after(now.since(at)))
    }

    fn moment(&self, date: Date) -> Option<Moment> {
        self.wall.map(|(at, known)| at.after(date.since(known)))
    }

    fn frozen(&self, date: Date) -> Option<String> {
        match thaw(self.plan.freezes(), date) {
            Some(end) if end == date => None,
            Some(end) => Some(format!("the plan freezes rollouts until {end}")),
            None => Some("the plan freezes rollouts for ever; change it".to_owned()),
        }
    }

    fn is_late(&self, now: Moment) -> Option<String> {
        let (deadline, date) = (self.plan.deadline()?, self.date(now)?);
        (date >= deadline).then(|| format!("the deadline, {deadline}, has passed"))
    }

    /// When time alone may change something next.
    fn next_wake(&self, now: Moment) -> Option<Moment> {
        let mut moments = Vec::new();
        match &self.state {
            State::Waiting(waiting) => {
                let dated =
                    waiting.hold.as_ref().is_none_or(|hold| hold.kind == HoldKind::NotBefore);
                let first = self.plan.not_before().filter(|_| dated);
                moments.extend(first.and_then(|first| self.moment(first)));
            }
            State::Running(running) => {
                let stage = &self.plan.stages()[running.stage];
                let ends = [
                    stage.warm_up,
                    stage.warm_up.saturating_add(stage.at_least),
                    running.longest(stage),
                ];
                for end in ends {
                    let left = end.saturating_sub(running.observed);
                    moments.extend((left > Duration::ZERO).then(|| running.last.after(left)));
                }
                moments.extend(self.plan.deadline().and_then(|date| self.moment(date)));
            }
            State::Ended(_) => return None,
        }
        if self.hold().is_some_and(|hold| hold.kind == HoldKind::Freeze) {
            let end = self.date(now).and_then(|date| thaw(self.plan.freezes(), date));
            moments.extend(end.and_then(|end| self.moment(end)));
        }
        moments.into_iter().filter(|moment| *moment > now).min()
    }

    /// The wake-up, where it is another than was asked for last.
    fn new_wake(&mut self, now: Moment) -> Option<Effect> {
        let next = self.next_wake(now);
        if next == self.wake {
            return None;
        }
        self.wake = next;
        next.map(Effect::WakeAt)
    }
}

impl Machine for Rollout {
    fn handle(&mut self, now: Moment, input: &Input) -> Vec<Effect> {
        let mut effects = match input {
            Input::Seen(seen) => self.seen(now, seen),
            Input::Command(command) => self.command(now, command),
            Input::NotShifted { in_force, reason } => self.not_shifted(*in_force, reason),
            Input::Wall(date) => {
                self.wall = Some((now, *date));
                self.hold_is_over(HoldKind::WallTime).into_iter().collect()
            }
            Input::Drilled(drill) => {
                self.drill = Some(drill.clone());
                Vec::new()
            }
        };
        effects.extend(self.new_wake(now));
        effects
    }
}

impl Running {
    /// What [`Running::conclusion`] says, without the sentence.
    fn step(&self, stage: &Stage) -> Step {
        if self.is_warming(stage) {
            let broken = self.warming.as_ref().map(|warming| warming.step());
            return broken.filter(|step| *step == Step::TakeBack).unwrap_or(Step::Wait);
        }
        self.trial.step()
    }

    /// What follows from the evidence; during the warm-up, from the little that counts then.
    fn conclusion(&self, plan: &Plan) -> Conclusion {
        let stage = &plan.stages()[self.stage];
        if !self.is_warming(stage) {
            return self.trial.conclusion();
        }
        if let Some(verdict) = self.warming.as_ref().map(|warming| warming.verdict()) {
            if let Verdict::RollBack { cause: Cause::Rail(_), .. } = verdict {
                return Conclusion::from(&verdict);
            }
        }
        let left = show_duration(Duration::from_secs(
            stage.warm_up.saturating_sub(self.observed).as_secs(),
        ));
        Conclusion::new(Step::Wait, format!("it warms up for another {left}; nothing counts yet"))
    }

    /// What is known of the baseline: from this stage, else from before.
    fn known_control(&self) -> &ArmCounts {
        self.trial.control().unwrap_or(&self.control)
    }
}

impl Trial {
    /// What watches a warm-up: the fixed rules for panics and nothing but failures.
    fn warming(
        plan: &Plan,
        stage: &Stage,
        control: &ArmCounts,
    ) -> Result<Option<Box<Canary>>, TrialError> {
        if !stage.kind.is_beside() || stage.warm_up.is_zero() {
            return Ok(None);
        }
        let name = || stage.name.to_string();
        let (alpha, beta) = (plan.alpha_of_a_stage(), plan.beta());
        Canary::new(stage.guardrails.clone(), alpha, beta, stage.warm_up, control)
            .map(|canary| Some(Box::new(canary)))
            .map_err(|error| TrialError::Judge { stage: name(), error })
    }
}

fn record(at: Moment, from: String, to: String, who: &str, why: String) -> Effect {
    Effect::Record(Transition { at, from, to, who: who.to_owned(), why })
}

fn hold_key(place: &str, kind: HoldKind) -> String {
    format!("holds/{place}/{}", kind.word())
}

fn unknown_time() -> (HoldKind, String) {
    let why = "the plan has dates in it, and nobody said what a wall clock reads".to_owned();
    (HoldKind::WallTime, why)
}

/// How many failed tries of a rollout can be repeated.
pub const MOST_TRIES: usize = 16;
/// The machine itself, as the one who decided.
const MACHINE: &str = "pilotage";
/// Where a rollout is that has not begun.
const WAITING: &str = "waiting";
const SWITCH: &str = "switch";
const LONGEST_EXTENSION: Duration = Duration::from_secs(365 * 86_400);
