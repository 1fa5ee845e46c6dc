//! Evidence that two arms' rates differ, as counts that add up.
//!
//! The state is counts, not likelihoods: how many events fell on each arm while the candidate had
//! which share. The e-value is computed from the totals when somebody looks, so the same batches
//! split in any other way give the same evidence bit for bit, and stored counts reproduce it.
//!
//! **Restarts.** A test that began with the stage carries the weight of all the healthy hours: a
//! candidate that turns bad on day three would have to outweigh them. So the stage's e-process is a
//! weighted mean of one that began with the stage and of others that begin later at fixed times
//! (each is 1 until it begins). A weighted mean of e-processes is one, whatever happens between, so
//! this costs a constant factor of evidence and no part of the level.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::judge::guardrail::Prior;
use crate::share::TrafficShare;
use crate::stats::eprocess_grid::{FLOOR, Grid, log_sum_exp, mix, ratio_gains};

/// Sums that can be added and of which an older copy can be taken out again.
pub trait Sums: Clone + Default {
    /// What came since `earlier`, an older copy.
    #[must_use]
    fn since(&self, earlier: &Self) -> Self;
}

/// When a stage's restarts begin and how much each weighs.
///
/// A planned stage is cut into 20 steps, or into steps of 6 minutes where it is longer than two
/// hours; one restart begins with each. Restarts past the plan weigh ever less, so that the
/// weights still sum to 1 if the stage never ends. The 24 latest are kept: leaving out older ones
/// only lowers the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    step: Duration,
    planned: u32,
}

impl Schedule {
    /// Restarts for a stage of about this length; `None` when nobody knows.
    #[must_use]
    pub fn new(planned: Option<Duration>) -> Self {
        let length = planned.unwrap_or(Duration::from_secs(2 * 3600));
        let step = (length / STEPS).clamp(SHORTEST, LONGEST);
        let steps = length.as_secs_f64() / step.as_secs_f64();
        Self { step, planned: (steps.ceil() as u32).max(1) }
    }

    /// How many restarts have begun after `elapsed`.
    #[must_use]
    pub fn begun(&self, elapsed: Duration) -> u32 {
        let steps = elapsed.as_nanos() / self.step.as_nanos().max(1);
        u32::try_from(steps).unwrap_or(u32::MAX - 1)
    }

    /// Time between two restarts.
    #[must_use]
    pub const fn step(&self) -> Duration {
        self.step
    }

    /// The weight of restarts `first..=last`, numbered from 1.
    fn weight(&self, first: u32, last: u32) -> f64 {
        let planned = f64::from(self.planned);
        let within = f64::from(last.min(self.planned).saturating_sub(first.saturating_sub(1)));
        let mut weight = (1.0 - START - BEYOND) * within / planned;
        if last > self.planned {
            let from = f64::from(first.max(self.planned + 1));
            weight += BEYOND * (planned + 1.0) * (1.0 / from - 1.0 / (f64::from(last) + 1.0));
        }
        weight
    }
}

/// The weight of the test that begins with the stage.
pub(crate) const START: f64 = 0.77;
/// The weight of all restarts after the planned end together.
const BEYOND: f64 = 0.01;
/// How many restarts are kept.
const KEPT: usize = 24;
/// Into how many steps a planned stage of up to two hours is cut.
const STEPS: u32 = 20;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(360);

/// Sums since the stage began, and what they were when each restart began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Log<T> {
    total: T,
    restarts: VecDeque<Restart<T>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Restart<T> {
    first: u32,
    last: u32,
    before: T,
}

/// Evidence of a [`Log`], and the span of time that speaks loudest.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed<T> {
    /// `ln E`.
    pub ln_e: f64,
    /// The sums of the component that contributes most.
    pub loudest: T,
}

impl<T: Sums> Log<T> {
    /// Everything since the stage began.
    #[must_use]
    pub const fn total(&self) -> &T {
        &self.total
    }

    /// To add a batch to.
    pub const fn total_mut(&mut self) -> &mut T {
        &mut self.total
    }

    /// Begins restarts `first..=last` here. Call it between two batches.
    pub fn restart(&mut self, first: u32, last: u32) {
        if first > last {
            return;
        }
        if self.restarts.len() == KEPT {
            self.restarts.pop_front();
        }
        self.restarts.push_back(Restart { first, last, before: self.total.clone() });
    }

