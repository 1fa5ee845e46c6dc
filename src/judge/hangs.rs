//! Calls that do not end.
//!
//! A model that hangs gives no error and no latency: whatever counts what has ended sees nothing of
//! it. What can be seen is that calls begun long ago are still missing. Counts of calls begun and
//! ended do not say which ended, but their latencies do in part: a call that ended just now after
//! 20 ms did not begin a minute ago. From both follows how many calls are *at least* so old; that
//! number is never too high, whatever the mixture of quick and slow calls. Calls that found the
//! candidate as busy as it may be are left out: another model answered them.
//!
//! The candidate is blamed only for what the baseline does not show as well. For that the baseline is
//! taken at its worst: each call that took more than a tenth of the age of the candidate's counts as
//! long, each that timed out, and as many of those in flight as were in flight at every look since (a
//! call that old was). Two questions are asked; either is enough, each at a chance of 1 in a million:
//!
//! - **Against as many.** If the candidate's calls were twice as often long as the baseline's, how
//!   likely would so many of all long calls be the candidate's? An exact binomial tail, without
//!   anything assumed of how long calls take. Ten calls or so; with few on the candidate, four.
//! - **Against the longest.** Where *no* call of the baseline is long, a few calls are enough, and one
//!   where there are no more, as in a pool of one thread. A candidate that is like the baseline has a
//!   call longer than all `n` of the baseline's with a chance of 1 in n; one that is `r` times as long
//!   as the longest with 1 in n·r^2.5, if times beyond become rarer at least as those of a Pareto law
//!   of exponent 2.5 do, which is about as heavy as times of finite variance are. With `m` calls of the
//!   candidate tried, the chance of one is at most m/n/r^2.5, and of `k` that to the power of k over
//!   k!. At half of the traffic one call has to be 250 times as long as the longest.
//!
//! A busy asynchronous server always has calls of the baseline in flight, so there it is the first
//! question alone that finds a candidate, and one or two calls that hang for ever are not found.
//!
//! How old is old: one call is not looked at before [`Hung::after`] has passed, `k` calls not before a
//! `k`-th of that, and none before a twelfth. So an incident that happens to meet the only call in
//! flight takes nobody back before a minute, and where calls come by the dozen a candidate that hangs
//! is found in 6 to 8 s. Calls of a candidate that has not answered yet may be waiting for it to load:
//! they have a quarter of the time. A candidate that is slow, and not ten times as slow as the slowest
//! call of the baseline, is the latency guardrails' to judge.
//!
//! Counted by simulation below, of stages of 200 s: no false alarm in 240 stages (a quarter of them run
//! with the tests) of a candidate like its baseline, in pools of 1, 2 and 8 threads and on an
//! asynchronous server, where times are exponential, log-normal (σ = 1.5) or Pareto (exponents 1.1, 1.5
//! and 2.5), 80 of them with an incident of half a minute that stops both arms, and 80 with a cold
//! start of 4 s. A candidate of which all calls hang is found after 60 to 66 s in a pool of one or two
//! threads, and within 16 s in one of eight and on an asynchronous server.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;
use crate::judge::verdict::Rail;
use crate::observe::histogram::{Histogram, RELATIVE_ERROR};
use crate::observe::snapshot::ArmCounts;
use crate::outcome::Status;
use crate::stats::exact::binomial_tails;
use crate::stats::incomplete::Split;

/// When calls of the candidate that do not end are enough to take it back: see [`HardRails::hung`].
///
/// [`HardRails::hung`]: crate::judge::stage::HardRails::hung
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hung {
    /// A single call is overdue that began so long ago and has not ended; two after half of that, and
    /// so on down to a twelfth. It is seen at most a twelfth of its age later.
    pub after: Duration,
    /// So many overdue calls are looked at, and no fewer. At least 1.
    pub calls: u64,
}

impl Hung {
    pub(in crate::judge) const USUAL: Self = Self { after: Duration::from_secs(60), calls: 1 };

    /// How old calls must be of which there are so many.
    fn age_of(self, calls: u64) -> Duration {
        self.after / u32::try_from(calls).unwrap_or(u32::MAX).clamp(1, SOONEST)
    }
}

