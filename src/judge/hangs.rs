//! Calls that do not end.
//!
//! A model that hangs gives no error and no latency: whatever counts what has ended sees nothing of
//! it. What can be seen is that calls begun long ago are still missing. Counts of calls begun and
//! ended do not say which ended, but their latencies do in part: a call that ended just now after
//! 20 ms did not begin a minute ago. From both follows how many calls are *at least* overdue; that
//! number is never too high, whatever the mixture of quick and slow calls.
//!
//! The candidate is blamed only for what the baseline does not show as well. For that the baseline
//! is taken at its worst: each of its calls in flight, however young, and each that took more than
//! a tenth of the time after which a call is overdue.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;
use crate::observe::histogram::RELATIVE_ERROR;
use crate::observe::snapshot::ArmCounts;
use crate::outcome::Status;
use crate::stats::exact::binomial_tails;
use crate::stats::incomplete::Split;

/// When calls of the candidate that do not end are enough to take it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hung {
    /// A call that began so long ago and has not ended is overdue. It is seen at most an eighth of
    /// this time later.
    pub after: Duration,
    /// So many overdue calls are enough, unless the baseline has as many for its part.
    pub calls: u64,
}

impl Hung {
    pub(in crate::judge) const USUAL: Self = Self { after: Duration::from_secs(60), calls: 10 };
}

impl Default for Hung {
    /// 10 calls, after a minute.
    fn default() -> Self {
        Self::USUAL
    }
}

/// The candidate's calls that are overdue, and what is needed to blame it for them.
///
/// Begins anew with each split: calls of an earlier one that end are counted elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::judge) struct Overdue {
    epoch: Option<Epoch>,
    now: Duration,
    marks: VecDeque<Mark>,
    /// Calls of the candidate begun and ended.
    begun: u64,
    ended: u64,
    control: Control,
    streams: bool,
}

/// What was known at a time from which calls are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    at: Duration,
    /// Calls begun by then.
    begun: u64,
    /// Calls ended since that surely began after it.
    younger: u64,
}

/// Calls of whom the candidate is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Control {
    begun: u64,
    ended: u64,
    slow: u64,
}

impl Control {
    /// Everything in `counts`.
    fn of(counts: &ArmCounts, after: Duration) -> Self {
        let mut control = Self::default();
        control.add(counts, after);
        control
    }

    fn add(&mut self, counts: &ArmCounts, after: Duration) {
        let slow = nanos(after / TENTH);
        let times = [&counts.latency, &counts.failed_latency];
        let slow: u64 = times.iter().map(|times| times.count_above(slow)).sum();
        self.begun = self.begun.saturating_add(counts.started);
        self.ended = self.ended.saturating_add(counts.finished());
        let slow = slow.saturating_add(counts.of(Status::Timeout));
        self.slow = self.slow.saturating_add(slow);
    }

    /// Calls that may have been as long as those the candidate would be blamed for.
    fn long(&self) -> u64 {
        self.begun.saturating_sub(self.ended).saturating_add(self.slow).min(self.begun)
    }
}

impl Overdue {
    /// Takes in a batch of `lasted`, made under `epoch`.
    pub(in crate::judge) fn observe(
        &mut self,
        rule: Hung,
        epoch: Epoch,
        lasted: Duration,
        control: &ArmCounts,
        candidate: &ArmCounts,
    ) {
        if self.epoch != Some(epoch) {
            *self = Self { epoch: Some(epoch), ..Self::default() };
        }
        let from = self.now;
        self.now = self.now.saturating_add(lasted);
        self.streams |= control.streams.is_some() || candidate.streams.is_some();
        let slack = rule.after / SLACK;
        for mark in &mut self.marks {
            // It ended at `from` or later, so one quicker than this began after the mark.
            let age = from.saturating_sub(mark.at).saturating_sub(slack);
            mark.younger = mark.younger.saturating_add(quicker_than(candidate, age));
        }
        self.begun = self.begun.saturating_add(candidate.started);
        self.ended = self.ended.saturating_add(candidate.finished());
        self.control.add(control, rule.after);
        let spacing = rule.after / MARKS;
        if self.marks.back().is_none_or(|last| self.now >= last.at.saturating_add(spacing)) {
            self.marks.push_back(Mark { at: self.now, begun: self.begun, younger: 0 });
        }
        // Of the marks that are old enough two are kept: what ended in the batch after a mark is told
        // apart by none, and where looks are rare the earlier one is the better for it.
        while self.marks.get(2).is_some_and(|mark| self.is_old(rule, mark)) {
            self.marks.pop_front();
        }
    }

