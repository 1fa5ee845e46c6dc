//! Whether the arms have the shares they were given, and whether truth arrives alike for both.
//!
//! If a twentieth of subjects should be on the candidate and less are seen, then assignment or
//! recording is broken, or the candidate loses calls before they are counted; every comparison is
//! then suspect. That blocks promotion. It never blocks a rollback: a candidate that loses calls is
//! no reason to keep it.
//!
//! The test is for independent units. A subject that comes back in every window is one unit, and
//! counting its windows as many would find mismatches that are not there, so the counts are divided
//! by how often a subject comes back ([`Visits`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::judge::evidence::{Cell, Tallies};
use crate::judge::verdict::Flaw;
use crate::observe::snapshot::ArmCounts;
use crate::share::TrafficShare;
use crate::stats::sample_ratio::{SampleRatioTest, USUAL_CONCENTRATION};

/// In how many windows one subject is counted during a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Visits {
    /// Nobody knows: as if every subject came back in every window of ten seconds. The check then
    /// finds gross mismatches only, and never one that is not there.
    #[default]
    Unknown,
    /// Each call is another subject's, or is assigned at random on its own.
    Once,
    /// So many, on average; at least 1.
    Times(f64),
}

/// Counts of units on both arms, and of units whose truth arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shares {
    visits: Visits,
    /// By planned share; the candidate in focus.
    units: Tallies,
    /// Labelled units: baseline, candidate.
    labels: [u64; 2],
}

impl Shares {
    pub(crate) const fn set(&mut self, visits: Visits) {
        self.visits = visits;
    }

    pub(crate) fn add(&mut self, share: TrafficShare, baseline: &ArmCounts, candidate: &ArmCounts) {
        let by_subject = baseline.subjects.exposed > 0 || candidate.subjects.exposed > 0;
        let units = |counts: &ArmCounts| {
            if by_subject { counts.subjects.exposed } else { counts.finished() }
        };
        self.units.add(Cell {
            share,
            focus: 0,
            other: 0,
            focus_exposed: units(candidate),
            other_exposed: units(baseline),
        });
        for (labels, counts) in self.labels.iter_mut().zip([baseline, candidate]) {
            let known = counts.correct.saturating_add(counts.wrong);
            *labels = labels.saturating_add(known);
        }
    }

    /// The mismatch, if there is one at [`LEVEL`].
    pub(crate) fn mismatch(&self, elapsed: Duration) -> Option<Flaw> {
        let visits = self.visits(elapsed);
        let mut ln_e = 0.0;
        for cell in self.units.cells() {
            let planned = [cell.share.rest().fraction(), cell.share.fraction()];
            ln_e += evidence(planned, [cell.other_exposed, cell.focus_exposed], visits);
        }
        let pooled = self.units.pooled();
        let all = pooled.focus_exposed as f64 + pooled.other_exposed as f64;
        let planned: f64 = self
            .units
            .cells()
            .iter()
            .map(|cell| {
                let both = cell.focus_exposed as f64 + cell.other_exposed as f64;
                cell.share.fraction() * both / all
            })
            .sum();
        (ln_e >= (1.0 / LEVEL).ln())
            .then(|| Flaw::SampleRatio { planned, seen: pooled.focus_exposed as f64 / all })
    }

    /// Truth that arrives for one arm more often than for the other, if there is a difference at
    /// [`LEVEL`]: whichever answers are missing may be the wrong ones.
    pub(crate) fn missing_labels(&self, elapsed: Duration) -> Option<Flaw> {
        let pooled = self.units.pooled();
        let units = [pooled.other_exposed as f64, pooled.focus_exposed as f64];
        let all = units[0] + units[1];
        if units[0] < 1.0 || units[1] < 1.0 {
            return None;
        }
        let planned = units.map(|units| units / all);
        let ln_e = evidence(planned, self.labels, self.visits(elapsed));
        (ln_e >= (1.0 / LEVEL).ln()).then(|| Flaw::MissingLabels {
            baseline: self.labels[0] as f64 / units[0],
            candidate: self.labels[1] as f64 / units[1],
        })
    }

    fn visits(&self, elapsed: Duration) -> f64 {
        match self.visits {
            Visits::Unknown => (elapsed.as_secs_f64() / WINDOW).max(1.0),
            Visits::Once => 1.0,
            Visits::Times(times) if times.is_finite() => times.max(1.0),
            Visits::Times(_) => (elapsed.as_secs_f64() / WINDOW).max(1.0),
        }
    }
}

/// The level of the check: a false alarm costs a promotion, so it is strict.
pub const LEVEL: f64 = 0.001;
/// Seconds of a window of the recorder.
const WINDOW: f64 = 10.0;
/// Units beyond which more tell nothing new; keeps the arithmetic exact.
const MOST: f64 = 1e12;

/// `ln E` against the planned shares.
fn evidence(planned: [f64; 2], counts: [u64; 2], visits: f64) -> f64 {
    let all = counts[0] as f64 + counts[1] as f64;
    let scale = (MOST / all.max(1.0)).min(1.0) / visits;
    let units = counts.map(|count| (count as f64 * scale).floor());
    let Ok(mut test) = SampleRatioTest::new(&planned, USUAL_CONCENTRATION) else { return 0.0 };
    if test.push(&units).is_err() {
        return 0.0;
    }
    let ln_e = test.log_e();
    if ln_e.is_finite() { ln_e } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(visits: Visits, baseline: u64, candidate: u64) -> Shares {
        let mut shares = Shares { visits, ..Shares::default() };
        let arm = |n: u64| ArmCounts { ended: [n, 0, 0, 0, 0], ..ArmCounts::default() };
        shares.add(TrafficShare::HALF, &arm(baseline), &arm(candidate));
        shares
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_twentieth_of_one_arm_lost_is_noticed() {
        let flaw = shares(Visits::Once, 50_000, 47_500).mismatch(HOUR);
        assert!(flaw.is_some_and(|flaw| flaw.to_string().contains("48.72 %")));
        assert_eq!(shares(Visits::Once, 50_000, 49_900).mismatch(HOUR), None);
    }

    #[test]
    fn subjects_that_come_back_are_not_taken_for_many() {
        assert_eq!(shares(Visits::Unknown, 50_000, 47_500).mismatch(HOUR), None);
        assert_eq!(shares(Visits::Times(f64::NAN), 50_000, 47_500).mismatch(HOUR), None);
        assert!(shares(Visits::Unknown, 5_000_000, 500_000).mismatch(HOUR).is_some());
    }

    #[test]
    fn any_counts_give_a_number() {
        for (one, other) in [(0, 0), (u64::MAX, 0), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            let shares = shares(Visits::Once, one, other);
            let (_, _) = (shares.mismatch(HOUR), shares.missing_labels(HOUR));
        }
    }

    #[test]
    fn truth_that_arrives_for_one_arm_only_is_noticed() {
        let mut shares = shares(Visits::Once, 10_000, 10_000);
        shares.labels = [5_000, 4_000];
        assert!(shares.missing_labels(HOUR).is_some());
        shares.labels = [5_000, 4_950];
        assert_eq!(shares.missing_labels(HOUR), None);
    }
}
