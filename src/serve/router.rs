//! Answers requests: assign, call, record.
//!
//! A router holds a rollout's two models, reads the split once a request, and remembers what
//! happened. It decides nothing: control moves the split and reads the counts. Whatever becomes of
//! control, requests go on with the split as it was last.

use std::sync::Arc;

use crate::clock::{Clock, Mark, StdClock};
use crate::ids::{Arm, Name, NameError, Segment};
use crate::model::{Model, SyncModel};
use crate::observe::snapshot::{ArmCounts, Snapshot};
use crate::observe::thread_place::Place;
use crate::observe::window::{Quantiles, Window};
use crate::outcome::Outcome;
use crate::route::arms::{ArmTable, ArmTableError};
use crate::route::audience::{Audience, AudienceError};
use crate::route::bucket::Scheme;
use crate::route::owner::{OwnedError, Owner};
use crate::route::ownership::Ownership;
use crate::route::switch::{Arms, Entry, Split, SplitWord};
pub use crate::serve::answer::Answer;
use crate::serve::answer::Settled;
use crate::serve::catch::{Payload, caught, caught_future};
use crate::serve::guard::{Begun, Guard, OwnedGuard};
pub use crate::serve::inner::{Counted, OutcomeError};
use crate::serve::inner::{Inner, slot_of};
use crate::serve::request::{OverrideKey, Request};
use crate::serve::slots::{HeldHere, Taken, first_door};
use crate::serve::ticket::Ticket;
use crate::share::TrafficShare;

/// Sends each request to the right model and remembers what happened. Clones share everything.
///
/// ```
/// use pilotage::ids::Arm;
/// use pilotage::model;
/// use pilotage::outcome::Outcome;
/// use pilotage::route::switch::TrafficSwitch;
/// use pilotage::serve::request::Request;
/// use pilotage::serve::router::Router;
/// use pilotage::share::TrafficShare;
/// use std::convert::Infallible;
///
/// let old: fn(&str) -> Result<usize, Infallible> = |text| Ok(text.len());
/// let new: fn(&str) -> Result<usize, Infallible> = |text| Ok(text.chars().count());
///
/// let router = Router::builder("length").stable("bytes", model::sync(old)).build()?;
/// router.deploy("chars", model::sync(new))?;
///
/// // Control would do this; here everybody goes to the candidate.
/// router.switch().shift(&router.split().shifted(TrafficShare::ALL))?;
///
/// let answer = router.predict_sync(&Request::of("user-42"), "größe")?;
/// assert_eq!((answer.output, answer.arm), (5, Arm::CANDIDATE));
///
/// // When the truth arrives:
/// router.outcome(answer.ticket, Outcome::correct(true))?;
/// assert_eq!(router.snapshot().arm(Arm::CANDIDATE).unwrap().correct, 1);
///
/// // A rollback is one store, from any thread, at any time.
/// router.switch().roll_back();
/// assert_eq!(router.predict_sync(&Request::of("user-42"), "größe")?.output, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Router<M, C: Clock = StdClock> {
    inner: Arc<Inner<M, C>>,
}

/// A model that cannot be deployed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// Its name cannot be used.
    #[error("the model cannot be named so: {0}")]
    Name(#[from] NameError),
    /// The router has no such arm.
    #[error(transparent)]
    Arm(#[from] ArmTableError),
    /// Another model stands in the idle slot.
    #[error("{there} stands in the idle slot; retire it first")]
    Occupied {
        /// Which.
        there: Name,
    },
}

/// What came of retiring the idle model.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Retired {
    /// It is gone.
    Gone(Name),
    /// There was none.
    Nothing,
    /// So many calls still use it. It stays; ask again later.
    StillDraining(u64),
    /// The split still sends traffic to it. It stays; shift the traffic first.
    StillServing(TrafficShare),
}

impl<M, C: Clock> Router<M, C> {
    pub(crate) fn of(inner: Inner<M, C>) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner<M, C>> {
        &self.inner
    }