impl Default for Hung {
    /// One call after a minute, a dozen after 5 seconds.
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
    /// Calls of the candidate begun and ended, less the diverted ones.
    begun: u64,
    ended: u64,
    /// Whether one of them has ended, as a model's answer does.
    #[serde(default)]
    answers: bool,
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
    /// The fewest calls of the control that were in flight at a look from then on: of those that began
    /// before, no more are left.
    #[serde(default = "unknown")]
    control: u64,
    /// Calls of the control begun by then.
    #[serde(default)]
    control_begun: u64,
}

const fn unknown() -> u64 {
    u64::MAX
}

/// Calls of whom the candidate is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Control {
    begun: u64,
    ended: u64,
    /// Answers and failures by how long they took.
    #[serde(default)]
    times: Histogram,
    /// Calls that timed out, which says no time.
    #[serde(default)]
    endless: u64,
}

impl Control {
    /// Everything in `counts`.
    fn of(counts: &ArmCounts) -> Self {
        let mut control = Self::default();
        control.add(counts);
        control
    }

    fn add(&mut self, counts: &ArmCounts) {
        self.begun = self.begun.saturating_add(counts.started);
        self.ended = self.ended.saturating_add(counts.finished());
        self.times.merge(&counts.latency);
        self.times.merge(&counts.failed_latency);
        self.endless = self.endless.saturating_add(counts.of(Status::Timeout));
    }

    const fn in_flight(&self) -> u64 {
        self.begun.saturating_sub(self.ended)
    }

    /// Calls that took longer than a part of `age`, or may have. A time just below it may be above.
    fn slow(&self, age: Duration) -> u64 {
        let bar = (age / TENTH).mul_f64(1.0 - 2.0 * RELATIVE_ERROR);
        self.times.count_above(nanos(bar)).saturating_add(self.endless)
    }

    /// The longest time known, where there are enough of them.
    fn longest(&self) -> Option<Duration> {
        let longest = self.times.value_at_rank(self.times.count())?;
        let longest = Duration::from_nanos(longest).mul_f64(1.0 + 2.0 * RELATIVE_ERROR);
        (self.times.count() >= ENOUGH).then_some(longest.max(SHORTEST))
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
        self.control.add(control);
        let in_flight = self.control.in_flight();
        let ended = Ended::of(candidate);
        for mark in &mut self.marks {
            // It ended at `from` or later, so one quicker than this began after the mark.
            let age = from.saturating_sub(mark.at);
            let age = age.saturating_sub((rule.after / SLACK).min(age / 4));
            mark.younger = mark.younger.saturating_add(ended.quicker_than(age));
            mark.control = mark.control.min(in_flight);
        }
        self.begun =
            self.begun.saturating_add(candidate.started.saturating_sub(candidate.diverted_started));
        let ended = candidate.finished().saturating_sub(candidate.diverted);
        self.ended = self.ended.saturating_add(ended);
        self.answers |= candidate.latency.count() > 0;
        let spacing = rule.after / MARKS;
        if self.marks.back().is_none_or(|last| self.now >= last.at.saturating_add(spacing)) {
            self.marks.push_back(Mark {
                at: self.now,
                begun: self.begun,
                younger: 0,
                control: in_flight,
                control_begun: self.control.begun,
            });
        }
        self.thin_out(rule);
    }

