//! The journey itself: one machine that takes a candidate through a plan.
//!
//! A stage is left forward only by positive evidence, or by an operator's recorded override; it is
//! left backward by evidence of harm, by the plan's own answer to a stage that stays undecided, or
//! by anybody who says so. Time alone never promotes. Every transition carries the sentence that
//! explains it.
//!
//!
//! What orders do is told in [`orders`](crate::rollout::orders), what dates do in `timing`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::alert::Severity;
use crate::clock::Moment;
use crate::date::Date;
use crate::ids::Name;
use crate::judge::verdict::{Cause, Reading, Verdict};
use crate::machine::{
    At, Drilled, Effect, Input, Machine, News, Order, Seen, Shadowing, Transition,
};
use crate::observe::snapshot::ArmCounts;
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
    pub(super) candidate: Name,
    pub(super) plan: Plan,
    pub(super) state: State,
    /// A moment, and what a wall clock read then.
    pub(super) wall: Option<(Moment, Date)>,
    /// The last rollback drill.
    pub(super) drill: Option<Drilled>,
    pub(super) tries: Vec<Try>,
    /// Whether people were told that a switch does not obey.
    switch_fails: bool,
    pub(super) wake: Option<Moment>,
    /// How many steps it took: what orders are bound to.
    #[serde(default)]
    revision: u64,
    /// The last order that moved it, and the revision it was given for.
    #[serde(default)]
    pub(super) moved_by: Option<(Order, u64)>,
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
            revision: 1,
            moved_by: None,
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

    /// How many steps it has taken: it grows with everything that is written into its history.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Where it is, as an order is to say it.
    #[must_use]
    pub fn at(&self) -> At {
        At { stage: self.place(), revision: self.revision }
    }

    /// Whether it needs to be looked at: it is under way, or was promoted and can be taken back.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match &self.state {
            State::Waiting(_) | State::Running(_) => true,
            State::Ended(ended) => ended.watch.is_some(),
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
            State::Ended(_) => effects.extend(self.watch(now, seen)),
        }
        effects
    }

    /// What follows from the evidence of the present stage and from the time.
    fn look(&mut self, now: Moment) -> Vec<Effect> {
        let State::Running(running) = &self.state else { return Vec::new() };
        let next = self.next(now, running);
        // Most looks end here, before a sentence is made of them.
        match &next {
            Next::Stay if running.hold.is_none() || running.paused.is_some() => return Vec::new(),
            Next::Hold(kind, _) if running.is_held_by(*kind) => return Vec::new(),
            Next::Undecided(kind, then) if !running.extends(*then) && running.is_held_by(*kind) => {
                return Vec::new();
            }
            Next::Stay
            | Next::Hold(..)
            | Next::Undecided(..)
            | Next::TakeBack(_)
            | Next::Advance => {}
        }
        let conclusion = running.conclusion(&self.plan);
        let with = |lead: String| match lead.is_empty() {
            true => conclusion.why.clone(),
            false => format!("{lead}; {}", conclusion.why),
        };
        match next {
            Next::Stay => {
                if let State::Running(running) = &mut self.state {
                    running.hold = None;
                }
                Vec::new()
            }
            Next::TakeBack(lead) => self.take_back(now, with(lead)),
            Next::Hold(kind, lead) => self.holds(now, kind, &with(lead)),
            Next::Undecided(kind, then) => self.undecided(now, kind, then, &conclusion),
            Next::Advance => {
                let approved = running.approved.as_ref();
                let approved = approved.map(|by| format!("; approved by {by}"));
                let why = format!("{}{}", conclusion.why, approved.unwrap_or_default());
                self.advance(now, MACHINE, why)
            }
        }
    }

    fn next(&self, now: Moment, running: &Running) -> Next {
        let stage = &self.plan.stages()[running.stage];
        let step = running.step(stage);
        if step == Step::TakeBack {
            return Next::TakeBack(String::new());
        }
        let late = self.is_late(now);
        if let (Some(why), Undecided::RollBack) = (&late, self.plan.when_late()) {
            return Next::TakeBack(why.clone());
        }
        if running.paused.is_some() {
            return Next::Stay; // people were told when it was paused
        }
        if step == Step::Pause {
            return Next::Hold(HoldKind::Person, String::new());
        }
        if let Some(why) = late {
            return Next::Hold(HoldKind::Late, why);
        }
        if step == Step::Pass && running.may_advance(stage) {
            return match self.obstacle(now, running) {
                Some((kind, why)) => Next::Hold(kind, why),
                None => Next::Advance,
            };
        }
        if running.observed < running.longest(stage) {
            return Next::Stay;
        }
        let samples = running.samples();
        let (kind, then) = if samples == 0 {
            (HoldKind::NoData, stage.when_no_data)
        } else if samples < stage.min_samples {
            (HoldKind::Underpowered, stage.when_underpowered)
        } else {
            (HoldKind::Inconclusive, stage.when_inconclusive)
        };
        Next::Undecided(kind, then)
    }

    /// Why a stage that has passed is not left, where that is so.
    fn obstacle(&self, now: Moment, running: &Running) -> Option<(HoldKind, String)> {
        let stage = &self.plan.stages()[running.stage];
        if self.plan.needs_wall_time() {
            let Some(date) = self.date(now) else { return Some(unknown_time()) };
            if let Some(why) = self.frozen(date) {
                return Some((HoldKind::Freeze, format!("it has passed, and {why}")));
            }
        }
        if stage.approval && running.approved.is_none() {
            let why = "it has passed and waits for an approval".to_owned();
            return Some((HoldKind::Approval, why));
        }
        None
    }

    /// Its time is up without a verdict.
    fn undecided(
        &mut self,
        now: Moment,
        kind: HoldKind,
        then: Undecided,
        conclusion: &Conclusion,
    ) -> Vec<Effect> {
        let State::Running(running) = &mut self.state else { return Vec::new() };
        let stage = &self.plan.stages()[running.stage];
        let observed = show_duration(Duration::from_secs(running.observed.as_secs()));
        let why = format!(
            "{} after {observed} and {} of the {} samples asked for: {}",
            kind.word().replace('_', " "),
            running.samples(),
            stage.min_samples,
            conclusion.why
        );
        match then {
            Undecided::RollBack => {
                self.take_back(now, format!("{why}; the plan asks to roll it back then"))
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

    /// Evidence of harm: back, and over.
    pub(super) fn take_back(&mut self, now: Moment, why: String) -> Vec<Effect> {
        let serving = self.share() > TrafficShare::NONE;
        let end = if serving { End::RolledBack } else { End::Refused };
        self.end(now, end, MACHINE, why)
    }

    /// It was taken back already, by somebody else: what is left is to say so.
    fn taken_back(&mut self, now: Moment, by: &str, reason: &str) -> Vec<Effect> {
        let why = format!("taken back by {by}: {reason}");
        match &self.state {
            State::Waiting(_) => self.end(now, End::Aborted, by, why),
            State::Running(running) => {
                let exposed = running.stage > 0 || self.share() > TrafficShare::NONE;
                let end = if exposed { End::RolledBack } else { End::Refused };
                self.end(now, end, by, why)
            }
            State::Ended(ended) if ended.watch.is_some() => {
                self.restore(now, End::RolledBack, by, why)
            }
            State::Ended(_) => Vec::new(),
        }
    }

    pub(super) fn may_enter_next(&self) -> Result<(), String> {
        let State::Running(running) = &self.state else { return Ok(()) };
        match self.plan.stages().get(running.stage + 1) {
            Some(next) => Trial::new(&self.plan, next, running.known_control())
                .map(drop)
                .map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// To the next stage, or to the end of the plan.
    pub(super) fn advance(&mut self, now: Moment, who: &str, why: String) -> Vec<Effect> {
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
    pub(super) fn enter(
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

    pub(super) fn promote(&mut self, now: Moment, who: &str, why: String) -> Vec<Effect> {
        let mut effects = self.end(now, End::Promoted, who, why);
        // A promotion is written down before it is done; the machine's ends put safety first.
        effects.retain(|effect| !matches!(effect, Effect::Shift(_)));
        let at = effects.iter().position(|effect| matches!(effect, Effect::Record(_)));
        effects.insert(at.map_or(0, |at| at + 1), Effect::Promote);
        effects
    }

    pub(super) fn end(&mut self, now: Moment, end: End, who: &str, why: String) -> Vec<Effect> {
        let stage = self.place();
        let over = self.holds_are_over();
        let watch = (end == End::Promoted).then(|| self.new_watch(now)).flatten();
        let summary = format!("{} {} in stage {stage}: {why}", self.candidate, end.phrase());
        let severity = end.severity();
        let news = News { key: self.end_key(end), severity, summary, resolved: false, once: true };
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
        let ended =
            Ended { end, stage, at: now, reason: why, readings, watch, index, attempt, control };
        self.state = State::Ended(ended);
        effects
    }

    /// Stays where it is, and tells people once.
    pub(super) fn holds(&mut self, now: Moment, kind: HoldKind, why: &str) -> Vec<Effect> {
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
        let severity = kind.severity();
        vec![Effect::Alert(News { key, severity, summary, resolved: false, once: false })]
    }

    /// What people were told of is over, all of it, since the stage is left.
    pub(super) fn holds_are_over(&mut self) -> Vec<Effect> {
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

    pub(super) fn hold_is_over(&mut self, kind: HoldKind) -> Option<Effect> {
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

    fn not_shifted(&mut self, now: Moment, in_force: TrafficShare, reason: &str) -> Vec<Effect> {
        if let State::Running(running) = &mut self.state {
            // The stage is not under way while its share is not in force: that time does not count
            // as observed.
            running.last = running.last.max(now);
        }
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
        let key = SWITCH.to_owned();
        vec![Effect::Alert(News { key, severity, summary, resolved: false, once: false })]
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
    pub(super) fn resolved(&self, key: String, summary: String) -> Effect {
        Effect::Alert(News { key, severity: Severity::Info, summary, resolved: true, once: false })
    }

    pub(super) fn end_key(&self, end: End) -> String {
        format!("{}/{}", self.candidate, end.word())
    }

    /// The stage's name, or the word for where it stands outside of a stage.
    pub(super) fn place(&self) -> String {
        match &self.state {
            State::Waiting(_) => WAITING.to_owned(),
            State::Running(running) => self.plan.stages()[running.stage].name.to_string(),
            State::Ended(ended) => ended.stage.clone(),
        }
    }
}

/// What a look leads to, before the sentence that says why.
enum Next {
    /// To nothing.
    Stay,
    /// Back, and why beside the evidence.
    TakeBack(String),
    /// To a hold, and why beside the evidence.
    Hold(HoldKind, String),
    /// To whatever the plan does with a stage whose time is up.
    Undecided(HoldKind, Undecided),
    /// Forward.
    Advance,
}

impl Machine for Rollout {
    fn handle(&mut self, now: Moment, input: &Input) -> Vec<Effect> {
        let mut effects = match input {
            Input::Seen(seen) => self.seen(now, seen),
            Input::Command(command) => self.command(now, command),
            Input::NotShifted { in_force, reason } => self.not_shifted(now, *in_force, reason),
            Input::Wall(date) => {
                self.wall = Some((now, *date));
                self.hold_is_over(HoldKind::WallTime).into_iter().collect()
            }
            Input::Drilled(drill) => {
                self.drill = Some(drill.clone());
                Vec::new()
            }
            Input::TakenBack { by, reason } => self.taken_back(now, by, reason),
        };
        let refused = effects.iter().any(|effect| matches!(effect, Effect::Refused(_)));
        if !refused && effects.iter().any(|effect| matches!(effect, Effect::Record(_))) {
            self.revision += 1;
        }
        effects.extend(self.new_wake(now));
        effects
    }
}

impl Running {
    fn is_held_by(&self, kind: HoldKind) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.kind == kind)
    }

    /// Whether the plan still gives it more time.
    const fn extends(&self, then: Undecided) -> bool {
        matches!(then, Undecided::Extend { times, .. } if self.extensions < times)
    }

    /// What [`Running::conclusion`] says, without the sentence.
    fn step(&self, stage: &Stage) -> Step {
        if self.is_warming(stage) {
            return if self.broken_rail().is_some() { Step::TakeBack } else { Step::Wait };
        }
        self.trial.step()
    }

    /// What follows from the evidence; during the warm-up, from the little that counts then.
    pub(super) fn conclusion(&self, plan: &Plan) -> Conclusion {
        let stage = &plan.stages()[self.stage];
        if !self.is_warming(stage) {
            return self.trial.conclusion();
        }
        if let Some(verdict) = self.broken_rail() {
            return Conclusion::from(&verdict);
        }
        let left = show_duration(Duration::from_secs(
            stage.warm_up.saturating_sub(self.observed).as_secs(),
        ));
        Conclusion::new(Step::Wait, format!("it warms up for another {left}; nothing counts yet"))
    }

    /// The fixed rule that was broken during the warm-up; statistics say nothing then.
    fn broken_rail(&self) -> Option<Verdict> {
        let verdict = self.warming.as_ref()?.verdict();
        matches!(verdict, Verdict::RollBack { cause: Cause::Rail(_), .. }).then_some(verdict)
    }

    /// What is known of the baseline: from this stage, else from before.
    pub(super) fn known_control(&self) -> &ArmCounts {
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

pub(super) fn record(at: Moment, from: String, to: String, who: &str, why: String) -> Effect {
    Effect::Record(Transition { at, from, to, who: who.to_owned(), why })
}

fn hold_key(place: &str, kind: HoldKind) -> String {
    format!("holds/{place}/{}", kind.word())
}

pub(super) fn unknown_time() -> (HoldKind, String) {
    let why = "the plan has dates in it, and nobody said what a wall clock reads".to_owned();
    (HoldKind::WallTime, why)
}

/// The machine itself, as the one who decided.
pub(super) const MACHINE: &str = "pilotage";
/// Where a rollout is that has not begun.
pub(super) const WAITING: &str = "waiting";
const SWITCH: &str = "switch";
