//! Truths that arrive days late, compared only when they are due.
//!
//! A fraud is reported after weeks, a good payment never: whoever counts labels as they come sees
//! every new model begin badly. So requests wait in cohorts, by the time, arm and split that served
//! them, until their maturity is over; only then are they compared, each with all labels it got. A
//! label that comes later still is counted to the stage that served it, and shown as late, but the
//! comparison it missed is not taken back.
//!
//! Labels that are missing are not missing at random: they are themselves watched, by arm and over time.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::drift::error::{DriftError, within};
use crate::ids::{Arm, Epoch};
use crate::stats::incomplete::chi_square_sf;

/// Cohorts that wait at a time; beyond that the oldest counts as matured early, and is counted.
pub const MAX_COHORTS: usize = 1_024;
/// Stages whose labels are kept apart; the oldest is forgotten first.
pub const MAX_STAGES: usize = 64;

/// How finely a ticket tells the time, rounded up.
const TICKET_UNIT: Duration = Duration::from_millis(17);

/// Requests served in one stretch of time, by one arm, under one split, and what is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cohort {
    /// When the stretch began.
    pub from: Moment,
    /// Which arm served them.
    pub arm: Arm,
    /// Under which split: the stage.
    pub epoch: Epoch,
    /// Requests served.
    pub served: u64,
    /// Answers known to be right.
    pub correct: u64,
    /// Answers known to be wrong.
    pub wrong: u64,
}

impl Cohort {
    /// Requests whose truth is known.
    #[must_use]
    pub const fn labelled(&self) -> u64 {
        self.correct.saturating_add(self.wrong)
    }
}

/// All labels of one stage, early, due and late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageLabels {
    /// Which arm.
    pub arm: Arm,
    /// Which split.
    pub epoch: Epoch,
    /// Requests served.
    pub served: u64,
    /// Answers known to be right.
    pub correct: u64,
    /// Answers known to be wrong.
    pub wrong: u64,
    /// Of both, those that came after their cohort was compared.
    pub late: u64,
}

/// Where a label was counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LabelPlace {
    /// In a cohort that waits.
    Waiting,
    /// To its stage only: its cohort was compared already, or was never announced.
    Late,
}

/// Requests that wait for their truth. At most [`MAX_COHORTS`] cohorts and [`MAX_STAGES`] stages.
///
/// ```
/// use std::time::Duration;
/// use pilotage::clock::Moment;
/// use pilotage::drift::labels::LabelLedger;
/// use pilotage::ids::{Arm, Epoch};
///
/// let hour = Duration::from_secs(3_600);
/// let mut ledger = LabelLedger::new(24 * hour, hour)?;
/// let (arm, epoch, then) = (Arm::BASELINE, Epoch::new(1), Moment::from_secs(60));
/// ledger.served(arm, epoch, then, 100);
/// ledger.labelled(arm, epoch, then, true);
/// assert!(ledger.matured(Moment::ZERO.after(24 * hour)).is_empty());
/// let due = ledger.matured(Moment::ZERO.after(25 * hour));
/// assert_eq!((due[0].served, due[0].correct), (100, 1));
/// # Ok::<(), pilotage::drift::error::DriftError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelLedger {
    maturity: Duration,
    slot: Duration,
    cohorts: VecDeque<Cohort>,
    early: VecDeque<Cohort>,
    stages: VecDeque<StageLabels>,
    forced: u64,
}

impl LabelLedger {
    /// A ledger whose requests are due `maturity` after the end of their stretch of `slot`.
    ///
    /// # Errors
    ///
    /// [`DriftError::OutOfRange`] when `slot` is zero.
    pub fn new(maturity: Duration, slot: Duration) -> Result<Self, DriftError> {
        within("slot in seconds", slot.as_secs_f64(), (1e-9, f64::MAX), "above 0")?;
        let (cohorts, early, stages) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Ok(Self { maturity, slot, cohorts, early, stages, forced: 0 })
    }

