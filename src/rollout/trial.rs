//! The evidence of one stage, whichever kind it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Arm;
use crate::judge::paired::{Agreement, PairedQuality};
use crate::judge::stage::JudgeError;
use crate::judge::verdict::{Reading, Verdict};
use crate::machine::Seen;
use crate::observe::snapshot::ArmCounts;
use crate::rollout::plan::Plan;
use crate::rollout::stage::{Stage, StageKind};
use crate::stats::error::StatsError;
use crate::strategy::ab_test::stage::{ABStage, ABStageError, Terms};
use crate::strategy::baseline::Baseline;
use crate::strategy::canary::Canary;
use crate::strategy::conclusion::{Conclusion, Step};
use crate::strategy::full::Full;
use crate::strategy::shadow::Shadow;

/// A strategy at work on a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Trial {
    /// The baseline alone.
    Baseline(Box<Baseline>),
    /// The candidate on copies of requests.
    Shadow(Box<Shadow>),
    /// The candidate beside the baseline.
    Canary(Box<Canary>),
    /// The candidate beside the baseline, and quality compared.
    AbTest(Box<ABStage>),
    /// The candidate alone.
    Full(Box<Full>),
}

/// A stage that cannot be judged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// Its guardrails or levels cannot be used.
    #[error("stage {stage}: {error}")]
    Judge {
        /// The stage.
        stage: String,
        /// Why not.
        error: JudgeError,
    },
    /// What it compares cannot be compared.
    #[error("stage {stage}: {error}")]
    Comparison {
        /// The stage.
        stage: String,
        /// Why not.
        error: ABStageError,
    },
    /// Its rules on agreement or quality cannot be used.
    #[error("stage {stage}: {error}")]
    Paired {
        /// The stage.
        stage: String,
        /// Why not.
        error: StatsError,
    },
}

impl Trial {
    /// The trial of `stage`, knowing what the baseline did before.
    ///
    /// # Errors
    ///
    /// [`TrialError`] when the stage cannot be judged as it is written.
    pub fn new(plan: &Plan, stage: &Stage, control: &ArmCounts) -> Result<Self, TrialError> {
        let (alpha, beta) = (plan.alpha_of_a_stage(), plan.beta());
        let guardrails = stage.guardrails.clone();
        let planned = stage.at_least.max(SHORTEST);
        let name = || stage.name.to_string();
        let judge = |error| TrialError::Judge { stage: name(), error };
        let paired = |error| TrialError::Paired { stage: name(), error };
        Ok(match stage.kind {
            StageKind::Baseline => Self::Baseline(Box::new(Baseline::new(stage.min_samples))),
            StageKind::Shadow => {
                let mut shadow = Shadow::new(guardrails, alpha, beta, planned).map_err(judge)?;
                if let Some(rule) = stage.agreement {
                    let agreement = Agreement::new(rule.above, rule.alpha, beta).map_err(paired)?;
                    shadow = shadow.with_agreement(agreement);
                }
                if let Some(rule) = stage.quality {
                    let quality =
                        PairedQuality::new(rule.margin, rule.alpha, beta).map_err(paired)?;
                    shadow = shadow.with_quality(quality);
                }
                Self::Shadow(Box::new(shadow))
            }
            StageKind::Canary => Self::Canary(Box::new(
                Canary::new(guardrails, alpha, beta, planned, control).map_err(judge)?,
            )),
            StageKind::AbTest => {
                let rule = stage.comparison.clone().unwrap_or_default();
                let own = rule.alpha.unwrap_or(alpha / 2.0);
                let terms = Terms {
                    of: rule.of,
                    better: rule.better,
                    margin: rule.margin,
                    horizon: rule.horizon,
                    alpha: own,
                    segments: rule.segments,
                    no_data: rule.no_data,
                };
                let comparison = |error| match error {
                    ABStageError::Judge(error) => judge(error),
                    error => TrialError::Comparison { stage: name(), error },
                };
                Self::AbTest(Box::new(
                    ABStage::new(guardrails, alpha - own, beta, planned, control, &terms)
                        .map_err(comparison)?,
                ))
            }
            StageKind::Full => Self::Full(Box::new(
                Full::new(guardrails, alpha, beta, planned, control).map_err(judge)?,
            )),
        })
    }

