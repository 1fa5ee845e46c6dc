//! One arm against what was known of another before.
//!
//! When the candidate serves everybody there is no concurrent control. Each guardrail then becomes
//! a fixed bar: for a rate, its limit times an upper bound of the reference's rate (or the rate
//! nobody minds, if that is higher); for a quantile, the part of calls that may be slower than the
//! limit times the reference's quantile; for a score, the reference's mean less the limit. Whether
//! the candidate is above its bar, or shown to be below, is an e-process on each, with restarts, as
//! with a concurrent control: valid at every look.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;
use crate::judge::evidence::{Log, Schedule, Sums};
use crate::judge::guardrail::{Action, Guardrail, Measure, NoData};
use crate::judge::hangs::{Hung, Overdue};
use crate::judge::stage::{JudgeError, StageJudge};
use crate::judge::times::{Timed, Times};
use crate::judge::verdict::{ArmReading, Finding, Rail, Reading};
use crate::observe::histogram::RELATIVE_ERROR;
use crate::observe::snapshot::ArmCounts;
use crate::outcome::Status;
use crate::stats::eprocess_grid::{BinomialGains, Grid, bounded_mean};

/// Judges one arm against fixed bars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceJudge {
    bars: Vec<Bar>,
    beta: f64,
    schedule: Schedule,
    elapsed: Duration,
    begun: u32,
    /// How much time had passed when the last call was seen that can be judged.
    #[serde(default)]
    seen_at: Duration,
    reference: ArmCounts,
    seen: ArmCounts,
    #[serde(default)]
    overdue: Overdue,
}

/// A guardrail as a bar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bar {
    guardrail: Guardrail,
    alpha: f64,
    /// The probability of an event, or the mean, that must not be exceeded or undercut. `None` when
    /// the reference holds nothing to take it from.
    height: Option<f64>,
    /// Latency: a call slower than this many nanoseconds is an event.
    slower_than: u64,
    log: Log<Sum>,
}

/// What a bar adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    events: u64,
    exposed: u64,
    score: f64,
    score_squared: f64,
}

impl Sums for Sum {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            events: self.events.saturating_sub(earlier.events),
            exposed: self.exposed.saturating_sub(earlier.exposed),
            score: self.score - earlier.score,
            score_squared: self.score_squared - earlier.score_squared,
        }
    }
}

impl ReferenceJudge {
    /// A judge that raises a false alarm with probability `alpha` at the most, over all guardrails
    /// and looks, while the candidate keeps below its bars; and calls a candidate at a bar safe
    /// with probability `beta` at the most, for each guardrail.
    ///
    /// # Errors
    ///
    /// [`JudgeError`] when a guardrail or a level cannot be used.
    pub fn new(
        guardrails: Vec<Guardrail>,
        alpha: f64,
        beta: f64,
        planned: Duration,
        reference: &ArmCounts,
    ) -> Result<Self, JudgeError> {
        // The same settings must be able to make a judge with a concurrent control.
        StageJudge::new(guardrails.clone(), alpha, beta, planned)?;
        let weights: f64 = guardrails.iter().map(|guardrail| guardrail.weight).sum();
        let bars = guardrails
            .into_iter()
            .map(|guardrail| {
                let share = alpha * guardrail.weight / weights;
                Bar::new(guardrail, share, reference)
            })
            .collect();
        Ok(Self {
            bars,
            beta,
            schedule: Schedule::new(Some(planned)),
            elapsed: Duration::ZERO,
            begun: 0,
            seen_at: Duration::ZERO,
            reference: reference.clone(),
            seen: ArmCounts::default(),
            overdue: Overdue::default(),
        })
    }

    /// Takes in a batch that was made under the split of `epoch` and covers `lasted`.
    pub fn observe(&mut self, epoch: Epoch, lasted: Duration, counts: &ArmCounts) {
        let begun = self.schedule.begun(self.elapsed);
        if begun > self.begun {
            for bar in &mut self.bars {
                bar.log.restart(self.begun + 1, begun);
            }
            self.begun = begun;
        }
        for bar in &mut self.bars {
            bar.add(counts);
        }
        self.overdue.observe(HUNG, epoch, lasted, &ArmCounts::default(), counts);
        self.elapsed = self.elapsed.saturating_add(lasted);
        if counts.judged() > 0 {
            self.seen_at = self.elapsed;
        }
        self.seen.merge(counts);
    }

