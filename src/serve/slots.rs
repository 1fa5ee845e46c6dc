//! Where the models stand.
//!
//! A slot lends its model to calls through a [`Lender`], so that no call writes to a cache line
//! another thread writes to: an `Arc` clone would count on one line for all. A model that is taken
//! out is dropped only when no call holds it, and then by whoever retires it, not by the last
//! request. Calls that outlive their handler share the model instead, and are counted apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ids::Name;
use crate::observe::lender::{Brief, Here, Lender, Loan};
use crate::observe::recorder::{Own, Seated};
use crate::observe::thread_place::Place;
use crate::route::arms::MOST_ARMS;

/// How many models can stand ready: two that swap roles, and one for each further arm.
pub(crate) const SLOTS: usize = MOST_ARMS;

/// The models of a router.
pub(crate) struct Slots<M> {
    lender: Lender<M, Own, SLOTS>,
    /// Calls that share a model for longer than their handler lasts.
    kept: Arc<[AtomicU64; SLOTS]>,
    /// Also the lock under which models come and go.
    names: Mutex<[Option<Name>; SLOTS]>,
}

/// A model while a call uses it.
pub(crate) type Held<'s, M> = Loan<'s, M, Own, SLOTS>;

/// This thread's own way to the models.
pub(crate) type SlotsHere<'s, M> = Here<'s, M, Own, SLOTS>;

/// A model while a call uses it on one thread.
pub(crate) type HeldHere<'s, M> = Brief<'s, M, Own, SLOTS>;

/// A model while a call uses it that may outlive the router's borrow.
pub(crate) struct Kept<M> {
    model: Arc<M>,
    /// Stands below the model, so it goes after it: who finds nobody counted has the last handle.
    _counted: Counted,
}

struct Counted {
    kept: Arc<[AtomicU64; SLOTS]>,
    slot: usize,
}

impl<M> Kept<M> {
    pub(crate) fn model(&self) -> &M {
        &self.model
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Pairs with the Acquire of `take`.
        self.kept[self.slot].fetch_sub(1, Ordering::Release);
    }
}

/// What came of taking a model out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Taken<M> {
    /// Nothing was there.
    Empty,
    /// So many calls still use it; it stays.
    InUse(u64),
    /// It is out, and this is the last handle unless the user kept one.
    Out(Name, Arc<M>),
}

impl<M> Slots<M> {
    /// Empty slots, for the threads that sit here and all others.
    pub(crate) fn new(seated: Seated) -> Self {
        Self { lender: Lender::new(seated), kept: Arc::default(), names: Mutex::default() }
    }

    /// The model in `slot`, for a call of the thread with this place, and a number that no other
    /// call of this thread and slot has had.
    #[inline]
    pub(crate) fn hold(&self, place: Place, slot: usize) -> Option<(Held<'_, M>, u64)> {
        self.lender.lend(place, slot)
    }

    /// Where the thread with this place holds models for calls that end on it; `None` where the
    /// thread is one of many.
    #[inline]
    pub(crate) fn here(&self, place: Place) -> Option<SlotsHere<'_, M>> {
        self.lender.here(place)
    }

    /// A model held on this thread, as one that may be held on another.
    #[cold]
    pub(crate) fn set_free<'s>(&'s self, held: HeldHere<'s, M>) -> Held<'s, M> {
        self.lender.set_free(held)
    }

    /// A model that is held, for a call that may outlive its handler.
    pub(crate) fn keep(&self, held: &Held<'_, M>) -> Kept<M> {
        let slot = held.slot();
        self.kept[slot].fetch_add(1, Ordering::Relaxed);
        let _counted = Counted { kept: Arc::clone(&self.kept), slot };
        Kept { model: held.share(), _counted }
    }

    /// Puts a model into an empty slot, or gives the name of the one that stands there.
    pub(crate) fn put(&self, slot: usize, name: Name, model: Arc<M>) -> Result<(), Name> {
        let mut names = self.names.lock();
        let Some(at) = names.get_mut(slot) else { return Err(name) };
        if let Some(there) = at {
            return Err(there.clone());
        }
        // Under the lock a slot without a name is empty.
        if self.lender.put(slot, model).is_ok() {
            *at = Some(name);
        }
        Ok(())
    }

    /// Takes a model out unless calls still use it.
    pub(crate) fn take(&self, slot: usize) -> Taken<M> {
        let mut names = self.names.lock();
        let Some(name) = names.get(slot).cloned().flatten() else { return Taken::Empty };
        let model = match self.lender.take(slot) {
            Ok(Some(model)) => model,
            Ok(None) => return Taken::Empty,
            Err(calls) => return Taken::InUse(calls),
        };
        // No call holds it, so none begins to keep it; those that do were counted before they let
        // go of their hold, which the lender has seen.
        let kept = self.kept[slot].load(Ordering::Acquire);
        if kept > 0 {
            // The slot is empty and the lock is ours.
            drop(self.lender.put(slot, model));
            return Taken::InUse(kept);
        }
        names[slot] = None;
        Taken::Out(name, model)
    }

    /// Bytes on the heap, models apart.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.kept)
    }

    /// The name of the model in `slot`.
    pub(crate) fn name(&self, slot: usize) -> Option<Name> {
        self.names.lock().get(slot).cloned().flatten()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::ids::Epoch;
    use crate::observe::recorder::{Recorder, Size};

    fn slots(shards: usize) -> Slots<i32> {
        let size = Size { shards, ..Size::default() };
        Slots::new(Recorder::new(size, Epoch::default(), Moment::ZERO).seated())
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_model_in_use_stays_and_goes_later() {
        let slots = slots(4);
        slots.put(0, name("v1"), Arc::new(7)).unwrap();
        assert_eq!(slots.put(0, name("v2"), Arc::new(8)), Err(name("v1")));
        let hold = || slots.hold(Place::here(), 0).map(|(held, _)| held);
        let held: Vec<_> = (0..19).map(|_| hold().unwrap()).collect();
        assert_eq!(slots.take(0), Taken::InUse(19));
        assert_eq!(*held[3].value(), 7);
        assert_eq!(*hold().unwrap().value(), 7);
        drop(held);
        assert_eq!(slots.take(0), Taken::Out(name("v1"), Arc::new(7)));
        assert!(hold().is_none());
        assert_eq!(slots.take(0), Taken::Empty);
    }

    #[test]
    fn a_model_that_a_stream_keeps_stays_and_goes_later() {
        let slots = slots(4);
        slots.put(1, name("v1"), Arc::new(7)).unwrap();
        let kept = {
            let (held, _) = slots.hold(Place::here(), 1).unwrap();
            slots.keep(&held)
        };
        assert_eq!(slots.take(1), Taken::InUse(1));
        assert_eq!(*slots.hold(Place::here(), 1).unwrap().0.value(), 7);
        assert_eq!(*kept.model(), 7);
        drop(kept);
        assert_eq!(slots.take(1), Taken::Out(name("v1"), Arc::new(7)));
    }

    #[test]
    fn models_may_come_and_go_without_end() {
        let slots = slots(2);
        for number in 0..200 {
            let model = Arc::new(number);
            slots.put(1, name("next"), Arc::clone(&model)).unwrap();
            let (held, _) = slots.hold(Place::here(), 1).unwrap();
            assert_eq!(*held.value(), number);
            drop(held);
            assert!(matches!(slots.take(1), Taken::Out(..)));
            assert_eq!(Arc::strong_count(&model), 1, "nothing is left behind");
        }
    }
}
