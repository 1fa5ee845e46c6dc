//! One stage of a rollout, judged as it runs.
//!
//! A [`StageJudge`] is fed batches (what came between two snapshots, and the candidate's share at
//! the time) and asked for a verdict, as often as one likes: every rule behind it is valid at every
//! look. It owns no clock and draws no number; the same batches give the same verdict, bit for bit,
//! also after it was stored and loaded.
//!
//! A rollback needs one guardrail refuted at its part of α; the parts sum to the stage's α, so that
//! is also the probability of taking a harmless candidate back. A promotion needs every guardrail
//! shown to hold, each at β: a candidate at one of the limits passes with probability at most β,
//! without correction, since all must pass.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Arm;
use crate::judge::assess::{Evidence, Setting};
use crate::judge::evidence::Schedule;
use crate::judge::guardrail::{Action, Guardrail, GuardrailError, NoData};
use crate::judge::latency::Past;
use crate::judge::verdict::{
    Cause, Doubt, Finding, Flaw, Hold, Needed, Proof, Rail, Reading, Verdict,
};
use crate::observe::snapshot::{ArmCounts, Delta};
use crate::outcome::Status;
use crate::share::TrafficShare;
use crate::stats::error::{StatsError, open_unit};

/// Fixed rules beside the statistics: no error rate is claimed for them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HardRails {
    /// So many panics of the candidate in a stage are enough, unless the baseline panics as often.
    /// `None` for no such rule.
    pub panics: Option<u64>,
    /// So many failed candidate calls since the last batch with a success are enough, if the
    /// baseline had a success in that time. `None` for no such rule.
    pub failures_without_success: Option<u64>,
}

impl Default for HardRails {
    /// 3 panics; 10 failures without a success.
    fn default() -> Self {
        Self { panics: Some(3), failures_without_success: Some(10) }
    }
}

/// Settings that cannot make a judge.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// No guardrail was given, or none that decides anything.
    #[error("a stage needs at least one guardrail that rolls back or pauses")]
    NothingDecides,
    /// Two guardrails have one name.
    #[error("two guardrails are called \"{name}\"; names must differ")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A guardrail cannot be used.
    #[error(transparent)]
    Guardrail(#[from] GuardrailError),
    /// α or β is not a level.
    #[error(transparent)]
    Level(#[from] StatsError),
    /// A stage of no length.
    #[error("a stage cannot be planned to take no time; give its length, or leave it open")]
    NoTime,
}

/// Judges one stage.
///
/// Memory: about 100 KB for the histograms of two arms, plus 24 restarts of counts a guardrail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageJudge {
    guardrails: Vec<Guardrail>,
    alpha: f64,
    beta: f64,
    planned: Option<Duration>,
    rails: HardRails,
    schedule: Schedule,
    elapsed: Duration,
    restarts: u32,
    evidence: Vec<Evidence>,
    past: Past,
    seen: [ArmCounts; 2],
    lately: Lately,
    share: TrafficShare,
    candidate_seen_at: Duration,
    streak: Streak,
}

/// Failed and judged calls of baseline and candidate in this step of the schedule and the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lately {
    now: [(u64, u64); 2],
    before: [(u64, u64); 2],
}

/// Calls since the last batch in which the candidate succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Streak {
    failures: u64,
    baseline_successes: u64,
}

impl StageJudge {
    /// A judge for a stage planned to last `planned`.
    ///
    /// `alpha` is the probability of rolling back a candidate that is within every null, over the
    /// whole stage and all guardrails; `beta` that of promoting one that is beyond a limit.
    ///
    /// # Errors
    ///
    /// [`JudgeError`] when a guardrail or level cannot be used, names repeat, nothing decides, or
    /// `planned` is zero.
    pub fn new(
        guardrails: Vec<Guardrail>,
        alpha: f64,
        beta: f64,
        planned: Duration,
    ) -> Result<Self, JudgeError> {
        if planned.is_zero() {
            return Err(JudgeError::NoTime);
        }
        Self::build(guardrails, alpha, beta, Some(planned))
    }

