//! Where the models stand.
//!
//! Each shard of threads has a handle of its own to each model, so that taking one writes to no
//! cache line another shard writes to: a plain `Arc` clone would count on one line for all. A
//! model that is taken out is dropped only when no call holds it, and then by whoever retires it,
//! not by the last request.
//!
//! A request finds its handle by a weak reference that is written once and never changed, which
//! costs a third of what reading a changeable one safely does. There is room for a bounded number
//! of those; a router that has been given more models than that reads the changeable ones.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapOption;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::ids::Name;
use crate::route::switch::Slot;

/// How many models can stand ready.
pub(crate) const SLOTS: usize = 2;

/// How many models a router can be given before finding them takes a little longer.
const QUICK: usize = 64;

/// One shard's handles.
struct Shard<M> {
    /// By the number a model was given when it was put in.
    quick: [OnceLock<Weak<Handle<M>>>; QUICK],
    sure: [ArcSwapOption<Handle<M>>; SLOTS],
}

/// A shard's own count of who uses a model.
struct Handle<M>(Arc<M>);

/// The models of a router.
pub(crate) struct Slots<M> {
    shards: Box<[CachePadded<Shard<M>>]>,
    /// The number of the model in each slot; [`QUICK`] and more have no quick reference.
    numbers: CachePadded<[AtomicUsize; SLOTS]>,
    /// Also the lock under which models come and go.
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    of: [Option<Name>; SLOTS],
    /// How many models were ever put in.
    given: usize,
}

/// A model while a call uses it.
pub(crate) struct Held<M>(Arc<Handle<M>>);

impl<M> Held<M> {
    #[inline]
    pub(crate) fn model(&self) -> &M {
        &self.0.0
    }

    /// The model to keep for longer than a call.
    pub(crate) fn share(&self) -> Arc<M> {
        Arc::clone(&self.0.0)
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
    pub(crate) fn new(shards: usize) -> Self {
        let shard = || {
            CachePadded::new(Shard {
                quick: std::array::from_fn(|_| OnceLock::new()),
                sure: std::array::from_fn(|_| ArcSwapOption::empty()),
            })
        };
        let shards = shards.clamp(1, 128).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            numbers: CachePadded::new([const { AtomicUsize::new(usize::MAX) }; SLOTS]),
            names: Mutex::default(),
        }
    }

    /// The model in `slot`, for a call of the thread with this place.
    pub(crate) fn hold(&self, place: usize, slot: usize) -> Option<Held<M>> {
        self.hold_quickly(place, slot).or_else(|| {
            let shard = &self.shards[place & (self.shards.len() - 1)];
            shard.sure[slot & (SLOTS - 1)].load_full().map(Held)
        })
    }

    /// As [`Slots::hold`], but also `None` where a quick reference is missing.
    #[inline]
    pub(crate) fn hold_quickly(&self, place: usize, slot: usize) -> Option<Held<M>> {
        let shard = &self.shards[place & (self.shards.len() - 1)];
        let slot = slot & (SLOTS - 1);
        // Relaxed will do: the reference is published by its own cell, and an old number leads to
        // a reference that is dead.
        let number = self.numbers[slot].load(Ordering::Relaxed);
        shard.quick.get(number)?.get()?.upgrade().map(Held)
    }

    /// Puts a model into an empty slot, or gives the name of the one that stands there.
    pub(crate) fn put(&self, slot: Slot, name: Name, model: Arc<M>) -> Result<(), Name> {
        let mut names = self.names.lock();
        if let Some(there) = &names.of[slot.index()] {
            return Err(there.clone());
        }
        names.of[slot.index()] = Some(name);
        let number = names.given;
        names.given = number.saturating_add(1);
        for shard in &self.shards {
            let handle = Arc::new(Handle(Arc::clone(&model)));
            if let Some(quick) = shard.quick.get(number) {
                // Numbers are given once, so the cell is empty.
                let _ = quick.set(Arc::downgrade(&handle));
            }
            shard.sure[slot.index()].store(Some(handle));
        }
        self.numbers[slot.index()].store(number, Ordering::Release);
        Ok(())
    }

    /// Takes a model out unless calls still use it.
    pub(crate) fn take(&self, slot: Slot) -> Taken<M> {
        let mut names = self.names.lock();
        let Some(name) = names.of[slot.index()].clone() else { return Taken::Empty };
        let out: Vec<_> =
            self.shards.iter().filter_map(|shard| shard.sure[slot.index()].swap(None)).collect();
        // A handle that nobody else has is ours for good: its weak references are dead from then.
        let mut used = 0;
        let (mut models, mut kept) = (Vec::new(), Vec::new());
        for handle in out {
            match Arc::try_unwrap(handle) {
                Ok(Handle(model)) => {
                    models.push(Arc::clone(&model));
                    kept.push(Arc::new(Handle(model)));
                }
                Err(handle) => {
                    used += Arc::strong_count(&handle) as u64 - 1;
                    kept.push(handle);
                }
            }
        }
        let model = models.pop();
        drop(models);
        match model {
            Some(model) if used == 0 => {
                names.of[slot.index()] = None;
                self.numbers[slot.index()].store(usize::MAX, Ordering::Release);
                drop(kept);
                Taken::Out(name, model)
            }
            _ => {
                for (shard, handle) in self.shards.iter().zip(kept) {
                    shard.sure[slot.index()].store(Some(handle));
                }
                // A count that fell to nothing in between is still a use.
                Taken::InUse(used.max(1))
            }
        }
    }

    /// The name of the model in `slot`.
    pub(crate) fn name(&self, slot: Slot) -> Option<Name> {
        self.names.lock().of[slot.index()].clone()
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
        let held: Vec<_> =
            (0..19).map(|place| slots.hold(place, Slot::First.index()).unwrap()).collect();
        assert_eq!(slots.take(Slot::First), Taken::InUse(19));
        assert_eq!(*held[3].model(), 7);
        assert_eq!(*slots.hold(0, Slot::First.index()).unwrap().model(), 7);
        drop(held);
        assert_eq!(slots.take(Slot::First), Taken::Out(name("v1"), Arc::new(7)));
        assert!((0..4).all(|place| slots.hold(place, Slot::First.index()).is_none()));
        assert_eq!(slots.take(Slot::First), Taken::Empty);
    }

    #[test]
    fn a_model_that_was_nearly_taken_serves_on_every_shard() {
        let slots = Slots::new(4);
        slots.put(Slot::Second, name("v1"), Arc::new(7)).unwrap();
        let held = slots.hold(1, Slot::Second.index()).unwrap();
        assert_eq!(slots.take(Slot::Second), Taken::InUse(1));
        assert!((0..4).all(|place| *slots.hold(place, Slot::Second.index()).unwrap().model() == 7));
        drop(held);
        assert!(matches!(slots.take(Slot::Second), Taken::Out(..)));
    }

    #[test]
    fn models_may_come_and_go_without_end() {
        let slots = Slots::new(2);
        for number in 0..3 * QUICK {
            let model = Arc::new(number);
            slots.put(Slot::Second, name("next"), Arc::clone(&model)).unwrap();
            assert_eq!(*slots.hold(1, Slot::Second.index()).unwrap().model(), number);
            assert!(matches!(slots.take(Slot::Second), Taken::Out(..)));
            assert_eq!(Arc::strong_count(&model), 1, "nothing is left behind");
        }
    }
}
