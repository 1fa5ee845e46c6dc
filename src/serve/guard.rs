//! A call under way.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Mark};
use crate::ids::{Arm, Epoch};
use crate::model::Call;
use crate::observe::record::{CallKey, Draw, Words};
use crate::observe::thread_place::Place;
use crate::outcome::{Outcome, Status};
use crate::route::switch::Drawn;
use crate::serve::inner::Inner;
use crate::serve::request::Request;
use crate::serve::slots::{Held, Kept, SlotsHere, door_of};
use crate::serve::ticket::{Served, Ticket};

/// A call that was begun: it knows which model to ask and counts how that ended.
///
/// The primitive below `predict`, for servers that call models in their own way: batched,
/// streamed, over a wire. Every guard counts exactly once: as it is [finished](Guard::finish), or
/// when it is dropped: as cancelled, or past the router's deadline as timed out.
///
/// ```
/// use pilotage::outcome::Outcome;
/// use pilotage::serve::request::Request;
/// use pilotage::serve::router::Router;
///
/// // A "model" may be anything; here it is an address that a proxy forwards to.
/// let router = Router::builder("proxy").stable("blue", "http://blue:8080").build()?;
///
/// let guard = router.begin(&Request::of("user-42"));
/// let _address: &str = guard.model();
/// // … forward the request there …
/// let ticket = guard.finish(Outcome::ok());
/// # let _ = ticket;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a guard that is dropped counts the call as cancelled or timed out"]
pub struct Guard<'r, M, C: Clock> {
    // In this order: who gives a model back has counted how its call ended.
    open: Open<'r, M, C>,
    held: Held<'r, M>,
}

/// A call of which nobody has said how it ended: dropped, it counts as cancelled or timed out.
struct Open<'r, M, C: Clock> {
    inner: &'r Inner<M, C>,
    begun: Begun,
}

/// What is known when a call begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub key: CallKey,
    pub nonce: u32,
    pub at: Mark,
}

/// The quick way of a request, found: who serves it is drawn, nothing is counted yet.
pub(crate) struct Quick<'r, M> {
    pub slots: SlotsHere<'r, M>,
    pub drawn: Drawn,
    hash: u64,
    place: Place,
}

impl<M> Quick<'_, M> {
    /// Counts the call as begun that holds its model by this number.
    #[inline]
    pub(crate) fn begin(&self, number: u64) -> (CallKey, u32) {
        let key = CallKey::drawn(self.drawn, self.hash);
        self.slots.desk().begin_drawn(key);
        (key, nonce_of(self.place.number(), number))
    }
}

