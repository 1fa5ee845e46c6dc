//! What dates, hours and the age of a drill do to a rollout: they hold it back, and tell it when to
//! look again.

use std::time::Duration;

use crate::clock::Moment;
use crate::date::Date;
use crate::machine::{Drilled, Effect};
use crate::observe::snapshot::ArmCounts;
use crate::rollout::freeze::thaw;
use crate::rollout::human::show_duration;
use crate::rollout::pipeline::{MACHINE, Rollout, WAITING, unknown_time};
use crate::rollout::state::{HoldKind, State};

impl Rollout {
    /// Begins, if nothing is to be waited for any more.
    pub(super) fn look_to_begin(&mut self, now: Moment) -> Vec<Effect> {
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

    pub(super) fn reason_to_wait(&self, now: Moment) -> Option<(HoldKind, String)> {
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
    pub(super) fn needs_drill(&self, now: Moment) -> Option<Duration> {
        let within = self.plan.fresh_drill()?;
        let fresh = |drill: &Drilled| drill.passed && now.since(drill.at) <= within;
        (!self.drill.as_ref().is_some_and(fresh)).then_some(within)
    }

    pub(super) fn start(&mut self, now: Moment, who: &str, why: String) -> Vec<Effect> {
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

    pub(super) fn date(&self, now: Moment) -> Option<Date> {
        self.wall.map(|(at, date)| date.after(now.since(at)))
    }

    pub(super) fn moment(&self, date: Date) -> Option<Moment> {
        self.wall.map(|(at, known)| at.after(date.since(known)))
    }

    pub(super) fn frozen(&self, date: Date) -> Option<String> {
        match thaw(self.plan.freezes(), date) {
            Some(end) if end == date => None,
            Some(end) => Some(format!("the plan freezes rollouts until {end}")),
            None => Some("the plan freezes rollouts for ever; change it".to_owned()),
        }
    }

    pub(super) fn is_late(&self, now: Moment) -> Option<String> {
        let (deadline, date) = (self.plan.deadline()?, self.date(now)?);
        (date >= deadline).then(|| format!("the deadline, {deadline}, has passed"))
    }

    /// When time alone may change something next.
    pub(super) fn next_wake(&self, now: Moment) -> Option<Moment> {
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
            State::Ended(ended) => moments.extend(ended.way_back_until()),
        }
        if self.hold().is_some_and(|hold| hold.kind == HoldKind::Freeze) {
            let end = self.date(now).and_then(|date| thaw(self.plan.freezes(), date));
            moments.extend(end.and_then(|end| self.moment(end)));
        }
        moments.into_iter().filter(|moment| *moment > now).min()
    }

    /// The wake-up, where it is another than was asked for last.
    pub(super) fn new_wake(&mut self, now: Moment) -> Option<Effect> {
        let next = self.next_wake(now);
        if next == self.wake {
            return None;
        }
        self.wake = next;
        next.map(Effect::WakeAt)
    }
}
