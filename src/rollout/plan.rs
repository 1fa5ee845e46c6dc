//! The whole journey of a model, written down before it begins.
//!
//! A [`Plan`] is a list of stages that a candidate must pass in order: nothing is skipped, except
//! by an operator's recorded override. What a plan says was checked when it was built or loaded;
//! a plan that exists can be run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::judge::guardrail::{Guardrail, GuardrailError};
use crate::share::TrafficShare;

/// A journey that can be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PlanForm", into = "PlanForm")]
pub struct Plan {
    stages: Vec<Stage>,
    alpha: f64,
    beta: f64,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Stage {
    /// What people call it.
    pub name: Name,
    /// What is done in it.
    pub kind: StageKind,
    /// The candidate's share of the traffic while it lasts.
    pub share: TrafficShare,
    /// It lasts at least this long, in observed time: a gap of more than a minute between two
    /// looks counts as a minute, so neither a suspended machine nor a clock that jumps ends it.
    #[serde(with = "seconds")]
    pub at_least: Duration,
    /// When it has lasted this long without a verdict, people are told that it holds. It goes on
    /// holding: time alone neither promotes nor rolls back.
    #[serde(with = "seconds")]
    pub tell_after: Duration,
    /// Judged calls the candidate needs before it may pass. In a shadow: pairs.
    pub min_samples: u64,
    /// What must not get worse.
    pub guardrails: Vec<Guardrail>,
    /// Shadow only: what agreement with the baseline is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<AgreementRule>,
    /// Shadow only: what quality is asked for, once the truth is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityRule>,
}

/// What is done in a stage.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StageKind {
    /// The baseline alone is watched, so that there is something to compare with.
    Baseline,
    /// The candidate runs on copies of requests; no user sees its answers.
    Shadow,
    /// The candidate serves a share, against the baseline beside it.
    Canary,
    /// The candidate serves everybody; the old model stays warm.
    Full,
}

/// How much two models must agree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementRule {
    /// The agreement that must be shown to be exceeded, from 0 to 1 (the source of the default of
    /// 0.85 is common practice: below it, people look at the differences before users do).
    pub above: f64,
    /// The chance, at the most, that a candidate which agrees more often than that is turned away.
    /// No user meets a shadow's answers, so this is not part of the release's budget.
    #[serde(default = "default_beta")]
    pub alpha: f64,
}

/// How much quality may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityRule {
    /// The loss of accuracy that would not matter, from 0 to 1: 0.02 is two points. The stage is
    /// passed when the loss is shown to be smaller, and refused when the candidate is shown to be
    /// worse and that is not.
    pub margin: f64,
    /// The chance, at the most, that a candidate which is as good is refused. No user meets a
    /// shadow's answers, so this is not part of the release's budget.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
}

/// A plan that cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No stage was given.
    #[error("a plan needs at least one stage; add a canary")]
    Empty,
    /// More stages than anybody can follow.
    #[error("a plan of {stages} stages is too long; the most is 64")]
    TooManyStages {
        /// How many were given.
        stages: usize,
    },
    /// Two stages have the same name.
    #[error("two stages are named {name}; give each its own name")]
    SameName {
        /// The name.
        name: Name,
    },
    /// A stage sends less than, or as much as, the one before it.
    #[error("stage {stage}: share is {after}, not more than the {before} of the stage before it")]
    NotRising {
        /// The stage.
        stage: Name,
        /// What the stage before it sends.
        before: TrafficShare,
        /// What it sends itself.
        after: TrafficShare,
    },
    /// A stage's share does not fit its kind.
    #[error("stage {stage}: share is {share}; a {kind} needs {expected}")]
    WrongShare {
        /// The stage.
        stage: Name,
        /// What it sends.
        share: TrafficShare,
        /// Its kind.
        kind: &'static str,
        /// What its kind needs.
        expected: &'static str,
    },
    /// A stage comes too late: baselines and shadows stand before the first canary.
    #[error("stage {stage}: a {kind} must come before the first canary; move it up")]
    TooLate {
        /// The stage.
        stage: Name,
        /// Its kind.
        kind: &'static str,
    },
    /// A full rollout without a canary before it.
    #[error("stage {stage}: nothing may serve everybody before a canary; add one before it")]
    NoCanary {
        /// The stage.
        stage: Name,
    },
    /// The last stage does not serve everybody.
    #[error("the last stage, {stage}, sends {share}; end the plan with a full stage")]
    Unfinished {
        /// The stage.
        stage: Name,
        /// What it sends.
        share: TrafficShare,
    },
    /// A stage that serves users has nothing that could stop it.
    #[error("stage {stage}: it has no guardrail; add at least the error rate")]
    NoGuardrail {
        /// The stage.
        stage: Name,
    },
    /// A stage could pass without having seen anything.
    #[error("stage {stage}: min_samples is 0; no stage may pass unseen, ask for at least 1")]
    NoSamples {
        /// The stage.
        stage: Name,
    },
    /// A guardrail that cannot be used.
    #[error("stage {stage}: {error}")]
    Guardrail {
        /// The stage.
        stage: Name,
        /// What is wrong with it.
        error: GuardrailError,
    },
    /// Number that is not a probability.
    #[error("{field} is {value}; it must lie strictly between 0 and 1")]
    NotAProbability {
        /// Where it stands.
        field: String,
        /// What was given.
        value: f64,
    },
    /// Durations that contradict each other.
    #[error("stage {stage}: tell_after ({tell_after:?}) is shorter than at_least ({at_least:?})")]
    Impatient {
        /// The stage.
        stage: Name,
        /// How long it lasts at least.
        at_least: Duration,
        /// When people would be told.
        tell_after: Duration,
    },
    /// A rule that this kind of stage cannot follow.
    #[error("stage {stage}: {field} belongs to a shadow, and this is a {kind}; remove it")]
    NotAShadow {
        /// The stage.
        stage: Name,
        /// The rule.
        field: &'static str,
        /// Its kind.
        kind: &'static str,
    },
}