impl<M, C: Clock> Inner<M, C> {
    #[inline]
    pub(crate) fn begin(&self, request: &Request<'_>) -> Guard<'_, M, C> {
        let at = self.clock.mark();
        if let Some(quick) = self.quickly(request) {
            if let Some((held, number)) = quick.slots.lend_free(quick.drawn.door()) {
                let (key, nonce) = quick.begin(number);
                return self.guard(held, Begun { key, nonce, at });
            }
        }
        let (held, key, nonce) = self.begin_slowly(request);
        self.guard(held, Begun { key, nonce, at })
    }

    /// What guards a call that was begun.
    #[inline]
    pub(crate) fn guard<'r>(&'r self, held: Held<'r, M>, begun: Begun) -> Guard<'r, M, C> {
        Guard { open: Open { inner: self, begun }, held }
    }

    /// The way of nearly every request, in a straight line: an id of some bytes and nothing else
    /// asked for, a split that only a share decides, a thread with a shard of its own. `None`
    /// leaves nothing behind.
    ///
    /// Whoever calls reads the clock first: what follows overlaps with what the reading has yet to
    /// do.
    #[inline]
    pub(crate) fn quickly(&self, request: &Request<'_>) -> Option<Quick<'_, M>> {
        let place = Place::if_known();
        let split = self.word.packed();
        let id = request.plain_id(split)?;
        let hash = self.bucketing.quick_arm_hash(id)?;
        let slots = self.slots.here(place)?;
        let drawn = split.draw(hash);
        Some(Quick { slots, drawn, hash, place })
    }

    /// The way of a candidate's call that only had to ask at the bulkhead, and finds room.
    #[inline(never)]
    fn begin_bounded(&self, request: &Request<'_>) -> Option<(Held<'_, M>, CallKey, u32)> {
        let quick = self.quickly(request)?;
        let door = quick.drawn.door();
        if !self.slots.asks(door) {
            return None;
        }
        let asked = self.slots.ask(quick.place, door, || self.word.read())?;
        let (held, number) = asked.held?;
        let (key, nonce) = quick.begin(number);
        Some((held, key, nonce))
    }

    /// The way of all others. The clock's reading is not handed through: it would have to lie in
    /// memory for this, on the quick way too.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin_slowly(&self, request: &Request<'_>) -> (Held<'_, M>, CallKey, u32) {
        if let Some(begun) = self.begin_bounded(request) {
            return begun;
        }
        let place = Place::here();
        let segment = self.segment_of(request);
        loop {
            let packed = self.word.packed();
            let split = packed.split();
            let mut key = self.assign(request, packed, segment);
            let own = door_of(key.arm(), split);
            let mut held = None;
            if !self.slots.asks(own) {
                held = self.slots.hold(place, own);
            } else if let Some(asked) = self.slots.ask(place, own, || split) {
                held = asked.held;
                if held.is_none() {
                    // No room: the baseline answers what stays a call of its arm. Where there is no
                    // baseline, the candidate does, whatever its bound.
                    held = self.slots.hold(place, packed.primary());
                    match held {
                        Some(_) => key = key.diverted(),
                        None => held = self.slots.hold(place, 1 - packed.primary()),
                    }
                }
            }
            if held.is_none() {
                // There is no candidate, or it was retired a moment ago.
                let epoch = key.epoch();
                key = CallKey::new(Arm::BASELINE, epoch, segment, key.subject(), Draw::Chosen);
                held = self.slots.hold(place, packed.primary());
            }
            if held.is_none() {
                // Somebody promoted a candidate that was never deployed: the model that stands
                // serves in its stead, or requests would wait here for a deployment.
                held = self.slots.hold(place, 1 - packed.primary());
            }
            if let Some((held, number)) = held {
                self.recorder.begin(place, key);
                let mut nonce = nonce_of(place.number().min(255), number);
                if held.slot() != own {
                    // Another door counts by itself: far from what this arm's own has given.
                    nonce ^= 1 << 23;
                }
                return (held, key, nonce);
            }
            // One slot was filled and the other retired between our two looks, so the split we read
            // is over. A router always has a model, so the next look or the one after finds it; if
            // whoever retires was interrupted amid that, it shall have the processor.
            std::thread::yield_now();
        }
    }
}

/// A number that no other call of one arm, split and ticket's time has had: whose counter it is
/// from in the upper 8 bits, the lowest 24 of the count below. Threads with a counter of their own
/// have places below 128; all others count together.
#[inline]
fn nonce_of(place: usize, number: u64) -> u32 {
    (place as u32) << 24 | (number as u32 & 0xff_ffff)
}

impl<M, C: Clock> Inner<M, C> {
    /// What to record of a call that is answered now, when there is no more to say of it.
    #[inline]
    pub(crate) fn words_of_answer(&self, key: CallKey, at: Mark) -> Words {
        let nanos = self.clock.nanos_since(at);
        if nanos > self.deadline_nanos {
            Words::of(key, nanos, &Outcome::timeout(), false)
        } else {
            Words::answered(key, nanos)
        }
    }

    #[inline]
    pub(crate) fn ticket_of(&self, begun: &Begun) -> Ticket {
        let at = self.clock.moment_of(begun.at);
        Ticket::of(&Served { key: begun.key, router: self.tag, at, nonce: begun.nonce })
    }
}

impl<'r, M, C: Clock> Guard<'r, M, C> {
    /// The model to ask.
    #[inline]
    #[must_use]
    pub fn model(&self) -> &M {
        self.held.value()
    }

