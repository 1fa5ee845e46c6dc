//! What decisions hear and say.
//!
//! A machine is told everything ([`Input`]) and answers with what the world must now do
//! ([`Effect`]). It owns no clock, thread, lock, log or socket, so a rollout of five days runs in
//! a millisecond of a test, survives a crash by being replayed, and gives the same verdict for the
//! same history, bit for bit. Carrying the effects out is the business of `control`.

use serde::{Deserialize, Serialize};

use crate::alert::alert::Severity;
use crate::clock::Moment;
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
}

/// The orders an operator can give, the strongest first: stop always wins.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Order {
    /// Everything back to the baseline, and this rollout is over for good.
    Kill,
    /// Everything back to the baseline; the rollout ends.
    Abort,
    /// Stay at this stage. Guardrails stay armed.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Leave this stage for the next one without its proof. Recorded as an override.
    PromoteStage,
    /// Make the candidate the baseline now, without proof. Recorded as an override.
    PromoteFully,
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
    /// Begin or end running the candidate on copies of requests.
    Shadow(Shadowing),
    /// Tell people.
    Alert(News),
    /// Keep this in the history. Comes before the effects it explains are carried out.
    Record(Transition),
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