    /// Calls of the baseline and the candidate that were begun under this split and have not ended.
    pub(in crate::judge) const fn in_flight(&self) -> [u64; 2] {
        let control = self.control.begun.saturating_sub(self.control.ended);
        [control, self.begun.saturating_sub(self.ended)]
    }

    fn is_old(&self, rule: Hung, mark: &Mark) -> bool {
        self.now.saturating_sub(mark.at) >= rule.after
    }

    /// How many calls of the candidate are overdue, at least, and out of how many.
    fn calls(&self, rule: Hung) -> (u64, u64) {
        let old = self.marks.iter().take_while(|mark| self.is_old(rule, mark));
        let missing = old.map(|mark| {
            let ended_in_time = self.ended.saturating_sub(mark.younger);
            (mark.begun.saturating_sub(ended_in_time), mark.begun)
        });
        missing.max_by_key(|(calls, _)| *calls).unwrap_or((0, 0))
    }

    /// The same where that is enough to take it back. Compared with the baseline of the same time,
    /// or `instead` of it with calls from before.
    pub(in crate::judge) fn found(&self, rule: Hung, instead: Option<&ArmCounts>) -> Option<u64> {
        let (calls, begun) = self.calls(rule);
        // A stream may flow for as long as it likes; that one stalls is seen where it is read.
        if calls < rule.calls.max(1) || self.streams {
            return None;
        }
        let control = instead.map_or(self.control, |before| Control::of(before, rule.after));
        let long = control.long();
        // If its calls were twice as often long as the control's, how likely so many of all?
        let odds = Split::odds(2.0 * begun as f64, control.begun as f64);
        let (_, by_chance) = binomial_tails(calls as f64, calls.saturating_add(long) as f64, odds);
        (by_chance < CHANCE).then_some(calls)
    }
}