    /// The fixed rule that takes the candidate back, if one does: calls that do not end, where the
    /// reference's did. It comes before the guardrails.
    #[must_use]
    pub fn rail(&self) -> Option<Rail> {
        self.overdue.found(HUNG, Some(&self.reference))
    }

    /// What was seen of the candidate.
    #[must_use]
    pub const fn seen(&self) -> &ArmCounts {
        &self.seen
    }

    /// Each guardrail's numbers.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        self.bars
            .iter()
            .map(|bar| bar.reading(self.beta, &self.schedule, &self.reference, &self.seen))
            .collect()
    }

    /// The reading that takes the candidate back, if there is one.
    #[must_use]
    pub fn harm(&self) -> Option<Reading> {
        broken(&self.readings(), Action::RollBack).cloned()
    }

    /// The reading that asks for a person, if there is one.
    #[must_use]
    pub fn asks_for_a_person(&self) -> Option<Reading> {
        broken(&self.readings(), Action::Pause).cloned()
    }

    /// Whether every guardrail that decides something is shown to hold.
    #[must_use]
    pub fn all_safe(&self) -> bool {
        self.rail().is_none() && self.all_safe_in(&self.readings())
    }

    /// How long no call came, where that is longer than usual: evidence that is no longer fresh
    /// promotes nobody.
    fn starved(&self) -> Option<Duration> {
        let silent = self.elapsed.saturating_sub(self.seen_at);
        let usual = self.seen_at.as_secs_f64() / (self.seen.judged() as f64).max(1.0);
        let long = (2.0 * self.schedule.step().as_secs_f64()).max(20.0 * usual);
        (silent.as_secs_f64() > long).then_some(silent)
    }

    fn all_safe_in(&self, readings: &[Reading]) -> bool {
        if self.starved().is_some() {
            return false;
        }
        let deciding = self.bars.iter().zip(readings);
        let mut deciding = deciding.filter(|(bar, reading)| bar.decides(reading)).peekable();
        deciding.peek().is_some() && deciding.all(|(_, reading)| reading.is_safe())
    }

    /// What follows from all readings together.
    #[must_use]
    pub(crate) fn standing(&self) -> Standing {
        if self.rail().is_some() {
            return Standing::Harm;
        }
        let readings = self.readings();
        if broken(&readings, Action::RollBack).is_some() {
            Standing::Harm
        } else if broken(&readings, Action::Pause).is_some() {
            Standing::AsksForAPerson
        } else if self.all_safe_in(&readings) {
            Standing::AllSafe
        } else {
            Standing::Open
        }
    }
}

/// Where an arm stands against its bars.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Above one that takes it back.
    Harm,
    /// Above one that asks for a person.
    AsksForAPerson,
    /// Shown to be below all that decide.
    AllSafe,
    /// None of these is shown.
    Open,
}

fn broken(readings: &[Reading], action: Action) -> Option<&Reading> {
    readings.iter().find(|reading| reading.finding == Finding::Harm && reading.action == action)
}

impl fmt::Display for ReferenceJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rail) = self.rail() {
            return write!(f, "roll back: {rail}");
        }
        let readings = self.readings();
        if let Some(harm) = broken(&readings, Action::RollBack) {
            return write!(f, "roll back: {harm} (against the baseline as last seen)");
        }
        if let Some(pause) = broken(&readings, Action::Pause) {
            return write!(f, "pause: {pause} (against the baseline as last seen)");
        }
        let open: Vec<&str> = readings
            .iter()
            .zip(&self.bars)
            .filter(|(reading, bar)| bar.decides(reading) && !reading.is_safe())
            .map(|(reading, _)| reading.guardrail.as_str())
            .collect();
        if open.is_empty() && self.all_safe_in(&readings) {
            let shown: Vec<String> = readings.iter().map(ToString::to_string).collect();
            return write!(f, "promote: {} (against the baseline as last seen)", shown.join("; "));
        }
        if let (true, Some(silent)) = (open.is_empty(), self.starved()) {
            return write!(f, "continue: no call has come for {silent:.0?}");
        }
        write!(f, "continue: nothing is shown yet of {}", open.join(", "))
    }
}