    /// Begins a call: picks the arm, holds its model and starts the clock. Never waits or fails.
    #[inline]
    pub fn begin(&self, request: &Request<'_>) -> Guard<'_, M, C> {
        self.inner.begin(request)
    }

    /// As [`Router::begin`], with a guard that may outlive this handler: for streams.
    pub fn begin_owned(&self, request: &Request<'_>) -> OwnedGuard<M, C> {
        OwnedGuard::of(Arc::clone(&self.inner), request)
    }

    /// Which arm a request would be served by now, without serving it. An anonymous request is
    /// drawn anew each time.
    #[must_use]
    pub fn arm_of(&self, request: &Request<'_>) -> Arm {
        let split = self.inner.word.packed();
        self.inner.arm_of(request, split)
    }

    /// Counts a truth that arrived after its call had ended: whether the answer was right, a
    /// score, marks. The outcome's status is ignored. Takes a short lock; not for the request
    /// path.
    ///
    /// # Errors
    ///
    /// [`OutcomeError`] when the ticket was posted before (as long as it is among the last
    /// 65,536), or is not of this router. Numbers of splits come again after 65,536 changes; an older
    /// ticket is told by the time of its call, if the router was drained, asked for its split or told
    /// a truth at least once in between.
    pub fn outcome(&self, ticket: Ticket, outcome: Outcome) -> Result<Counted, OutcomeError> {
        self.inner.outcome(ticket, None, &outcome)
    }

    /// As [`Router::outcome`], where the truth is about a unit that may be asked about more than
    /// once, such as a sample: each arm's answer about a unit counts once under one split, however
    /// often it is replayed. `unit` is a hash of the unit's content or name.
    ///
    /// # Errors
    ///
    /// As for [`Router::outcome`].
    pub fn outcome_of_unit(
        &self,
        ticket: Ticket,
        unit: u64,
        outcome: Outcome,
    ) -> Result<Counted, OutcomeError> {
        self.inner.outcome(ticket, Some(unit), &outcome)
    }

    /// Puts a model into the idle slot, where no traffic goes until the split says so. The model
    /// is ready when this returns, so load and warm it before.
    ///
    /// # Errors
    ///
    /// [`DeployError`] when the name cannot be used or another model stands there.
    pub fn deploy(&self, name: &str, model: M) -> Result<(), DeployError> {
        self.deploy_shared(name, Arc::new(model))
    }

    /// As [`Router::deploy`], with a model that is also used elsewhere, such as by a shadow lane.
    ///
    /// # Errors
    ///
    /// As for [`Router::deploy`].
    pub fn deploy_shared(&self, name: &str, model: Arc<M>) -> Result<(), DeployError> {
        let idle = self.split().primary.other().index();
        self.inner
            .slots
            .put(idle, Name::new(name)?, model)
            .map_err(|there| DeployError::Occupied { there })
    }

    /// Puts a model in place for an arm beyond baseline and candidate, where no traffic goes until
    /// [`Router::set_arms`] says so. The router must have been built with room for it
    /// ([`Size::arms`](crate::observe::recorder::Size::arms)).
    ///
    /// # Errors
    ///
    /// [`DeployError`] when the name cannot be used, another model stands there, or the router has
    /// no such arm.
    pub fn deploy_arm(&self, arm: Arm, name: &str, model: M) -> Result<(), DeployError> {
        if !(2..self.inner.arms).contains(&arm.index()) {
            let arms = self.inner.arms;
            return Err(ArmTableError::NoRoom { arm: arm.index(), arms }.into());
        }
        self.inner
            .slots
            .put(arm.index(), Name::new(name)?, Arc::new(model))
            .map_err(|there| DeployError::Occupied { there })
    }

    /// Takes the model of a further arm out and drops it, unless the arms are in force or calls
    /// still use it.
    #[must_use]
    pub fn retire_arm(&self, arm: Arm) -> Retired {
        let split = self.split();
        if split.arms == Arms::Table {
            return Retired::StillServing(split.candidate);
        }
        if arm.index() < 2 {
            return Retired::Nothing;
        }
        Self::retired(self.inner.slots.take(arm.index()))
    }

    /// Serves these further arms from now on, beside the candidate, or no longer. They are served
    /// as long as the candidate has a share; taking that back takes all back and ends them. An
    /// arm without a model is served by the baseline, and is no evidence.
    ///
    /// # Errors
    ///
    /// [`ArmTableError`] when the router has no such arm, or the shares with the candidate's are
    /// more than everybody. What is in force stays.
    pub fn set_arms(&self, table: Option<&ArmTable>) -> Result<Split, ArmTableError> {
        let arms = self.inner.arms;
        let shares = table.map_or(&[][..], ArmTable::shares);
        if let Some((arm, _)) = shares.iter().find(|(arm, _)| arm.index() >= arms) {
            return Err(ArmTableError::NoRoom { arm: arm.index(), arms });
        }
        let further = table.map_or(0, ArmTable::ppm);
        loop {
            let split = self.split();
            let ppm = further + u64::from(split.candidate.ppm());
            if ppm > TrafficShare::ALL.ppm().into() {
                return Err(ArmTableError::OverFull { ppm });
            }
            if let Some(table) = table {
                // Before the word that sends requests to it.
                self.inner.table.store(Some(Arc::new(table.clone())));
            }
            let arms = if table.is_some() { Arms::Table } else { Arms::Two };
            let order = split.with_arms(arms);
            if self.inner.word.obey(&order).is_ok() {
                return Ok(order);
            }
        }
    }

    /// Takes the idle model out and drops it, here and not on a request's thread, unless traffic
    /// goes to it or calls still use it. The last model of a router always stays: where a candidate
    /// was promoted that was never deployed, the idle model serves everybody.
    #[must_use]
    pub fn retire_idle(&self) -> Retired {
        let split = self.split();
        if split.candidate != TrafficShare::NONE {
            return Retired::StillServing(split.candidate);
        }
        let unchanged =
            |now: Split| now.primary == split.primary && now.candidate == split.candidate;
        let idle = split.primary.other().index();
        match self.inner.slots.take_idle(idle, || unchanged(self.split())) {
            Some(taken) => Self::retired(taken),
            None => match self.split() {
                // Somebody sent traffic to it meanwhile.
                now if now.primary == split.primary && now.candidate != TrafficShare::NONE => {
                    Retired::StillServing(now.candidate)
                }
                _ => Retired::StillServing(TrafficShare::ALL),
            },
        }
    }

    /// Drops what was taken out, here and not under a lock.
    fn retired(taken: Taken<M>) -> Retired {
        match taken {
            Taken::Empty => Retired::Nothing,
            Taken::InUse(calls) => Retired::StillDraining(calls),
            Taken::Out(name, model) => {
                drop(model);
                Retired::Gone(name)
            }
        }
    }

    /// The switch of this router: the word that every request reads. Its owner shifts it, or
    /// anybody while there is none ([`Router::own_traffic`]); an emergency stop may
    /// [`roll_back`](SplitWord::roll_back) it from anywhere.
    #[must_use]
    pub fn switch(&self) -> Arc<SplitWord> {
        Arc::clone(&self.inner.word)
    }

    /// Takes the right to move this router's traffic, by this name, until what is returned is
    /// dropped: for a person's hand, or a controller of your own. Rollouts, tests and blue-green
    /// switches take it by themselves.
    ///
    /// # Errors
    ///
    /// [`OwnedError`] while somebody else has it; nothing was touched.
    pub fn own_traffic(&self, what: &str) -> Result<Ownership, OwnedError> {
        Ownership::claim(&self.inner.word, what, "by hand")
    }

    /// Who moves this router's traffic now, if anybody does.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.inner.word.owner()
    }