    /// The evidence, where `ln_e` weighs sums over any span.
    #[must_use]
    pub fn weigh(&self, schedule: &Schedule, ln_e: impl Fn(&T) -> f64) -> Weighed<T> {
        self.weigh_apart(schedule, &ln_e, &ln_e)
    }

    /// The evidence, where `ln_e` weighs sums since the beginning and `ln_e_late` those since a
    /// restart.
    #[must_use]
    pub fn weigh_apart(
        &self,
        schedule: &Schedule,
        ln_e: impl Fn(&T) -> f64,
        ln_e_late: impl Fn(&T) -> f64,
    ) -> Weighed<T> {
        let mut terms = Vec::with_capacity(KEPT + 2);
        terms.push(START.ln() + ln_e(&self.total));
        let mut loudest = (terms[0], None);
        let mut begun = 0;
        for restart in &self.restarts {
            let since = self.total.since(&restart.before);
            let term = schedule.weight(restart.first, restart.last).ln() + ln_e_late(&since);
            if term > loudest.0 {
                loudest = (term, Some(since));
            }
            terms.push(term);
            begun = restart.last;
        }
        let to_come = 1.0 - START - schedule.weight(1, begun);
        if to_come > 0.0 {
            terms.push(to_come.ln());
        }
        let ln_e = log_sum_exp(terms.iter().copied());
        Weighed { ln_e, loudest: loudest.1.unwrap_or_else(|| self.total.clone()) }
    }

    /// The sums since the latest restart that lies at least one whole step back, or since the
    /// beginning: what was seen lately.
    #[must_use]
    pub fn lately(&self) -> T {
        let at = self.restarts.len().checked_sub(2);
        at.map_or_else(|| self.total.clone(), |at| self.total.since(&self.restarts[at].before))
    }
}

/// Events and exposures of both arms while the candidate had one share of the traffic.
///
/// *Focus* is the arm whose events count against it: the candidate's errors, but the baseline's
/// fast answers, since having more of those is what a slow candidate leaves to the baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The focus arm's share.
    pub share: TrafficShare,
    /// Events on the focus arm.
    pub focus: u64,
    /// Events on the other arm.
    pub other: u64,
    /// Exposures of the focus arm: calls, or subjects where they are known.
    pub focus_exposed: u64,
    /// Exposures of the other arm.
    pub other_exposed: u64,
}

/// Cells, one for each share that was ever in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallies(Vec<Cell>);

/// Shares told apart in one stage. What is seen under further ones is not weighed: it cannot be
/// pooled with another share's, and a stage does not change its share a hundred times.
pub const MOST_SHARES: usize = 64;

impl Tallies {
    /// Adds a batch. A share of nobody or of everybody leaves nothing to compare and is left out.
    pub fn add(&mut self, batch: Cell) {
        if batch.share == TrafficShare::NONE || batch.share == TrafficShare::ALL {
            return;
        }
        let at = self.0.iter().position(|cell| cell.share == batch.share);
        let Some(cell) = at.map(|at| &mut self.0[at]) else {
            if self.0.len() < MOST_SHARES {
                self.0.push(batch);
            }
            return;
        };
        cell.focus = cell.focus.saturating_add(batch.focus);
        cell.other = cell.other.saturating_add(batch.other);
        cell.focus_exposed = cell.focus_exposed.saturating_add(batch.focus_exposed);
        cell.other_exposed = cell.other_exposed.saturating_add(batch.other_exposed);
    }

    /// No event and no exposure yet, under one share.
    #[must_use]
    pub fn of_share(share: TrafficShare) -> Self {
        let mut tallies = Self::default();
        tallies.add(Cell { share, ..Cell::default() });
        tallies
    }