    /// Which arm the call was assigned to.
    #[inline]
    #[must_use]
    pub const fn arm(&self) -> Arm {
        self.open.begun.key.arm()
    }

    /// Under which split.
    #[inline]
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.open.begun.key.epoch()
    }

    /// Whether that arm has as many calls as it may, so that [`Guard::model`] is the baseline's.
    #[inline]
    #[must_use]
    pub const fn diverted(&self) -> bool {
        self.open.begun.key.is_diverted()
    }

    /// What to tell the model of the call.
    #[inline]
    #[must_use]
    pub fn call(&self) -> Call {
        *self.inner().call_of(self.open.begun.key)
    }

    /// The ticket of this call, for a stream whose header goes out before its end.
    #[inline]
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.inner().ticket_of(&self.open.begun)
    }

    /// Counts the call as ended and gives the ticket for a later truth. An answer that took longer
    /// than the router's deadline counts as timed out, though the caller may still use it.
    #[inline]
    #[expect(clippy::must_use_candidate, reason = "not every call has a later truth")]
    pub fn finish(self, outcome: Outcome) -> Ticket {
        let (inner, begun) = (self.inner(), self.open.begun);
        self.ended(words_at_end(inner, &begun, outcome, false));
        inner.ticket_of(&begun)
    }

    /// Counts the call as failed and answered by the baseline.
    pub(crate) fn finish_elsewhere(self, status: Status) -> Ticket {
        let (inner, begun) = (self.inner(), self.open.begun);
        let mut outcome = Outcome::ok();
        outcome.status = status;
        self.ended(words_at_end(inner, &begun, outcome, true));
        inner.ticket_of(&begun)
    }

    /// Counts the call as answered, when there is no more to say of it.
    #[inline]
    pub(crate) fn answered(self) -> Ticket {
        let (inner, begun) = (self.inner(), self.open.begun);
        self.ended(inner.words_of_answer(begun.key, begun.at));
        inner.ticket_of(&begun)
    }

    /// Records how the call ended, then gives the model back: by one look where the thread has a
    /// shard to itself.
    #[inline]
    fn ended(self, words: Words) {
        let Self { open, held } = self;
        let inner = open.inner;
        // It is closed by what follows; all it has are a reference and numbers.
        std::mem::forget(open);
        match inner.slots.here(Place::if_known()) {
            Some(here) => {
                inner.recorder.end_at(here.desk(), words);
                here.give_back(held);
            }
            None => inner.record(words),
        }
    }

    #[inline]
    pub(crate) const fn inner(&self) -> &'r Inner<M, C> {
        self.open.inner
    }

    #[inline]
    pub(crate) const fn key(&self) -> CallKey {
        self.open.begun.key
    }

    /// The model for longer than the guard, and what was known when the call began: nobody counts
    /// its end any more but who takes this.
    fn keep(self) -> (Kept<M>, Begun) {
        let Self { open, held } = self;
        let kept = open.inner.slots.keep(held);
        let begun = open.begun;
        std::mem::forget(open);
        (kept, begun)
    }
}

/// How a call ended that was dropped now: past its deadline its caller waited long enough.
#[cold]
fn dropped<M, C: Clock>(inner: &Inner<M, C>, begun: &Begun) -> Outcome {
    if inner.clock.nanos_since(begun.at) > inner.deadline_nanos {
        Outcome::timeout()
    } else {
        Outcome::cancelled()
    }
}

/// What to record of a call that ends now.
fn words_at_end<M, C: Clock>(
    inner: &Inner<M, C>,
    begun: &Begun,
    mut outcome: Outcome,
    fell_back: bool,
) -> Words {
    let nanos = inner.clock.nanos_since(begun.at);
    if outcome.status == Status::Ok && nanos > inner.deadline_nanos {
        outcome.status = Status::Timeout;
    }
    Words::of(begun.key, nanos, &outcome, fell_back)
}

impl<M, C: Clock> Drop for Open<'_, M, C> {
    #[cold]
    fn drop(&mut self) {
        let outcome = dropped(self.inner, &self.begun);
        self.inner.record(words_at_end(self.inner, &self.begun, outcome, false));
    }
}

