//! What operators can order, and what it does where the rollout stands.
//!
//! | order | while it waits to begin | in a stage | after a rollback or refusal | after another end |
//! |--|--|--|--|--|
//! | kill | ends it | ends it | marks it killed | as left; marks an abort killed; takes a promotion back while it can be |
//! | abort | ends it | ends it | refused | refused; takes a promotion back while it can be |
//! | pause, resume | keeps it from beginning | keeps the stage; guardrails stay armed | refused | refused |
//! | promote stage, promote fully | refused | override, unless paused | refused | refused |
//! | start | begins it | refused | refused | refused |
//! | approve | refused | where the stage waits for it | refused | refused |
//! | extend | refused | more time | refused | refused |
//! | retry | refused | refused | the same stage with fresh evidence | refused |
//! | finish | refused | refused | refused | ends the time in which a promotion can be taken back |
//!
//! A refused order is answered and written down, and changes nothing.
//!
//! # Orders say what they saw
//!
//! Promote, approve, extend and resume are meant for the place where their giver saw the rollout
//! ([`At`](crate::machine::At)). Where it is somewhere else by now they are refused, and two equal
//! ones for one place are one: a double click skips no stage, and a click meant for 5 % does not
//! land on 25 %. Orders that stop are bound to nothing.
//!
//! # A stage that is tried again
//!
//! A retry enters the stage anew, with nothing of the failed try's evidence: that stays in
//! [`Rollout::tries`]. A candidate that was taken back from everybody begins again one stage
//! before, since what it was held against has aged. Every try may take a healthy candidate back
//! with the stage's part of α again; whoever retries until it passes has spent the error budget so
//! often, which is why a rollout has [`MOST_TRIES`] of them.

use std::time::Duration;

use crate::clock::Moment;
use crate::machine::{Command, Effect, Order, Refusal, Refused};
use crate::rollout::human::show_duration;
use crate::rollout::pipeline::{Rollout, record};
use crate::rollout::stage::StageKind;
use crate::rollout::state::{End, HoldKind, State, Try};

impl Rollout {
    pub(super) fn command(&mut self, now: Moment, command: &Command) -> Vec<Effect> {
        let bound = command.at.as_ref().filter(|_| command.order.is_bound());
        if let Some(at) = bound {
            if self.moved_by == Some((command.order, at.revision)) {
                return Vec::new(); // the same once more
            }
        }
        let answer = match (bound, &self.state) {
            (Some(at), _) if at.revision != self.revision() || at.stage != self.place() => {
                let given_for = format!("{} (revision {})", at.stage, at.revision);
                let now = format!("{} (revision {})", self.place(), self.revision());
                Err(Refusal::Moved { given_for, now })
            }
            (_, State::Waiting(_)) => self.command_before(now, command),
            (_, State::Running(_)) => self.command_within(now, command),
            (_, State::Ended(_)) => self.command_after(now, command),
        };
        if let (Ok(_), Some(at)) = (&answer, bound) {
            self.moved_by = Some((command.order, at.revision));
        }
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

    pub(super) fn command_before(
        &mut self,
        now: Moment,
        command: &Command,
    ) -> Result<Vec<Effect>, Refusal> {
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
            | Order::Retry
            | Order::Finish => Err(Refusal::NotStarted),
        }
    }

    pub(super) fn command_within(
        &mut self,
        now: Moment,
        command: &Command,
    ) -> Result<Vec<Effect>, Refusal> {
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
            Order::Finish => Err(Refusal::NothingToFinish),
        }
    }

    pub(super) fn command_after(
        &mut self,
        now: Moment,
        command: &Command,
    ) -> Result<Vec<Effect>, Refusal> {
        let (who, why) = (command.who.as_str(), format!("{}: {}", command.who, command.why));
        let State::Ended(ended) = &self.state else { return Err(Refusal::NothingToRetry) };
        let failed = matches!(ended.end, End::RolledBack | End::Refused);
        let promoted = ended.watch.is_some();
        match command.order {
            Order::Kill if promoted => Ok(self.restore(now, End::Killed, who, why)),
            Order::Abort if promoted => Ok(self.restore(now, End::Aborted, who, why)),
            Order::Kill if failed || ended.end == End::Aborted => {
                Ok(self.end(now, End::Killed, who, why))
            }
            Order::Retry if failed => self.retry(now, who, &why),
            Order::Finish if promoted => Ok(self.finish_watch(now, who, &why)),
            Order::Kill
            | Order::Abort
            | Order::Pause
            | Order::Resume
            | Order::PromoteFully
            | Order::PromoteStage
            | Order::Start
            | Order::Approve
            | Order::Extend { .. }
            | Order::Retry
            | Order::Finish => {
                let (end, remedy) = (ended.end.word().to_owned(), ended.end.remedy().to_owned());
                Err(Refusal::Over { end, remedy })
            }
        }
    }

    /// The failed stage once more, with nothing of its evidence.
    pub(super) fn retry(
        &mut self,
        now: Moment,
        who: &str,
        why: &str,
    ) -> Result<Vec<Effect>, Refusal> {
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

    pub(super) fn paused(&mut self, now: Moment, who: &str, why: &str) -> Vec<Effect> {
        let place = self.place();
        let mut effects =
            vec![record(now, place.clone(), format!("{place} (paused)"), who, why.to_owned())];
        effects.extend(self.holds(now, HoldKind::Paused, why));
        effects
    }

    pub(super) fn resumed(&mut self, now: Moment, who: &str, why: String) -> Vec<Effect> {
        let place = self.place();
        let mut effects = vec![record(now, format!("{place} (paused)"), place, who, why)];
        effects.extend(self.hold_is_over(HoldKind::Paused));
        effects
    }
}

/// How many failed tries of a rollout can be repeated.
pub const MOST_TRIES: usize = 16;
const LONGEST_EXTENSION: Duration = Duration::from_secs(365 * 86_400);
