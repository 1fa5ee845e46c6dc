//! The time after a promotion in which it can be taken back.
//!
//! The former baseline stays where it stood, warm. One order brings it back, labels and traffic in
//! one step, with the same guarantees as every stop. The guardrails of the last stage go on, held
//! against what the baseline did when it was last seen beside the candidate. That is no concurrent
//! control: over a day or two, load and seasons move error rates and latencies of any model. So a
//! guardrail that is broken here tells people, and only what no season explains takes the promotion
//! back by itself: calls that do not end, and a rate that is shown to be above both [`TIMES`] the
//! baseline's (its upper bound) and [`POINTS`].

use std::time::Duration;

use crate::alert::alert::Severity;
use crate::clock::Moment;
use crate::ids::Arm;
use crate::judge::guardrail::{Action, Guardrail};
use crate::machine::{Effect, News, Seen, Shadowing};
use crate::observe::snapshot::ArmCounts;
use crate::rollout::human::show_duration;
use crate::rollout::pipeline::{MACHINE, Rollout, record};
use crate::rollout::state::{End, State, Watch};
use crate::share::TrafficShare;
use crate::strategy::conclusion::Step;
use crate::strategy::full::Full;

/// A rate that takes a promotion back by itself is above so many times the baseline's.
pub const TIMES: f64 = 4.0;
/// And above this.
pub const POINTS: f64 = 0.05;

impl Rollout {
    /// The watch that begins with a promotion; `None` where the plan wants none.
    pub(super) fn new_watch(&self, now: Moment) -> Option<Box<Watch>> {
        let window = self.plan().rollback_window();
        if window.is_zero() {
            return None;
        }
        let (guardrails, control) = match self.state() {
            State::Running(running) => {
                let stage = &self.plan().stages()[running.stage];
                (stage.guardrails.clone(), running.known_control().clone())
            }
            State::Waiting(_) | State::Ended(_) => (Vec::new(), ArmCounts::default()),
        };
        let drastic = guardrails
            .iter()
            .filter(|rail| rail.measure.is_rate() && rail.action == Action::RollBack)
            .map(|rail| rail.clone().limit(TIMES.max(rail.limit)).floor(POINTS.max(rail.floor)))
            .collect();
        let judge = |guardrails: Vec<Guardrail>| {
            let (alpha, beta) = (self.plan().alpha_of_a_stage(), self.plan().beta());
            let judge = Full::new(guardrails, alpha, beta, window, &control);
            // A stage with these guardrails was judged before; if it fails all the same, the order
            // to take back is what is left.
            judge.ok().map(Box::new)
        };
        let (usual, drastic) = (judge(guardrails), judge(drastic));
        Some(Box::new(Watch { until: now.after(window), usual, drastic, told: false }))
    }

    /// What follows from a batch after a promotion.
    pub(super) fn watch(&mut self, now: Moment, seen: &Seen) -> Vec<Effect> {
        let candidate = self.candidate().clone();
        let State::Ended(ended) = &mut self.state else { return Vec::new() };
        let Some(watch) = &mut ended.watch else { return Vec::new() };
        if now >= watch.until {
            return self.finish_watch(now, MACHINE, "its time has passed");
        }
        // Labels were swapped: what is called the baseline now is the candidate of this rollout.
        if seen.share != TrafficShare::NONE {
            return Vec::new();
        }
        let mut swapped = Seen::live(TrafficShare::ALL, seen.live.clone());
        swapped.live.arms.truncate(2);
        swapped.live.arms.resize_with(2, ArmCounts::default);
        swapped.live.arms.swap(Arm::BASELINE.index(), Arm::CANDIDATE.index());
        let judges = [&mut watch.usual, &mut watch.drastic];
        judges.into_iter().flatten().for_each(|judge| judge.observe(&swapped));
        if let Some(judge) = watch.drastic.as_ref().filter(|judge| judge.step() == Step::TakeBack) {
            let why = format!("after its promotion: {}", judge.conclusion().why);
            return self.restore(now, End::RolledBack, MACHINE, why);
        }
        let broken = |judge: &&Box<Full>| matches!(judge.step(), Step::TakeBack | Step::Pause);
        let Some(judge) = watch.usual.as_ref().filter(broken).filter(|_| !watch.told) else {
            return Vec::new();
        };
        let why = judge.conclusion().why;
        let left = show_duration(Duration::from_secs(watch.until.since(now).as_secs()));
        watch.told = true;
        let summary = format!(
            "{candidate} has become worse since its promotion: {why}; nothing was done, since load \
             and time of day may explain it; abort within {left} brings the former model back"
        );
        let (key, severity) = (self.watch_key(), Severity::Warning);
        vec![Effect::Alert(News { key, severity, summary, resolved: false, once: false })]
    }

    /// The same, where something else than an order or the time ends it.
    pub(crate) fn close_watch(&mut self, now: Moment, why: &str) -> Vec<Effect> {
        self.finish_watch(now, MACHINE, why)
    }

    /// From now on the promotion cannot be taken back.
    pub(super) fn finish_watch(&mut self, now: Moment, who: &str, why: &str) -> Vec<Effect> {
        let State::Ended(ended) = &mut self.state else { return Vec::new() };
        let Some(watch) = ended.watch.take() else { return Vec::new() };
        let word = ended.end.word().to_owned();
        let why = format!("the promotion cannot be taken back any more: {why}");
        let mut effects = vec![record(now, word.clone(), word, who, why.clone())];
        effects.extend(watch.told.then(|| self.resolved(self.watch_key(), why)));
        effects
    }

    /// Takes a promotion back: the former baseline is the baseline again.
    pub(super) fn restore(&mut self, now: Moment, end: End, who: &str, why: String) -> Vec<Effect> {
        let told = match &self.state {
            State::Ended(ended) => ended.watch.as_ref().is_some_and(|watch| watch.told),
            State::Waiting(_) | State::Running(_) => false,
        };
        let mut effects = self.end(now, end, who, format!("the promotion was taken back: {why}"));
        effects
            .retain(|effect| !matches!(effect, Effect::Shift(_) | Effect::Shadow(Shadowing::Off)));
        effects.insert(0, Effect::Restore);
        let over = "the promotion was taken back".to_owned();
        effects.extend(told.then(|| self.resolved(self.watch_key(), over)));
        effects
    }

    fn watch_key(&self) -> String {
        format!("{}/worse", self.candidate())
    }
}