/// A [`Guard`] that borrows nothing, for calls that outlive the handler that began them: a stream
/// whose body is sent later, a batch that is gathered elsewhere. Costs one clone of the router,
/// whose count all threads share.
///
/// For a stream: finish it where the last token leaves, with an error where it breaks off; dropped
/// with the connection it counts as cancelled, or past the router's deadline as timed out. It counts
/// once in any case.
///
/// ```
/// use pilotage::outcome::Outcome;
/// use pilotage::serve::request::Request;
/// use pilotage::serve::router::Router;
///
/// let router = Router::builder("stream").stable("v1", ["one", "two"]).build()?;
/// let guard = router.begin_owned(&Request::of("user-42"));
/// let sending = std::thread::spawn(move || {
///     for _token in guard.model() {
///         // … send it …
///     }
///     guard.finish(Outcome::ok())
/// });
/// let ticket = sending.join().expect("the thread ends");
/// router.outcome(ticket, Outcome::correct(true))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a guard that is dropped counts the call as cancelled or timed out"]
pub struct OwnedGuard<M, C: Clock> {
    inner: Arc<Inner<M, C>>,
    kept: Kept<M>,
    begun: Begun,
    open: bool,
}

impl<M, C: Clock> OwnedGuard<M, C> {
    pub(crate) fn of(inner: Arc<Inner<M, C>>, request: &Request<'_>) -> Self {
        let (kept, begun) = inner.begin(request).keep();
        Self { inner, kept, begun, open: true }
    }

    /// The model to ask.
    #[must_use]
    pub fn model(&self) -> &M {
        self.kept.model()
    }

    /// Which arm the call was assigned to.
    #[must_use]
    pub const fn arm(&self) -> Arm {
        self.begun.key.arm()
    }

    /// Whether that arm has as many calls as it may; see [`Guard::diverted`].
    #[must_use]
    pub const fn diverted(&self) -> bool {
        self.begun.key.is_diverted()
    }

    /// What to tell the model of the call.
    #[must_use]
    pub fn call(&self) -> Call {
        *self.inner.call_of(self.begun.key)
    }

    /// The ticket of this call, to send ahead of the stream.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.inner.ticket_of(&self.begun)
    }

    /// How long the call has lasted, for example until its first token, to be given as a score or
    /// a metric of your own.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        Duration::from_nanos(self.inner.clock.nanos_since(self.begun.at))
    }

    /// Counts the call as ended; see [`Guard::finish`].
    #[expect(clippy::must_use_candidate, reason = "not every call has a later truth")]
    pub fn finish(mut self, outcome: Outcome) -> Ticket {
        self.end(outcome);
        self.ticket()
    }

    fn end(&mut self, outcome: Outcome) {
        self.open = false;
        self.inner.record(words_at_end(&self.inner, &self.begun, outcome, false));
    }

    /// Counts the call as ended in this way, with this as its latency.
    pub(crate) fn finish_as(&mut self, status: Status, nanos: u64, fell_back: bool) {
        self.open = false;
        let mut outcome = Outcome::ok();
        outcome.status = status;
        self.inner.record(Words::of(self.begun.key, nanos, &outcome, fell_back));
    }

    /// Nanoseconds since the call began.
    #[inline]
    pub(crate) fn nanos(&self) -> u64 {
        self.inner.clock.nanos_since(self.begun.at)
    }

    pub(crate) const fn key(&self) -> CallKey {
        self.begun.key
    }

    pub(crate) fn inner(&self) -> &Arc<Inner<M, C>> {
        &self.inner
    }
}

impl<M, C: Clock> Drop for OwnedGuard<M, C> {
    fn drop(&mut self) {
        if self.open {
            self.end(dropped(&self.inner, &self.begun));
        }
    }
}

impl<M, C: Clock> std::fmt::Debug for OwnedGuard<M, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnedGuard").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl<M, C: Clock> std::fmt::Debug for Guard<'_, M, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("begun", &self.open.begun).finish_non_exhaustive()
    }
}