    /// The split in force.
    #[must_use]
    pub fn split(&self) -> Split {
        self.inner.split_noted()
    }

    /// Lets only this audience take part from now on, or everybody again. What was seen before
    /// counts no longer, as after every change of the split; a request that begins meanwhile may
    /// be placed by the new audience and counted under the old split.
    ///
    /// A router that is built after a restart needs its audience again; until then a stored split
    /// that asks for one lets nobody in.
    ///
    /// # Errors
    ///
    /// [`AudienceError::Undeclared`] when it names a segment this router has not declared. The one
    /// in force stays.
    pub fn set_audience(&self, audience: Option<&Audience>) -> Result<Split, AudienceError> {
        let entry = match audience {
            Some(audience) => {
                let admission = audience.admission(&self.inner.segments)?;
                // Before the word that sends requests to it.
                self.inner.admission.store(Some(Arc::new(admission)));
                Entry::Audience
            }
            None => Entry::Everybody,
        };
        loop {
            let order = self.split().entered_by(entry);
            if self.inner.word.obey(&order).is_ok() {
                return Ok(order);
            }
        }
    }

    /// The name of the model that serves as `arm` now.
    #[must_use]
    pub fn model_name(&self, arm: Arm) -> Option<Name> {
        self.inner.slots.name(slot_of(arm, self.split()))
    }

    /// The model that serves as `arm` now, to use elsewhere, such as in a shadow lane. While it is
    /// kept, retiring it does not drop it.
    #[must_use]
    pub fn model(&self, arm: Arm) -> Option<Arc<M>> {
        let slot = slot_of(arm, self.split());
        Some(self.inner.slots.hold(Place::here(), first_door(slot))?.0.share())
    }