    /// Keeps marks the denser the younger they are: some thirty.
    fn thin_out(&mut self, rule: Hung) {
        // Of the marks that are old enough two are kept: what ended in the batch after a mark is told
        // apart by none, and where looks are rare the earlier one is the better for it.
        while self.marks.get(2).is_some_and(|mark| self.age(mark) >= rule.after) {
            self.marks.pop_front();
        }
        let mut at = 1;
        while at + 1 < self.marks.len() {
            let gap = self.marks[at + 1].at.saturating_sub(self.marks[at - 1].at);
            if gap < self.age(&self.marks[at]) / THIN {
                self.marks.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Calls of the baseline and the candidate that were begun under this split and have not ended.
    pub(in crate::judge) const fn in_flight(&self) -> [u64; 2] {
        [self.control.in_flight(), self.begun.saturating_sub(self.ended)]
    }

    const fn age(&self, mark: &Mark) -> Duration {
        self.now.saturating_sub(mark.at)
    }

    /// How many calls of the candidate are at least as old as this mark.
    const fn missing(&self, mark: &Mark) -> u64 {
        mark.begun.saturating_sub(self.ended.saturating_sub(mark.younger))
    }

    /// The calls that are enough to take it back, if they are, and how old they are. Compared with the
    /// baseline of the same time, or `instead` of it with calls from before.
    pub(in crate::judge) fn found(&self, rule: Hung, instead: Option<&ArmCounts>) -> Option<Rail> {
        // A stream may flow for as long as it likes; that one stalls is seen where it is read.
        if self.streams {
            return None;
        }
        let before = instead.map(Control::of);
        let control = before.as_ref().unwrap_or(&self.control);
        let loading = if self.answers { Duration::ZERO } else { rule.after / LOADING };
        self.marks.iter().find_map(|mark| {
            let (calls, age) = (self.missing(mark), self.age(mark));
            let old = age >= rule.age_of(calls).max(loading);
            if calls < rule.calls.max(1) || !old {
                return None;
            }
            let (in_flight, begun) = match instead {
                Some(_) => (control.in_flight(), control.begun),
                None => (mark.control, mark.control_begun),
            };
            let long = control.slow(age).saturating_add(in_flight).min(control.begun);
            let as_many = against_as_many(calls, mark.begun, long, begun);
            let longest = control.longest().filter(|_| long == 0);
            let as_long = longest.map_or(1.0, |longest| {
                let times = age.as_secs_f64() / longest.as_secs_f64();
                against_the_longest(calls, self.begun, times, control.times.count())
            });
            let found = as_many < CHANCE || as_long < CHANCE;
            found.then_some(Rail::Hung { calls, after: age })
        })
    }
}

/// If the candidate's calls were twice as often long as the control's, how likely are so many of all
/// long ones the candidate's?
fn against_as_many(calls: u64, begun: u64, long: u64, control: u64) -> f64 {
    let (twice, control) = (2.0 * begun as f64, control as f64);
    if calls as f64 * control <= long as f64 * twice {
        // No more than expected: nothing to work out.
        return 1.0;
    }
    let odds = Split::odds(twice, control);
    binomial_tails(calls as f64, calls.saturating_add(long) as f64, odds).1
}

/// How likely so many of the `begun` calls last so many times as long as the longest of the control's
/// `known`, if they are like those: at most.
fn against_the_longest(calls: u64, begun: u64, times: f64, known: u64) -> f64 {
    let one = begun as f64 / (known as f64).max(1.0) / times.powf(EXPONENT);
    // To the power of k over k!, without either.
    (1..=calls.min(MOST_POWER)).fold(1.0, |chance, number| chance * (one / number as f64))
}

/// Answers and failures of a batch. What timed out or was given up says no time, and the time of a
/// stream is that to its first item.
struct Ended<'a> {
    times: [&'a Histogram; 2],
    /// None was longer, as far as is known.
    longest: Duration,
}

impl<'a> Ended<'a> {
    fn of(counts: &'a ArmCounts) -> Self {
        let times = [&counts.latency, &counts.failed_latency];
        let longest = times.iter().filter_map(|times| times.value_at_rank(times.count())).max();
        let longest = Duration::from_nanos(longest.unwrap_or(0));
        Self { times, longest: longest.mul_f64(1.0 + 2.0 * RELATIVE_ERROR) }
    }

    /// Those that surely took less than `age`.
    fn quicker_than(&self, age: Duration) -> u64 {
        if age.is_zero() {
            return 0;
        }
        // One bucket less, since a time in the bucket of `age` may be either; and the last bucket has
        // no end.
        let surely = age.min(LONGEST).mul_f64(1.0 - 2.0 * RELATIVE_ERROR);
        let slower = |times: &Histogram| {
            // Most batches have nothing as old as most marks, and need not be looked through.
            if self.longest < surely { 0 } else { times.count_above(nanos(surely)) }
        };
        self.times.iter().map(|times| times.count().saturating_sub(slower(times))).sum()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Times at which the calls begun by then are remembered, at most, within the time until one is
/// overdue; the older, the fewer.
const MARKS: u32 = 60;
/// A mark goes where those beside it are so close together: this part of its age.
const THIN: u32 = 12;
/// A part of the age of a mark, and of the time until a call is overdue: replicas are not read at one
/// moment, nor is one of them in no time.
const SLACK: u32 = 16;
/// The control's calls count as long from a part of the candidate's age on.
const TENTH: u32 = 10;
/// No call is overdue before this part of the time until one is.
const SOONEST: u32 = 12;
/// A candidate that has never answered may be loading for this part of it.
const LOADING: u32 = 4;
/// So unlikely must it be that the calls of a candidate like its control look like this.
const CHANCE: f64 = 1e-6;
/// How times beyond the longest become rarer, at least: see the head of this file.
const EXPONENT: f64 = 2.5;
/// So many calls of the control tell how long its calls are.
const ENOUGH: u64 = 50;
/// Differences between times below this are the machine's.
const SHORTEST: Duration = Duration::from_millis(1);
/// The chance of more calls is not multiplied out: what that many are, all are.
const MOST_POWER: u64 = 64;
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
    /// hangs. How it ends, and whether another model was asked.
    #[derive(Clone, Copy, Debug)]
    struct Call {
        begins: u64,
        takes: Option<u64>,
        status: Status,
        diverted: bool,
    }

    impl Call {
        const fn new(begins: u64, takes: Option<u64>) -> Self {
            Self { begins, takes, status: Status::Ok, diverted: false }
        }

        fn ends(&self) -> Option<u64> {
            self.takes.map(|takes| self.begins + takes)
        }
    }

    /// The calls of an arm in the order of their beginnings and of their ends.
    struct Sorted {
        begins: Vec<(u64, bool)>,
        ends: Vec<(u64, Call)>,
    }

    impl Sorted {
        fn of(calls: &[Call]) -> Self {
            let begins = calls.iter().map(|call| (call.begins, call.diverted));
            let mut begins: Vec<_> = begins.collect();
            begins.sort_unstable();
            let ends = calls.iter().filter_map(|call| Some((call.ends()?, *call)));
            let mut ends: Vec<_> = ends.collect();
            ends.sort_unstable_by_key(|(ends, _)| *ends);
            Self { begins, ends }
        }

        /// What began and ended after `from`, until `to`.
        fn counts(&self, from: u64, to: u64) -> ArmCounts {
            let begun = |at: u64| self.begins.partition_point(|(begins, _)| *begins <= at);
            let begun = &self.begins[begun(from)..begun(to)];
            let mut counts = ArmCounts { started: begun.len() as u64, ..ArmCounts::default() };
            counts.diverted_started = begun.iter().filter(|(_, diverted)| *diverted).count() as u64;
            let ended = |at: u64| self.ends.partition_point(|(ends, _)| *ends <= at);
            for (_, call) in &self.ends[ended(from)..ended(to)] {
                counts.ended[call.status.index()] += 1;
                counts.diverted += u64::from(call.diverted);
                let nanos = call.takes.unwrap() * 1_000_000;
                match call.status {
                    _ if call.diverted => counts.diverted_latency.record(nanos),
                    Status::Ok => counts.latency.record(nanos),
                    Status::Error | Status::Panicked => counts.failed_latency.record(nanos),
                    Status::Timeout | Status::Cancelled => {}
                }
            }
            counts
        }

        /// How many of its own calls are so old at `now`.
        fn older(&self, now: u64, age: u64) -> u64 {
            let old = |begins: u64| begins + age <= now;
            let begun = self.begins.iter().filter(|(begins, other)| old(*begins) && !other).count();
            let ended =
                |(ends, call): &&(u64, Call)| *ends <= now && old(call.begins) && !call.diverted;
            (begun - self.ends.iter().filter(ended).count()) as u64
        }
    }

    /// What the rule has at each of these times.
    fn watch(
        rule: Hung,
        [baseline, candidate]: [&[Call]; 2],
        looks: impl Iterator<Item = u64>,
        mut see: impl FnMut(u64, &Overdue, &Sorted),
    ) {
        let (mut overdue, mut from) = (Overdue::default(), 0);
        let sorted = [baseline, candidate].map(Sorted::of);
        for to in looks {
            let [old, new] = sorted.each_ref().map(|calls| calls.counts(from, to));
            let lasted = Duration::from_millis(to - from);
            overdue.observe(rule, Epoch::new(1), lasted, &old, &new);
            from = to;
            see(to, &overdue, &sorted[1]);
        }
    }

    /// The second in which it is found, looking every second, and how many calls are told.
    fn found_at(arms: [&[Call]; 2], seconds: u64) -> Option<(u64, u64)> {
        let mut first = None;
        watch(RULE, arms, (1..=seconds).map(|second| second * 1_000), |at, overdue, _| {
            if first.is_none() {
                if let Some(Rail::Hung { calls, .. }) = overdue.found(RULE, None) {
                    first = Some((at / 1_000, calls));
                }
            }
        });
        first
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
            Call::new(begins, (!random.chance(hangs)).then_some(takes))
        };
        (0..seconds * rate).map(|at| call(random, at * 1_000 / rate + 1)).collect()
    }

    fn quick(random: &mut Rng) -> u64 {
        5 + random.below(75)
    }

    /// A server of so many threads, with calls that wait in line, as many as they can do at this
    /// load; 25 % of them are the candidate's, which has at most all threads but one.
    struct Pool {
        threads: usize,
        /// Milliseconds between two calls, in the mean.
        gap: f64,
        seconds: u64,
        law: fn(&mut Rng) -> u64,
        /// From when on the arm's calls hang.
        hang: [Option<u64>; 2],
        /// From when to when nothing goes on, on either arm.
        stopped: Option<(u64, u64)>,
        /// How long the candidate's first call takes more.
        cold: u64,
    }

    impl Pool {
        fn run(&self, random: &mut Rng) -> [Vec<Call>; 2] {
            let mut arms = [Vec::new(), Vec::new()];
            // When each thread is free again, and whether the candidate has it.
            let mut busy = vec![(0_u64, false); self.threads];
            let mut arrives = 1.0;
            while arrives < (self.seconds * 1_000) as f64 {
                arrives -= self.gap * random.unit().max(1e-12).ln();
                let free = busy.iter().map(|(until, _)| *until).min().unwrap();
                if free == u64::MAX {
                    break;
                }
                let begins = free.max(arrives as u64);
                let at = busy.iter().position(|(until, _)| *until <= begins).unwrap();
                let arm = usize::from(random.chance(0.25));
                let inside = busy.iter().filter(|(until, mine)| *until > begins && *mine).count();
                let diverted = arm == 1 && inside >= (self.threads - 1).max(1);
                let serves = if diverted { 0 } else { arm };
                let mut takes = (self.law)(random);
                if serves == 1 && arms[1].is_empty() {
                    takes += self.cold;
                }
                if let Some((from, to)) = self.stopped {
                    if begins < to && begins + takes > from {
                        takes += to - from.max(begins);
                    }
                }
                let hangs = self.hang[serves].is_some_and(|from| begins >= from);
                let ends = if hangs { None } else { Some(takes) };
                busy[at] = (ends.map_or(u64::MAX, |takes| begins + takes), serves == 1);
                arms[arm].push(Call { diverted, ..Call::new(begins, ends) });
            }
            arms
        }
    }

    const LAWS: [fn(&mut Rng) -> u64; 5] = [
        |random| (-20.0 * random.unit().max(1e-12).ln()) as u64,
        |random| (10.0 * (1.5 * random.normal()).exp()) as u64,
        |random| (5.0 * random.unit().max(1e-12).powf(-1.0 / 1.1)) as u64,
        |random| (5.0 * random.unit().max(1e-12).powf(-1.0 / 1.5)) as u64,
        |random| (5.0 * random.unit().max(1e-12).powf(-1.0 / 2.5)) as u64,
    ];
    /// Threads and milliseconds between calls; five hundred threads are an asynchronous server.
    const SERVERS: [(usize, f64); 4] = [(1, 80.0), (2, 40.0), (8, 10.0), (500, 20.0)];

    fn pool(server: usize, law: usize) -> Pool {
        let (threads, gap) = SERVERS[server];
        let (seconds, law) = (200, LAWS[law]);
        Pool { threads, gap, seconds, law, hang: [None; 2], stopped: None, cold: 0 }
    }

    #[test]
    fn a_candidate_like_its_baseline_is_never_blamed_on_any_server_under_any_law() {
        let mut stages = 0;
        for server in 0..SERVERS.len() {
            for law in 0..LAWS.len() {
                for kind in 0..3 {
                    for seed in 0..SEEDS {
                        let mut random =
                            Rng::new(seed << 16 | (server * 64 + law * 8 + kind) as u64);
                        let mut pool = pool(server, law);
                        let from = 20_000 + random.below(100_000);
                        pool.stopped = (kind == 1).then_some((from, from + 30_000));
                        pool.cold = if kind == 2 { 4_000 } else { 0 };
                        let [baseline, candidate] = pool.run(&mut random);
                        let found = found_at([&baseline, &candidate], pool.seconds);
                        assert_eq!(found, None, "{SERVERS:?}[{server}], law {law}, {kind}, {seed}");
                        stages += 1;
                    }
                }
            }
        }
        assert_eq!(stages, 60 * SEEDS);
    }

    /// More were run once, for the head of this file.
    const SEEDS: u64 = 1;

    #[test]
    fn a_candidate_that_hangs_is_found_in_a_pool_of_any_size() {
        for (server, latest) in [(0, 66), (1, 66), (2, 16), (3, 16)] {
            for seed in 0..8 {
                let mut random = Rng::new(seed);
                let mut pool = pool(server, 0);
                pool.hang = [None, Some(60_000)];
                let [baseline, candidate] = pool.run(&mut random);
                let began =
                    candidate.iter().find(|call| call.takes.is_none()).unwrap().begins / 1_000;
                let found = found_at([&baseline, &candidate], pool.seconds);
                let (at, _) = found.expect("it hangs");
                assert!((5..=latest).contains(&(at - began)), "{server}: after {} s", at - began);
            }
        }
    }

    #[test]
    fn where_both_arms_hang_nobody_is_blamed_on_any_server() {
        for server in 1..SERVERS.len() {
            for seed in 0..8 {
                let mut pool = pool(server, 0);
                pool.hang = [Some(60_000); 2];
                let [baseline, candidate] = pool.run(&mut Rng::new(seed));
                let found = found_at([&baseline, &candidate], pool.seconds);
                assert_eq!(found, None, "server {server}, seed {seed}");
            }
        }
    }

    /// One call of the candidate at 10 s among so many of the baseline before, and then nothing.
    fn one_call_hangs(calls: u64, time: impl Fn(u64) -> u64) -> Option<(u64, u64)> {
        let before = |at: u64| Call::new(1 + at * 9_000 / calls, Some(time(at)));
        let baseline: Vec<Call> = (0..calls).map(before).collect();
        let mut candidate: Vec<Call> = (0..calls / 4).map(|at| before(at * 4)).collect();
        candidate.push(Call::new(10_000, None));
        found_at([&baseline, &candidate], 200)
    }

    #[test]
    fn one_call_of_a_minute_is_convincing_only_where_the_baseline_is_quick() {
        let found = one_call_hangs(4_000, |at| 1 + at % 100);
        assert!(matches!(found, Some((70..=76, 1))), "{found:?}");
        // It took long now and then, or once, or is slow throughout.
        assert_eq!(one_call_hangs(4_000, |at| if at % 1_000 == 7 { 30_000 } else { 20 }), None);
        assert_eq!(one_call_hangs(4_000, |at| if at == 7 { 21_000 } else { 20 }), None);
        assert_eq!(one_call_hangs(400, |at| 1_000 + at * 5), None);
        // Too few are known.
        assert_eq!(one_call_hangs(48, |_| 1), None);
        assert!(one_call_hangs(52, |_| 1).is_some());
    }

    #[test]
    fn a_candidate_that_may_be_loading_has_a_quarter_of_the_time() {
        let mut random = Rng::new(1);
        let baseline = arm(&mut random, 60, 95, 0.0, quick);
        let all_hang = arm(&mut random, 60, 5, 1.0, quick);
        let found = found_at([&baseline, &all_hang], 60);
        assert!(matches!(found, Some((16..=17, _))), "{found:?}");
        let mut answers_once = all_hang;
        answers_once[0].takes = Some(20);
        let (at, _) = found_at([&baseline, &answers_once], 60).unwrap();
        assert!((6..=10).contains(&at), "{at}");
    }

    #[test]
    fn the_chances_are_those_of_the_laws_they_are_taken_from() {
        // All of k long calls are the candidate's, which has as many calls: twice as likely is 2 in 3.
        for (calls, begun, control, one) in
            [(20, 500, 500, 2.0 / 3.0_f64), (7, 100, 1_900, 2.0 / 21.0), (1, 50, 100, 0.5)]
        {
            let chance = against_as_many(calls, begun, 0, control);
            let exact = one.powi(calls as i32);
            assert!((chance / exact - 1.0).abs() < 1e-9, "{chance} {exact}");
        }
        // One of two is enough where either may be.
        assert!((against_as_many(1, 500, 1, 2_000) - 5.0 / 9.0).abs() < 1e-9);
        assert_eq!(against_as_many(1, 500, 1, 500), 1.0);
        assert!((against_the_longest(1, 1_000, 100.0, 2_000) - 5e-6).abs() < 1e-12);
        assert!((against_the_longest(2, 1_000, 100.0, 1_000) - 1e-10 / 2.0).abs() < 1e-16);
        assert_eq!(against_the_longest(u64::MAX, 1, 1e3, 1_000), 0.0);
    }

    #[test]
    fn a_call_counts_as_long_from_a_tenth_of_the_age_on() {
        let mut control = Control::default();
        let mut counts = ArmCounts::default();
        [5_900, 6_100].iter().for_each(|millis| counts.latency.record(millis * 1_000_000));
        counts.failed_latency.record(6_200_000_000);
        counts.ended[Status::Timeout.index()] = 1;
        control.add(&counts);
        assert_eq!(control.slow(AFTER), 3, "two that were slower, and a timeout");
        assert_eq!(control.slow(AFTER / 2), 4);
        assert_eq!(control.slow(2 * AFTER), 1);
    }

    #[test]
    fn the_more_calls_are_overdue_the_sooner_they_are_looked_at() {
        let ages = [1, 2, 3, 12, 500].map(|calls| RULE.age_of(calls).as_secs());
        assert_eq!(ages, [60, 30, 20, 5, 5]);
        assert_eq!(RULE.age_of(0), AFTER);
        // Whoever sets another number is heard.
        let mut random = Rng::new(3);
        let baseline = arm(&mut random, 200, 10, 0.0, quick);
        let mut candidate = arm(&mut random, 20, 5, 0.0, quick);
        candidate.extend((0..3).map(|at| Call::new(21_000 + at, None)));
        for (calls, found) in [(1, true), (3, true), (4, false)] {
            let rule = Hung { calls, ..RULE };
            let mut ever = false;
            let looks = (1..=200).map(|second| second * 1_000);
            watch(rule, [&baseline, &candidate], looks, |_, overdue, _| {
                ever |= overdue.found(rule, None).is_some();
            });
            assert_eq!(ever, found, "{calls}");
        }
    }

    #[test]
    fn a_candidate_that_hangs_is_found_soon_after_the_time_has_passed() {
        let mut random = Rng::new(1);
        let baseline = arm(&mut random, 900, 95, 0.0, quick);
        for (hangs, until) in [(1.0, 18), (0.5, 20), (0.1, 80), (0.02, 300)] {
            let candidate = arm(&mut random, 900, 5, hangs, quick);
            let (at, _) = found_at([&baseline, &candidate], 900).expect("it hangs");
            assert!((5..until).contains(&at), "{hangs} hang: found after {at} s");
        }
    }

    #[test]
    fn nobody_is_blamed_for_what_the_baseline_does_too() {
        for seed in 0..20 {
            let mut random = Rng::new(seed);
            for hangs in [0.02, 0.3, 1.0] {
                let baseline = arm(&mut random, 300, 20, hangs, quick);
                let candidate = arm(&mut random, 300, 20, hangs, quick);
                let found = found_at([&baseline, &candidate], 300);
                assert_eq!(found, None, "seed {seed}, {hangs} hang");
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
                let found = found_at([&baseline, &candidate], 600);
                assert_eq!(found, None, "law {number}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_candidate_ten_times_as_slow_is_left_to_the_latency_guardrails() {
        let mut random = Rng::new(9);
        let baseline = arm(&mut random, 600, 95, 0.0, |random| 100 + random.below(700));
        let candidate = arm(&mut random, 600, 5, 0.0, |random| 1_000 + random.below(7_000));
        assert_eq!(found_at([&baseline, &candidate], 600), None);
    }

    fn calls_of(rail: Option<Rail>) -> Option<u64> {
        match rail {
            Some(Rail::Hung { calls, .. }) => Some(calls),
            _ => None,
        }
    }

    #[test]
    fn a_new_split_begins_anew() {
        let all_hang: Vec<Call> = (1..600).map(|begins| Call::new(begins * 100, None)).collect();
        let mut overdue = Overdue::default();
        let baseline = ArmCounts { ended: [600, 0, 0, 0, 0], started: 600, ..ArmCounts::default() };
        let none = ArmCounts::default();
        let begun = Sorted::of(&all_hang).counts(0, 60_000);
        overdue.observe(RULE, Epoch::new(1), AFTER, &baseline, &begun);
        overdue.observe(RULE, Epoch::new(1), AFTER, &none, &none);
        assert_eq!(calls_of(overdue.found(RULE, None)), Some(599));
        // Against calls from before, as where nobody is left on the baseline.
        assert_eq!(calls_of(overdue.found(RULE, Some(&baseline))), Some(599));
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
        assert_eq!(calls_of(overdue.found(RULE, None)), Some(600));
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
        (1..40_000_u64, takes, status, proptest::bool::weighted(0.3))
            .prop_map(|(begins, takes, status, diverted)| Call { begins, takes, status, diverted })
    }

    proptest! {
        /// Whatever is told is true: so many calls at least are as old as that; and of the baseline's
        /// no more are than is said.
        #[test]
        fn no_more_calls_are_told_than_are_overdue(
            baseline in proptest::collection::vec(call(), 0..50),
            candidate in proptest::collection::vec(call(), 0..200),
            gaps in proptest::collection::vec(0..3_000_u64, 1..60),
            after in 1..10_000_u64,
        ) {
            let rule = Hung { after: Duration::from_millis(after), calls: 1 };
            let mut at = 0;
            let times = gaps.into_iter().map(|gap| { at += gap; at });
            let of_baseline: Vec<Call> =
                baseline.iter().map(|call| Call { diverted: false, ..*call }).collect();
            let control = Sorted::of(&of_baseline);
            let mut wrong = None;
            watch(rule, [&of_baseline, &candidate], times, |now, overdue, own| {
                for mark in &overdue.marks {
                    let age = overdue.age(mark).as_millis() as u64;
                    let told = (overdue.missing(mark), mark.control);
                    let truly = (own.older(now, age), control.older(now, age));
                    if told.0 > truly.0 || told.1 < truly.1 {
                        wrong = Some((now, age, told, truly));
                    }
                }
                if overdue.marks.len() > 64 {
                    wrong = Some((now, 0, (overdue.marks.len() as u64, 0), (64, 0)));
                }
            });
            prop_assert_eq!(wrong, None);
        }
    }
}
