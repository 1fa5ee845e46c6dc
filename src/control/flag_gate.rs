//! A flag before a router: the flag says who is special, the router splits everybody else.
//!
//! Of a flag's reasons some are a person's will (kill switch, lists, segments, rules, limits) and
//! some are chance (the share). Only chance is evidence, so only the first kind is forced upon the
//! router; whom the flag leaves to its share, the router splits itself, at the share that the
//! rollout moves, and counts.
//!
//! # One step
//!
//! A promotion is the swap of the router's two slots: one store. What the flag wanted for a request
//! holds only under the roles it was wanted under, and the router compares them when it reads the
//! split, so lists, segments, rules and limits end in that store, for requests under way as well.
//! The flag's definition is tidied up afterwards, which no request can tell. A kill is not bound to
//! roles: it leads to the model before the candidate on either side of a promotion, until
//! [`Draft::retire_off`](crate::strategy::flag::Draft::retire_off) says that it has none to lead to.
//! Say so before another model takes that slot: a gate serves one rollout.
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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::route::switch::{Slot, Split, SplitWord, SwitchError, TrafficSwitch};
use crate::serve::request::{OverrideKey, Request};
use crate::serve::router::Router;
use crate::share::TrafficShare;
use crate::strategy::flag::{Context, FeatureFlag, FlagError, FlagSpec, Leftover, Reason};

/// A flag before a router. As a [`TrafficSwitch`] of a [`Pilot`](crate::control::Pilot) or a
/// [`BlueGreen`](crate::control::blue_green::BlueGreen) it lets a rollout move the flag: its share
/// on the way up, its kill switch as rollback, its promotion in one step.
pub struct FlagGate {
    flag: FeatureFlag,
    candidate: String,
    /// Where the candidate stands, for as long as it stands: a promotion changes its role only.
    slot: Slot,
    key: OverrideKey,
    word: Arc<SplitWord>,
    /// The owner whose switch this is, 0 as long as it is nobody's.
    owner: AtomicU64,
    /// Whether an order since the last rollback gave the candidate traffic: what there is to take
    /// back.
    gave: AtomicBool,
    leftover: Mutex<Option<Leftover>>,
}

/// A promotion that was not taken down in the flag.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The router has not promoted the candidate.
    #[error("{candidate} is not the router's serving model yet; promote it there first")]
    NotPromoted {
        /// The flag's variant for it.
        candidate: String,
    },
    /// The flag could not follow.
    #[error(transparent)]
    Flag(#[from] FlagError),
}

impl FlagGate {
    /// A gate before `router`. `candidate` is the flag's variant for the model that is, or will
    /// be, deployed beside the router's stable one.
    pub fn new<M, C: Clock>(
        router: &Router<M, C>,
        flag: FeatureFlag,
        candidate: impl Into<String>,
    ) -> Self {
        let split = router.split();
        Self {
            flag,
            candidate: candidate.into(),
            slot: split.primary.other(),
            key: router.override_key(),
            word: router.switch(),
            owner: AtomicU64::new(0),
            gave: AtomicBool::new(split.candidate > TrafficShare::NONE),
            leftover: Mutex::new(None),
        }
    }

    /// Asks the flag, and forces the model where the flag's answer is not chance. Forced requests
    /// are no evidence. No lock, no allocation. Hand the request to the router at once: what was
    /// wanted is bound to the roles of the two models, not to later changes of the flag.
    ///
    /// While a rollout or switch moves the router's traffic that was not given this gate, it forces
    /// nobody: the model in the candidate's place is not the one that the flag speaks of. Where it
    /// is all the same, [`bind`](TrafficSwitch::bind) the gate to that owner's generation.
    pub fn admit<'r>(&self, request: Request<'r>, context: &Context<'_>) -> Request<'r> {
        let owner = self.word.generation();
        if owner != 0 && owner != self.owner.load(Ordering::Acquire) {
            return request;
        }
        let answer = self.flag.evaluate(context);
        let forced = match answer.reason() {
            Reason::Share | Reason::OutsideShare | Reason::Drawn | Reason::Default => None,
            // Nobody known: the router draws, unless something else than a share needed a name.
            Reason::MissingSubject if !needs_subject(answer.spec()) => None,
            Reason::Killed => Some(self.key.force_slot(self.slot_of(answer.variant()))),
            Reason::MissingSubject
            | Reason::Archived
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
            | Reason::Rule
            | Reason::RuleShare => {
                let slot = self.slot_of(answer.variant());
                Some(self.key.force_slot_while(slot, self.slot.other()))
            }
        };
        forced.map_or(request, |forced| request.force(forced))
    }