    /// The router's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.inner.name
    }

    /// How subjects are assigned, to be stored with the rollout.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.inner.scheme
    }

    /// The number of a declared segment, [`Segment::OTHER`] for any other name.
    #[must_use]
    pub fn segment(&self, name: &str) -> Segment {
        self.inner.segment_named(name)
    }

    /// The name of a declared segment.
    #[must_use]
    pub fn segment_name(&self, segment: Segment) -> Option<&Name> {
        self.inner.segments.get(segment.index().checked_sub(1)?)
    }

    /// The clock this router reads.
    #[must_use]
    pub fn clock(&self) -> &C {
        &self.inner.clock
    }

    /// Leave to force arms; see [`Request::force`].
    #[must_use]
    pub fn override_key(&self) -> OverrideKey {
        OverrideKey { router: self.inner.id }
    }

    /// What was seen under the split in force, up to now. Not for the request path.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let epoch = self.split().epoch;
        let mut snapshot = self.inner.recorder.snapshot(self.inner.now(), epoch);
        self.inner.add_streams(&mut snapshot);
        snapshot
    }

    /// Everything ever seen, arm by arm, over all splits and with the calls that are no evidence.
    #[must_use]
    pub fn totals(&self) -> Vec<ArmCounts> {
        let epoch = self.split().epoch;
        let mut totals = self.inner.recorder.totals(self.inner.now(), epoch);
        self.inner.add_all_streams(&mut totals, epoch);
        totals
    }

    /// Latency quantiles of the last five minutes under the split in force.
    #[must_use]
    pub fn recent(&self, arm: Arm) -> Option<Quantiles> {
        self.inner.recorder.recent(arm)
    }

    /// Empties what requests have written into counts and tells the sinks which windows closed.
    /// To be called every second or so, by a pilot's tick or a loop of yours, so that rings do not
    /// fill; returns how many windows closed.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn drain(&self) -> usize {
        let windows = self.fold();
        self.inner.sinks.tell(&windows);
        windows.len()
    }

    /// As [`Router::drain`], with each sink told on a thread of its own: whoever calls this waits for
    /// none. A sink that falls behind misses windows ([`Router::sinks_behind`]).
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn drain_aside(&self) -> usize {
        let windows = self.fold();
        let count = windows.len();
        self.inner.sinks.hand_over(windows);
        count
    }

    fn fold(&self) -> Vec<Window> {
        let epoch = self.split().epoch;
        let now = self.inner.now();
        self.inner.slots.learn(now);
        let mut windows = self.inner.recorder.drain(now, epoch);
        self.inner.streams.drain(epoch);
        for window in &mut windows {
            self.inner.add_streams_to(window);
        }
        windows
    }

    /// How many windows a sink refused or panicked over.
    #[must_use]
    pub fn sink_errors(&self) -> u64 {
        self.inner.sinks.errors()
    }

    /// How many windows a sink was not told, since it was too slow for them.
    #[must_use]
    pub fn sinks_behind(&self) -> u64 {
        self.inner.sinks.dropped()
    }

    /// Bytes on the heap that this router uses, at most, however much traffic there is; models
    /// apart.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        // Two sets of two generations of fingerprints, at the load a hash set has at worst.
        let late = 4 * crate::serve::late::REMEMBERED * 2 * (size_of::<u64>() + 1);
        let streams = self.inner.streams.memory_bytes();
        self.inner.recorder.memory_bytes() + self.inner.slots.memory_bytes() + streams + late
    }
}

impl<M: Model, C: Clock> Router<M, C> {
    /// Answers a request: picks the arm, asks its model, records how that ended.
    ///
    /// Adds no allocation, lock or wait to the model's own. Dropping the future counts the call as
    /// cancelled, or past the router's deadline as timed out. A panic of the candidate is caught and the baseline asked instead, unless the
    /// router's [`Fallback`](crate::serve::builder::Fallback) says otherwise.
    ///
    /// # Errors
    ///
    /// The model's own, never one of ours.
    ///
    /// # Panics
    ///
    /// With the model's own panic, where no other model may answer and the model has no
    /// [`error_for_panic`](Model::error_for_panic). It is counted first.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` copies the request once more within its future: 22 instructions"
    )]
    pub fn predict(
        &self,
        request: Request<'_>,
        input: &M::Input,
    ) -> impl Future<Output = Result<Answer<M::Output>, M::Error>> {
        async move {
            let guard = self.inner.begin(&request);
            let call = guard.inner().call_of(guard.key());
            let ended = caught_future(|| guard.model().predict(input, call)).await;
            let unsettled = match ended {
                Ok(Ok(output)) => return Ok(guard.answer(output)),
                Ok(Err(error)) => Ok(error),
                Err(payload) => Err(payload),
            };
            let mut failed = match guard.settle(unsettled) {
                Settled::Done(error) => return Err(error),
                Settled::Failed(failed) => failed,
            };
            let Some(held) = failed.stand_in.take() else { return failed.give_up() };
            let call = self.inner.call_of_baseline();
            let again = caught_future(|| held.value().predict(input, call)).await;
            failed.answered_by(held.value(), again)
        }
    }
}

