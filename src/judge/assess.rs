//! One guardrail's evidence, and the reading made of it.

use serde::{Deserialize, Serialize};

use crate::judge::evidence::{
    Cell, Log, REACH, RatioTest, Schedule, Side, Tallies, Weighed, ratio_interval,
};
use crate::judge::guardrail::{Guardrail, Measure};
use crate::judge::latency::{LatencyEvidence, Past, counts_fast};
use crate::judge::score::{ScoreEvidence, ScoreTally};
use crate::judge::times::Timed;
use crate::judge::verdict::{ArmReading, Finding, Reading};
use crate::observe::snapshot::ArmCounts;
use crate::outcome::Status;
use crate::share::TrafficShare;
use crate::stats::eprocess_grid::{Grid, binomial};

/// The evidence on one guardrail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Evidence {
    /// Events and exposures, the candidate in focus.
    Rate(RateEvidence),
    /// Slow (or fast) answers.
    Latency(LatencyEvidence),
    /// Bets on a mean.
    Score(ScoreEvidence),
}

/// Evidence on a rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RateEvidence {
    log: Log<Tallies>,
    /// Exposures and events of the candidate and of the baseline, at any share.
    candidate: (u64, u64),
    baseline: (u64, u64),
}

/// What a reading needs to know besides the evidence itself.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    pub(crate) baseline: &'a ArmCounts,
    pub(crate) candidate: &'a ArmCounts,
    pub(crate) depth: Depth,
}

/// How much of a reading is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Depth {
    /// All that a verdict rests on.
    Verdict,
    /// And what only people read: the interval, and how much is still needed.
    Whole,
}

impl Evidence {
    pub(crate) fn new(measure: Measure) -> Self {
        match measure {
            Measure::Latency { .. } | Measure::Pace { .. } => {
                Self::Latency(LatencyEvidence::default())
            }
            Measure::Score { .. } => Self::Score(ScoreEvidence::default()),
            _ => Self::Rate(RateEvidence::default()),
        }
    }

    /// Begins restarts `first..=last` (none when `first > last`) and prepares for the next batch.
    pub(crate) fn prepare(&mut self, guardrail: &Guardrail, past: &Past, first: u32, last: u32) {
        let step_begins = first <= last;
        match (self, guardrail.measure) {
            (Self::Latency(evidence), measure) => {
                let Some((timed, quantile)) = Timed::of(measure) else { return };
                let (null, limit) = (guardrail.null, guardrail.limit);
                evidence.harm.restart(first, last);
                evidence.aim(past.of(timed), quantile, null, limit, step_begins);
            }
            (Self::Score(evidence), _) => {
                evidence.harm.restart(first, last);
                evidence.aim(step_begins);
            }
            (Self::Rate(evidence), _) => evidence.log.restart(first, last),
        }
    }

    pub(crate) fn add(
        &mut self,
        guardrail: &Guardrail,
        share: TrafficShare,
        baseline: &ArmCounts,
        candidate: &ArmCounts,
    ) {
        match (self, guardrail.measure) {
            (Self::Latency(evidence), measure) => {
                let Some((timed, quantile)) = Timed::of(measure) else { return };
                let of = |counts| timed.of_arm(counts);
                evidence.add(quantile, share, of(baseline), of(candidate));
            }
            (Self::Score(evidence), Measure::Score { low, high }) => {
                let bounds = (guardrail.null, guardrail.limit);
                evidence.add(share, (low, high), bounds, &baseline.score, &candidate.score);
            }
            (Self::Rate(evidence), measure) => evidence.add(measure, share, baseline, candidate),
            (Self::Score(_), _) => {}
        }
    }

    /// Values that had to be left out because they were outside their range.
    pub(crate) const fn out_of_range(&self) -> u64 {
        match self {
            Self::Score(evidence) => evidence.out_of_range,
            Self::Rate(_) | Self::Latency(_) => 0,
        }
    }

    pub(crate) fn read(&self, guardrail: &Guardrail, setting: &Setting<'_>) -> Reading {
        let mut reading = blank(guardrail, setting);
        match (self, guardrail.measure) {
            (Self::Latency(evidence), measure) => {
                if let Some((timed, quantile)) = Timed::of(measure) {
                    read_latency(evidence, timed, quantile, guardrail, setting, &mut reading);
                }
            }
            (Self::Score(evidence), Measure::Score { low, high }) => {
                read_score(evidence, high - low, low, guardrail, setting, &mut reading);
            }
            (Self::Rate(evidence), _) => evidence.read(guardrail, setting, &mut reading),
            (Self::Score(_), _) => {}
        }
        reading
    }
}