    /// A judge for a stage without a planned end. Its levels hold for ever.
    ///
    /// # Errors
    ///
    /// As [`StageJudge::new`].
    pub fn open(guardrails: Vec<Guardrail>, alpha: f64, beta: f64) -> Result<Self, JudgeError> {
        Self::build(guardrails, alpha, beta, None)
    }

    fn build(
        guardrails: Vec<Guardrail>,
        alpha: f64,
        beta: f64,
        planned: Option<Duration>,
    ) -> Result<Self, JudgeError> {
        open_unit("alpha", alpha)?;
        open_unit("beta", beta)?;
        for (at, guardrail) in guardrails.iter().enumerate() {
            guardrail.check()?;
            if guardrails[..at].iter().any(|other| other.name == guardrail.name) {
                return Err(JudgeError::DuplicateName { name: guardrail.name.clone() });
            }
        }
        if guardrails.iter().all(|guardrail| guardrail.action == Action::ReportOnly) {
            return Err(JudgeError::NothingDecides);
        }
        Ok(Self {
            evidence: guardrails.iter().map(|one| Evidence::new(one.measure)).collect(),
            guardrails,
            alpha,
            beta,
            planned,
            rails: HardRails::default(),
            schedule: Schedule::new(planned),
            elapsed: Duration::ZERO,
            restarts: 0,
            past: Past::default(),
            seen: [ArmCounts::default(), ArmCounts::default()],
            lately: Lately::default(),
            share: TrafficShare::NONE,
            candidate_seen_at: Duration::ZERO,
            streak: Streak::default(),
        })
    }

    /// With other hard rails.
    #[must_use]
    pub const fn with_rails(mut self, rails: HardRails) -> Self {
        self.rails = rails;
        self
    }

    /// With what was collected of the baseline before the stage, so that latency is judged from the
    /// first batch on. It sets thresholds only: what decides is the baseline of the same minutes.
    #[must_use]
    pub fn with_baseline(mut self, baseline: &ArmCounts) -> Self {
        self.past.add(baseline);
        self
    }

    /// Adds a batch: what came while the candidate had `share` of the traffic.
    ///
    /// A batch over a change of the split must not be given; [`Delta`]s of one epoch never are.
    pub fn observe(&mut self, share: TrafficShare, delta: &Delta) {
        let nothing = ArmCounts::default();
        let baseline = delta.arm(Arm::BASELINE).unwrap_or(&nothing);
        let candidate = delta.arm(Arm::CANDIDATE).unwrap_or(&nothing);
        let (first, last) = (self.restarts.saturating_add(1), self.schedule.begun(self.elapsed));
        for (guardrail, evidence) in self.guardrails.iter().zip(&mut self.evidence) {
            evidence.prepare(guardrail, &self.past, first, last);
            evidence.add(guardrail, share, baseline, candidate);
        }
        if first <= last {
            self.restarts = last;
            self.past.turn();
            self.lately = Lately { now: Default::default(), before: self.lately.now };
        }
        self.past.add(baseline);
        for ((seen, lately), counts) in
            self.seen.iter_mut().zip(&mut self.lately.now).zip([baseline, candidate])
        {
            seen.merge(counts);
            lately.0 = lately.0.saturating_add(failed(counts));
            lately.1 = lately.1.saturating_add(counts.judged());
        }
        self.share = share;
        self.elapsed = self.elapsed.saturating_add(delta.lasted);
        if candidate.judged() > 0 {
            self.candidate_seen_at = self.elapsed;
        }
        if candidate.of(Status::Ok) > 0 {
            self.streak = Streak::default();
        } else {
            let streak = &mut self.streak;
            streak.failures = streak.failures.saturating_add(failed(candidate));
            if streak.failures > 0 {
                let answered = baseline.of(Status::Ok);
                streak.baseline_successes = streak.baseline_successes.saturating_add(answered);
            }
        }
    }