    /// `requests` were served at about `at`.
    pub fn served(&mut self, arm: Arm, epoch: Epoch, at: Moment, requests: u64) {
        if requests == 0 {
            return;
        }
        let from = self.slot_of(at);
        self.stage(arm, epoch).served += requests;
        let key = (from, arm, epoch);
        match self.cohorts.iter_mut().rev().find(|of| (of.from, of.arm, of.epoch) == key) {
            Some(cohort) => cohort.served += requests,
            None => {
                if self.cohorts.len() == MAX_COHORTS {
                    self.early.extend(self.cohorts.pop_front());
                    self.forced += 1;
                    if self.early.len() > MAX_COHORTS {
                        self.early.pop_front();
                    }
                }
                let cohort = Cohort { from, arm, epoch, served: requests, correct: 0, wrong: 0 };
                // Kept in the order of their time, even where the news come out of it.
                let at = self.cohorts.partition_point(|of| of.from <= from);
                self.cohorts.insert(at, cohort);
            }
        }
    }

    /// The truth about a request that was served at `at` became known. A ticket says all of this but
    /// the truth: its arm, its split, and by its age when.
    pub fn labelled(&mut self, arm: Arm, epoch: Epoch, at: Moment, correct: bool) -> LabelPlace {
        // A ticket tells the time to 17 ms, rounded down: what was served as a stretch began may seem
        // to belong to the one before it.
        let slots = [self.slot_of(at), self.slot_of(at.after(TICKET_UNIT))];
        let of = |cohort: &Cohort| {
            slots.contains(&cohort.from) && cohort.arm == arm && cohort.epoch == epoch
        };
        let open = |cohort: &Cohort| of(cohort) && cohort.labelled() < cohort.served;
        let cohort = self.cohorts.iter_mut().find(|cohort| open(cohort));
        // No more labels than requests: one that is counted twice is not counted as evidence.
        let place = match cohort {
            Some(cohort) => {
                *(if correct { &mut cohort.correct } else { &mut cohort.wrong }) += 1;
                LabelPlace::Waiting
            }
            None => LabelPlace::Late,
        };
        let stage = self.stage(arm, epoch);
        *(if correct { &mut stage.correct } else { &mut stage.wrong }) += 1;
        stage.late += u64::from(place == LabelPlace::Late);
        place
    }

    /// Takes out the cohorts that are due at `now`, oldest first. Each is given out once.
    pub fn matured(&mut self, now: Moment) -> Vec<Cohort> {
        let mut due: Vec<Cohort> = self.early.drain(..).collect();
        while let Some(cohort) = self.cohorts.front() {
            if cohort.from.after(self.slot).after(self.maturity) > now {
                break;
            }
            due.extend(self.cohorts.pop_front());
        }
        due
    }

    /// All labels of each stage, early, due and late, oldest first.
    pub fn stages(&self) -> impl Iterator<Item = &StageLabels> {
        self.stages.iter()
    }

    /// Cohorts that were given out before they were due, for want of room.
    #[must_use]
    pub const fn forced(&self) -> u64 {
        self.forced
    }

    fn slot_of(&self, at: Moment) -> Moment {
        let slot = u64::try_from(self.slot.as_nanos()).unwrap_or(u64::MAX).max(1);
        Moment::from_nanos(at.as_nanos() / slot * slot)
    }

    fn stage(&mut self, arm: Arm, epoch: Epoch) -> &mut StageLabels {
        let at = self.stages.iter().position(|of| of.arm == arm && of.epoch == epoch);
        let at = at.unwrap_or_else(|| {
            if self.stages.len() == MAX_STAGES {
                self.stages.pop_front();
            }
            let new = StageLabels { arm, epoch, served: 0, correct: 0, wrong: 0, late: 0 };
            self.stages.push_back(new);
            self.stages.len() - 1
        });
        &mut self.stages[at]
    }
}