fn blank(guardrail: &Guardrail, setting: &Setting<'_>) -> Reading {
    Reading {
        guardrail: guardrail.name.clone(),
        measure: guardrail.measure,
        action: guardrail.action,
        finding: Finding::NoData,
        baseline: ArmReading::default(),
        candidate: ArmReading::default(),
        estimate: None,
        interval: None,
        null: guardrail.null,
        limit: guardrail.limit,
        alpha: setting.alpha,
        ln_e: 0.0,
        threshold: (1.0 / setting.alpha).ln(),
        loudest: None,
        beta: setting.beta,
        ln_safe: 0.0,
        safe_threshold: (1.0 / setting.beta).ln(),
        floor: guardrail.floor,
        ln_floor: None,
        needed: None,
    }
}

/// Exposures and events: of subjects where they are known, else of calls.
fn exposures(measure: Measure, counts: &ArmCounts, by_subject: bool) -> (u64, u64) {
    let subjects = &counts.subjects;
    match (measure, by_subject) {
        (Measure::Errors, true) => (subjects.exposed, subjects.failed),
        (Measure::Errors, false) => (counts.judged(), counts.failures()),
        (Measure::Timeouts, true) => (subjects.exposed, subjects.timed_out),
        (Measure::Timeouts, false) => (counts.judged(), counts.of(Status::Timeout)),
        (Measure::Abandoned, true) => (subjects.ended, subjects.abandoned),
        (Measure::Abandoned, false) => (counts.finished(), counts.of(Status::Cancelled)),
        (Measure::Mark { number }, true) => (subjects.exposed, at(&subjects.marks, number)),
        (Measure::Mark { number }, false) => (counts.judged(), at(&counts.marks, number)),
        (Measure::WrongAnswers, _) => (counts.correct.saturating_add(counts.wrong), counts.wrong),
        (Measure::Latency { .. } | Measure::Pace { .. } | Measure::Score { .. }, _) => (0, 0),
    }
}

fn at(marks: &[u64], number: u8) -> u64 {
    marks.get(usize::from(number)).copied().unwrap_or(0)
}

impl RateEvidence {
    fn add(
        &mut self,
        measure: Measure,
        share: TrafficShare,
        baseline: &ArmCounts,
        candidate: &ArmCounts,
    ) {
        let by_subject = [baseline, candidate].iter().any(|arm| match measure {
            Measure::Abandoned => arm.subjects.ended > 0,
            _ => arm.subjects.exposed > 0,
        });
        let theirs = exposures(measure, baseline, by_subject);
        let mine = exposures(measure, candidate, by_subject);
        let add = |sum: &mut (u64, u64), batch: (u64, u64)| {
            *sum = (sum.0.saturating_add(batch.0), sum.1.saturating_add(batch.1));
        };
        add(&mut self.baseline, theirs);
        add(&mut self.candidate, mine);
        self.log.total_mut().add(Cell {
            share,
            focus: mine.1,
            other: theirs.1,
            focus_exposed: mine.0,
            other_exposed: theirs.0,
        });
    }