impl Plan {
    /// Baseline, shadow, 5 %, 25 %, 50 %, 100 %, with the durations and limits that are common
    /// practice: a day of baseline, a day of shadow, two hours, six hours, a day, two days.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "never: the plan is fixed and tested")]
    pub fn standard() -> Self {
        Self::builder()
            .baseline(Duration::from_secs(24 * HOUR), 1_000)
            .shadow(Duration::from_secs(24 * HOUR), 1_000)
            .canary(percent(5), Duration::from_secs(2 * HOUR), 1_000)
            .canary(percent(25), Duration::from_secs(6 * HOUR), 1_000)
            .canary(percent(50), Duration::from_secs(24 * HOUR), 1_000)
            .full(Duration::from_secs(48 * HOUR), 1_000)
            .build()
            .expect("the standard plan keeps the rules of plans")
    }

    /// The same journey in minutes, for models whose failures cost little: five minutes of shadow,
    /// then 5 %, 25 %, 50 % and 100 % for five minutes each.
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
            .build()
            .expect("the quick plan keeps the rules of plans")
    }

    /// Starts an empty plan.
    pub const fn builder() -> PlanBuilder {
        PlanBuilder { stages: Vec::new(), alpha: DEFAULT_ALPHA, beta: DEFAULT_BETA }
    }

    /// The stages, in order.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The chance, at the most, that a healthy candidate is taken back anywhere on the journey.
    #[must_use]
    pub const fn alpha(&self) -> f64 {
        self.alpha
    }

    /// The chance, at the most, that one proof of harmlessness is wrong.
    #[must_use]
    pub const fn beta(&self) -> f64 {
        self.beta
    }

    /// What of [`Plan::alpha`] each stage may spend: the same for all that can take a model back.
    #[must_use]
    pub fn alpha_of_a_stage(&self) -> f64 {
        let spending = self.stages.iter().filter(|s| s.kind != StageKind::Baseline).count();
        self.alpha / spending.max(1) as f64
    }
}

/// Collects stages; checks them all at the end.
#[derive(Clone, Debug)]
#[must_use = "a plan exists once it is built"]
pub struct PlanBuilder {
    stages: Vec<Stage>,
    alpha: f64,
    beta: f64,
}

impl PlanBuilder {
    /// Adds a stage that watches the baseline alone.
    pub fn baseline(self, at_least: Duration, min_samples: u64) -> Self {
        self.push("baseline", StageKind::Baseline, TrafficShare::NONE, at_least, min_samples)
    }

    /// Adds a stage that runs the candidate on copies of requests, with the default guardrails
    /// and an agreement above 85 %.
    pub fn shadow(self, at_least: Duration, min_pairs: u64) -> Self {
        self.push("shadow", StageKind::Shadow, TrafficShare::NONE, at_least, min_pairs).edit_last(
            |stage| stage.agreement = Some(AgreementRule { above: 0.85, alpha: DEFAULT_BETA }),
        )
    }

    /// Adds a stage in which the candidate serves `share` beside the baseline.
    pub fn canary(self, share: TrafficShare, at_least: Duration, min_samples: u64) -> Self {
        self.push(&share.to_string(), StageKind::Canary, share, at_least, min_samples)
    }