    /// Adds all of `other`, for example another replica's.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|cell| self.add(*cell));
    }

    /// The cells, in the order in which their shares first came.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.0
    }

    /// All cells added up; its share is without meaning.
    #[must_use]
    pub fn pooled(&self) -> Cell {
        self.0.iter().fold(Cell::default(), |sum, cell| Cell {
            share: cell.share,
            focus: sum.focus.saturating_add(cell.focus),
            other: sum.other.saturating_add(cell.other),
            focus_exposed: sum.focus_exposed.saturating_add(cell.focus_exposed),
            other_exposed: sum.other_exposed.saturating_add(cell.other_exposed),
        })
    }

    /// The ratio of the focus arm's rate to the other's, as Mantel and Haenszel pool it over shares,
    /// with half an event added to each arm so that none at all is not a ratio of infinity.
    /// `None` when an arm was never exposed.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let pooled = self.pooled();
        if pooled.focus_exposed == 0 || pooled.other_exposed == 0 {
            return None;
        }
        let all = pooled.focus_exposed as f64 + pooled.other_exposed as f64;
        let (mut above, mut below) = (0.0, 0.0);
        for cell in &self.0 {
            let (mine, theirs) = (cell.focus_exposed as f64, cell.other_exposed as f64);
            let total = mine + theirs;
            if total > 0.0 {
                let half = 0.5 * total / all;
                above += (cell.focus as f64 + half) * theirs / total;
                below += (cell.other as f64 + half) * mine / total;
            }
        }
        (below > 0.0).then_some(above / below)
    }
}

impl Sums for Tallies {
    fn since(&self, earlier: &Self) -> Self {
        let mut left = self.clone();
        for (cell, before) in left.0.iter_mut().zip(&earlier.0) {
            cell.focus = cell.focus.saturating_sub(before.focus);
            cell.other = cell.other.saturating_sub(before.other);
            cell.focus_exposed = cell.focus_exposed.saturating_sub(before.focus_exposed);
            cell.other_exposed = cell.other_exposed.saturating_sub(before.other_exposed);
        }
        left
    }
}

/// Which side of the null the alternatives lie on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The focus arm has more events than the null allows.
    Above,
    /// It has fewer.
    Below,
}

/// What each event is worth against a null ratio, given the shares it happened under.
///
/// The share is the designed one: under random assignment it makes the test exact. Sticky subjects
/// can make the realised share differ visibly from it (a few heavy users on one arm); then
/// whichever of the two gives *less* evidence is taken, which can only lower the false alarms.
#[derive(Debug)]
pub struct RatioTest {
    grid: Grid,
    gains: Vec<Vec<(f64, f64)>>,
    temper: f64,
}

impl RatioTest {
    /// A test of "the ratio is at most `null`" ([`Side::Above`]) or "at least" ([`Side::Below`]).
    ///
    /// `events_per_unit`, at least 1, is how many exposures one independent unit stands for; the
    /// evidence is that of so many times fewer events.
    #[must_use]
    pub fn new(null: f64, side: Side, prior: Prior, whole: &Tallies, events_per_unit: f64) -> Self {
        Self::on(grid(null, side, prior, REACH), side, whole, events_per_unit)
    }

    /// As [`RatioTest::new`] with [`Side::Above`], where no ratio can exceed `reach` times the null.
    #[must_use]
    pub fn reaching(
        reach: f64,
        null: f64,
        prior: Prior,
        whole: &Tallies,
        events_per_unit: f64,
    ) -> Self {
        Self::on(grid(null, Side::Above, prior, reach), Side::Above, whole, events_per_unit)
    }

    /// The same question [`Side::Above`], asked of what begins late.
    #[must_use]
    pub fn late(reach: f64, null: f64, whole: &Tallies, events_per_unit: f64) -> Self {
        Self::on(late_grid(null, reach), Side::Above, whole, events_per_unit)
    }

    fn on(grid: Grid, side: Side, whole: &Tallies, events_per_unit: f64) -> Self {
        let gains =
            whole.0.iter().map(|cell| ratio_gains(cautious_share(cell, side), &grid)).collect();
        Self { grid, gains, temper: 1.0 / events_per_unit.max(1.0) }
    }

    /// `ln E` of so many events on the two arms, all under the first of the whole's shares.
    #[must_use]
    pub fn ln_e_of(&self, focus: u64, other: u64) -> f64 {
        let Some(gains) = self.gains.first() else { return 0.0 };
        let (hits, misses) = (focus as f64 * self.temper, other as f64 * self.temper);
        let ratios: Vec<f64> = gains.iter().map(|(hit, miss)| hits * hit + misses * miss).collect();
        mix(&self.grid, &ratios).max(FLOOR)
    }

