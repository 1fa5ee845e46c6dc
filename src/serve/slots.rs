//! Where the models stand.
//!
//! A slot lends its model to calls through a [`Lender`], so that no call writes to a cache line
//! another thread writes to: an `Arc` clone would count on one line for all. A model that is taken
//! out is dropped only when no call holds it, and then by whoever retires it, not by the last
//! request. Calls that outlive their handler share the model instead, and are counted apart.
//!
//! A model stands behind several doors, and a call comes to the one that its arm and split lead to
//! ([`door_of`]). Where the candidate is bounded, its door is shut: only its calls, and no others, have
//! to ask at the bulkhead. Which door that is follows from the split alone, so nothing has to be
//! opened or shut when it changes: a promotion turns the candidate's doors into the baseline's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ids::{Arm, Name};
use crate::observe::bulkhead::Bulkhead;
use crate::observe::lender::{Brief, Here, Lender, Loan, Refused};
use crate::observe::recorder::{DOORS, Own, Seated};
use crate::observe::thread_place::Place;
use crate::route::arms::MOST_ARMS;
use crate::route::switch::Split;
use crate::serve::limit::{CandidateLimit, Limiter};

/// How many models can stand ready: two that swap roles, and one for each further arm.
pub(crate) const SLOTS: usize = MOST_ARMS;

/// The models of a router.
pub(crate) struct Slots<M> {
    lender: Lender<M, Own, DOORS>,
    /// Lends the same models to the candidate's calls, where those are bounded.
    bounded: Lender<M, Own, DOORS>,
    limiter: Limiter,
    /// Calls that share a model for longer than their handler lasts.
    kept: Arc<[AtomicU64; SLOTS]>,
    /// Also the lock under which models come and go.
    names: Mutex<[Option<Name>; SLOTS]>,
}

/// A model while a call uses it.
pub(crate) type Held<'s, M> = Loan<'s, M, Own, DOORS>;

/// This thread's own way to the models.
pub(crate) type SlotsHere<'s, M> = Here<'s, M, Own, DOORS>;

/// A model while a call uses it on one thread.
pub(crate) type HeldHere<'s, M> = Brief<'s, M, Own, DOORS>;

/// The door a call of `arm` comes to under `split`; the same as [`Drawn::door`] where that can tell.
///
/// Of the slot `s` that serves (0 or 1): `s` for the baseline and `6 + s` for the candidate; where
/// nearly all traffic is the candidate's, `4 + s` and `2 + s`. Further arms have a door each.
///
/// [`Drawn::door`]: crate::route::switch::Drawn::door
pub(crate) const fn door_of(arm: Arm, split: Split) -> usize {
    match (arm.index(), split.is_nearly_all()) {
        (0, false) => split.primary.index(),
        (0, true) => 4 + split.primary.index(),
        (1, false) => 6 + split.primary.other().index(),
        (1, true) => 2 + split.primary.other().index(),
        (further, _) => 6 + further,
    }
}

/// All doors of a slot. The first is open whenever a model stands there.
const fn doors(slot: usize) -> &'static [usize] {
    match slot {
        0 => &[0, 2, 4, 6, 14],
        1 => &[1, 3, 5, 7, 15],
        2 => &[8],
        3 => &[9],
        4 => &[10],
        5 => &[11],
        6 => &[12],
        7 => &[13],
        _ => &[],
    }
}

/// The door of a slot that is open whenever a model stands there.
pub(crate) const fn first_door(slot: usize) -> usize {
    if slot < 2 { slot } else { 6 + slot }
}

/// Those where a call need not ask at the bulkhead.
const fn open_doors(slot: usize, limit: CandidateLimit) -> &'static [usize] {
    match (slot, limit) {
        (0, CandidateLimit::Automatic) => &[0, 2, 4, 14],
        (1, CandidateLimit::Automatic) => &[1, 3, 5, 15],
        (0, CandidateLimit::Calls(_) | CandidateLimit::Part(_)) => &[0, 4, 14],
        (1, CandidateLimit::Calls(_) | CandidateLimit::Part(_)) => &[1, 5, 15],
        _ => doors(slot),
    }
}

/// The door of whatever stands in for an arm that has failed: its call is counted where it came in.
const STANDS_IN: usize = 14;