impl Bar {
    fn new(guardrail: Guardrail, alpha: f64, reference: &ArmCounts) -> Self {
        let mut slower_than = u64::MAX;
        let height = match guardrail.measure {
            Measure::Score { .. } => reference.score.mean().map(|mean| mean - guardrail.limit),
            measure => match Timed::of(measure) {
                Some((timed, quantile)) => {
                    let times = timed.of_arm(reference);
                    slower_than = latency_bar(times, quantile, guardrail.limit);
                    (slower_than < u64::MAX).then_some(1.0 - quantile)
                }
                None => {
                    let (events, exposed) = rate_of(measure, reference);
                    (exposed > 0).then(|| {
                        let bar = guardrail.limit * upper_bound(events, exposed);
                        bar.max(guardrail.floor).min(HIGHEST)
                    })
                }
            },
        };
        Self { guardrail, alpha, height, slower_than, log: Log::default() }
    }

    fn add(&mut self, counts: &ArmCounts) {
        let sum = self.log.total_mut();
        let (events, exposed) = match self.guardrail.measure {
            Measure::Score { .. } => {
                sum.score += counts.score.sum;
                sum.score_squared += counts.score.sum_of_squares;
                (0, counts.score.count)
            }
            measure => match Timed::of(measure) {
                Some((timed, _)) => {
                    let times = timed.of_arm(counts);
                    let slow = times.known.count_above(self.slower_than);
                    (slow.saturating_add(times.endless), times.count())
                }
                None => rate_of(measure, counts),
            },
        };
        sum.events = sum.events.saturating_add(events.min(exposed));
        sum.exposed = sum.exposed.saturating_add(exposed);
    }

    fn decides(&self, reading: &Reading) -> bool {
        let skipped = self.guardrail.no_data == NoData::Skip && reading.finding == Finding::NoData;
        self.guardrail.action != Action::ReportOnly && !skipped
    }

    fn reading(
        &self,
        beta: f64,
        schedule: &Schedule,
        reference: &ArmCounts,
        seen: &ArmCounts,
    ) -> Reading {
        let total = self.log.total();
        let (threshold, safe_threshold) = ((1.0 / self.alpha).ln(), (1.0 / beta).ln());
        let (mut ln_e, mut ln_safe, mut estimate, mut above) = (0.0, 0.0, None, false);
        if let Some(height) = self.height.filter(|_| total.exposed > 0) {
            (ln_e, ln_safe, estimate) = match self.guardrail.measure {
                Measure::Score { low, high } => {
                    let worse = |sum: &Sum, sign: f64| {
                        let (n, range) = (sum.exposed as f64, high - low);
                        let gap = sign * (n * height - sum.score) / range;
                        let squares = n * height * height - 2.0 * height * sum.score;
                        bounded_mean(gap, (squares + sum.score_squared).max(0.0) / (range * range))
                    };
                    let mean = total.score / total.exposed as f64;
                    let bar = self.guardrail.limit + height;
                    above = mean < height;
                    let weighed = self.log.weigh(schedule, |sum| worse(sum, 1.0));
                    (weighed.ln_e, worse(total, -1.0), Some(bar - mean))
                }
                _ => {
                    let gains = |grid: Grid| BinomialGains::new(&grid);
                    let (over, under) = (gains(above_grid(height)), gains(below_grid(height)));
                    let ln_e = |sum: &Sum, gains: &BinomialGains| {
                        gains.ln_e(sum.events, sum.exposed - sum.events)
                    };
                    let weighed = self.log.weigh(schedule, |sum| ln_e(sum, &over));
                    let loudest = weighed.loudest;
                    above = loudest.events as f64 > height * loudest.exposed as f64;
                    let rate = total.events as f64 / total.exposed as f64;
                    // The bar stands for the limit, so the estimate is told as a ratio like it.
                    let ratio = self.guardrail.limit * rate / height;
                    (weighed.ln_e, ln_e(total, &under), Some(ratio))
                }
            };
        }
        let enough = match self.guardrail.measure {
            Measure::Score { .. } => total.exposed >= self.guardrail.min_events,
            _ => total.events >= self.guardrail.min_events,
        };
        let finding = if self.height.is_none() || total.exposed == 0 {
            Finding::NoData
        } else if ln_e >= threshold && above && enough {
            Finding::Harm
        } else if ln_safe >= safe_threshold {
            Finding::Safe
        } else {
            Finding::Open
        };
        Reading {
            guardrail: self.guardrail.name.clone(),
            measure: self.guardrail.measure,
            action: self.guardrail.action,
            finding,
            baseline: arm_reading(self.guardrail.measure, reference),
            candidate: arm_reading(self.guardrail.measure, seen),
            estimate,
            interval: None,
            null: self.guardrail.limit,
            limit: self.guardrail.limit,
            alpha: self.alpha,
            ln_e,
            threshold,
            loudest: None,
            beta,
            ln_safe,
            safe_threshold,
            floor: self.guardrail.floor,
            ln_floor: None,
            needed: None,
        }
    }
}