    /// Adds the stage in which the candidate serves everybody and the old model stays warm.
    pub fn full(self, at_least: Duration, min_samples: u64) -> Self {
        self.push("100 %", StageKind::Full, TrafficShare::ALL, at_least, min_samples)
    }

    /// Adds a stage as it is.
    pub fn stage(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }

    /// Changes the stage added last, for example its guardrails.
    pub fn edit_last(mut self, edit: impl FnOnce(&mut Stage)) -> Self {
        if let Some(last) = self.stages.last_mut() {
            edit(last);
        }
        self
    }

    /// Asks for a quality in the stage added last: see [`QualityRule`].
    pub fn quality(self, margin: f64) -> Self {
        self.edit_last(|stage| stage.quality = Some(QualityRule { margin, alpha: DEFAULT_ALPHA }))
    }

    /// Sets the guardrails of every stage added so far.
    pub fn guardrails(mut self, guardrails: &[Guardrail]) -> Self {
        for stage in &mut self.stages {
            stage.guardrails = guardrails.to_vec();
        }
        self
    }

    /// Sets the chance, at the most, that a healthy candidate is taken back (2 % by default).
    pub const fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets the chance, at the most, that one proof of harmlessness is wrong (5 % by default).
    pub const fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// The plan, checked.
    ///
    /// # Errors
    ///
    /// [`PlanError`] for the first rule that is broken, with the stage, the value and the remedy.
    pub fn build(self) -> Result<Plan, PlanError> {
        Plan { stages: self.stages, alpha: self.alpha, beta: self.beta }.checked()
    }

    fn push(
        self,
        name: &str,
        kind: StageKind,
        share: TrafficShare,
        at_least: Duration,
        min_samples: u64,
    ) -> Self {
        let name = Name::new(name).expect("the names of this file are names");
        self.stage(Stage {
            name,
            kind,
            share,
            at_least,
            tell_after: at_least.saturating_mul(4).max(Duration::from_secs(60)),
            min_samples,
            guardrails: Guardrail::standard(),
            agreement: None,
            quality: None,
        })
    }
}

impl StageKind {
    /// The word for it in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Full => "full stage",
        }
    }
}

impl Plan {
    fn checked(self) -> Result<Self, PlanError> {
        probability("alpha", self.alpha)?;
        probability("beta", self.beta)?;
        if self.stages.len() > MAX_STAGES {
            return Err(PlanError::TooManyStages { stages: self.stages.len() });
        }
        let Some(last) = self.stages.last() else {
            return Err(PlanError::Empty);
        };
        if last.kind != StageKind::Full {
            let (stage, share) = (last.name.clone(), last.share);
            return Err(PlanError::Unfinished { stage, share });
        }
        let mut served = TrafficShare::NONE;
        for (at, stage) in self.stages.iter().enumerate() {
            if self.stages[..at].iter().any(|earlier| earlier.name == stage.name) {
                return Err(PlanError::SameName { name: stage.name.clone() });
            }
            stage.check_share(served)?;
            stage.check_rules()?;
            served = stage.share;
        }
        Ok(self)
    }
}

impl Stage {
    fn check_share(&self, served: TrafficShare) -> Result<(), PlanError> {
        let (stage, share, kind) = (self.name.clone(), self.share, self.kind.word());
        let wrong =
            |expected| Err(PlanError::WrongShare { stage: stage.clone(), share, kind, expected });
        match self.kind {
            StageKind::Baseline | StageKind::Shadow => {
                if served > TrafficShare::NONE {
                    return Err(PlanError::TooLate { stage, kind });
                }
                if share > TrafficShare::NONE { wrong("a share of 0 %") } else { Ok(()) }
            }
            StageKind::Canary => {
                if share == TrafficShare::NONE || share == TrafficShare::ALL {
                    return wrong("more than 0 % and less than 100 %");
                }
                if share <= served {
                    return Err(PlanError::NotRising { stage, before: served, after: share });
                }
                Ok(())
            }
            StageKind::Full => {
                if served == TrafficShare::NONE {
                    return Err(PlanError::NoCanary { stage });
                }
                if served == TrafficShare::ALL {
                    return Err(PlanError::NotRising { stage, before: served, after: share });
                }
                if share == TrafficShare::ALL { Ok(()) } else { wrong("100 %") }
            }
        }
    }

