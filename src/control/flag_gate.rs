//! A flag before a router: the flag says who is special, the router splits everybody else.
//!
//! Of a flag's reasons some are a person's will (kill switch, lists, segments, rules, limits) and
//! some are chance (the share). Only chance is evidence, so only the first kind is forced upon the
//! router; whom the flag leaves to its share, the router splits itself, at the share that the
//! rollout moves, and counts.
//!
//! ```
//! use std::sync::Arc;
//! use pilotage::control::Pilot;
//! use pilotage::control::flag_gate::FlagGate;
//! use pilotage::model;
//! use pilotage::rollout::plan::Plan;
//! use pilotage::serve::request::Request;
//! use pilotage::serve::router::Router;
//! use pilotage::strategy::flag::{Context, FlagSet, FlagSpec, Value};
//!
//! let length = |by: fn(&str) -> usize| model::sync(move |text: &str| Ok::<_, String>(by(text)));
//! let router = Router::builder("length").stable("v1", length(str::len)).build()?;
//! let flags = FlagSet::builder()
//!     .flag(FlagSpec::choosing(
//!         "length",
//!         ("v1", Value::Text("v1".into())),
//!         [("v2", Value::Text("v2".into()), 1)],
//!     ).allow("tester"))
//!     .build()?;
//! let gate = Arc::new(FlagGate::new(&router, flags.flag("length")?, "v2"));
//!
//! // The rollout moves the flag's share and the router's split together.
//! # let second = std::time::Duration::from_secs(1);
//! # let plan = Plan::builder().canary(pilotage::share::TrafficShare::HALF, second, 10)
//! #     .full(second, 10).build()?;
//! let pilot = Pilot::builder()
//!     .switch(Arc::clone(&gate))
//!     .start(&router, "v2", Arc::new(length(|text| text.chars().count())), plan)?;
//!
//! let context = Context::of("tester");
//! let request = gate.admit(Request::of("tester"), &context);
//! assert_eq!(router.predict_sync(&request, "größe")?.output, 5);
//! flags.kill("length")?; // the kill switch is a rollback
//! let request = gate.admit(Request::of("tester"), &context);
//! assert_eq!(router.predict_sync(&request, "größe")?.output, 7);
//! # drop(pilot);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::ids::Arm;
use crate::route::switch::{Slot, Split, SplitWord, SwitchError, TrafficSwitch};
use crate::serve::request::{OverrideKey, Request};
use crate::serve::router::Router;
use crate::share::TrafficShare;
use crate::strategy::flag::{Context, FeatureFlag, FlagError, Leftover, Reason};

/// A flag before a router. As a [`TrafficSwitch`] it lets a rollout move the flag: its share on
/// the way up, its kill switch as rollback, its promotion in one step.
pub struct FlagGate {
    flag: FeatureFlag,
    candidate: String,
    /// Where the candidate stands, for as long as it stands: a promotion changes its role only.
    slot: Slot,
    key: OverrideKey,
    word: Arc<SplitWord>,
    leftover: Mutex<Option<Leftover>>,
}

impl FlagGate {
    /// A gate before `router`. `candidate` is the flag's variant for the model that is, or will
    /// be, deployed beside the router's stable one.
    pub fn new<M, C: Clock>(
        router: &Router<M, C>,
        flag: FeatureFlag,
        candidate: impl Into<String>,
    ) -> Self {
        Self {
            flag,
            candidate: candidate.into(),
            slot: router.split().primary.other(),
            key: router.override_key(),
            word: router.switch(),
            leftover: Mutex::new(None),
        }
    }

    /// Asks the flag, and forces the arm where the flag's answer is not chance. Forced requests
    /// are no evidence. No lock, no allocation.
    pub fn admit<'r>(&self, request: Request<'r>, context: &Context<'_>) -> Request<'r> {
        let answer = self.flag.evaluate(context);
        match answer.reason() {
            Reason::Share
            | Reason::OutsideShare
            | Reason::Drawn
            | Reason::MissingSubject
            | Reason::Default
            | Reason::Archived => request,
            Reason::Killed
            | Reason::Gone
            | Reason::OtherGeneration
            | Reason::Scheduled
            | Reason::Prerequisite
            | Reason::Denied
            | Reason::Allowed
            | Reason::HeldOut
            | Reason::OtherInLayer
            | Reason::Limited
            | Reason::Segment
            | Reason::Rule => {
                let is_candidate = answer.variant() == self.candidate;
                let slot = if is_candidate { self.slot } else { self.slot.other() };
                // Told by the slot, not by the role: in the midst of a promotion the candidate is
                // the baseline already, and nobody who was allowed it is sent to the old model.
                let arm =
                    if slot == self.word.read().primary { Arm::BASELINE } else { Arm::CANDIDATE };
                request.force(self.key.force(arm))
            }
        }
    }

    /// Promotes the flag: everybody's variant is the candidate's, and lists, segments, rules and
    /// share are cleared in the same step. A rollout that was given this gate as its switch does
    /// so itself; beside a [`BlueGreen`](crate::control::blue_green::BlueGreen) call it after
    /// `promote`.
    ///
    /// # Errors
    ///
    /// [`FlagError`] when the flag is archived or lacks the variant.
    pub fn promote(&self) -> Result<Leftover, FlagError> {
        let leftover = self.flag.promote(&self.candidate)?;
        *self.leftover.lock() = Some(leftover.clone());
        Ok(leftover)
    }

    /// What the promotion left to remove, once there was one.
    #[must_use]
    pub fn leftover(&self) -> Option<Leftover> {
        self.leftover.lock().clone()
    }

    /// The flag.
    #[must_use]
    pub const fn flag(&self) -> &FeatureFlag {
        &self.flag
    }

    fn is_promoted(&self) -> bool {
        self.flag.spec().default == self.candidate
    }

    fn killed(&self) -> String {
        format!("the flag {} is killed; clear it by name first", self.flag.spec().name())
    }
}

/// The flag as a switch. A rollback kills it, and it stays killed until somebody clears it by name:
/// an order that would send traffic to the candidate of a killed flag is refused.
impl TrafficSwitch for FlagGate {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        let unreachable = |reason: String| SwitchError::Unreachable { reason };
        let in_force = self.word.read();
        if order.primary == self.slot && !self.is_promoted() {
            if self.flag.is_killed() {
                return Err(unreachable(self.killed()));
            }
            return self.promote().map(drop).map_err(|error| unreachable(error.to_string()));
        }
        if order.primary == self.slot {
            return Ok(()); // promoted already
        }
        let served = self.flag.spec().share.unwrap_or_default();
        if order.candidate == TrafficShare::NONE {
            let had_traffic =
                served > TrafficShare::NONE || in_force.candidate > TrafficShare::NONE;
            if had_traffic || self.is_promoted() {
                self.flag.kill();
            }
            return Ok(());
        }
        if self.flag.is_killed() {
            return Err(unreachable(self.killed()));
        }
        let (share, limit) = (order.candidate, order.exposure);
        let moved = self.flag.update(|spec| {
            spec.share = Some(share);
            spec.limit = limit;
            spec.ramp = None;
        });
        moved.map_err(|error| unreachable(error.to_string()))
    }

    fn in_force(&self) -> Option<Split> {
        let split = self.word.read();
        Some(if self.flag.is_killed() { split.rolled_back() } else { split })
    }
}

impl fmt::Debug for FlagGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlagGate")
            .field("flag", &self.flag)
            .field("candidate", &self.candidate)
            .finish_non_exhaustive()
    }
}
