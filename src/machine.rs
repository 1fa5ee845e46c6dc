//! What decisions hear and say.
//!
//! A machine is told everything ([`Input`]) and answers with what the world must now do
//! ([`Effect`]). It owns no clock, thread, lock, log or socket, so a rollout of five days runs in
//! a millisecond of a test, survives a crash by being replayed, and gives the same verdict for the
//! same history, bit for bit. Carrying the effects out is the business of `control`.
//!
//! # What goes in, what comes out
//!
//! In comes, at moments of one clock: what was seen ([`Input::Seen`], by which time passes), what
//! operators want ([`Input::Command`]), what a wall clock reads ([`Input::Wall`], for plans with
//! dates), how a rollback drill went ([`Input::Drilled`]), that a switch did not obey
//! ([`Input::NotShifted`]), and that traffic was taken back beside the machine
//! ([`Input::TakenBack`]). A journal that keeps these, in their order, can replay the machine.
//!
//! Out come effects, to be carried out in the order in which they are given. What protects users is
//! first; what is to be written down ([`Effect::Record`]) comes before any effect that exposes
//! more of them. An order that has no effect where the rollout stands is answered
//! ([`Effect::Refused`]) and written down all the same.
//!
//! # Which order wins
//!
//! [`Order::precedence`]: kill, abort, pause, promote, and only then time and evidence. Orders that
//! come together are handled by it, the strongest first; and the machine itself keeps to it, since
//! orders need not come together: a paused rollout is not promoted, an aborted one is not
//! resumed, and after a kill there is nothing at all.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::alert::Severity;
use crate::clock::Moment;
use crate::date::Date;
use crate::ids::Name;
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::Delta;
use crate::share::TrafficShare;

/// A decision that is told everything.
pub trait Machine {
    /// Advances by one input and says what the world must now do, what protects users first.
    ///
    /// The same state, input and `now` always give the same effects.
    fn handle(&mut self, now: Moment, input: &Input) -> Vec<Effect>;
}

/// What a machine may be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Input {
    /// What was seen since the last input; an empty batch when nothing was. Time passes by this.
    Seen(Box<Seen>),
    /// An operator wants something.
    Command(Command),
    /// A switch could not do as it was asked; the share it says is in force.
    NotShifted {
        /// What is in force instead.
        in_force: TrafficShare,
        /// What the switch said.
        reason: String,
    },
    /// What a wall clock reads at this moment. A plan with dates or hours in it stands still until
    /// it is told; told anew every minute or so, it follows a machine that was suspended. A wall
    /// clock that jumps promotes nothing: dates only hold back what evidence has earned.
    Wall(Date),
    /// A rollback drill was made.
    Drilled(Drilled),
    /// All traffic was taken from the candidate beside this machine, and stays taken: by a hand on
    /// the switch, by the router after panics, because nobody looked after it, or because another
    /// process has taken the journal over.
    TakenBack {
        /// Who, or what, for people.
        by: String,
        /// Why.
        reason: String,
    },
}

/// How a rollback drill went.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Drilled {
    /// When it ended.
    pub at: Moment,
    /// Whether the way back was found open: stable loaded, warm and answering, the switch obeying.
    pub passed: bool,
    /// What was found, in one sentence.
    pub report: String,
}

/// A batch of observations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Seen {
    /// The share in force while they were made.
    pub share: TrafficShare,
    /// Live calls by arm.
    pub live: Delta,
    /// Shadow calls, when a shadow runs.
    pub shadow: Option<ShadowCounts>,
}

impl Seen {
    /// A batch of live calls under `share`.
    #[must_use]
    pub const fn live(share: TrafficShare, live: Delta) -> Self {
        Self { share, live, shadow: None }
    }

    /// With what a shadow saw.
    #[must_use]
    pub fn with_shadow(mut self, shadow: ShadowCounts) -> Self {
        self.shadow = Some(shadow);
        self
    }
}

/// What an operator wants, and who wants it why. Both end up in the history.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// What.
    pub order: Order,
    /// Who.
    pub who: Name,
    /// Why, in the operator's words.
    pub why: String,
    /// What it was given for, where it gives the candidate more or lets it go on.
    #[serde(default)]
    pub at: Option<At>,
}

/// Where a rollout was when somebody looked at it and gave an order.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct At {
    /// The stage, or where it was outside of one.
    pub stage: String,
    /// How many steps it had taken.
    pub revision: u64,
}

/// The orders an operator can give.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Order {
    /// Everything back to the baseline, and this rollout is over for good: not even a retry leads
    /// out of it.
    Kill,
    /// Everything back to the baseline; the rollout ends.
    Abort,
    /// Stay at this stage. Guardrails stay armed.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Make the candidate the baseline now, without proof. Recorded as an override.
    PromoteFully,
    /// Leave this stage for the next one without its proof. Recorded as an override.
    PromoteStage,
    /// Begin now a rollout that waits for its start, whatever the hour. It does not stand in for a
    /// drill that the plan asks for.
    Start,
    /// Agree that the stage, whose proof is there, may be left. Only where a plan asks for it.
    Approve,
    /// Give the present stage so much longer before it counts as undecided.
    Extend {
        /// How much longer.
        by: Duration,
    },
    /// Enter the stage of a rollback or refusal once more, with nothing of its evidence.
    Retry,
    /// End the time in which a promotion can be taken back: the former baseline may go.
    Finish,
}

impl Order {
    /// Its place among orders that come together: a smaller number is handled first. Orders of one
    /// number keep the order in which they were given.
    #[must_use]
    pub const fn precedence(self) -> u8 {
        match self {
            Self::Kill => 0,
            Self::Abort => 1,
            Self::Pause | Self::Resume => 2,
            Self::PromoteFully => 3,
            Self::PromoteStage => 4,
            Self::Start | Self::Approve | Self::Extend { .. } | Self::Retry | Self::Finish => 5,
        }
    }

