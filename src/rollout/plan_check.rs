//! What must hold of a plan before it can be run.

use std::time::Duration;

use crate::observe::snapshot::ArmCounts;
use crate::rollout::plan::Plan;
use crate::rollout::plan_error::PlanError;
use crate::rollout::stage::{Stage, StageKind, Undecided};
use crate::rollout::trial::{Trial, TrialError};
use crate::share::TrafficShare;
use crate::strategy::ab_test::stage::Compared;

/// The first rule that `plan` breaks, if it breaks one.
pub(super) fn check(plan: &Plan) -> Result<(), PlanError> {
    probability("alpha", plan.alpha())?;
    probability("beta", plan.beta())?;
    let stages = plan.stages();
    if stages.len() > MAX_STAGES {
        return Err(PlanError::TooManyStages { stages: stages.len() });
    }
    let Some(last) = stages.last() else {
        return Err(PlanError::Empty);
    };
    if last.kind != StageKind::Full {
        let (stage, share) = (last.name.clone(), last.share);
        return Err(PlanError::Unfinished { stage, share });
    }
    let mut served = TrafficShare::NONE;
    for (at, stage) in stages.iter().enumerate() {
        if stages[..at].iter().any(|earlier| earlier.name == stage.name) {
            return Err(PlanError::SameName { name: stage.name.clone() });
        }
        share(stage, served)?;
        rules(plan, stage)?;
        served = stage.share;
    }
    dates(plan)
}

fn dates(plan: &Plan) -> Result<(), PlanError> {
    if plan.freezes().len() > MAX_FREEZES {
        return Err(PlanError::TooManyFreezes { freezes: plan.freezes().len() });
    }
    for freeze in plan.freezes() {
        freeze.check()?;
    }
    if let (Some(not_before), Some(deadline)) = (plan.not_before(), plan.deadline()) {
        if deadline <= not_before {
            return Err(PlanError::Deadline { not_before, deadline });
        }
    }
    if let Undecided::Extend { .. } = plan.when_late() {
        return Err(PlanError::WhenLate);
    }
    if let Some(within) = plan.fresh_drill() {
        time("", "fresh_drill", within)?;
    }
    match plan.rollback_window() {
        Duration::ZERO => Ok(()),
        window => time("", "rollback_window", window),
    }
}

fn share(stage: &Stage, served: TrafficShare) -> Result<(), PlanError> {
    let (name, share, kind) = (stage.name.clone(), stage.share, stage.kind.word());
    let wrong =
        |expected| Err(PlanError::WrongShare { stage: name.clone(), share, kind, expected });
    match stage.kind {
        StageKind::Baseline | StageKind::Shadow => {
            if served > TrafficShare::NONE {
                return Err(PlanError::TooLate { stage: name, kind });
            }
            if share > TrafficShare::NONE { wrong("a share of 0 %") } else { Ok(()) }
        }
        StageKind::Canary | StageKind::AbTest => {
            if share == TrafficShare::NONE || share == TrafficShare::ALL {
                return wrong("more than 0 % and less than 100 %");
            }
            if share <= served {
                return Err(PlanError::NotRising { stage: name, before: served, after: share });
            }
            Ok(())
        }
        StageKind::Full => {
            if served == TrafficShare::NONE {
                return Err(PlanError::NoCanary { stage: name });
            }
            if served == TrafficShare::ALL {
                return Err(PlanError::NotRising { stage: name, before: served, after: share });
            }
            if share == TrafficShare::ALL { Ok(()) } else { wrong("100 %") }
        }
    }
}

