//! Puts a plan together.

use std::time::Duration;

use crate::date::Date;
use crate::ids::Name;
use crate::judge::guardrail::{Guardrail, NoData};
use crate::rollout::freeze::Freeze;
use crate::rollout::plan::Plan;
use crate::rollout::plan_check::{MOST_TIME, check};
use crate::rollout::plan_error::PlanError;
use crate::rollout::stage::{
    AgreementRule, ComparisonRule, QualityRule, Stage, StageKind, Undecided,
};
use crate::share::TrafficShare;

impl Plan {
    /// Baseline, shadow, 5 %, 25 %, A/B test at 50 %, 100 %, with the durations and limits that are
    /// common practice: a day of baseline, a day of shadow, two hours, six hours, a day, two days
    /// with the old model warm; p50 within 1.2 times the baseline's, p95 within 1.5, errors and
    /// timeouts within twice, agreement above 85 %, at least 1,000 samples everywhere.
    ///
    /// The A/B test compares accuracy and scores with a margin of two points, whichever the server
    /// reports. If it reports neither, the stage rests on its guardrails and says so.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "never: the plan is fixed and tested")]
    pub fn standard() -> Self {
        let comparison = ComparisonRule { no_data: NoData::Skip, ..ComparisonRule::default() };
        Self::builder()
            .baseline(Duration::from_secs(24 * HOUR), 1_000)
            .shadow(Duration::from_secs(24 * HOUR), 1_000)
            .canary(percent(5), Duration::from_secs(2 * HOUR), 1_000)
            .canary(percent(25), Duration::from_secs(6 * HOUR), 1_000)
            .ab_test(percent(50), Duration::from_secs(24 * HOUR), 1_000, comparison)
            .full(Duration::from_secs(48 * HOUR), 1_000)
            .build()
            .expect("the standard plan keeps the rules of plans")
    }

    /// The same journey in minutes, for models whose failures cost little: five minutes of shadow,
    /// then 5 %, 25 %, 50 % and 100 % for five minutes each, and an hour in which the promotion can
    /// be taken back.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "never: the plan is fixed and tested")]
    pub fn quick() -> Self {
        let five = Duration::from_secs(300);
        // Where failures cost little, a rate below 2 % is no reason to wait for more traffic.
        let guardrails: Vec<Guardrail> = Guardrail::standard()
            .into_iter()
            .map(
                |guardrail| {
                    if guardrail.measure.is_rate() { guardrail.floor(0.02) } else { guardrail }
                },
            )
            .collect();
        Self::builder()
            .shadow(five, 200)
            .canary(percent(5), five, 100)
            .canary(percent(25), five, 100)
            .canary(percent(50), five, 100)
            .full(five, 100)
            .guardrails(&guardrails)
            .rollback_window(Duration::from_secs(HOUR))
            .build()
            .expect("the quick plan keeps the rules of plans")
    }

    /// Starts an empty plan.
    pub fn builder() -> PlanBuilder {
        PlanBuilder::default()
    }
}

/// Collects stages; checks them all at the end.
#[derive(Clone, Debug)]
#[must_use = "a plan exists once it is built"]
pub struct PlanBuilder {
    plan: Plan,
}

impl Default for PlanBuilder {
    fn default() -> Self {
        Self {
            plan: Plan {
                stages: Vec::new(),
                alpha: DEFAULT_ALPHA,
                beta: DEFAULT_BETA,
                not_before: None,
                start_by_hand: false,
                deadline: None,
                when_late: Undecided::Hold,
                fresh_drill: None,
                freezes: Vec::new(),
                rollback_window: ROLLBACK_WINDOW,
            },
        }
    }
}

impl PlanBuilder {
    /// Adds a stage that watches the baseline alone.
    pub fn baseline(self, at_least: Duration, min_samples: u64) -> Self {
        self.usual(StageKind::Baseline, TrafficShare::NONE, at_least, min_samples)
    }

    /// Adds a stage that runs the candidate on copies of requests, with the default guardrails
    /// and an agreement above 85 %.
    pub fn shadow(self, at_least: Duration, min_pairs: u64) -> Self {
        self.usual(StageKind::Shadow, TrafficShare::NONE, at_least, min_pairs)
    }

    /// Adds a stage in which the candidate serves `share` beside the baseline.
    pub fn canary(self, share: TrafficShare, at_least: Duration, min_samples: u64) -> Self {
        self.usual(StageKind::Canary, share, at_least, min_samples)
    }

    /// Adds a stage in which the candidate serves `share` and its quality is compared by `rule`.
    pub fn ab_test(
        self,
        share: TrafficShare,
        at_least: Duration,
        min_samples: u64,
        rule: ComparisonRule,
    ) -> Self {
        self.usual(StageKind::AbTest, share, at_least, min_samples)
            .edit_last(|stage| stage.comparison = Some(rule))
    }

    /// Adds the stage in which the candidate serves everybody and the old model stays warm.
    pub fn full(self, at_least: Duration, min_samples: u64) -> Self {
        self.usual(StageKind::Full, TrafficShare::ALL, at_least, min_samples)
    }

    /// Adds a stage as it is.
    pub fn stage(mut self, stage: Stage) -> Self {
        self.plan.stages.push(stage);
        self
    }

    /// Changes the stage added last, for example its guardrails.
    pub fn edit_last(mut self, edit: impl FnOnce(&mut Stage)) -> Self {
        if let Some(last) = self.plan.stages.last_mut() {
            edit(last);
        }
        self
    }