    fn read(&self, guardrail: &Guardrail, setting: &Setting<'_>, reading: &mut Reading) {
        let arm = |(n, events): (u64, u64)| ArmReading {
            n,
            events,
            value: (n > 0).then(|| events as f64 / n as f64),
        };
        (reading.baseline, reading.candidate) = (arm(self.baseline), arm(self.candidate));
        let whole = self.log.total();
        let weighed = weigh_harm(&self.log, guardrail, setting, 1.0);
        reading.ln_e = weighed.ln_e;
        reading.estimate = whole.ratio();
        if setting.depth == Depth::Whole {
            reading.interval = ratio_interval(whole, 0.05);
        }
        reading.loudest = weighed.loudest.ratio();
        let safe = RatioTest::new(guardrail.limit, Side::Below, guardrail.prior, whole, 1.0);
        reading.ln_safe = safe.ln_e(whole);
        let (n, events) = self.candidate;
        if guardrail.floor > 0.0 {
            let grid = Grid::geometric(guardrail.floor, 1e-3, 12, |ratio| ratio.powf(0.3));
            reading.ln_floor = Some(binomial(events.min(n), n.saturating_sub(events), &grid));
        }
        if n == 0 {
            return;
        }
        let loudest = weighed.loudest.pooled();
        // What was seen lately decides too whether anybody minds the rate: after healthy hours the
        // average over the stage stays below the floor long after the candidate has turned bad.
        let above_floor = |cell: &Cell| {
            cell.focus as f64 > guardrail.floor * (cell.focus_exposed as f64).max(1.0)
                && cell.focus >= guardrail.min_events
        };
        let harm = reading.ln_e >= reading.threshold
            && loudest.focus >= guardrail.min_events
            && (above_floor(&loudest) || above_floor(&self.log.lately().pooled()))
            && reading.loudest.is_some_and(|ratio| ratio > guardrail.gate());
        reading.finding = if harm {
            Finding::Harm
        } else if reading.ln_floor.is_some_and(|ln_floor| ln_floor >= reading.safe_threshold) {
            Finding::BelowFloor
        } else if self.baseline.0 == 0 {
            Finding::NoData
        } else if reading.ln_safe >= reading.safe_threshold {
            Finding::Safe
        } else {
            Finding::Open
        };
        if setting.depth == Depth::Whole {
            reading.needed = self.needed(guardrail, reading);
        }
    }

    /// About how many more candidate requests prove safety if both arms are alike.
    fn needed(&self, guardrail: &Guardrail, reading: &Reading) -> Option<u64> {
        if reading.is_safe() {
            return Some(0);
        }
        let cells = self.log.total();
        let pooled = cells.pooled();
        let events = pooled.focus as f64 + pooled.other as f64;
        let mut best = f64::INFINITY;
        if events > 0.0 && pooled.focus_exposed > 0 {
            let share = cells.cells().last()?.share.fraction();
            let odds = share / (1.0 - share);
            let at_limit = guardrail.limit * odds / (1.0 + guardrail.limit * odds);
            let gain = share * (share / at_limit).ln()
                + (1.0 - share) * ((1.0 - share) / (1.0 - at_limit)).ln();
            let left = (reading.safe_threshold + PRICE - reading.ln_safe).max(0.0);
            best = left / gain / events * pooled.focus_exposed as f64;
        }
        let rate = self.candidate.1 as f64 / self.candidate.0 as f64;
        if let (Some(ln_floor), true) = (reading.ln_floor, rate < guardrail.floor / 2.0) {
            let left = (reading.safe_threshold + PRICE - ln_floor).max(0.0);
            best = best.min(left / (guardrail.floor - rate));
        }
        best.is_finite().then(|| best.ceil().min(1e18) as u64)
    }
}

/// How many times fewer fast answers are looked for.
const FASTER: f64 = 30.0;
/// What a mixture costs against the best single alternative, in nats, about.
const PRICE: f64 = 1.5;

fn weigh_harm(
    log: &Log<Tallies>,
    guardrail: &Guardrail,
    setting: &Setting<'_>,
    events_per_unit: f64,
) -> Weighed<Tallies> {
    let (null, reach) = match Timed::of(guardrail.measure) {
        // Slow answers cannot become more frequent than all: 20 times as many beyond the 95th.
        Some((_, quantile)) if !counts_fast(quantile) => (1.0, 1.0 / (1.0 - quantile)),
        Some(_) => (1.0, FASTER),
        None => (guardrail.null, REACH),
    };
    let whole = log.total();
    let first = RatioTest::reaching(reach, null, guardrail.prior, whole, events_per_unit);
    let late = RatioTest::late(reach, null, whole, events_per_unit);
    log.weigh_apart(setting.schedule, |span| first.ln_e(span), |span| late.ln_e(span))
}

/// Calls of the candidate to one subject and window: what stands for one independent unit where
/// counts by subject are not kept.
fn calls_per_unit(candidate: &ArmCounts) -> f64 {
    let subjects = candidate.subjects.exposed;
    if subjects == 0 { 1.0 } else { (candidate.judged() as f64 / subjects as f64).max(1.0) }
}