/// P-value of "labels are missing as often in each of these groups", each `(labelled, served)`; 1 for
/// fewer than two groups that served anybody. For one look.
///
/// Groups are arms, or stretches of time. Source: Pearson's chi-square of a table of two columns.
#[must_use]
pub fn missingness_p(groups: &[(u64, u64)]) -> f64 {
    let groups: Vec<(f64, f64)> = groups
        .iter()
        .filter(|(_, served)| *served > 0)
        .map(|(labelled, served)| ((*labelled).min(*served) as f64, *served as f64))
        .collect();
    let (labelled, served) =
        groups.iter().fold((0.0, 0.0), |sum, group| (sum.0 + group.0, sum.1 + group.1));
    let rate = labelled / served;
    let variance = rate * (1.0 - rate);
    if groups.len() < 2 || variance.is_nan() || variance <= 0.0 {
        return 1.0;
    }
    let stat: f64 = groups.iter().map(|(k, n)| (k - n * rate).powi(2) / (n * variance)).sum();
    chi_square_sf(stat, groups.len() as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(hours: u32) -> Moment {
        Moment::ZERO.after(hours * HOUR)
    }

    #[test]
    fn only_requests_that_are_due_are_compared_and_late_labels_go_to_their_stage() {
        let mut ledger = LabelLedger::new(48 * HOUR, HOUR).unwrap();
        let (old, new) = (Epoch::new(1), Epoch::new(2));
        ledger.served(Arm::CANDIDATE, old, at(0), 10);
        ledger.served(Arm::CANDIDATE, new, at(30), 10);
        let place = ledger.labelled(Arm::CANDIDATE, old, at(0), false);
        assert_eq!(place, LabelPlace::Waiting);
        ledger.labelled(Arm::CANDIDATE, new, at(30), true);
        let due = ledger.matured(at(50));
        assert_eq!(due.iter().map(|of| (of.epoch, of.wrong)).collect::<Vec<_>>(), [(old, 1)]);
        assert_eq!(ledger.labelled(Arm::CANDIDATE, old, at(0), true), LabelPlace::Late);
        let stages: Vec<_> =
            ledger.stages().map(|of| (of.epoch, of.labelled_now(), of.late)).collect();
        assert_eq!(stages, [(old, 2, 1), (new, 1, 0)]);
        assert_eq!(ledger.matured(at(50)), []);
        assert_eq!(ledger.matured(at(79)).len(), 1);
    }

    impl StageLabels {
        fn labelled_now(&self) -> u64 {
            self.correct + self.wrong
        }
    }

    #[test]
    fn memory_is_bounded_and_says_what_it_cost() {
        let mut ledger = LabelLedger::new(1_000_000 * HOUR, HOUR).unwrap();
        for hour in 0..5_000 {
            ledger.served(Arm::BASELINE, Epoch::new(hour as u16), at(hour), 1);
        }
        assert_eq!(ledger.cohorts.len(), MAX_COHORTS);
        assert_eq!(ledger.stages().count(), MAX_STAGES);
        assert_eq!(ledger.forced(), 5_000 - MAX_COHORTS as u64);
        assert!(ledger.early.len() <= MAX_COHORTS);
    }

    #[test]
    fn a_label_counted_twice_is_no_evidence() {
        let mut ledger = LabelLedger::new(HOUR, HOUR).unwrap();
        ledger.served(Arm::BASELINE, Epoch::new(1), at(0), 1);
        for _ in 0..3 {
            ledger.labelled(Arm::BASELINE, Epoch::new(1), at(0), true);
        }
        assert_eq!(ledger.matured(at(2))[0].correct, 1);
    }

    #[test]
    fn labels_that_are_missing_on_one_arm_are_noticed() {
        assert!(missingness_p(&[(900, 1_000), (700, 1_000)]) < 1e-20);
        assert!(missingness_p(&[(900, 1_000), (905, 1_000)]) > 0.1);
        assert_eq!(missingness_p(&[(0, 0), (5, 10)]), 1.0);
        assert_eq!(missingness_p(&[(10, 10), (20, 20)]), 1.0);
    }
}