    /// Asks for a quality in the stage added last: see [`QualityRule`].
    pub fn quality(self, margin: f64) -> Self {
        self.edit_last(|stage| stage.quality = Some(QualityRule::within(margin)))
    }

    /// Asks for an operator's approval before the stage added last is left.
    pub fn approval(self) -> Self {
        self.edit_last(|stage| stage.approval = true)
    }

    /// Leaves the first part of the stage added last out of its evidence.
    pub fn warm_up(self, warm_up: Duration) -> Self {
        self.edit_last(|stage| stage.warm_up = warm_up)
    }

    /// Sets when the stage added last counts as undecided.
    pub fn at_most(self, at_most: Duration) -> Self {
        self.edit_last(|stage| stage.at_most = at_most)
    }

    /// Sets what is done when the stage added last is undecided, for whatever reason.
    pub fn when_undecided(self, then: Undecided) -> Self {
        self.edit_last(|stage| {
            stage.when_inconclusive = then;
            stage.when_underpowered = then;
            stage.when_no_data = then;
        })
    }

    /// Sets the guardrails of every stage added so far.
    pub fn guardrails(mut self, guardrails: &[Guardrail]) -> Self {
        for stage in &mut self.plan.stages {
            stage.guardrails = guardrails.to_vec();
        }
        self
    }

    /// Sets the chance, at the most, that a healthy candidate is taken back (2 % by default).
    pub const fn alpha(mut self, alpha: f64) -> Self {
        self.plan.alpha = alpha;
        self
    }

    /// Sets the chance, at the most, that one proof of harmlessness is wrong (5 % by default).
    pub const fn beta(mut self, beta: f64) -> Self {
        self.plan.beta = beta;
        self
    }

    /// Sets when it may begin.
    pub const fn not_before(mut self, date: Date) -> Self {
        self.plan.not_before = Some(date);
        self
    }

    /// Lets it wait for an operator's order to start.
    pub const fn start_by_hand(mut self) -> Self {
        self.plan.start_by_hand = true;
        self
    }

    /// Sets when the candidate should be promoted, and what is done if it is not by then.
    pub const fn deadline(mut self, date: Date, when_late: Undecided) -> Self {
        self.plan.deadline = Some(date);
        self.plan.when_late = when_late;
        self
    }

    /// Asks for a rollback drill no older than this before it begins.
    pub const fn fresh_drill(mut self, within: Duration) -> Self {
        self.plan.fresh_drill = Some(within);
        self
    }

    /// Adds a time in which no stage is left forward.
    pub fn freeze(mut self, freeze: Freeze) -> Self {
        self.plan.freezes.push(freeze);
        self
    }

    /// For how long after the promotion the former baseline stays warm and one order brings it
    /// back; 48 hours by default, zero for not at all.
    pub const fn rollback_window(mut self, window: Duration) -> Self {
        self.plan.rollback_window = window;
        self
    }

    /// The plan, checked.
    ///
    /// # Errors
    ///
    /// [`PlanError`] for the first rule that is broken, with the stage, the value and the remedy.
    pub fn build(self) -> Result<Plan, PlanError> {
        check(&self.plan)?;
        Ok(self.plan)
    }

    pub(super) fn edit(mut self, edit: impl FnOnce(&mut Plan)) -> Self {
        edit(&mut self.plan);
        self
    }

    fn usual(
        self,
        kind: StageKind,
        share: TrafficShare,
        at_least: Duration,
        min_samples: u64,
    ) -> Self {
        self.stage(usual(kind, share, at_least, min_samples))
    }
}

/// A stage with everything usual.
pub(super) fn usual(
    kind: StageKind,
    share: TrafficShare,
    at_least: Duration,
    min_samples: u64,
) -> Stage {
    let name = match kind {
        StageKind::Baseline | StageKind::Shadow => kind.word().to_owned(),
        StageKind::AbTest => format!("A/B {share}"),
        StageKind::Canary | StageKind::Full => share.to_string(),
    };
    let mut guardrails = Guardrail::standard();
    if kind == StageKind::AbTest {
        // Truths that turn bad on some later day are seen in minutes by what watches spans of time,
        // and in days by a mean over everything.
        guardrails.push(Guardrail::wrong_answers().no_data(NoData::Skip));
    }
    Stage {
        name: Name::new(name).expect("a short name without control characters"),
        kind,
        share,
        warm_up: Duration::ZERO,
        at_least,
        at_most: at_least
            .saturating_mul(4)
            .max(Duration::from_secs(60))
            .min(MOST_TIME.max(at_least)),
        min_samples,
        approval: false,
        when_inconclusive: Undecided::Hold,
        when_underpowered: Undecided::Hold,
        when_no_data: Undecided::Hold,
        guardrails,
        comparison: None,
        agreement: (kind == StageKind::Shadow).then_some(AgreementRule::above(0.85)),
        quality: None,
    }
}

pub(super) const DEFAULT_ALPHA: f64 = 0.02;
pub(super) const DEFAULT_BETA: f64 = 0.05;
/// How long a promotion can be taken back, unless a plan says otherwise.
pub const ROLLBACK_WINDOW: Duration = Duration::from_secs(48 * HOUR);

pub(super) fn percent(whole: u32) -> TrafficShare {
    TrafficShare::from_ppm(whole * 10_000).expect("at most 100")
}

const HOUR: u64 = 3600;
