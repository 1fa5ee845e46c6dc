//! What can be wrong with a plan.

use std::time::Duration;

use crate::date::Date;
use crate::ids::Name;
use crate::judge::guardrail::GuardrailError;
use crate::rollout::freeze::FreezeError;
use crate::rollout::human::show_duration;
use crate::share::TrafficShare;

/// A plan that cannot be run. Each names the stage, the field, the value and the remedy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No stage was given.
    #[error("stages: a plan needs at least one stage; add a canary")]
    Empty,
    /// More stages than anybody can follow.
    #[error("stages: a plan of {stages} stages is too long; the most is 64")]
    TooManyStages {
        /// How many were given.
        stages: usize,
    },
    /// Two stages have the same name.
    #[error("stage {name}: name is given twice; give each stage its own")]
    SameName {
        /// The name.
        name: Name,
    },
    /// A stage sends less than, or as much as, the one before it.
    #[error(
        "stage {stage}: share is {after}, not more than the {before} of the stage before it; \
         shares must rise"
    )]
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
    #[error(
        "stage {stage}: it is the last and its share is {share}; end the plan with a full stage"
    )]
    Unfinished {
        /// The stage.
        stage: Name,
        /// What it sends.
        share: TrafficShare,
    },
    /// A stage that serves users has nothing that could stop it.
    #[error("stage {stage}: guardrails are empty; add at least the error rate")]
    NoGuardrail {
        /// The stage.
        stage: Name,
    },
    /// A stage could pass without having seen anything, or never.
    #[error(
        "stage {stage}: min_samples is {samples}; ask for 1 to 10^15, no stage may pass unseen"
    )]
    Samples {
        /// The stage.
        stage: Name,
        /// What was given.
        samples: u64,
    },
    /// A guardrail that cannot be used.
    #[error("stage {stage}: guardrails: {error}")]
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
    /// A time that is no time, or longer than anybody waits.
    #[error("{place}{field} is {}; give {expected}", show_duration(*value))]
    Duration {
        /// `stage …: `, or nothing for the plan itself.
        place: String,
        /// Which.
        field: &'static str,
        /// What was given.
        value: Duration,
        /// What can be given.
        expected: &'static str,
    },
    /// Durations that contradict each other.
    #[error(
        "stage {stage}: at_most is {}, shorter than at_least ({}); give it at least as much",
        show_duration(*at_most),
        show_duration(*at_least)
    )]
    Impatient {
        /// The stage.
        stage: Name,
        /// How long it lasts at least.
        at_least: Duration,
        /// When it counts as undecided.
        at_most: Duration,
    },
    /// A rule that this kind of stage cannot follow, or one that it lacks.
    #[error("stage {stage}: {field} belongs to a {belongs}, and this is a {kind}; remove it")]
    Misplaced {
        /// The stage.
        stage: Name,
        /// The rule.
        field: &'static str,
        /// The kind of stage that can follow it.
        belongs: &'static str,
        /// Its kind.
        kind: &'static str,
    },
    /// An A/B test that compares nothing, or what cannot be compared.
    #[error("stage {stage}: comparison: {problem}")]
    Comparison {
        /// The stage.
        stage: Name,
        /// What is wrong.
        problem: String,
    },
    /// How often a stage is extended.
    #[error("stage {stage}: {field}: extend: times is {times}; give from 1 to 100")]
    Times {
        /// The stage.
        stage: Name,
        /// Which rule.
        field: &'static str,
        /// What was given.
        times: u32,
    },
    /// A freeze that is none.
    #[error("freezes: {0}")]
    Freeze(#[from] FreezeError),
    /// More freezes than anybody can follow.
    #[error("freezes: {freezes} are too many; the most is 64")]
    TooManyFreezes {
        /// How many were given.
        freezes: usize,
    },
    /// It must be done before it may begin.
    #[error("deadline is {deadline}, not after not_before ({not_before}); move one of them")]
    Deadline {
        /// When it may begin.
        not_before: Date,
        /// When it must be done.
        deadline: Date,
    },
    /// A deadline cannot be extended by the plan that sets it.
    #[error("when_late is extend; give hold or roll_back")]
    WhenLate,
    /// Text that a field cannot be read from.
    #[error("{place}{field} is {value}: {problem}")]
    Field {
        /// `stage …: `, or nothing for the plan itself.
        place: String,
        /// Which.
        field: String,
        /// What was given.
        value: String,
        /// Why it cannot be.
        problem: String,
    },
    /// A field that is not known.
    #[error("{place}unknown field {field:?}; the fields are {known}")]
    Unknown {
        /// `stage …: `, or nothing for the plan itself.
        place: String,
        /// Which.
        field: String,
        /// Which there are.
        known: String,
    },
    /// A field that must be given.
    #[error("{place}{field} is missing; {remedy}")]
    Missing {
        /// `stage …: `, or nothing for the plan itself.
        place: String,
        /// Which.
        field: &'static str,
        /// What to give.
        remedy: &'static str,
    },
}
