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
use crate::judge::assess::{Depth, Evidence, Setting};
use crate::judge::evidence::Schedule;
use crate::judge::guardrail::{Action, Guardrail, GuardrailError, Measure, NoData};
use crate::judge::hangs::{Hung, Overdue};
use crate::judge::latency::Past;
use crate::judge::sample_ratio::{Shares, Visits};
use crate::judge::verdict::{
    Cause, Doubt, Finding, Flaw, Hold, Needed, Proof, Rail, Reading, Verdict,
};
use crate::observe::snapshot::{ArmCounts, Delta, ScoreSums};
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
    /// Candidate calls that do not end are enough, unless the baseline's are as long: one after this
    /// time, several sooner ([`Hung`]). Nothing is said of arms that stream: a stream may flow for as
    /// long as it likes. `None` for no such rule.
    #[serde(default)]
    pub hung: Option<Hung>,
}

impl Default for HardRails {
    /// 3 panics; 10 failures without a success; calls that have waited a minute for their end.
    fn default() -> Self {
        Self { panics: Some(3), failures_without_success: Some(10), hung: Some(Hung::default()) }
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
/// Memory: about 100 KB for the histograms of two arms, 400 KB where they stream, plus 24 restarts
/// of counts a guardrail.
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
    #[serde(default)]
    overdue: Overdue,
    shares: Shares,
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
            overdue: Overdue::default(),
            shares: Shares::default(),
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

    /// With knowledge of how often one subject comes back during the stage; it sharpens the check
    /// of the arms' shares.
    #[must_use]
    pub fn with_visits(mut self, visits: Visits) -> Self {
        self.shares.set(visits);
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
        self.shares.add(share, baseline, candidate);
        let rule = self.rails.hung.unwrap_or_default();
        self.overdue.observe(rule, delta.epoch, delta.lasted, baseline, candidate);
        for ((seen, lately), counts) in
            self.seen.iter_mut().zip(&mut self.lately.now).zip([baseline, candidate])
        {
            seen.merge(counts);
            if !(seen.score.sum.is_finite() && seen.score.sum_of_squares.is_finite()) {
                seen.score = ScoreSums { rejected: seen.score.count, ..ScoreSums::default() };
            }
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
        self.verdict_of(self.readings())
    }

    /// The same verdict, with readings that lack what only people read: the intervals, and how
    /// much is still needed. A fraction of the price.
    pub fn glance(&self) -> Verdict {
        self.verdict_of(self.readings_to(Depth::Verdict))
    }

    fn verdict_of(&self, readings: Vec<Reading>) -> Verdict {
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
        let deciding = || {
            readings.iter().zip(&self.guardrails).filter(|(reading, guardrail)| {
                guardrail.action != Action::ReportOnly
                    && !(reading.finding == Finding::NoData && guardrail.no_data == NoData::Skip)
            })
        };
        let open: Vec<&Reading> =
            deciding().map(|(reading, _)| reading).filter(|reading| !reading.is_safe()).collect();
        let hold = self.hold(deciding().map(|(reading, _)| reading));
        if open.is_empty() && hold.is_none() && deciding().next().is_some() {
            let shown = deciding().map(|(reading, _)| reading.to_string()).collect();
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
        self.readings_to(Depth::Whole)
    }

    fn readings_to(&self, depth: Depth) -> Vec<Reading> {
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
                depth,
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
        if self.rails.failures_without_success.is_some_and(|most| failures >= most.max(1))
            && baseline_successes > 0
        {
            return Some(Rail::OnlyFailures { failures });
        }
        let rule = self.rails.hung?;
        self.overdue.found(rule, None)
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
        if let Some(flaw) = self.shares.mismatch(self.elapsed) {
            return Some(flaw);
        }
        let truth = |one: &Guardrail| {
            one.measure == Measure::WrongAnswers && one.action != Action::ReportOnly
        };
        if self.guardrails.iter().any(truth) {
            if let Some(flaw) = self.shares.missing_labels(self.elapsed) {
                return Some(flaw);
            }
        }
        let judged = self.seen[1].judged();
        let silent = self.elapsed.saturating_sub(self.candidate_seen_at);
        let usual = self.candidate_seen_at.as_secs_f64() / (judged as f64).max(1.0);
        let long = (2.0 * self.schedule.step().as_secs_f64()).max(20.0 * usual);
        (judged > 0 && silent.as_secs_f64() > long).then_some(Flaw::Starved { silent })
    }

    fn hold<'a>(&self, deciding: impl Iterator<Item = &'a Reading>) -> Option<Hold> {
        for reading in deciding {
            let guardrail = reading.guardrail.clone();
            if reading.finding == Finding::NoData {
                return Some(Hold::NoData { guardrail });
            }
            let gate = match reading.measure {
                Measure::Score { .. } => f64::midpoint(reading.null, reading.limit),
                Measure::Latency { .. } | Measure::Pace { .. } => 1.0,
                _ => (reading.null * reading.limit).sqrt(),
            };
            let looks_worse = reading.loudest.is_some_and(|loudest| loudest > gate);
            if reading.ln_e > reading.threshold / 2.0 && looks_worse {
                return Some(Hold::HarmGathers { guardrail });
            }
        }
        let seen = &self.seen[1];
        if seen.diverted > seen.finished() / 2 {
            return Some(Hold::Diverted { diverted: seen.diverted, calls: seen.finished() });
        }
        let share = self.share.fraction();
        // Under this split only: what a restart cut off, or another split began, never ends here.
        let [control, in_flight] = self.overdue.in_flight();
        let fair = control as f64 * share / (1.0 - share).max(1e-6);
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
        .max_by(|one, other| (one.ln_e - one.threshold).total_cmp(&(other.ln_e - other.threshold)))
}

/// An arm that fails this part of its calls is broken, whatever the other does.
const BROKEN: f64 = 0.2;
/// Calls of each arm before that is said of it.
const FEW: u64 = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Moment;
    use crate::ids::Epoch;

    const HOUR: Duration = Duration::from_secs(3600);

    fn share() -> TrafficShare {
        TrafficShare::percent(5.0).unwrap()
    }

    fn arm(ok: u64, errors: u64) -> ArmCounts {
        let mut counts = ArmCounts { started: ok + errors, ..ArmCounts::default() };
        counts.ended[Status::Ok.index()] = ok;
        counts.ended[Status::Error.index()] = errors;
        counts
    }

    fn batch(baseline: ArmCounts, candidate: ArmCounts) -> Delta {
        let span = Duration::from_secs(10);
        Delta::new(Moment::from_secs(10), span, Epoch::default(), vec![baseline, candidate])
    }

    fn judge() -> StageJudge {
        StageJudge::new(vec![Guardrail::error_rate()], 0.01, 0.05, HOUR).unwrap()
    }

    #[test]
    fn no_traffic_is_never_healthy() {
        let mut judge = judge();
        for _ in 0..1_000 {
            judge.observe(share(), &Delta::default());
            judge.observe(share(), &batch(ArmCounts::default(), ArmCounts::default()));
            assert!(!judge.verdict().is_promotion() && !judge.verdict().is_roll_back());
        }
        assert!(matches!(judge.verdict(), Verdict::Invalid { flaw: Flaw::NoTraffic, .. }));
    }

    #[test]
    fn one_error_against_none_takes_nobody_back() {
        let mut judge = judge();
        judge.observe(share(), &batch(arm(950, 0), arm(49, 1)));
        assert!(matches!(judge.verdict(), Verdict::Continue { .. }), "{}", judge.verdict());
    }

    #[test]
    fn a_candidate_that_errs_is_taken_back_and_the_sentence_says_why() {
        let mut judge = judge();
        judge.observe(share(), &batch(arm(950, 1), arm(40, 10)));
        let verdict = judge.verdict();
        assert!(verdict.is_roll_back());
        let sentence = verdict.to_string();
        assert!(
            sentence.starts_with("roll back: error rate of the candidate is 20.00 % (10 of 50)"),
            "{sentence}"
        );
    }

    #[test]
    fn a_healthy_candidate_is_promoted_once_that_is_shown() {
        let mut judge = judge();
        let mut verdict = judge.verdict();
        for _ in 0..400 {
            judge.observe(share(), &batch(arm(950, 1), arm(50, 0)));
            verdict = judge.verdict();
            if verdict.is_promotion() {
                break;
            }
        }
        assert!(verdict.is_promotion(), "{verdict}");
        assert!(judge.elapsed() > Duration::from_secs(100), "{:?}", judge.elapsed());
    }

    #[test]
    fn when_both_arms_fail_nobody_is_blamed_and_nobody_promoted() {
        let mut judge = judge();
        for _ in 0..300 {
            judge.observe(share(), &batch(arm(380, 570), arm(20, 30)));
            let verdict = judge.verdict();
            assert!(matches!(
                verdict,
                Verdict::Inconclusive { doubt: Doubt::BothArmsFail { .. }, .. }
            ));
        }
    }

    #[test]
    fn time_alone_promotes_nobody() {
        let mut judge = StageJudge::new(Guardrail::standard(), 0.01, 0.05, HOUR).unwrap();
        for _ in 0..361 {
            judge.observe(share(), &batch(arm(19, 0), arm(1, 0)));
        }
        let verdict = judge.verdict();
        assert!(
            matches!(verdict, Verdict::Inconclusive { doubt: Doubt::TimeIsUp { .. }, .. }),
            "{verdict}"
        );
        assert!(verdict.to_string().contains("p50 latency has seen no value"), "{verdict}");
    }

    #[test]
    fn panics_and_failures_without_a_success_hit_a_hard_rail() {
        let mut panicking = arm(100, 0);
        panicking.ended[Status::Panicked.index()] = 3;
        let mut judge = judge();
        judge.observe(share(), &batch(arm(2000, 0), panicking));
        assert!(judge.verdict().to_string().contains("hard rail"), "{}", judge.verdict());

        let mut dead = StageJudge::new(vec![Guardrail::timeout_rate()], 0.01, 0.05, HOUR).unwrap();
        dead.observe(share(), &batch(arm(190, 0), arm(0, 9)));
        assert!(!dead.verdict().is_roll_back());
        dead.observe(share(), &batch(arm(190, 0), arm(0, 1)));
        assert!(dead.verdict().is_roll_back());
    }

    #[test]
    fn a_hanging_candidate_is_not_promoted() {
        let mut judge = judge();
        let mut hanging = arm(9_000, 0);
        hanging.started += 500;
        judge.observe(share(), &batch(arm(171_000, 100), hanging));
        let verdict = judge.verdict();
        assert!(verdict.to_string().contains("not ended"), "{verdict}");
    }

    #[test]
    fn a_candidate_whose_callers_give_up_is_taken_back_and_not_one_whose_callers_always_did() {
        let gives_up = |ok: u64, cancelled: u64| {
            let mut counts = arm(ok, 0);
            counts.started += cancelled;
            counts.ended[Status::Cancelled.index()] = cancelled;
            counts.subjects.ended = ok + cancelled;
            counts.subjects.abandoned = cancelled;
            counts
        };
        let judge = || {
            let guardrails = vec![Guardrail::abandonment_rate(), Guardrail::error_rate()];
            StageJudge::new(guardrails, 0.01, 0.05, HOUR).unwrap()
        };
        let [mut worse, mut alike] = [judge(), judge()];
        for _ in 0..60 {
            worse.observe(share(), &batch(gives_up(900, 20), gives_up(45, 5)));
            alike.observe(share(), &batch(gives_up(855, 95), gives_up(45, 5)));
        }
        let verdict = worse.verdict();
        assert!(verdict.is_roll_back(), "{verdict}");
        assert!(verdict.to_string().contains("abandonment rate"), "{verdict}");
        assert!(!alike.verdict().is_roll_back(), "{}", alike.verdict());
        // Below the floor nobody is taken back for it.
        let mut few = judge();
        (0..60).for_each(|_| few.observe(share(), &batch(gives_up(9_990, 0), gives_up(4_980, 20))));
        assert!(!few.verdict().is_roll_back(), "{}", few.verdict());
    }

    #[test]
    fn what_the_baseline_answered_in_its_stead_promotes_nobody() {
        let diverted = |of: u64| {
            let mut counts = arm(50, 0);
            (counts.diverted, counts.diverted_started) = (of, of);
            counts
        };
        for (of, promoted) in [(25, true), (26, false)] {
            let mut judge = judge();
            let mut ever = false;
            for _ in 0..400 {
                judge.observe(share(), &batch(arm(950, 1), diverted(of)));
                ever |= judge.verdict().is_promotion();
            }
            assert_eq!(ever, promoted, "{of} of 50: {}", judge.verdict());
        }
    }

    #[test]
    fn what_only_reports_decides_nothing() {
        let report = Guardrail::error_rate().action(Action::ReportOnly);
        let alone = StageJudge::new(vec![report.clone()], 0.01, 0.05, HOUR);
        assert_eq!(alone.unwrap_err(), JudgeError::NothingDecides);
        let mut judge =
            StageJudge::new(vec![report, Guardrail::timeout_rate()], 0.01, 0.05, HOUR).unwrap();
        judge.observe(share(), &batch(arm(900, 1), arm(30, 20)));
        assert!(!judge.verdict().is_roll_back());
        assert_eq!(judge.readings()[0].finding, Finding::Harm);
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        let new = |alpha, beta| StageJudge::new(Guardrail::standard(), alpha, beta, HOUR);
        for (alpha, beta) in [(0.0, 0.05), (f64::NAN, 0.05), (0.01, 1.0), (0.01, f64::INFINITY)] {
            assert!(new(alpha, beta).is_err());
        }
        let twice = vec![Guardrail::p95(), Guardrail::p95()];
        let error = StageJudge::open(twice, 0.01, 0.05).unwrap_err();
        assert!(error.to_string().contains("p95 latency"), "{error}");
    }

    fn any_arm() -> impl Strategy<Value = ArmCounts> {
        let count = prop_oneof![0_u64..50, any::<u64>()];
        let counts = prop::collection::vec(count, 8);
        (counts, any::<u64>(), prop_oneof![Just(0.5), any::<f64>()]).prop_map(
            |(counts, nanos, score)| {
                let mut arm = ArmCounts::default();
                arm.ended.copy_from_slice(&counts[..5]);
                arm.started = counts[5];
                arm.subjects.exposed = counts[6];
                arm.subjects.failed = counts[7];
                arm.marks[2] = counts[7];
                (arm.correct, arm.wrong) = (counts[5], counts[6]);
                arm.latency.record(nanos);
                arm.streams.get_or_insert_default().pace.record_bucket(7, counts[6]);
                arm.score.add(score);
                arm
            },
        )
    }

    fn all_guardrails() -> Vec<Guardrail> {
        let more = [Guardrail::p99(), Guardrail::pace(), Guardrail::score("score", 0.0, 1.0)];
        let rates = [Guardrail::mark(2, "refusals"), Guardrail::wrong_answers()];
        Guardrail::standard().into_iter().chain(more).chain(rates).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_counts_give_finite_evidence_and_survive_storage_bit_for_bit(
            batches in prop::collection::vec((0_u32..=1_000_000, any_arm(), any_arm()), 1..6),
        ) {
            let mut judge = StageJudge::new(all_guardrails(), 0.01, 0.05, HOUR).unwrap();
            for (ppm, baseline, candidate) in batches {
                let share = TrafficShare::from_ppm(ppm).unwrap();
                judge.observe(share, &batch(baseline.clone(), candidate.clone()));
                let stored = serde_json::to_string(&judge).unwrap();
                let mut loaded: StageJudge = serde_json::from_str(&stored).unwrap();
                prop_assert_eq!(&loaded, &judge);
                for reading in judge.readings() {
                    prop_assert!(reading.ln_e.is_finite() && reading.ln_safe.is_finite());
                    prop_assert!(reading.estimate.is_none_or(f64::is_finite));
                    prop_assert!(reading.loudest.is_none_or(f64::is_finite));
                }
                let verdict = judge.verdict();
                prop_assert_eq!(loaded.verdict(), verdict.clone());
                let again = serde_json::to_string(&verdict).unwrap();
                prop_assert_eq!(serde_json::from_str::<Verdict>(&again).unwrap(), verdict);
                loaded.observe(share, &batch(candidate, baseline));
            }
        }
    }
}