    /// Takes a promotion down in the flag: everybody's variant is the candidate's, and lists,
    /// segments, rules and share are cleared. Requests did not wait for it. A rollout or a
    /// [`BlueGreen`](crate::control::blue_green::BlueGreen) that was given this gate as its switch
    /// does so itself; call it after a promotion that was made without the gate. Says what is left
    /// to remove.
    ///
    /// # Errors
    ///
    /// [`GateError`] when the router has not promoted the candidate, or the flag is archived or
    /// lacks the variant.
    pub fn promote(&self) -> Result<Leftover, GateError> {
        if !self.is_promoted() {
            return Err(GateError::NotPromoted { candidate: self.candidate.clone() });
        }
        let mut kept = self.leftover.lock();
        if let Some(leftover) = &*kept {
            return Ok(leftover.clone());
        }
        let leftover = self.flag.promote(&self.candidate)?;
        Ok(kept.insert(leftover).clone())
    }

    /// What the promotion left to remove, once there was one that the flag could follow.
    #[must_use]
    pub fn leftover(&self) -> Option<Leftover> {
        self.leftover.lock().clone()
    }

    /// The flag.
    #[must_use]
    pub const fn flag(&self) -> &FeatureFlag {
        &self.flag
    }

    fn slot_of(&self, variant: &str) -> Slot {
        if variant == self.candidate { self.slot } else { self.slot.other() }
    }

    fn is_promoted(&self) -> bool {
        self.word.read().primary == self.slot
    }

    /// Why the flag could not follow a promotion, if it could not.
    fn obstacle(&self) -> Option<String> {
        let spec = self.flag.spec();
        let name = spec.name();
        if self.flag.is_killed() {
            return Some(format!("the flag {name} is killed; clear it by name first"));
        }
        if spec.archived().is_some() {
            return Some(format!("the flag {name} is archived and does not change any more"));
        }
        if spec.variants.iter().all(|variant| variant.name != self.candidate) {
            let candidate = &self.candidate;
            return Some(format!("the flag {name} has no variant {candidate}; add it first"));
        }
        None
    }
}

/// Whether the flag asks for a subject for anything else than its share.
fn needs_subject(spec: &FlagSpec) -> bool {
    spec.limit != TrafficShare::ALL
        || spec.layer.is_some()
        || !spec.holdouts.is_empty()
        || !spec.rules.is_empty()
}

/// The flag as a switch. A rollback kills it, and it stays killed until somebody clears it by name:
/// an order that would send traffic to the candidate of a killed flag is refused.
///
/// A promotion clears the flag once the router's slots are swapped.
impl TrafficSwitch for FlagGate {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        if order.primary == self.slot {
            if self.is_promoted() {
                let _ = self.promote();
                return Ok(());
            }
            // The swap itself is the owner's; see `settled`.
            return self
                .obstacle()
                .map_or(Ok(()), |reason| Err(SwitchError::Unreachable { reason }));
        }
        if order.candidate == TrafficShare::NONE {
            let in_force = self.word.read();
            let serves = in_force.candidate > TrafficShare::NONE || in_force.primary == self.slot;
            if self.gave.swap(false, Ordering::AcqRel) || serves {
                self.flag.kill();
            }
            return Ok(());
        }
        if let Some(reason) = self.obstacle() {
            return Err(SwitchError::Unreachable { reason });
        }
        self.gave.store(true, Ordering::Release);
        let share = order.candidate;
        let moved = self.flag.update(|spec| {
            spec.share = Some(share);
            spec.ramp = None;
        });
        moved.map_err(|error| SwitchError::Unreachable { reason: error.to_string() })
    }

    fn take_back(&self, order: &Split) -> Result<(), SwitchError> {
        self.shift(order)?;
        // People may be allowed the candidate while it has no share.
        if order.primary != self.slot && !self.flag.is_killed() {
            self.flag.kill();
        }
        Ok(())
    }

    /// The swap is in force, whatever becomes of the definition: without what was wanted under other
    /// roles it says the same, and the next order tries again.
    fn settled(&self, split: &Split) {
        if split.primary == self.slot {
            let _ = self.promote();
        }
    }

    fn bind(&self, generation: u64) {
        self.owner.store(generation, Ordering::Release);
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
            .field("promoted", &self.is_promoted())
            .finish_non_exhaustive()
    }
}
