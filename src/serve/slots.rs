//! Where the models stand.
//!
//! Each shard of threads has its own handle to each model, so that taking one writes to no cache
//! line another shard writes to: a plain `Arc` clone would count on one line for all. A model that
//! is taken out is dropped only when no call holds it, and then by whoever retires it, not by the
//! last request.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::ids::Name;
use crate::route::switch::Slot;

/// How many models can stand ready.
pub(crate) const SLOTS: usize = 2;

/// One shard's handles.
type Shard<M> = [ArcSwapOption<Handle<M>>; SLOTS];

/// A shard's own count of who uses a model.
struct Handle<M>(Arc<M>);

/// The models of a router.
pub(crate) struct Slots<M> {
    shards: Box<[CachePadded<Shard<M>>]>,
    /// Also the lock under which models come and go.
    names: Mutex<[Option<Name>; SLOTS]>,
}

/// A model while a call uses it.
pub(crate) struct Held<M>(Guard<Option<Arc<Handle<M>>>>);

impl<M> Held<M> {
    #[inline]
    pub(crate) fn model(&self) -> &M {
        &self.0.as_ref().expect("only a slot with a model is held").0
    }

    /// The model to keep for longer than a call.
    pub(crate) fn share(&self) -> Arc<M> {
        Arc::clone(&self.0.as_ref().expect("only a slot with a model is held").0)
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
        let shard = || CachePadded::new(std::array::from_fn(|_| ArcSwapOption::empty()));
        let shards = shards.clamp(1, 256).next_power_of_two();
        Self { shards: (0..shards).map(|_| shard()).collect(), names: Mutex::default() }
    }

    /// The model in `slot`, for a call of the thread with this index.
    #[inline]
    pub(crate) fn hold(&self, thread: usize, slot: Slot) -> Option<Held<M>> {
        let held = self.shards[thread & (self.shards.len() - 1)][slot.index()].load();
        if held.is_some() { Some(Held(held)) } else { None }
    }

    /// Puts a model into an empty slot, or gives the name of the one that stands there.
    pub(crate) fn put(&self, slot: Slot, name: Name, model: Arc<M>) -> Result<(), Name> {
        let mut names = self.names.lock();
        if let Some(there) = &names[slot.index()] {
            return Err(there.clone());
        }
        names[slot.index()] = Some(name);
        for shard in &self.shards {
            shard[slot.index()].store(Some(Arc::new(Handle(Arc::clone(&model)))));
        }
        Ok(())
    }

    /// Takes a model out unless calls still use it.
    pub(crate) fn take(&self, slot: Slot) -> Taken<M> {
        let mut names = self.names.lock();
        let Some(name) = names[slot.index()].clone() else { return Taken::Empty };
        let out: Vec<_> = self.shards.iter().map(|shard| shard[slot.index()].swap(None)).collect();
        // After the swap each call that still uses the model owns a count of its own.
        let used = out.iter().flatten().map(|handle| Arc::strong_count(handle) as u64 - 1).sum();
        if used > 0 {
            for (shard, handle) in self.shards.iter().zip(out) {
                shard[slot.index()].store(handle);
            }
            return Taken::InUse(used);
        }
        names[slot.index()] = None;
        match out.iter().flatten().next() {
            Some(handle) => Taken::Out(name, Arc::clone(&handle.0)),
            None => Taken::Empty,
        }
    }

    /// The name of the model in `slot`.
    pub(crate) fn name(&self, slot: Slot) -> Option<Name> {
        self.names.lock()[slot.index()].clone()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_model_in_use_stays_and_goes_later() {
        let slots = Slots::new(4);
        let name = Name::new("v1").unwrap();
        slots.put(Slot::First, name.clone(), Arc::new(7)).unwrap();
        assert_eq!(slots.put(Slot::First, name.clone(), Arc::new(8)), Err(name.clone()));
        let held: Vec<_> = (0..20).map(|thread| slots.hold(thread, Slot::First).unwrap()).collect();
        assert_eq!(slots.take(Slot::First), Taken::InUse(20));
        assert_eq!(*held[3].model(), 7);
        assert_eq!(*slots.hold(0, Slot::First).unwrap().model(), 7);
        drop(held);
        assert_eq!(slots.take(Slot::First), Taken::Out(name, Arc::new(7)));
        assert!(slots.hold(0, Slot::First).is_none());
        assert_eq!(slots.take(Slot::First), Taken::Empty);
    }
}