    /// What follows from everything observed so far.
    pub fn verdict(&self) -> Verdict {
        let readings = self.readings();
        if let Some(rail) = self.rail() {
            return Verdict::RollBack { cause: Cause::Rail(rail), readings };
        }
        if let Some(reading) = broken(&readings, Action::RollBack) {
            let cause = Cause::Guardrail(Box::new(reading.clone()));
            return Verdict::RollBack { cause, readings };
        }
        if let Some(reading) = broken(&readings, Action::Pause) {
            let cause = Cause::Guardrail(Box::new(reading.clone()));
            return Verdict::Pause { cause, readings };
        }
        if let Some(doubt) = self.both_fail() {
            return Verdict::Inconclusive { doubt, readings };
        }
        if let Some(flaw) = self.flaw() {
            return Verdict::Invalid { flaw, readings };
        }
        let deciding = || readings.iter().zip(&self.guardrails).filter(|(reading, guardrail)| {
            guardrail.action != Action::ReportOnly
                && !(reading.finding == Finding::NoData && guardrail.no_data == NoData::Skip)
        });
        let open: Vec<&Reading> =
            deciding().map(|(reading, _)| reading).filter(|reading| !reading.is_safe()).collect();
        let hold = self.hold(deciding().map(|(reading, _)| reading));
        let shown: Vec<String> = deciding().map(|(reading, _)| reading.to_string()).collect();
        if open.is_empty() && hold.is_none() && !shown.is_empty() {
            return Verdict::Promote { proof: Proof::new(shown, self.beta), readings };
        }
        let needed = Needed {
            guardrails: open.iter().map(|reading| reading.guardrail.clone()).collect(),
            requests: open
                .iter()
                .map(|reading| reading.needed)
                .try_fold(0, |most, one| one.map(|one| one.max(most))),
            hold,
        };
        match self.planned {
            Some(planned) if self.elapsed >= planned => {
                if self.seen[1].judged() == 0 {
                    Verdict::Invalid { flaw: Flaw::NoTraffic, readings }
                } else if self.seen[0].judged() == 0 {
                    Verdict::Invalid { flaw: Flaw::NoControl, readings }
                } else {
                    Verdict::Inconclusive { doubt: Doubt::TimeIsUp { needed, planned }, readings }
                }
            }
            _ => Verdict::Continue { needed, readings },
        }
    }

