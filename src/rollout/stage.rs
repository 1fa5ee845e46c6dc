//! One step of a plan.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::judge::guardrail::{Guardrail, NoData};
use crate::rollout::human;
use crate::share::TrafficShare;
use crate::strategy::ab_test::plan::{Better, Horizon};
use crate::strategy::ab_test::stage::Compared;

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stage {
    /// What people call it.
    pub name: Name,
    /// What is done in it.
    pub kind: StageKind,
    /// The candidate's share of the traffic while it lasts.
    pub share: TrafficShare,
    /// What is seen in this first part of the stage is no evidence: caches fill, connections are
    /// made. Panics and nothing but failures take a candidate back all the same. Zero by default.
    pub warm_up: Duration,
    /// It lasts at least this long after its warm-up, in observed time: a gap of more than a minute
    /// between two looks counts as a minute, so neither a suspended machine nor a clock that jumps
    /// ends it.
    pub at_least: Duration,
    /// When it has lasted this long after its warm-up without a verdict, it counts as undecided,
    /// and what `when_inconclusive`, `when_underpowered` or `when_no_data` says is done. Time alone
    /// never promotes.
    pub at_most: Duration,
    /// Judged calls the candidate needs before it may pass. In a shadow: pairs.
    pub min_samples: u64,
    /// Whether an operator must approve before a candidate that has passed goes on.
    pub approval: bool,
    /// What is done when everything asked for was seen, and shows neither harm nor health.
    pub when_inconclusive: Undecided,
    /// What is done when there were fewer than `min_samples`.
    pub when_underpowered: Undecided,
    /// What is done when nothing was seen that could be judged.
    pub when_no_data: Undecided,
    /// What must not get worse.
    pub guardrails: Vec<Guardrail>,
    /// A/B test only: what is compared.
    pub comparison: Option<ComparisonRule>,
    /// Shadow only: what agreement with the baseline is asked for.
    pub agreement: Option<AgreementRule>,
    /// Shadow only: what quality is asked for, once the truth is known.
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
    /// As a canary, and the quality of the answers is compared until it is known which is better.
    AbTest,
    /// The candidate serves everybody; the old model stays warm.
    Full,
}

impl StageKind {
    /// The word for it in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::AbTest => "A/B test",
            Self::Full => "full stage",
        }
    }

    /// Whether the candidate serves users beside the baseline.
    #[must_use]
    pub const fn is_beside(self) -> bool {
        matches!(self, Self::Canary | Self::AbTest)
    }
}

/// What is done with a stage whose time is up without a verdict. None of it promotes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Undecided {
    /// It goes on, its share stays, and people are told once.
    #[default]
    Hold,
    /// All traffic goes back; the rollout ends.
    RollBack,
    /// It gets more time, so often; then it holds.
    Extend {
        /// How much more.
        #[serde(with = "human::text")]
        by: Duration,
        /// How often.
        times: u32,
    },
}

/// What an A/B test compares.
///
/// The candidate passes when it is shown to win, or to be no worse than `margin` below the
/// baseline; it is taken back when it is shown to lose. What is compared, and in which segments, is
/// declared here, before the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ComparisonRule {
    /// The measures. All that have data must pass; one that is lost is enough to lose.
    #[serde(default = "ComparisonRule::usual_measures")]
    pub of: Vec<Compared>,
    /// Whether more is better.
    #[serde(default = "ComparisonRule::usual_direction")]
    pub better: Better,
    /// The loss that would not matter, in the measure's own unit: 0.02 is two points of accuracy.
    #[serde(default = "ComparisonRule::usual_margin")]
    pub margin: f64,
    /// When one may look.
    #[serde(default = "ComparisonRule::usual_horizon")]
    pub horizon: Horizon,
    /// The chance, at the most, that a candidate that is as good is declared the loser; by default
    /// half of what the plan gives the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// The segments looked at one by one, in the order in which the router declares them.
    #[serde(default)]
    pub segments: Vec<Name>,
    /// Whether a stage without any of the measures may pass on its guardrails. It says so then.
    #[serde(default = "ComparisonRule::usual_no_data")]
    pub no_data: NoData,
}

impl Default for ComparisonRule {
    /// Accuracy and score, whichever is reported, with a margin of two points, at every look; a
    /// server that reports neither holds.
    fn default() -> Self {
        Self {
            of: Self::usual_measures(),
            better: Self::usual_direction(),
            margin: Self::usual_margin(),
            horizon: Self::usual_horizon(),
            alpha: None,
            segments: Vec::new(),
            no_data: Self::usual_no_data(),
        }
    }
}

impl ComparisonRule {
    fn usual_measures() -> Vec<Compared> {
        vec![Compared::Truths, Compared::Scores]
    }

    const fn usual_direction() -> Better {
        Better::Higher
    }

    const fn usual_margin() -> f64 {
        0.02
    }

    const fn usual_horizon() -> Horizon {
        Horizon::Open { tuned_to: 5_000 }
    }

    const fn usual_no_data() -> NoData {
        NoData::Hold
    }
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
    #[serde(default = "AgreementRule::usual_alpha")]
    pub alpha: f64,
}

impl AgreementRule {
    /// More than `above`, at the usual level of 5 %.
    #[must_use]
    pub const fn above(above: f64) -> Self {
        Self { above, alpha: Self::usual_alpha() }
    }

    const fn usual_alpha() -> f64 {
        0.05
    }
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
    #[serde(default = "QualityRule::usual_alpha")]
    pub alpha: f64,
}

impl QualityRule {
    /// A loss below `margin`, at the usual level of 2 %.
    #[must_use]
    pub const fn within(margin: f64) -> Self {
        Self { margin, alpha: Self::usual_alpha() }
    }

    const fn usual_alpha() -> f64 {
        0.02
    }
}
