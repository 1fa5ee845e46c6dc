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
use crate::observe::lender::{Lender, Loan};
use crate::observe::thread_place::Place;
use crate::route::switch::Slot;

/// How many models can stand ready.
pub(crate) const SLOTS: usize = 2;

/// The models of a router.
pub(crate) struct Slots<M> {
    lender: Lender<M, SLOTS>,
    /// Calls that share a model for longer than their handler lasts.
    kept: Arc<[AtomicU64; SLOTS]>,
    /// Also the lock under which models come and go.
    names: Mutex<[Option<Name>; SLOTS]>,
}

/// A model while a call uses it.
pub(crate) type Held<'s, M> = Loan<'s, M, SLOTS>;

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
    /// Empty slots, with counters for so many threads of their own.
    pub(crate) fn new(threads: usize) -> Self {
        let threads = threads.clamp(1, 128).next_power_of_two();
        Self { lender: Lender::new(threads), kept: Arc::default(), names: Mutex::default() }
    }

    /// The model in `slot`, for a call of the thread with this place.
    #[inline]
    pub(crate) fn hold(&self, place: Place, slot: usize) -> Option<Held<'_, M>> {
        self.lender.lend(place, slot)
    }

    /// A model that is held, for a call that may outlive its handler.
    pub(crate) fn keep(&self, held: &Held<'_, M>) -> Kept<M> {
        let slot = held.slot();
        self.kept[slot].fetch_add(1, Ordering::Relaxed);
        let _counted = Counted { kept: Arc::clone(&self.kept), slot };
        Kept { model: held.share(), _counted }
    }

    /// Puts a model into an empty slot, or gives the name of the one that stands there.
    pub(crate) fn put(&self, slot: Slot, name: Name, model: Arc<M>) -> Result<(), Name> {
        let mut names = self.names.lock();
        if let Some(there) = &names[slot.index()] {
            return Err(there.clone());
        }
        // Under the lock a slot without a name is empty.
        if self.lender.put(slot.index(), model).is_ok() {
            names[slot.index()] = Some(name);
        }
        Ok(())
    }

    /// Takes a model out unless calls still use it.
    pub(crate) fn take(&self, slot: Slot) -> Taken<M> {
        let mut names = self.names.lock();
        let Some(name) = names[slot.index()].clone() else { return Taken::Empty };
        let model = match self.lender.take(slot.index()) {
            Ok(Some(model)) => model,
            Ok(None) => return Taken::Empty,
            Err(calls) => return Taken::InUse(calls),
        };
        // No call holds it, so none begins to keep it; those that do were counted before they let
        // go of their hold, which the lender has seen.
        let kept = self.kept[slot.index()].load(Ordering::Acquire);
        if kept > 0 {
            // The slot is empty and the lock is ours.
            drop(self.lender.put(slot.index(), model));
            return Taken::InUse(kept);
        }
        names[slot.index()] = None;
        Taken::Out(name, model)
    }

    /// Bytes on the heap, models apart.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.lender.memory_bytes() + size_of_val(&*self.kept)
    }

    /// The name of the model in `slot`.
    pub(crate) fn name(&self, slot: Slot) -> Option<Name> {
        self.names.lock()[slot.index()].clone()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_model_in_use_stays_and_goes_later() {
        let slots = Slots::new(4);
        slots.put(Slot::First, name("v1"), Arc::new(7)).unwrap();
        assert_eq!(slots.put(Slot::First, name("v2"), Arc::new(8)), Err(name("v1")));
        let hold = || slots.hold(Place::here(), Slot::First.index());
        let held: Vec<_> = (0..19).map(|_| hold().unwrap()).collect();
        assert_eq!(slots.take(Slot::First), Taken::InUse(19));
        assert_eq!(*held[3].value(), 7);
        assert_eq!(*hold().unwrap().value(), 7);
        drop(held);
        assert_eq!(slots.take(Slot::First), Taken::Out(name("v1"), Arc::new(7)));
        assert!(hold().is_none());
        assert_eq!(slots.take(Slot::First), Taken::Empty);
    }

    #[test]
    fn a_model_that_a_stream_keeps_stays_and_goes_later() {
        let slots = Slots::new(4);
        slots.put(Slot::Second, name("v1"), Arc::new(7)).unwrap();
        let kept = {
            let held = slots.hold(Place::here(), Slot::Second.index()).unwrap();
            slots.keep(&held)
        };
        assert_eq!(slots.take(Slot::Second), Taken::InUse(1));
        assert_eq!(*slots.hold(Place::here(), Slot::Second.index()).unwrap().value(), 7);
        assert_eq!(*kept.model(), 7);
        drop(kept);
        assert_eq!(slots.take(Slot::Second), Taken::Out(name("v1"), Arc::new(7)));
    }

    #[test]
    fn models_may_come_and_go_without_end() {
        let slots = Slots::new(2);
        for number in 0..200 {
            let model = Arc::new(number);
            slots.put(Slot::Second, name("next"), Arc::clone(&model)).unwrap();
            let held = slots.hold(Place::here(), Slot::Second.index()).unwrap();
            assert_eq!(*held.value(), number);
            drop(held);
            assert!(matches!(slots.take(Slot::Second), Taken::Out(..)));
            assert_eq!(Arc::strong_count(&model), 1, "nothing is left behind");
        }
    }
}