/// What a candidate that is there said at the bulkhead.
pub(crate) struct Asked<'s, M> {
    /// As from [`Slots::hold`]; `None` where it has as many calls as it may.
    pub held: Option<(Held<'s, M>, u64)>,
}

/// A model while a call uses it that may outlive the router's borrow.
pub(crate) struct Kept<M> {
    model: Arc<M>,
    /// Stands below the model, so it goes after it: who finds nobody counted has the last handle.
    _counted: Counted,
}

struct Counted {
    kept: Arc<[AtomicU64; SLOTS]>,
    slot: usize,
    /// The call's place of the candidate's, if it has one.
    place: Option<Arc<Bulkhead>>,
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
        if let Some(place) = &self.place {
            place.leave();
        }
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
    pub(crate) fn new(seated: Seated, limiter: Limiter) -> Self {
        Self {
            lender: Lender::new(seated.clone()),
            bounded: Lender::bounded(seated, Arc::new(Bulkhead::new())),
            limiter,
            kept: Arc::default(),
            names: Mutex::default(),
        }
    }

    /// The model at this door, for a call of the thread with this place, and a number that no other
    /// call of this thread and door has had.
    #[inline]
    pub(crate) fn hold(&self, place: Place, door: usize) -> Option<(Held<'_, M>, u64)> {
        self.lender.lend(place, door)
    }