/// Events and exposures of a rate.
fn rate_of(measure: Measure, counts: &ArmCounts) -> (u64, u64) {
    let subjects = &counts.subjects;
    let per_subject = subjects.exposed > 0;
    let of = |by_subject: u64, by_call: u64| {
        if per_subject { (by_subject, subjects.exposed) } else { (by_call, counts.judged()) }
    };
    match measure {
        Measure::Errors => of(subjects.failed, counts.failures()),
        Measure::Timeouts => of(subjects.timed_out, counts.of(Status::Timeout)),
        Measure::Abandoned if subjects.ended > 0 => (subjects.abandoned, subjects.ended),
        Measure::Abandoned => (counts.of(Status::Cancelled), counts.finished()),
        Measure::Mark { number } => {
            let at = usize::from(number);
            let marks = |marks: &[u64; 5]| marks.get(at).copied().unwrap_or(0);
            of(marks(&subjects.marks), marks(&counts.marks))
        }
        Measure::WrongAnswers => (counts.wrong, counts.wrong.saturating_add(counts.correct)),
        Measure::Latency { .. } | Measure::Pace { .. } | Measure::Score { .. } => (0, 0),
    }
}

fn arm_reading(measure: Measure, counts: &ArmCounts) -> ArmReading {
    let mut reading = ArmReading::default();
    match measure {
        Measure::Score { .. } => {
            reading.n = counts.score.count;
            reading.value = counts.score.mean();
        }
        _ => match Timed::of(measure) {
            Some((timed, quantile)) => return timed.of_arm(counts).reading(quantile),
            None => {
                (reading.events, reading.n) = rate_of(measure, counts);
                reading.value = (reading.n > 0).then(|| reading.events as f64 / reading.n as f64);
            }
        },
    }
    reading
}

/// The limit times an upper bound of the reference's quantile: an order statistic that exceeds it
/// with 95 %, widened by what the histogram may be off.
fn latency_bar(reference: Times<'_>, quantile: f64, limit: f64) -> u64 {
    let n = reference.count() as f64;
    let spread = Z95 * (n * quantile * (1.0 - quantile)).sqrt();
    let rank = (n * quantile + spread).ceil().min(n) as u64;
    let Some(nanos) = reference.known.value_at_rank(rank.max(1)) else { return u64::MAX };
    let widened = nanos as f64 * limit * (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);
    widened.min(LONGEST_BAR) as u64
}

/// One-sided 95 % upper bound of a rate by Wilson's score method.
fn upper_bound(events: u64, exposed: u64) -> f64 {
    let (x, n) = (events.min(exposed) as f64, exposed as f64);
    let z2 = Z95 * Z95;
    (x + z2 / 2.0 + Z95 * (x * (n - x) / n + z2 / 4.0).sqrt()) / (n + z2)
}