/// Answers and failures that surely took less than `age`. What timed out or was given up says no
/// time, and the time of a stream is that to its first item.
fn quicker_than(counts: &ArmCounts, age: Duration) -> u64 {
    if age.is_zero() {
        return 0;
    }
    // One bucket less, since a time in the bucket of `age` may be either; and the last bucket has
    // no end.
    let surely = nanos(age.min(LONGEST).mul_f64(1.0 - 2.0 * RELATIVE_ERROR));
    let times = [&counts.latency, &counts.failed_latency];
    times.iter().map(|times| times.count().saturating_sub(times.count_above(surely))).sum()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Times at which the calls begun by then are remembered, within the time until one is overdue.
const MARKS: u32 = 8;
/// A part of that time: replicas are not read at one moment, nor is one of them in no time.
const SLACK: u32 = 16;
/// The control's calls count as long from a part of that time on.
const TENTH: u32 = 10;
/// So unlikely must it be that a candidate twice as often slow as the control has so many overdue.
const CHANCE: f64 = 1e-6;
/// Times above are not told apart.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Rng;
    use proptest::prelude::*;

    const AFTER: Duration = Duration::from_secs(60);
    const RULE: Hung = Hung::USUAL;

    /// A call of an arm: when it begins and how long it takes, in milliseconds; for ever if it
    /// hangs. How it ends.
    #[derive(Clone, Copy, Debug)]
    struct Call {
        begins: u64,
        takes: Option<u64>,
        status: Status,
    }

    impl Call {
        fn ends(&self) -> Option<u64> {
            self.takes.map(|takes| self.begins + takes)
        }
    }

    /// The calls of an arm in the order of their beginnings and of their ends.
    struct Sorted {
        begins: Vec<u64>,
        ends: Vec<(u64, Call)>,
    }

    impl Sorted {
        fn of(calls: &[Call]) -> Self {
            let mut begins: Vec<u64> = calls.iter().map(|call| call.begins).collect();
            begins.sort_unstable();
            let ends = calls.iter().filter_map(|call| Some((call.ends()?, *call)));
            let mut ends: Vec<_> = ends.collect();
            ends.sort_unstable_by_key(|(ends, _)| *ends);
            Self { begins, ends }
        }

        /// What began and ended after `from`, until `to`.
        fn counts(&self, from: u64, to: u64) -> ArmCounts {
            let begun = |at: u64| self.begins.partition_point(|begins| *begins <= at) as u64;
            let mut counts = ArmCounts { started: begun(to) - begun(from), ..ArmCounts::default() };
            let ended = |at: u64| self.ends.partition_point(|(ends, _)| *ends <= at);
            for (_, call) in &self.ends[ended(from)..ended(to)] {
                counts.ended[call.status.index()] += 1;
                let nanos = call.takes.unwrap() * 1_000_000;
                match call.status {
                    Status::Ok => counts.latency.record(nanos),
                    Status::Error | Status::Panicked => counts.failed_latency.record(nanos),
                    Status::Timeout | Status::Cancelled => {}
                }
            }
            counts
        }
    }

    /// At so many milliseconds the rule found so many calls; so many were known to be overdue, and
    /// so many truly were.
    #[derive(Debug)]
    struct Look {
        at: u64,
        found: Option<u64>,
        told: u64,
        truly: u64,
    }

    /// The rule at each of these times.
    fn looks(
        rule: Hung,
        [baseline, candidate]: [&[Call]; 2],
        looks: impl Iterator<Item = u64>,
    ) -> Vec<Look> {
        let (mut overdue, mut from) = (Overdue::default(), 0);
        let sorted = [baseline, candidate].map(Sorted::of);
        let after = rule.after.as_millis() as u64;
        looks
            .map(|to| {
                let [old, new] = sorted.each_ref().map(|calls| calls.counts(from, to));
                let lasted = Duration::from_millis(to - from);
                overdue.observe(rule, Epoch::new(1), lasted, &old, &new);
                from = to;
                let old_enough = sorted[1].begins.partition_point(|begins| *begins + after <= to);
                let ended = |(ends, call): &&(u64, Call)| *ends <= to && call.begins + after <= to;
                let truly = (old_enough - sorted[1].ends.iter().filter(ended).count()) as u64;
                Look {
                    at: to,
                    found: overdue.found(rule, None),
                    told: overdue.calls(rule).0,
                    truly,
                }
            })
            .collect()
    }

    fn each_second(seconds: u64) -> impl Iterator<Item = u64> {
        (1..=seconds).map(|second| second * 1_000)
    }

    /// `rate` calls a second for so many seconds; each hangs with probability `hangs` and takes a
    /// time of `law` otherwise.
    fn arm(
        random: &mut Rng,
        seconds: u64,
        rate: u64,
        hangs: f64,
        law: impl Fn(&mut Rng) -> u64,
    ) -> Vec<Call> {
        let call = |random: &mut Rng, begins| {
            let takes = law(random);
            let takes = (!random.chance(hangs)).then_some(takes);
            Call { begins, takes, status: Status::Ok }
        };
        (0..seconds * rate).map(|at| call(random, at * 1_000 / rate + 1)).collect()
    }

    fn quick(random: &mut Rng) -> u64 {
        5 + random.below(75)
    }

    fn found_at(looks: &[Look]) -> Option<u64> {
        looks.iter().find(|look| look.found.is_some()).map(|look| look.at / 1_000)
    }

    #[test]
    fn a_candidate_that_hangs_is_found_soon_after_the_time_has_passed() {
        let mut random = Rng::new(1);
        let baseline = arm(&mut random, 900, 95, 0.0, quick);
        for (hangs, from, until) in [(1.0, 61, 70), (0.5, 61, 78), (0.1, 80, 150), (0.02, 160, 600)]
        {
            let candidate = arm(&mut random, 900, 5, hangs, quick);
            let looks = looks(RULE, [&baseline, &candidate], each_second(900));
            let at = found_at(&looks).unwrap_or(u64::MAX);
            assert!((from..until).contains(&at), "{hangs} hang: found after {at} s");
        }
    }

    #[test]
    fn nobody_is_blamed_for_what_the_baseline_does_too() {
        for seed in 0..20 {
            let mut random = Rng::new(seed);
            for hangs in [0.02, 0.3, 1.0] {
                let baseline = arm(&mut random, 300, 20, hangs, quick);
                let candidate = arm(&mut random, 300, 20, hangs, quick);
                let looks = looks(RULE, [&baseline, &candidate], each_second(300));
                assert_eq!(found_at(&looks), None, "seed {seed}, {hangs} hang");
            }
        }
    }

    #[test]
    fn long_calls_that_are_usual_are_no_hang() {
        // From well below the time to well above it, and a heavy tail across it.
        let laws: [fn(&mut Rng) -> u64; 4] = [
            |random| 10_000 + random.below(40_000),
            |random| 40_000 + random.below(50_000),
            |random| 100_000 + random.below(100_000),
            |random| (400.0 / random.unit().max(0.001)) as u64,
        ];
        for (number, law) in laws.into_iter().enumerate() {
            for seed in 0..10 {
                let mut random = Rng::new(seed);
                let baseline = arm(&mut random, 600, 30, 0.0, law);
                let candidate = arm(&mut random, 600, 10, 0.0, law);
                let looks = looks(RULE, [&baseline, &candidate], each_second(600));
                assert_eq!(found_at(&looks), None, "law {number}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_new_split_begins_anew() {
        let all_hang: Vec<Call> = (1..600)
            .map(|begins| Call { begins: begins * 100, takes: None, status: Status::Ok })
            .collect();
        let mut overdue = Overdue::default();
        let baseline = ArmCounts { ended: [600, 0, 0, 0, 0], started: 600, ..ArmCounts::default() };
        let none = ArmCounts::default();
        let begun = Sorted::of(&all_hang).counts(0, 60_000);
        overdue.observe(RULE, Epoch::new(1), AFTER, &baseline, &begun);
        overdue.observe(RULE, Epoch::new(1), AFTER, &none, &none);
        assert_eq!(overdue.found(RULE, None), Some(599));
        // Against calls from before, as where nobody is left on the baseline.
        assert_eq!(overdue.found(RULE, Some(&baseline)), Some(599));
        assert_eq!(overdue.found(RULE, Some(&none)), None, "nothing to compare with");
        overdue.observe(RULE, Epoch::new(2), AFTER, &baseline, &none);
        assert_eq!(overdue.found(RULE, None), None);
    }

    #[test]
    fn nothing_is_said_of_streams() {
        let mut overdue = Overdue::default();
        let mut baseline = ArmCounts { started: 600, ..ArmCounts::default() };
        baseline.ended[0] = 600;
        let candidate = ArmCounts { started: 600, ..ArmCounts::default() };
        overdue.observe(RULE, Epoch::new(1), AFTER, &baseline, &candidate);
        overdue.observe(RULE, Epoch::new(1), AFTER, &baseline, &ArmCounts::default());
        assert_eq!(overdue.found(RULE, None), Some(600));
        baseline.streams = Some(Box::default());
        overdue.observe(RULE, Epoch::new(1), AFTER, &baseline, &ArmCounts::default());
        assert_eq!(overdue.found(RULE, None), None);
    }

    fn call() -> impl Strategy<Value = Call> {
        let takes = prop_oneof![
            4 => (0..200_u64).prop_map(Some),
            2 => (0..20_000_u64).prop_map(Some),
            1 => Just(None),
        ];
        let status = proptest::sample::select(&Status::ALL[..]);
        (1..40_000_u64, takes, status).prop_map(|(begins, takes, status)| Call {
            begins,
            takes,
            status,
        })
    }

    proptest! {
        /// Whatever is told is true: so many calls at least are overdue.
        #[test]
        fn no_more_calls_are_told_than_are_overdue(
            candidate in proptest::collection::vec(call(), 0..200),
            gaps in proptest::collection::vec(0..3_000_u64, 1..60),
            after in 1..10_000_u64,
        ) {
            let rule = Hung { after: Duration::from_millis(after), calls: 1 };
            let mut at = 0;
            let times = gaps.into_iter().map(|gap| { at += gap; at });
            for look in looks(rule, [&[], &candidate], times) {
                prop_assert!(look.told <= look.truly, "{look:?}");
            }
        }
    }
}