    /// `ln E` of the counts of a span within the whole.
    #[must_use]
    pub fn ln_e(&self, span: &Tallies) -> f64 {
        let mut ratios = [0.0_f64; GRID];
        for (cell, gains) in span.0.iter().zip(&self.gains) {
            if cell.focus == 0 && cell.other == 0 {
                continue;
            }
            let (hits, misses) = (cell.focus as f64 * self.temper, cell.other as f64 * self.temper);
            for (ratio, (hit, miss)) in ratios.iter_mut().zip(gains) {
                *ratio += hits * hit + misses * miss;
            }
        }
        mix(&self.grid, &ratios[..self.grid.points.len()]).max(FLOOR)
    }
}

const GRID: usize = 30;

/// Alternatives to a null: evenly spaced in ln r, from 1.3 times the null up to a reach.
///
/// Below 1.3 nothing is taken back anyway (the estimate must lie beyond the middle of null and
/// limit). The long upper tail lets two events suffice at a disaster; the lean to ratios below 8
/// finds doublings sooner. Restarts look less at both ends: what begins late has little time left
/// for small ratios.
fn grid(null: f64, side: Side, prior: Prior, reach: f64) -> Grid {
    match side {
        Side::Above => {
            let tilt = match prior {
                Prior::Balanced => 0.1,
                Prior::SmallRegressions => 1.0,
                Prior::Disasters => 0.0,
            };
            above(null, reach, move |ratio| ratio.min(8.0).powf(-tilt))
        }
        Side::Below => Grid::geometric(null, 1e-3, GRID, |ratio| ratio.powf(0.3)),
    }
}

fn late_grid(null: f64, reach: f64) -> Grid {
    above(null, reach, |ratio| match ratio {
        ..3.0 => 0.4,
        100.0.. => 0.6,
        _ => 1.0,
    })
}

fn above(null: f64, reach: f64, weight: impl Fn(f64) -> f64) -> Grid {
    Grid::geometric_from(1.3 * null, null, reach / 1.3, GRID, weight)
}

/// The largest ratio of two rates that is looked for, relative to the null.
pub(crate) const REACH: f64 = 400.0;

fn cautious_share(cell: &Cell, side: Side) -> f64 {
    let designed = cell.share.fraction();
    let (mine, theirs) = (cell.focus_exposed as f64, cell.other_exposed as f64);
    let all = mine + theirs;
    if all <= 0.0 {
        return designed;
    }
    let deviation = (mine - designed * all).abs();
    if deviation <= 3.0 * (all * designed * (1.0 - designed)).sqrt() {
        return designed;
    }
    let realised = (mine / all).clamp(1e-6, 1.0 - 1e-6);
    match side {
        Side::Above => designed.max(realised),
        Side::Below => designed.min(realised),
    }
}

/// All ratios that neither of two opposite tests refutes: an interval that may be looked at as
/// often as one likes, and contains the true ratio at every look with probability `1 − level`.
///
/// `None` without events.
#[must_use]
pub fn ratio_interval(counts: &Tallies, level: f64) -> Option<(f64, f64)> {
    let pooled = counts.pooled();
    if pooled.focus == 0 && pooled.other == 0 {
        return None;
    }
    let needed = (2.0 / level).ln();
    let refuted = |ratio: f64, side: Side| {
        let reach = if side == Side::Above { 50.0 } else { 1.0 / 50.0 };
        let grid = Grid::geometric(ratio, reach, 12, |_| 1.0);
        RatioTest::on(grid, side, counts, 1.0).ln_e(counts) >= needed
    };
    let middle = counts.ratio().unwrap_or(1.0).clamp(1e-5, 1e5);
    let edge = |side: Side, far: f64| {
        if !refuted(far, side) {
            return far;
        }
        let (mut out, mut within) = (far.ln(), middle.ln());
        for _ in 0..22 {
            let half = f64::midpoint(out, within);
            if refuted(half.exp(), side) { out = half } else { within = half }
        }
        out.exp()
    };
    let low = if pooled.focus == 0 { 0.0 } else { edge(Side::Above, 1e-6) };
    let high = if pooled.other == 0 { FARTHEST } else { edge(Side::Below, FARTHEST) };
    Some((low, high))
}