    /// Whether it takes traffic back or keeps it from rising: such an order is always obeyed.
    #[must_use]
    pub const fn stops(self) -> bool {
        matches!(self, Self::Kill | Self::Abort | Self::Pause)
    }

    /// Whether it is meant for the place where its giver saw the rollout, and for no other.
    #[must_use]
    pub const fn is_bound(self) -> bool {
        matches!(
            self,
            Self::Resume
                | Self::PromoteFully
                | Self::PromoteStage
                | Self::Approve
                | Self::Extend { .. }
        )
    }

    /// The word for it in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Abort => "abort",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::PromoteFully => "promote fully",
            Self::PromoteStage => "promote stage",
            Self::Start => "start",
            Self::Approve => "approve",
            Self::Extend { .. } => "extend",
            Self::Retry => "retry",
            Self::Finish => "finish",
        }
    }
}

/// An order that had no effect, and why.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub at: Moment,
    /// What was ordered, by whom, with which reason.
    pub command: Command,
    /// Why it had no effect.
    pub because: Refusal,
}

/// Why an order had no effect.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// The rollout is over, and this does not lead out of its end.
    #[error("the rollout is over ({end}); {remedy}")]
    Over {
        /// How it ended.
        end: String,
        /// What can be done instead.
        remedy: String,
    },
    /// Nothing has begun.
    #[error("the rollout has not begun; order its start, or abort it")]
    NotStarted,
    /// It is somewhere else by now.
    #[error(
        "the order was given for {given_for}, and the rollout is {now}; look again, then order again"
    )]
    Moved {
        /// Where its giver saw it.
        given_for: String,
        /// Where it is.
        now: String,
    },
    /// It runs.
    #[error("the rollout has begun already")]
    AlreadyStarted,
    /// It is paused, and a pause is stronger.
    #[error("the rollout is paused ({why}); resume it first")]
    Paused {
        /// Who paused it, and why.
        why: String,
    },
    /// It is not paused.
    #[error("the rollout is not paused")]
    NotPaused,
    /// The stage does not wait for an approval.
    #[error("stage {stage} does not wait for an approval: {why}")]
    NothingToApprove {
        /// The stage.
        stage: String,
        /// Why not.
        why: String,
    },
    /// A time that cannot be added.
    #[error("an extension by {} s is not possible; give from 1 s to 365 days", by.as_secs())]
    Extension {
        /// What was given.
        by: Duration,
    },
    /// There is no promotion that could still be taken back.
    #[error("there is no watched time after a promotion to end")]
    NothingToFinish,
    /// There is no failed stage.
    #[error("nothing failed that could be tried again")]
    NothingToRetry,
    /// It was tried often enough.
    #[error("stage {stage} was tried {tries} times; start a new rollout")]
    TooManyTries {
        /// The stage.
        stage: String,
        /// How often.
        tries: usize,
    },
    /// The plan asks for a rollback drill first.
    #[error("no rollback drill passed within the last {} h; make one first", within.as_secs() / 3600)]
    NoDrill {
        /// How old it may be.
        within: Duration,
    },
    /// The next stage cannot be entered.
    #[error("the next stage cannot be judged: {why}")]
    Unjudgeable {
        /// Why not.
        why: String,
    },
}

/// What a machine may ask for. The caller carries it out; the machine only says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Effect {
    /// Send this share of traffic to the candidate.
    Shift(TrafficShare),
    /// Make the candidate the baseline, labels and traffic in one step. The old one stays warm.
    Promote,
    /// Make the former baseline the baseline again, labels and traffic in one step: the candidate,
    /// which was promoted, serves nobody.
    Restore,
    /// Begin or end running the candidate on copies of requests.
    Shadow(Shadowing),
    /// Tell people.
    Alert(News),
    /// Keep this in the history. Comes before the effects it explains are carried out.
    Record(Transition),
    /// Answer whoever gave this order: it had no effect. A [`Effect::Record`] keeps it.
    Refused(Refused),
    /// Nothing but an input can change anything before this moment; look at it again then. It is
    /// given anew whenever it changes, and takes the place of an earlier one.
    WakeAt(Moment),
}

/// Whether the candidate runs on copies of requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shadowing {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// An alert as a machine knows it: the rollout's name is added by the caller.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// Which incident.
    pub key: String,
    /// How soon somebody must look.
    pub severity: Severity,
    /// One sentence.
    pub summary: String,
    /// Whether the incident is over.
    pub resolved: bool,
    /// Whether this tells of a thing that happened, rather than of a state that lasts until it is
    /// resolved.
    #[serde(default)]
    pub once: bool,
}

impl News {
    /// News of a state that lasts until it is resolved.
    #[must_use]
    pub const fn lasting(key: String, severity: Severity, summary: String) -> Self {
        Self { key, severity, summary, resolved: false, once: false }
    }

    /// News that such a state is over.
    pub fn over(key: String, summary: impl Into<String>) -> Self {
        let severity = Severity::Info;
        Self { key, severity, summary: summary.into(), resolved: true, once: false }
    }
}

/// A step from one place of a rollout to another, with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// When.
    pub at: Moment,
    /// The stage that was left.
    pub from: String,
    /// The stage, or end, that was reached.
    pub to: String,
    /// Who decided: an operator's name, or `pilotage` for the machine itself.
    pub who: String,
    /// The sentence that says why, with its numbers.
    pub why: String,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extend { by } => write!(f, "extend by {} s", by.as_secs()),
            other => f.write_str(other.word()),
        }
    }
}