impl<M: SyncModel, C: Clock> Router<M, C> {
    /// As [`Router::predict`], for models that just compute: on this thread, without a future.
    ///
    /// # Errors
    ///
    /// The model's own, never one of ours.
    ///
    /// # Panics
    ///
    /// As [`Router::predict`].
    pub fn predict_sync(
        &self,
        request: &Request<'_>,
        input: &<M as SyncModel>::Input,
    ) -> Result<Answer<<M as SyncModel>::Output>, <M as SyncModel>::Error> {
        // No guard until something goes wrong: what stays on this thread can stay in registers.
        let inner = &*self.inner;
        let at = inner.clock.mark();
        let quick = inner.quickly(request);
        let held = quick.as_ref().and_then(|quick| quick.slots.lend(quick.drawn.door()));
        let (Some(quick), Some((held, number))) = (quick, held) else {
            return self.predict_sync_slowly(Asked { request, at }, input);
        };
        let (key, nonce) = quick.begin(number);
        let begun = Begun { key, nonce, at };
        let call = inner.call_of(key);
        let unsettled = match caught(|| held.value().predict_sync(input, call)) {
            Ok(Ok(output)) => {
                inner.recorder.end_at(quick.slots.desk(), inner.words_of_answer(key, at));
                drop(held);
                let ticket = inner.ticket_of(&begun);
                let arm = key.arm();
                return Ok(Answer { output, arm, fell_back: false, diverted: false, ticket });
            }
            Ok(Err(error)) => Ok(error),
            Err(payload) => Err(payload),
        };
        self.unanswered_sync(Unanswered { held, begun }, unsettled, input)
    }

    #[cold]
    #[inline(never)]
    fn unanswered_sync(
        &self,
        Unanswered { held, begun }: Unanswered<'_, M>,
        unsettled: Result<<M as SyncModel>::Error, Payload>,
        input: &<M as SyncModel>::Input,
    ) -> Result<Answer<<M as SyncModel>::Output>, <M as SyncModel>::Error> {
        let inner = &*self.inner;
        let guard = inner.guard(inner.slots.set_free(held), begun);
        self.recover_sync(guard.settle(unsettled), input)
    }

    #[cold]
    #[inline(never)]
    fn predict_sync_slowly(
        &self,
        Asked { request, at }: Asked<'_>,
        input: &<M as SyncModel>::Input,
    ) -> Result<Answer<<M as SyncModel>::Output>, <M as SyncModel>::Error> {
        let inner = &*self.inner;
        let (held, key, nonce) = inner.begin_slowly(request);
        let guard = inner.guard(held, Begun { key, nonce, at });
        let call = guard.inner().call_of(guard.key());
        let unsettled = match caught(|| guard.model().predict_sync(input, call)) {
            Ok(Ok(output)) => return Ok(guard.answer(output)),
            Ok(Err(error)) => Ok(error),
            Err(payload) => Err(payload),
        };
        self.recover_sync(guard.settle(unsettled), input)
    }

    #[cold]
    #[inline(never)]
    fn recover_sync(
        &self,
        settled: Settled<'_, M, <M as SyncModel>::Error>,
        input: &<M as SyncModel>::Input,
    ) -> Result<Answer<<M as SyncModel>::Output>, <M as SyncModel>::Error> {
        let mut failed = match settled {
            Settled::Done(error) => return Err(error),
            Settled::Failed(failed) => failed,
        };
        let Some(held) = failed.stand_in.take() else { return failed.give_up() };
        let call = self.inner.call_of_baseline();
        let again = caught(|| held.value().predict_sync(input, call));
        failed.answered_by(held.value(), again)
    }
}

// What the quick way hands to the others is put together where it is handed over. Handed over as it
// is, it would have to lie in memory on the quick way too.

/// A call that has not begun yet.
struct Asked<'a> {
    request: &'a Request<'a>,
    at: Mark,
}

/// A call that its model has not answered.
struct Unanswered<'r, M> {
    held: HeldHere<'r, M>,
    begun: Begun,
}

impl<M, C: Clock> Clone for Router<M, C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M, C: Clock> std::fmt::Debug for Router<M, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("name", &self.inner.name)
            .field("split", &self.split())
            .finish_non_exhaustive()
    }
}
