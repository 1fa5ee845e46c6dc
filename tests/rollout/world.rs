//! A world that a rollout is told of: so many requests a second, and how each arm answers them.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::ids::{Epoch, Name, Segment};
use pilotage::machine::{Command, Effect, Input, Machine, Order, Seen};
use pilotage::observe::histogram::bucket_of;
use pilotage::observe::shadow::ShadowCounts;
use pilotage::observe::snapshot::{ArmCounts, Delta, SegmentCounts, Tally};
use pilotage::rollout::pipeline::{End, HoldKind, Rollout, State};
use pilotage::rollout::plan::Plan;

/// The world: so many requests a second, and how each arm answers them.
pub struct World {
    pub rollout: Rollout,
    pub now: Moment,
    pub per_second: u64,
    pub effects: Vec<Effect>,
    /// Seconds from one look to the next.
    pub step: u64,
    /// Right answers of a hundred, by arm and in each of two segments, where the truth is known.
    pub right: Option<[[u64; 2]; 2]>,
    carried: [[u64; 2]; 2],
}

/// How an arm answers: one error in so many calls (0 for none), and its latency.
#[derive(Clone, Copy)]
pub struct Answers {
    pub error_every: u64,
    pub millis: u64,
}

pub const GOOD: Answers = Answers { error_every: 0, millis: 20 };
pub const BAD: Answers = Answers { error_every: 7, millis: 20 };
pub const SLOW: Answers = Answers { error_every: 0, millis: 60 };

pub fn counts(calls: u64, how: Answers, phase: u64) -> ArmCounts {
    let mut counts = ArmCounts::default();
    let every = how.error_every;
    // How many of `phase .. phase + calls` are multiples of `every`.
    let failed =
        if every == 0 { 0 } else { (phase + calls).div_ceil(every) - phase.div_ceil(every) };
    let answered = calls - failed;
    counts.started = calls;
    counts.ended[0] = answered;
    counts.ended[1] = failed;
    // Spread over 20 % so that quantiles differ from each other.
    for slot in 0..20 {
        let many = (answered + (slot + phase) % 20) / 20;
        let nanos = how.millis * 1_000_000 * (90 + slot) / 100;
        counts.latency.record_bucket(bucket_of(nanos), many);
    }
    counts
}

impl World {
    pub fn new(plan: Plan, per_second: u64) -> Self {
        let name = Name::new("v2").unwrap();
        let (rollout, effects) = Rollout::begin(name, plan, Moment::ZERO).unwrap();
        let (right, carried) = (None, [[0; 2]; 2]);
        Self { rollout, now: Moment::ZERO, per_second, effects, step: 1, right, carried }
    }

    /// Seconds pass; stops when the rollout is over.
    pub fn run(&mut self, seconds: u64, baseline: Answers, candidate: Answers) -> &mut Self {
        for _ in 0..seconds / self.step {
            if matches!(self.rollout.state(), State::Ended(_)) {
                break;
            }
            self.now = self.now.after(Duration::from_secs(self.step));
            let seen = self.seen(baseline, candidate);
            let effects = self.rollout.handle(self.now, &Input::Seen(Box::new(seen)));
            self.effects.extend(effects);
        }
        self
    }

    pub fn seen(&mut self, baseline: Answers, candidate: Answers) -> Seen {
        let share = self.rollout.share();
        let calls = self.per_second * self.step;
        let theirs = calls * u64::from(share.ppm()) / 1_000_000;
        let phase = self.now.as_nanos() / 1_000_000_000 * 13;
        let mut arms =
            vec![counts(calls - theirs, baseline, phase), counts(theirs, candidate, phase)];
        let mut segments = Vec::new();
        if let Some(right) = self.right {
            for segment in [0, 1] {
                let mut tallies = vec![Tally::default(), Tally::default()];
                for (arm, counts) in arms.iter_mut().enumerate() {
                    let truths = counts.judged() / 2;
                    let whole = truths * right[arm][segment] + self.carried[arm][segment];
                    let correct = (whole / 100).min(truths);
                    self.carried[arm][segment] = whole % 100;
                    counts.correct += correct;
                    counts.wrong += truths - correct;
                    tallies[arm].correct = correct;
                    tallies[arm].wrong = truths - correct;
                }
                segments.push(SegmentCounts::new(Segment::new(segment as u8 + 1), tallies));
            }
        }
        let lasted = Duration::from_secs(self.step);
        let mut live = Delta::new(self.now, lasted, Epoch::new(0), arms);
        live.segments = segments;
        let mut shadow = ShadowCounts::default();
        shadow.sampled = calls;
        shadow.run = calls;
        shadow.baseline = counts(calls, baseline, phase);
        shadow.candidate = counts(calls, candidate, phase);
        shadow.pairs = calls;
        shadow.matches = calls;
        Seen::live(share, live).with_shadow(shadow)
    }

    /// What a wall clock reads now.
    pub fn tell_date(&mut self, date: &str) {
        let input = Input::Wall(date.parse().unwrap());
        let effects = self.rollout.handle(self.now, &input);
        self.effects.extend(effects);
    }

    /// Whether it holds, and for what.
    pub fn holds(&self) -> Option<HoldKind> {
        self.rollout.hold().map(|hold| hold.kind)
    }

    /// The keys of what people were told, with a minus where it was resolved.
    pub fn told(&self) -> Vec<String> {
        let key = |effect: &Effect| match effect {
            Effect::Alert(news) if news.resolved => Some(format!("-{}", news.key)),
            Effect::Alert(news) => Some(news.key.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(key).collect()
    }

    pub fn order(&mut self, order: Order) -> Vec<Effect> {
        let who = Name::new("ops").unwrap();
        let command = Command { order, who, why: "because".into(), at: None };
        let effects = self.rollout.handle(self.now, &Input::Command(command));
        self.effects.extend(effects.clone());
        effects
    }

    pub fn end(&self) -> Option<End> {
        match self.rollout.state() {
            State::Ended(ended) => Some(ended.end),
            State::Waiting(_) | State::Running(_) => None,
            _ => panic!("a state this test does not know"),
        }
    }

    pub fn shares(&self) -> Vec<u32> {
        let shift = |effect: &Effect| match effect {
            Effect::Shift(share) => Some(share.ppm() / 10_000),
            _ => None,
        };
        self.effects.iter().filter_map(shift).collect()
    }

    pub fn alerts(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Alert(_))).count()
    }
}