    /// Takes in a batch.
    pub fn observe(&mut self, seen: &Seen) {
        match self {
            Self::Baseline(trial) => trial.observe(seen),
            Self::Shadow(trial) => trial.observe(seen),
            Self::Canary(trial) => trial.observe(seen),
            Self::AbTest(trial) => trial.observe(seen),
            Self::Full(trial) => trial.observe(seen),
        }
    }

    /// What follows from the evidence, without the sentence: a tenth of the price, and all that a
    /// look needs where nothing happens.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::Baseline(trial) => trial.step(),
            Self::Shadow(trial) => trial.step(),
            Self::Canary(trial) => trial.step(),
            Self::AbTest(trial) => trial.step(),
            Self::Full(trial) => trial.step(),
        }
    }

    /// What follows from the evidence.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        match self {
            Self::Baseline(trial) => trial.conclusion(),
            Self::Shadow(trial) => trial.conclusion(),
            Self::Canary(trial) => trial.conclusion(),
            Self::AbTest(trial) => trial.conclusion(),
            Self::Full(trial) => trial.conclusion(),
        }
    }

    /// The judge's verdict, for the kinds that have a concurrent control.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Baseline(_) | Self::Full(_) => None,
            Self::Shadow(trial) => Some(trial.verdict()),
            Self::Canary(trial) => Some(trial.verdict()),
            Self::AbTest(trial) => Some(trial.verdict()),
        }
    }

    /// Each guardrail's numbers.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        match self {
            Self::Baseline(_) => Vec::new(),
            Self::Shadow(trial) => trial.verdict().readings().to_vec(),
            Self::Canary(trial) => trial.verdict().readings().to_vec(),
            Self::AbTest(trial) => trial.verdict().readings().to_vec(),
            Self::Full(trial) => trial.readings(),
        }
    }

    /// Judged calls of the candidate; in a shadow, pairs; in a baseline, calls of the baseline.
    #[must_use]
    pub fn samples(&self) -> u64 {
        match self {
            Self::Baseline(trial) => trial.counts().judged(),
            Self::Shadow(trial) => trial.counts().pairs,
            Self::Canary(trial) => trial.seen(Arm::CANDIDATE).judged(),
            Self::AbTest(trial) => trial.seen(Arm::CANDIDATE).judged(),
            Self::Full(trial) => trial.seen().judged(),
        }
    }

    /// What was seen of the baseline, where this stage saw it.
    #[must_use]
    pub fn control(&self) -> Option<&ArmCounts> {
        let counts = match self {
            Self::Baseline(trial) => trial.counts(),
            Self::Shadow(trial) => trial.seen(Arm::BASELINE),
            Self::Canary(trial) => trial.seen(Arm::BASELINE),
            Self::AbTest(trial) => trial.seen(Arm::BASELINE),
            Self::Full(_) => return None,
        };
        (counts.judged() > 0).then_some(counts)
    }

    /// The shadow, where there is one.
    #[must_use]
    pub fn shadow(&self) -> Option<&Shadow> {
        match self {
            Self::Shadow(trial) => Some(trial),
            Self::Baseline(_) | Self::Canary(_) | Self::AbTest(_) | Self::Full(_) => None,
        }
    }
}

impl Trial {
    /// The A/B test, where there is one.
    #[must_use]
    pub fn ab_test(&self) -> Option<&ABStage> {
        match self {
            Self::AbTest(trial) => Some(trial),
            Self::Baseline(_) | Self::Shadow(_) | Self::Canary(_) | Self::Full(_) => None,
        }
    }
}

/// A stage that may pass at once is still planned to take a moment.
const SHORTEST: Duration = Duration::from_secs(1);