fn read_latency(
    evidence: &LatencyEvidence,
    timed: Timed,
    quantile: f64,
    guardrail: &Guardrail,
    setting: &Setting<'_>,
    reading: &mut Reading,
) {
    (reading.baseline, reading.candidate) = (
        timed.of_arm(setting.baseline).reading(quantile),
        timed.of_arm(setting.candidate).reading(quantile),
    );
    reading.estimate = match (reading.candidate.value, reading.baseline.value) {
        (Some(mine), Some(theirs)) if theirs > 0.0 => Some(mine / theirs),
        _ => None,
    };
    let whole = evidence.harm.total();
    let pooled = whole.pooled();
    if pooled.focus_exposed == 0 || pooled.other_exposed == 0 {
        return;
    }
    let unit = calls_per_unit(setting.candidate);
    let weighed = weigh_harm(&evidence.harm, guardrail, setting, unit);
    reading.ln_e = weighed.ln_e;
    // How much more often the threshold is exceeded, not how much slower.
    reading.loudest = weighed.loudest.ratio();
    let safe = RatioTest::new(1.0, Side::Below, guardrail.prior, &evidence.safe, unit);
    reading.ln_safe = safe.ln_e(&evidence.safe);
    let loudest = weighed.loudest.pooled();
    let seen = if counts_fast(quantile) { loudest.other_exposed } else { loudest.focus };
    let harm = reading.ln_e >= reading.threshold && seen >= guardrail.min_events;
    reading.finding = if harm && is_present(&weighed.loudest, guardrail, quantile, unit, reading) {
        Finding::Harm
    } else if reading.ln_safe >= reading.safe_threshold {
        Finding::Safe
    } else {
        Finding::Open
    };
    let n = reading.candidate.n as f64;
    let left = (reading.safe_threshold - reading.ln_safe).max(0.0);
    // From what the evidence gained so far, or, where it has not gained, from what it usually gains:
    // about 0.4 nats for each request that one expects beyond the quantile.
    let gain = if reading.ln_safe > 0.5 {
        reading.ln_safe / n
    } else {
        0.4 * (1.0 - quantile).min(quantile) / unit
    };
    reading.needed = Some((left / gain).ceil().min(1e18) as u64);
}

/// Whether the evidence is there too when the arms' shares are taken as they were in the span that
/// speaks loudest. Where fast answers are counted, a candidate that is no longer recorded has none
/// of them; but nothing recorded is no data, and no data takes nobody back.
fn is_present(
    loudest: &Tallies,
    guardrail: &Guardrail,
    quantile: f64,
    unit: f64,
    reading: &Reading,
) -> bool {
    if !counts_fast(quantile) {
        return true;
    }
    let first = RatioTest::reaching(FASTER, 1.0, guardrail.prior, loudest, unit);
    let late = RatioTest::late(FASTER, 1.0, loudest, unit);
    first.ln_e(loudest).max(late.ln_e(loudest)) >= reading.threshold
}

fn read_score(
    evidence: &ScoreEvidence,
    width: f64,
    low: f64,
    guardrail: &Guardrail,
    setting: &Setting<'_>,
    reading: &mut Reading,
) {
    let tally = evidence.harm.total();
    let arm = |(n, sum): (u64, f64)| ArmReading {
        n,
        events: 0,
        value: (n > 0).then(|| low + width * sum / n as f64),
    };
    (reading.baseline, reading.candidate) = (arm(tally.baseline), arm(tally.candidate));
    let Some(drop) = tally.drop() else { return };
    let unit = calls_per_unit(setting.candidate);
    let ln_e = |span: &ScoreTally| span.harm.ln_e(unit);
    let weighed = evidence.harm.weigh(setting.schedule, ln_e);
    reading.estimate = Some(drop * width);
    reading.ln_e = weighed.ln_e;
    reading.loudest = weighed.loudest.drop().map(|drop| drop * width);
    reading.ln_safe = evidence.safe.ln_e(unit);
    let harm = reading.ln_e >= reading.threshold
        && tally.candidate.0 >= guardrail.min_events
        && reading.loudest.is_some_and(|drop| drop > guardrail.gate());
    reading.finding = if harm {
        Finding::Harm
    } else if reading.ln_safe >= reading.safe_threshold {
        Finding::Safe
    } else {
        Finding::Open
    };
    if reading.ln_safe > 0.5 {
        let left = (reading.safe_threshold - reading.ln_safe).max(0.0);
        let needed = left * tally.candidate.0 as f64 / reading.ln_safe;
        reading.needed = Some(needed.ceil().min(1e18) as u64);
    }
}