/// The upper end of an interval that has none: no event on the other arm leaves any ratio possible.
pub const FARTHEST: f64 = 1e6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cell(percent: f64, focus: u64, other: u64, exposed: (u64, u64)) -> Cell {
        Cell {
            share: TrafficShare::percent(percent).unwrap(),
            focus,
            other,
            focus_exposed: exposed.0,
            other_exposed: exposed.1,
        }
    }

    #[test]
    fn the_weights_of_all_restarts_sum_to_what_the_start_leaves() {
        for planned in [None, Some(Duration::from_secs(20)), Some(Duration::from_secs(86_400))] {
            let schedule = Schedule::new(planned);
            let all = schedule.weight(1, u32::MAX - 1);
            assert!((START + all - 1.0).abs() < 1e-4 && START + all <= 1.0 + 1e-12, "{all}");
            let pieces = schedule.weight(1, 7) + schedule.weight(8, 400);
            assert!((pieces - schedule.weight(1, 400)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_share_of_everybody_leaves_nothing_to_compare() {
        let mut tallies = Tallies::default();
        tallies.add(cell(100.0, 50, 0, (100, 0)));
        assert!(tallies.cells().is_empty() && ratio_interval(&tallies, 0.05).is_none());
    }

    #[test]
    fn the_interval_holds_the_ratio_it_was_made_from() {
        let mut tallies = Tallies::default();
        tallies.add(cell(5.0, 40, 380, (10_000, 190_000)));
        let (low, high) = ratio_interval(&tallies, 0.05).unwrap();
        let ratio = tallies.ratio().unwrap();
        assert!(low < ratio && ratio < high && low > 1.0 && high < 3.6, "{low} {ratio} {high}");
    }

    #[test]
    fn a_lopsided_split_is_not_held_against_the_candidate() {
        let test = |tallies: &Tallies| {
            RatioTest::new(1.0, Side::Above, Prior::Balanced, tallies, 1.0).ln_e(tallies)
        };
        let mut fair = Tallies::default();
        fair.add(cell(5.0, 40, 380, (10_000, 190_000)));
        let mut heavy = Tallies::default();
        heavy.add(cell(5.0, 40, 380, (20_000, 190_000)));
        assert!(test(&fair) > 4.0 && test(&heavy) < 1.0, "{} {}", test(&fair), test(&heavy));
    }

    proptest! {
        #[test]
        fn the_same_events_in_other_batches_are_the_same_evidence(
            batches in prop::collection::vec((0_u64..4, 0_u64..40, 0..2_usize), 1..30),
        ) {
            let schedule = Schedule::new(Some(Duration::from_secs(60)));
            let weigh = |pieces: u64| {
                let mut log = Log::<Tallies>::default();
                for (at, (focus, other, share)) in batches.iter().enumerate() {
                    if at % 5 == 4 {
                        log.restart(at as u32 / 5 + 1, at as u32 / 5 + 1);
                    }
                    for piece in 0..pieces {
                        let part = |n: u64| n / pieces + u64::from(piece < n % pieces);
                        let percent = [5.0, 25.0][*share];
                        let exposed = (part(50), part(950));
                        log.total_mut().add(cell(percent, part(*focus), part(*other), exposed));
                    }
                }
                let whole = log.total().clone();
                let test = RatioTest::new(1.0, Side::Above, Prior::Balanced, &whole, 1.0);
                log.weigh(&schedule, |span| test.ln_e(span)).ln_e
            };
            prop_assert_eq!(weigh(1).to_bits(), weigh(3).to_bits());
        }

        #[test]
        fn evidence_is_a_number_for_any_counts(
            focus in any::<u64>(), other in any::<u64>(), mine in any::<u64>(), theirs in any::<u64>(),
            ppm in 0_u32..=1_000_000,
        ) {
            let mut tallies = Tallies::default();
            let share = TrafficShare::from_ppm(ppm).unwrap();
            let batch = Cell { share, focus, other, focus_exposed: mine, other_exposed: theirs };
            tallies.add(batch);
            tallies.add(batch);
            for (side, null) in [(Side::Above, 1.0), (Side::Below, 2.0)] {
                let test = RatioTest::new(null, side, Prior::Balanced, &tallies, 1.0);
                prop_assert!(test.ln_e(&tallies).is_finite());
            }
            if let Some((low, high)) = ratio_interval(&tallies, 0.05) {
                prop_assert!(low.is_finite() && high.is_finite() && low <= high, "{} {}", low, high);
            }
            prop_assert!(tallies.ratio().is_none_or(f64::is_finite));
        }
    }
}