    /// The model in `slot`, one of the two that swap roles, to stand in for one that has failed.
    pub(crate) fn hold_stand_in(&self, place: Place, slot: usize) -> Option<Held<'_, M>> {
        self.lender.lend(place, STANDS_IN + slot).map(|(held, _)| held)
    }

    /// Whether calls that come to this door have to ask at the bulkhead.
    pub(crate) fn asks(&self, door: usize) -> bool {
        match self.limiter.limit() {
            CandidateLimit::Unlimited => false,
            CandidateLimit::Automatic => matches!(door, 6 | 7),
            CandidateLimit::Calls(_) | CandidateLimit::Part(_) => matches!(door, 2 | 3 | 6 | 7),
        }
    }

    /// As [`Slots::hold`] at a door where calls have to ask. `None` where there is no model.
    pub(crate) fn ask(
        &self,
        place: Place,
        door: usize,
        split: impl Fn() -> Split,
    ) -> Option<Asked<'_, M>> {
        let most = || self.limiter.most(split());
        let ask = |most| self.bounded.lend_bounded(place, door, most);
        // One call there may be always: how many more is only asked where there is one.
        let asked = ask(1).or_else(|refused| match refused {
            Refused::Full { inside } if inside < most() => ask(most()),
            refused => Err(refused),
        });
        let asked = asked.or_else(|refused| match refused {
            // By what is known there is no room; by what is under way now there may be.
            Refused::Full { .. } if self.limiter.learn(self.in_use() + 1) => ask(most()),
            refused => Err(refused),
        });
        match asked {
            Ok(held) => Some(Asked { held: Some(held) }),
            Err(Refused::Full { .. }) => Some(Asked { held: None }),
            Err(Refused::Empty) => None,
        }
    }

    /// Calls under way: never more than there were at some moment of this call, but for one that
    /// begins to outlive its handler just then.
    pub(crate) fn in_use(&self) -> u64 {
        let kept: u64 = self.kept.iter().map(|kept| kept.load(Ordering::Relaxed)).sum();
        let counted = 0..STANDS_IN;
        let bounded = self.bounded.in_use_here_alone(counted.clone());
        kept + bounded + self.lender.in_use(counted)
    }

    /// Learns from a drain how much is served at once.
    pub(crate) fn learn(&self, now: crate::clock::Moment) {
        self.limiter.learn_at(now, self.in_use());
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
    pub(crate) fn keep(&self, held: Held<'_, M>) -> Kept<M> {
        let slot = (0..SLOTS).find(|slot| doors(*slot).contains(&held.slot()));
        let slot = slot.expect("every door is a slot's");
        self.kept[slot].fetch_add(1, Ordering::Relaxed);
        let model = held.share();
        let place = held.leave_its_place();
        let _counted = Counted { kept: Arc::clone(&self.kept), slot, place };
        Kept { model, _counted }
    }

    /// Puts a model into an empty slot, or gives the name of the one that stands there.
    pub(crate) fn put(&self, slot: usize, name: Name, model: Arc<M>) -> Result<(), Name> {
        let mut names = self.names.lock();
        let Some(at) = names.get_mut(slot) else { return Err(name) };
        if let Some(there) = at {
            return Err(there.clone());
        }
        // Under the lock a slot without a name is empty.
        self.open(slot, model);
        *at = Some(name);
        Ok(())
    }

    /// Opens an empty slot's doors, under the lock.
    fn open(&self, slot: usize, model: Arc<M>) {
        let limit = self.limiter.limit();
        if slot < 2 && limit != CandidateLimit::Unlimited {
            // Before the door is open where nobody needs to ask: at no time is it the only one.
            let _ = self.bounded.put(doors(slot), Arc::clone(&model));
        }
        let _ = self.lender.put(open_doors(slot, limit), model);
    }

    /// Takes a model out unless calls still use it.
    pub(crate) fn take(&self, slot: usize) -> Taken<M> {
        self.take_under(&mut self.names.lock(), slot)
    }

    /// As [`Slots::take`] of one of the two that swap roles: `None`, and the model stays, where no
    /// other would be left, or where it is not idle any more now that it is out.
    pub(crate) fn take_idle(&self, slot: usize, idle: impl Fn() -> bool) -> Option<Taken<M>> {
        let mut names = self.names.lock();
        if names[slot].is_some() && names[1 - slot].is_none() {
            return None;
        }
        let taken = self.take_under(&mut names, slot);
        if let (Taken::Out(name, model), false) = (&taken, idle()) {
            names[slot] = Some(name.clone());
            self.open(slot, Arc::clone(model));
            return None;
        }
        Some(taken)
    }

    fn take_under(&self, names: &mut [Option<Name>; SLOTS], slot: usize) -> Taken<M> {
        let Some(name) = names.get(slot).cloned().flatten() else { return Taken::Empty };
        // In this order: what one lender's calls count where all lenders look is looked at last when
        // none of them lends any more.
        let bounded = match self.bounded.take(doors(slot)) {
            Ok(model) => model,
            Err(calls) => return Taken::InUse(calls),
        };
        let put_back = |model: Option<Arc<M>>| {
            if let Some(model) = model {
                let _ = self.bounded.put(doors(slot), model);
            }
        };
        let model = match self.lender.take(doors(slot)) {
            Ok(Some(model)) => model,
            Ok(None) => return Taken::Empty,
            Err(calls) => {
                put_back(bounded);
                return Taken::InUse(calls);
            }
        };
        // No call holds it, so none begins to keep it; those that do were counted before they let
        // go of their hold, which the lenders have seen.
        let kept = self.kept[slot].load(Ordering::Acquire);
        if kept > 0 {
            // The slot is empty and the lock is ours.
            put_back(bounded);
            let _ = self.lender.put(open_doors(slot, self.limiter.limit()), model);
            return Taken::InUse(kept);
        }
        names[slot] = None;
        drop(bounded);
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
        let recorder = Recorder::new(size, Epoch::default(), Moment::ZERO);
        Slots::new(recorder.seated(), Limiter::new(CandidateLimit::Automatic, Moment::ZERO))
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
            slots.keep(held)
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

    #[test]
    fn the_quick_way_leads_to_the_door_that_arm_and_split_say() {
        use crate::route::switch::{Slot, SplitWord};
        use crate::share::TrafficShare;
        for (primary, ppm) in [Slot::First, Slot::Second]
            .into_iter()
            .flat_map(|slot| [0, 250_000, 749_999, 750_000, 1_000_000].map(|ppm| (slot, ppm)))
        {
            let candidate = TrafficShare::from_ppm(ppm).unwrap();
            let split = Split { primary, ..Split::default().shifted(candidate) };
            let packed = SplitWord::new(split).packed();
            for hash in (0..64).map(|part| part << 58) {
                let arm = Arm::new(u8::from(packed.on_candidate(hash)));
                assert_eq!(packed.draw(hash).door(), door_of(arm, split), "{split:?}, {arm}");
            }
        }
    }
}