fn above_grid(height: f64) -> Grid {
    Grid::geometric(height, 1.0 / height.max(1e-9), GRID, |_| 1.0)
}

fn below_grid(height: f64) -> Grid {
    Grid::geometric(height, 1e-3, GRID, |_| 1.0)
}

const GRID: usize = 20;
/// The rule that stages beside a baseline have by default.
const HUNG: Hung = Hung::USUAL;
/// One-sided 95 % quantile of the normal distribution.
const Z95: f64 = 1.644_853_626_951_472;
/// No bar is higher: a candidate that fails 95 % of its calls is above any.
const HIGHEST: f64 = 0.95;
/// An hour in nanoseconds: a bar beyond it tells nothing.
const LONGEST_BAR: f64 = 3.6e12;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ok: u64, errors: u64, nanos: u64) -> ArmCounts {
        let mut counts = ArmCounts { started: ok + errors, ..ArmCounts::default() };
        counts.ended = [ok, errors, 0, 0, 0];
        (0..ok).for_each(|at| counts.latency.record(nanos + at % 100 * nanos / 100));
        counts
    }

    fn judge(reference: &ArmCounts) -> ReferenceJudge {
        let hour = Duration::from_secs(3600);
        ReferenceJudge::new(Guardrail::standard(), 0.01, 0.05, hour, reference).unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_same_behaviour_as_before_is_shown_to_be_safe() {
        let mut judge = judge(&counts(20_000, 20, 1_000_000));
        (0..200).for_each(|_| judge.observe(Epoch::new(0), SECOND, &counts(100, 0, 1_000_000)));
        assert!(judge.all_safe(), "{judge}");
        assert!(judge.harm().is_none());
    }

    #[test]
    fn what_was_shown_before_a_silence_promotes_nobody_until_calls_come_again() {
        let mut judge = judge(&counts(20_000, 20, 1_000_000));
        (0..200).for_each(|_| judge.observe(Epoch::new(0), SECOND, &counts(100, 0, 1_000_000)));
        (0..20).for_each(|_| judge.observe(Epoch::new(0), 60 * SECOND, &ArmCounts::default()));
        assert!(!judge.all_safe() && judge.harm().is_none(), "{judge}");
        assert!(judge.to_string().contains("no call has come"), "{judge}");
        judge.observe(Epoch::new(0), SECOND, &counts(100, 0, 1_000_000));
        assert!(judge.all_safe(), "{judge}");
    }

    #[test]
    fn a_model_that_begins_to_fail_at_full_traffic_is_caught() {
        let mut judge = judge(&counts(20_000, 20, 1_000_000));
        (0..1_000).for_each(|_| judge.observe(Epoch::new(0), SECOND, &counts(100, 0, 1_000_000)));
        let caught = (1..=5).find(|_| {
            judge.observe(Epoch::new(0), SECOND, &counts(85, 15, 1_000_000));
            judge.harm().is_some()
        });
        assert!(caught.is_some(), "{judge}");
        assert!(judge.to_string().contains("error rate"), "{judge}");
    }

    #[test]
    fn a_model_that_becomes_slow_at_full_traffic_is_caught() {
        let mut judge = judge(&counts(20_000, 20, 1_000_000));
        let caught = (1..=10).find(|_| {
            judge.observe(Epoch::new(0), SECOND, &counts(100, 0, 3_000_000));
            judge.harm().is_some()
        });
        assert!(caught.is_some(), "{judge}");
    }

    #[test]
    fn no_traffic_and_no_reference_show_nothing() {
        let idle = judge(&counts(20_000, 20, 1_000_000));
        assert!(!idle.all_safe() && idle.harm().is_none());
        let mut blind = judge(&ArmCounts::default());
        blind.observe(Epoch::new(0), SECOND, &counts(0, 1_000, 1));
        assert!(!blind.all_safe() && blind.harm().is_none());
        assert!(blind.to_string().contains("nothing is shown"), "{blind}");
    }
}