fn rules(plan: &Plan, stage: &Stage) -> Result<(), PlanError> {
    let (name, kind) = (stage.name.clone(), stage.kind.word());
    if stage.min_samples == 0 || stage.min_samples > MOST_SAMPLES {
        return Err(PlanError::Samples { stage: name, samples: stage.min_samples });
    }
    let place = format!("stage {name}: ");
    time(&place, "at_least", stage.at_least)?;
    time(&place, "at_most", stage.at_most)?;
    if stage.warm_up > Duration::ZERO {
        time(&place, "warm_up", stage.warm_up)?;
    }
    if stage.at_most < stage.at_least {
        let (at_least, at_most) = (stage.at_least, stage.at_most);
        return Err(PlanError::Impatient { stage: name, at_least, at_most });
    }
    for (field, then) in [
        ("when_inconclusive", stage.when_inconclusive),
        ("when_underpowered", stage.when_underpowered),
        ("when_no_data", stage.when_no_data),
    ] {
        if let Undecided::Extend { by, times } = then {
            time(&format!("{place}{field}: "), "extend.by", by)?;
            if !(1..=100).contains(&times) {
                return Err(PlanError::Times { stage: name, field, times });
            }
        }
    }
    if stage.guardrails.is_empty() && stage.kind != StageKind::Baseline {
        return Err(PlanError::NoGuardrail { stage: name });
    }
    for guardrail in &stage.guardrails {
        guardrail.check().map_err(|error| PlanError::Guardrail { stage: name.clone(), error })?;
    }
    for (field, given, owner) in [
        ("agreement", stage.agreement.is_some(), StageKind::Shadow),
        ("quality", stage.quality.is_some(), StageKind::Shadow),
        ("comparison", stage.comparison.is_some(), StageKind::AbTest),
    ] {
        if given && stage.kind != owner {
            let belongs = owner.word();
            return Err(PlanError::Misplaced { stage: name, field, belongs, kind });
        }
    }
    if let Some(rule) = stage.agreement {
        probability(&format!("stage {name}: agreement.above"), rule.above)?;
        probability(&format!("stage {name}: agreement.alpha"), rule.alpha)?;
    }
    if let Some(rule) = stage.quality {
        probability(&format!("stage {name}: quality.margin"), rule.margin)?;
        probability(&format!("stage {name}: quality.alpha"), rule.alpha)?;
    }
    if let Some(rule) = &stage.comparison {
        let shares = rule.of.iter().any(|of| *of != Compared::Scores);
        let most = if shares { 1.0 } else { 1e12 };
        let fits = rule.margin > 0.0 && rule.margin < most;
        if !fits {
            let margin = rule.margin;
            let problem = format!("margin is {margin}; give more than 0 and less than {most:e}");
            return Err(PlanError::Comparison { stage: name, problem });
        }
    }
    if let Some(alpha) = stage.comparison.as_ref().and_then(|rule| rule.alpha) {
        let most = plan.alpha_of_a_stage();
        let fits = alpha > 0.0 && alpha < most;
        if !fits {
            let problem = format!(
                "alpha is {alpha}; it is taken from the stage's {most:.2e}, so give less than that"
            );
            return Err(PlanError::Comparison { stage: name, problem });
        }
    }
    // What is left can only be told by whoever judges.
    match Trial::new(plan, stage, &ArmCounts::default()) {
        Ok(_) => Ok(()),
        Err(TrialError::Comparison { error, .. }) => {
            Err(PlanError::Comparison { stage: name, problem: error.to_string() })
        }
        Err(error) => {
            let problem = error.to_string();
            let field = "guardrails".to_owned();
            let value = format!("{} of them", stage.guardrails.len());
            Err(PlanError::Field { place, field, value, problem })
        }
    }
}

fn time(place: &str, field: &'static str, value: Duration) -> Result<(), PlanError> {
    if value > Duration::ZERO && value <= MOST_TIME {
        return Ok(());
    }
    let place = place.to_owned();
    Err(PlanError::Duration { place, field, value, expected: "more than 0 and at most 366d" })
}

fn probability(field: &str, value: f64) -> Result<(), PlanError> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(PlanError::NotAProbability { field: field.to_owned(), value })
    }
}

const MAX_STAGES: usize = 64;
const MAX_FREEZES: usize = 64;
const MOST_SAMPLES: u64 = 1_000_000_000_000_000;
/// The longest that any time in a plan may be.
pub(super) const MOST_TIME: Duration = Duration::from_secs(366 * 86_400);