    fn check_rules(&self) -> Result<(), PlanError> {
        let (stage, kind) = (self.name.clone(), self.kind.word());
        if self.min_samples == 0 {
            return Err(PlanError::NoSamples { stage });
        }
        if self.tell_after < self.at_least {
            let (at_least, tell_after) = (self.at_least, self.tell_after);
            return Err(PlanError::Impatient { stage, at_least, tell_after });
        }
        if self.guardrails.is_empty() && self.kind != StageKind::Baseline {
            return Err(PlanError::NoGuardrail { stage });
        }
        for guardrail in &self.guardrails {
            guardrail
                .check()
                .map_err(|error| PlanError::Guardrail { stage: stage.clone(), error })?;
        }
        if self.kind != StageKind::Shadow {
            if self.agreement.is_some() {
                return Err(PlanError::NotAShadow { stage, field: "agreement", kind });
            }
            if self.quality.is_some() {
                return Err(PlanError::NotAShadow { stage, field: "quality", kind });
            }
        }
        if let Some(rule) = self.agreement {
            probability(&format!("stage {stage}: agreement.above"), rule.above)?;
            probability(&format!("stage {stage}: agreement.alpha"), rule.alpha)?;
        }
        if let Some(rule) = self.quality {
            probability(&format!("stage {stage}: quality.margin"), rule.margin)?;
            probability(&format!("stage {stage}: quality.alpha"), rule.alpha)?;
        }
        Ok(())
    }
}

fn probability(field: &str, value: f64) -> Result<(), PlanError> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(PlanError::NotAProbability { field: field.to_owned(), value })
    }
}

fn percent(whole: u32) -> TrafficShare {
    TrafficShare::from_ppm(whole * 10_000).expect("at most 100")
}

/// A plan as it is stored: the same fields, unchecked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanForm {
    #[serde(default = "default_alpha")]
    alpha: f64,
    #[serde(default = "default_beta")]
    beta: f64,
    stages: Vec<Stage>,
}

impl TryFrom<PlanForm> for Plan {
    type Error = PlanError;

    fn try_from(form: PlanForm) -> Result<Self, PlanError> {
        Self { stages: form.stages, alpha: form.alpha, beta: form.beta }.checked()
    }
}

impl From<Plan> for PlanForm {
    fn from(plan: Plan) -> Self {
        Self { alpha: plan.alpha, beta: plan.beta, stages: plan.stages }
    }
}

const fn default_alpha() -> f64 {
    DEFAULT_ALPHA
}

const fn default_beta() -> f64 {
    DEFAULT_BETA
}

/// Durations as stored: seconds, with a fraction where there is one.
mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| D::Error::custom(format!("{seconds} seconds is not a duration")))
    }
}

const HOUR: u64 = 3600;
const MAX_STAGES: usize = 64;
const DEFAULT_ALPHA: f64 = 0.02;
const DEFAULT_BETA: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_standard_plan_survives_being_stored() {
        for plan in [Plan::standard(), Plan::quick()] {
            let stored = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), plan);
        }
    }

    #[test]
    fn from_shadow_straight_to_everybody_is_refused() {
        let error = Plan::builder().shadow(MINUTE, 10).full(MINUTE, 10).build().unwrap_err();
        assert!(matches!(error, PlanError::NoCanary { .. }), "{error}");
    }

    #[test]
    fn shares_that_do_not_rise_are_refused_by_name() {
        let error = Plan::builder()
            .canary(percent(25), MINUTE, 10)
            .canary(percent(5), MINUTE, 10)
            .full(MINUTE, 10)
            .build()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "stage 5 %: share is 5 %, not more than the 25 % of the stage before it"
        );
    }

    #[test]
    fn a_stage_that_would_pass_unseen_is_refused() {
        let error = Plan::builder().canary(percent(5), MINUTE, 0).full(MINUTE, 1).build();
        assert!(matches!(error, Err(PlanError::NoSamples { .. })));
    }

    #[test]
    fn levels_that_are_no_probabilities_are_refused() {
        for alpha in [f64::NAN, 0.0, 1.0, -1.0, f64::INFINITY] {
            let plan = Plan::builder().canary(percent(5), MINUTE, 1).full(MINUTE, 1).alpha(alpha);
            assert!(matches!(plan.build(), Err(PlanError::NotAProbability { .. })), "{alpha}");
        }
    }

    #[test]
    fn a_plan_that_ends_half_way_or_has_no_stage_is_refused() {
        assert_eq!(Plan::builder().build(), Err(PlanError::Empty));
        let half = Plan::builder().canary(percent(5), MINUTE, 1).build();
        assert!(matches!(half, Err(PlanError::Unfinished { .. })));
    }

    #[test]
    fn unknown_fields_of_a_stored_plan_are_refused() {
        let mut stored = serde_json::to_value(Plan::quick()).unwrap();
        stored["stages"][0]["shares"] = 5.into();
        assert!(serde_json::from_value::<Plan>(stored).unwrap_err().to_string().contains("shares"));
    }
}
