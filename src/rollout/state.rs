//! Where a rollout stands.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::alert::Severity;
use crate::clock::Moment;
use crate::judge::verdict::Reading;
use crate::machine::Seen;
use crate::observe::snapshot::ArmCounts;
use crate::rollout::stage::Stage;
use crate::rollout::trial::Trial;
use crate::strategy::canary::Canary;
use crate::strategy::full::Full;

/// Where a rollout stands. What only makes sense in one state lives in that state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Not begun: the plan names a time, an order or a drill to wait for.
    Waiting(Waiting),
    /// In a stage, gathering evidence.
    Running(Box<Running>),
    /// Over. Only a retry leads out of here, and only out of a rollback or refusal; and for a while
    /// a promotion can be taken back.
    Ended(Ended),
}

/// A rollout that has not begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Waiting {
    /// Since when.
    pub since: Moment,
    /// An operator's pause, with the reason.
    pub paused: Option<String>,
    /// What it waits for, as of the last look.
    pub hold: Option<Hold>,
    /// What people were told of.
    pub(super) told: Vec<HoldKind>,
}

/// A stage under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Running {
    /// Index of the stage in the plan.
    pub stage: usize,
    /// How often the stage was entered, from 1.
    pub attempt: usize,
    /// When it was entered.
    pub entered: Moment,
    /// The time of the last batch.
    pub last: Moment,
    /// Time observed in this stage, warm-up included, without gaps.
    pub observed: Duration,
    /// What operators and the plan added to the stage's longest time.
    pub extended: Duration,
    /// An operator's pause, with the reason.
    pub paused: Option<String>,
    /// Who approved that the stage is left, and why.
    pub approved: Option<String>,
    /// Why it does not go on although it could, or should have; `None` while it simply runs.
    pub hold: Option<Hold>,
    /// What people were told of in this stage.
    pub(super) told: Vec<HoldKind>,
    /// How often the plan extended it.
    pub(super) extensions: u32,
    /// The evidence so far.
    pub(super) trial: Trial,
    /// What is watched during the warm-up, for panics and nothing but failures.
    pub(super) warming: Option<Box<Canary>>,
    /// What the baseline did in the last stage it was seen beside the candidate.
    pub(super) control: ArmCounts,
}

/// A rollout that stays where it is, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hold {
    /// What it waits for.
    pub kind: HoldKind,
    /// Since when.
    pub since: Moment,
    /// The sentence that says so.
    pub why: String,
}

/// What a rollout can wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HoldKind {
    /// The date on which the plan lets it begin.
    NotBefore,
    /// The order to start.
    Start,
    /// A rollback drill.
    Drill,
    /// Being told what a wall clock reads.
    WallTime,
    /// An operator's order to resume.
    Paused,
    /// A person who looks at the evidence.
    Person,
    /// An approval.
    Approval,
    /// The end of a freeze.
    Freeze,
    /// A person: the deadline has passed.
    Late,
    /// A person: its time is up, and enough was seen that shows neither harm nor health.
    Inconclusive,
    /// A person: its time is up, and too little was seen.
    Underpowered,
    /// A person: its time is up, and nothing was seen that can be judged.
    NoData,
    /// A person: the next stage cannot be judged.
    Stuck,
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ended {
    /// In which way.
    pub end: End,
    /// The stage it was in; `waiting` when it had not begun.
    pub stage: String,
    /// When.
    pub at: Moment,
    /// Why, in one sentence.
    pub reason: String,
    /// Each guardrail's numbers at that moment.
    pub readings: Vec<Reading>,
    /// After a promotion, for as long as it can be taken back.
    pub(super) watch: Option<Box<Watch>>,
    /// The stage's index, for a retry.
    pub(super) index: usize,
    pub(super) attempt: usize,
    pub(super) control: Box<ArmCounts>,
}

impl Ended {
    /// Until when the former baseline stays warm and one order brings it back; `None` where there
    /// is nothing to take back, or it is too late.
    #[must_use]
    pub fn way_back_until(&self) -> Option<Moment> {
        self.watch.as_ref().map(|watch| watch.until)
    }
}

/// A promotion that can be taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Watch {
    /// Until when.
    pub(super) until: Moment,
    /// What people are told of.
    pub(super) usual: Option<Box<Full>>,
    /// What takes it back.
    pub(super) drastic: Option<Box<Full>>,
    pub(super) told: bool,
}