    /// Every guardrail's numbers.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let whole: f64 = self
            .guardrails
            .iter()
            .filter(|guardrail| guardrail.action != Action::ReportOnly)
            .map(|guardrail| guardrail.weight)
            .sum();
        let read = |(guardrail, evidence): (&Guardrail, &Evidence)| {
            let part = match guardrail.action {
                Action::ReportOnly => 1.0,
                Action::RollBack | Action::Pause => guardrail.weight / whole,
            };
            let setting = Setting {
                schedule: &self.schedule,
                alpha: self.alpha * part,
                beta: self.beta,
                baseline: &self.seen[0],
                candidate: &self.seen[1],
            };
            evidence.read(guardrail, &setting)
        };
        self.guardrails.iter().zip(&self.evidence).map(read).collect()
    }

    /// How much time the batches cover together.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How long the stage was planned to last.
    #[must_use]
    pub const fn planned(&self) -> Option<Duration> {
        self.planned
    }

    /// Everything observed of `arm` in this stage: the candidate's, or else the baseline's.
    #[must_use]
    pub fn seen(&self, arm: Arm) -> &ArmCounts {
        &self.seen[usize::from(arm == Arm::CANDIDATE)]
    }

    /// The guardrails.
    #[must_use]
    pub fn guardrails(&self) -> &[Guardrail] {
        &self.guardrails
    }

    /// The probability of a false rollback in this stage.
    #[must_use]
    pub const fn alpha(&self) -> f64 {
        self.alpha
    }

    /// The probability of a false promotion by each guardrail.
    #[must_use]
    pub const fn beta(&self) -> f64 {
        self.beta
    }

    fn rail(&self) -> Option<Rail> {
        let [baseline, candidate] = &self.seen;
        let panics = candidate.of(Status::Panicked);
        if self.rails.panics.is_some_and(|most| panics >= most.max(1)) {
            let rate = |counts: &ArmCounts| {
                counts.of(Status::Panicked) as f64 / (counts.judged() as f64).max(1.0)
            };
            if rate(candidate) > 2.0 * rate(baseline) {
                return Some(Rail::Panics { panics });
            }
        }
        let Streak { failures, baseline_successes } = self.streak;
        let most = self.rails.failures_without_success?;
        (failures >= most.max(1) && baseline_successes > 0)
            .then_some(Rail::OnlyFailures { failures })
    }

    fn both_fail(&self) -> Option<Doubt> {
        let [baseline, candidate] = [0, 1].map(|arm| {
            let (now, before) = (self.lately.now[arm], self.lately.before[arm]);
            let (failed, judged) = (now.0.saturating_add(before.0), now.1.saturating_add(before.1));
            (judged >= FEW).then(|| failed as f64 / judged as f64)
        });
        let (baseline, candidate) = (baseline?, candidate?);
        (baseline >= BROKEN && candidate >= BROKEN)
            .then_some(Doubt::BothArmsFail { baseline, candidate })
    }

    fn flaw(&self) -> Option<Flaw> {
        for (guardrail, evidence) in self.guardrails.iter().zip(&self.evidence) {
            let values = evidence.out_of_range();
            if values > 0 && guardrail.action != Action::ReportOnly {
                return Some(Flaw::OutOfRange { guardrail: guardrail.name.clone(), values });
            }
        }
        let judged = self.seen[1].judged();
        let silent = self.elapsed.saturating_sub(self.candidate_seen_at);
        let usual = self.candidate_seen_at.as_secs_f64() / (judged as f64).max(1.0);
        let long = (2.0 * self.schedule.step().as_secs_f64()).max(20.0 * usual);
        (judged > 0 && silent.as_secs_f64() > long).then_some(Flaw::Starved { silent })
    }

    fn hold<'a>(&self, deciding: impl Iterator<Item = &'a Reading>) -> Option<Hold> {
        let [baseline, candidate] = &self.seen;
        for reading in deciding {
            let guardrail = reading.guardrail.clone();
            if reading.finding == Finding::NoData {
                return Some(Hold::NoData { guardrail });
            }
            let gate = match reading.measure {
                crate::judge::guardrail::Measure::Score { .. } => {
                    f64::midpoint(reading.null, reading.limit)
                }
                crate::judge::guardrail::Measure::Latency { .. } => 1.0,
                _ => (reading.null * reading.limit).sqrt(),
            };
            let looks_worse = reading.loudest.is_some_and(|loudest| loudest > gate);
            if reading.ln_e > reading.threshold / 2.0 && looks_worse {
                return Some(Hold::HarmGathers { guardrail });
            }
        }
        let share = self.share.fraction();
        let fair = baseline.in_flight() as f64 * share / (1.0 - share).max(1e-6);
        let in_flight = candidate.in_flight();
        (in_flight as f64 > 10.0 + 3.0 * fair && self.share != TrafficShare::ALL)
            .then_some(Hold::Hanging { in_flight })
    }
}

fn failed(counts: &ArmCounts) -> u64 {
    counts.failures().saturating_add(counts.of(Status::Timeout))
}

fn broken(readings: &[Reading], action: Action) -> Option<&Reading> {
    readings
        .iter()
        .filter(|reading| reading.finding == Finding::Harm && reading.action == action)
        .max_by(|one, other| {
            (one.ln_e - one.threshold).total_cmp(&(other.ln_e - other.threshold))
        })
}

/// An arm that fails this part of its calls is broken, whatever the other does.
const BROKEN: f64 = 0.2;
/// Calls of each arm before that is said of it.
const FEW: u64 = 20;