/// A try of a stage that failed and was repeated. Its evidence is kept here, and is no part of what
/// came after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Try {
    /// The stage.
    pub stage: String,
    /// Which try of it, from 1.
    pub attempt: usize,
    /// How it ended.
    pub end: End,
    /// When.
    pub at: Moment,
    /// Why.
    pub reason: String,
    /// Each guardrail's numbers at that moment.
    pub readings: Vec<Reading>,
    /// Who ordered the next one, and why.
    pub retried_by: String,
}

/// The ways in which a rollout ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The candidate became the baseline.
    Promoted,
    /// The candidate had served users, and everything went back.
    RolledBack,
    /// The candidate was turned away before it served anybody.
    Refused,
    /// An operator ended it.
    Aborted,
    /// An operator ended it for good.
    Killed,
}

impl End {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::Aborted => "aborted",
            Self::Killed => "killed",
        }
    }

    pub(super) const fn phrase(self) -> &'static str {
        match self {
            Self::Promoted => "was promoted",
            Self::RolledBack => "was rolled back",
            Self::Refused => "was refused",
            Self::Aborted => "was aborted",
            Self::Killed => "was killed",
        }
    }

    pub(super) const fn severity(self) -> Severity {
        match self {
            Self::Promoted => Severity::Info,
            Self::Refused | Self::Aborted => Severity::Warning,
            Self::RolledBack | Self::Killed => Severity::Critical,
        }
    }

    /// What can be done where an order does not lead out of this end.
    pub(super) const fn remedy(self) -> &'static str {
        match self {
            Self::RolledBack | Self::Refused => "retry the stage, or start a new rollout",
            Self::Promoted => {
                "the rollback window is over; to go back, roll the old model out like a new one"
            }
            Self::Aborted | Self::Killed => "start a new rollout",
        }
    }
}

impl HoldKind {
    /// The word for it, as in an alert's key.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotBefore => "not_before",
            Self::Start => "start",
            Self::Drill => "drill",
            Self::WallTime => "wall_time",
            Self::Paused => "paused",
            Self::Person => "person",
            Self::Approval => "approval",
            Self::Freeze => "freeze",
            Self::Late => "late",
            Self::Inconclusive => "inconclusive",
            Self::Underpowered => "underpowered",
            Self::NoData => "no_data",
            Self::Stuck => "stuck",
        }
    }

    /// Whether time alone ends it, or somebody who knows of it has caused it.
    pub(super) const fn severity(self) -> Severity {
        match self {
            Self::NotBefore | Self::Freeze | Self::Paused => Severity::Info,
            Self::Start
            | Self::Drill
            | Self::WallTime
            | Self::Person
            | Self::Approval
            | Self::Late
            | Self::Inconclusive
            | Self::Underpowered
            | Self::NoData
            | Self::Stuck => Severity::Warning,
        }
    }
}

impl Running {
    /// Judged calls of the candidate in this stage; in a shadow, pairs.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.trial.samples()
    }

    /// Whether it still warms up, so that what is seen is no evidence.
    #[must_use]
    pub fn is_warming(&self, stage: &Stage) -> bool {
        self.observed < stage.warm_up
    }

    pub(super) fn take_in(&mut self, now: Moment, stage: &Stage, seen: &Seen) {
        let warms = self.is_warming(stage);
        let lasted = now.since(self.last).min(LONGEST_GAP);
        self.last = self.last.max(now);
        // A batch made under another share says nothing of this stage, nor does its time.
        if seen.share != stage.share {
            return;
        }
        self.observed = self.observed.saturating_add(lasted);
        if !warms {
            self.trial.observe(seen);
        } else if let Some(warming) = &mut self.warming {
            warming.observe(seen);
        }
    }

    pub(super) fn is_long_enough(&self, stage: &Stage) -> bool {
        self.observed >= stage.warm_up.saturating_add(stage.at_least)
    }

    pub(super) fn may_advance(&self, stage: &Stage) -> bool {
        self.is_long_enough(stage) && self.trial.samples() >= stage.min_samples
    }

    /// How much observed time makes it undecided.
    pub(super) fn longest(&self, stage: &Stage) -> Duration {
        stage.warm_up.saturating_add(stage.at_most).saturating_add(self.extended)
    }
}

/// A longer silence between two looks counts as this long.
const LONGEST_GAP: Duration = Duration::from_secs(60);
