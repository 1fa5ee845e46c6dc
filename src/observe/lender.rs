//! Lends a model to calls, and says when none of them has it any more.
//!
//! A model is used by many threads at once and must one day be taken away and dropped. An
//! [`Arc`] clone a call would do, at the price of two locked instructions, which is more than the
//! rest of the bookkeeping together. Here a call pays one: it counts itself in, and reads where
//! the model is. Counting itself out is a plain store, since each thread with a place of its own
//! has counters of its own.
//!
//! Why that is safe, in one paragraph. Whoever takes a model first replaces its pointer by null,
//! then reads how many came back, then how many went, each by a read-modify-write. A call counts
//! itself in by a read-modify-write on the same counter and reads the pointer afterwards. Of two
//! read-modify-writes on one counter one comes first. If it is the call's, the taker sees it and
//! does not find the counts equal before the call is back. If it is the taker's, the call's
//! Acquire reads from its Release, so the null is visible to the call, which then has no model.
//! Coming back is a Release store that the taker's Acquire reads: what the call did with the model
//! happened before.
//!
//! This is the only file of the crate with `unsafe`. It is worth 7 of 75 nanoseconds a call, and
//! what it claims is tried out by `loom` and Miri, and by mutants of each ordering.

use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::observe::sync::{AtomicPtr, AtomicU64, Ordering};
use crate::observe::thread_place::Place;

/// Lends `N` values, each to any number of calls.
pub(crate) struct Lender<T, const N: usize> {
    /// Each null or from `Arc::into_raw`.
    values: CachePadded<[AtomicPtr<T>; N]>,
    /// Those that one thread each counts in, by the thread's place.
    own: Box<[CachePadded<Uses<N>>]>,
    /// Where all others do.
    shared: CachePadded<Uses<N>>,
    /// A lender has what an `Arc` of its values has.
    values_are: PhantomData<Arc<T>>,
}

#[derive(Debug)]
struct Uses<const N: usize> {
    /// Calls that asked, whether or not they got something.
    went: [AtomicU64; N],
    /// Calls that are done.
    back: [AtomicU64; N],
}

/// A value while a call has it.
pub(crate) struct Loan<'l, T, const N: usize> {
    lender: &'l Lender<T, N>,
    /// From `Arc::into_raw`, and not taken before this loan is counted as back.
    value: NonNull<T>,
    slot: usize,
}

// SAFETY: a loan gives out `&T` and clones of the `Arc<T>`, on whatever thread it is.
unsafe impl<T: Send + Sync, const N: usize> Send for Loan<'_, T, N> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, const N: usize> Sync for Loan<'_, T, N> {}

impl<T, const N: usize> Lender<T, N> {
    /// A lender without values, and counters for so many threads of their own.
    pub(crate) fn new(own: usize) -> Self {
        Self {
            values: CachePadded::new(std::array::from_fn(|_| AtomicPtr::new(null_mut()))),
            own: (0..own).map(|_| CachePadded::new(Uses::new())).collect(),
            shared: CachePadded::new(Uses::new()),
            values_are: PhantomData,
        }
    }

    /// The value in `slot`, if there is one, to a call on the thread of this place.
    #[inline]
    pub(crate) fn lend(&self, place: Place, slot: usize) -> Option<Loan<'_, T, N>> {
        let uses = self.own.get(place.number()).unwrap_or(&self.shared);
        let value = self.values.get(slot)?;
        // A locked addition for all: the counter's order is what the proof rests on.
        uses.went[slot].fetch_add(1, CALL_WENT);
        match NonNull::new(value.load(Ordering::Acquire)) {
            Some(value) => Some(Loan { lender: self, value, slot }),
            None => {
                self.count_back(place, slot);
                None
            }
        }
    }

    #[inline]
    fn count_back(&self, place: Place, slot: usize) {
        match self.own.get(place.number()) {
            // No other thread writes to it while this one lives.
            Some(uses) => {
                let back = uses.back[slot].load(Ordering::Relaxed);
                uses.back[slot].store(back.wrapping_add(1), CALL_BACK);
            }
            None => {
                self.shared.back[slot].fetch_add(1, CALL_BACK);
            }
        }
    }

    /// Puts a value into an empty slot; one that is there comes back.
    pub(crate) fn put(&self, slot: usize, value: Arc<T>) -> Result<(), Arc<T>> {
        let raw = Arc::into_raw(value).cast_mut();
        // Release: whoever gets the value sees it whole.
        let put = self.values.get(slot).map(|at| {
            at.compare_exchange(null_mut(), raw, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        if put == Some(true) {
            return Ok(());
        }
        // SAFETY: `raw` is from `Arc::into_raw` above and went nowhere.
        Err(unsafe { Arc::from_raw(raw) })
    }

    /// Takes the value out of `slot`, unless so many calls have it, or may have it.
    pub(crate) fn take(&self, slot: usize) -> Result<Option<Arc<T>>, u64> {
        let Some(value) = self.values.get(slot) else { return Ok(None) };
        let raw = value.swap(null_mut(), TAKE_VALUE);
        if raw.is_null() {
            return Ok(None);
        }
        // First who is back, then who went: a call that goes in between only makes them differ.
        let back =
            self.uses().map(|uses| uses.back[slot].load(TAKE_BACK)).fold(0, u64::wrapping_add);
        let went = self
            .uses()
            .map(|uses| uses.went[slot].fetch_add(0, TAKE_WENT))
            .fold(0, u64::wrapping_add);
        if went == back {
            // SAFETY: `raw` is from `Arc::into_raw`, and the swap made it ours alone to turn back.
            // No call has it: see the head of this file.
            return Ok(Some(unsafe { Arc::from_raw(raw) }));
        }
        // Only whoever puts could have been in between, and finds the slot full again at most.
        value.store(raw, Ordering::Release);
        Err(went.wrapping_sub(back))
    }

    fn uses(&self) -> impl Iterator<Item = &Uses<N>> {
        self.own.iter().map(|uses| &**uses).chain([&*self.shared])
    }

    /// Bytes on the heap, values apart.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.own)
    }
}

impl<T, const N: usize> Drop for Lender<T, N> {
    fn drop(&mut self) {
        for value in self.values.iter() {
            let raw = value.swap(null_mut(), Ordering::AcqRel);
            if !raw.is_null() {
                // SAFETY: `raw` is from `Arc::into_raw`, and loans borrow the lender, which ends.
                drop(unsafe { Arc::from_raw(raw) });
            }
        }
    }
}

impl<const N: usize> Uses<N> {
    fn new() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { went: zeros(), back: zeros() }
    }
}

impl<T, const N: usize> Loan<'_, T, N> {
    /// The value.
    #[inline]
    pub(crate) fn value(&self) -> &T {
        // SAFETY: the value is not taken before this loan is counted as back, which its drop does.
        unsafe { self.value.as_ref() }
    }

    /// The value, to keep for longer.
    pub(crate) fn share(&self) -> Arc<T> {
        let raw = self.value.as_ptr().cast_const();
        // SAFETY: `raw` is from `Arc::into_raw`, and the lender's own count keeps it alive: it is
        // not taken before this loan is back. The count added here is the new `Arc`'s.
        unsafe {
            Arc::increment_strong_count(raw);
            Arc::from_raw(raw)
        }
    }

    /// Which slot it is from.
    #[inline]
    pub(crate) const fn slot(&self) -> usize {
        self.slot
    }

    /// Gives it back on the thread of this place: what dropping it does, for callers who know
    /// where they are.
    #[inline]
    pub(crate) fn give_back(self, place: Place) {
        let (lender, slot) = (self.lender, self.slot);
        std::mem::forget(self);
        lender.count_back(place, slot);
    }
}

impl<T, const N: usize> Drop for Loan<'_, T, N> {
    #[inline]
    fn drop(&mut self) {
        self.lender.count_back(Place::here(), self.slot);
    }
}

// The orderings that matter have names, so that `scripts/mutants.sh` can weaken them one by one
// and show that a test notices.
const CALL_WENT: Ordering =
    if cfg!(pilotage_mutant = "call_went") { Ordering::Relaxed } else { Ordering::AcqRel };
const CALL_BACK: Ordering =
    if cfg!(pilotage_mutant = "call_back") { Ordering::Relaxed } else { Ordering::Release };
const TAKE_VALUE: Ordering = Ordering::AcqRel;
const TAKE_BACK: Ordering =
    if cfg!(pilotage_mutant = "take_back") { Ordering::Relaxed } else { Ordering::Acquire };
const TAKE_WENT: Ordering =
    if cfg!(pilotage_mutant = "take_went") { Ordering::Relaxed } else { Ordering::AcqRel };

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    fn here() -> Place {
        Place::here()
    }

    #[test]
    fn a_value_on_loan_stays_and_goes_later() {
        let lender = Lender::<u32, 2>::new(2);
        assert!(lender.lend(here(), 0).is_none());
        lender.put(0, Arc::new(7)).unwrap();
        assert_eq!(lender.put(0, Arc::new(8)).unwrap_err(), 8.into());
        let loans: Vec<_> = (0..19).map(|_| lender.lend(here(), 0).unwrap()).collect();
        assert_eq!(lender.take(0), Err(19));
        assert_eq!((*loans[3].value(), loans[3].slot()), (7, 0));
        let kept = loans[0].share();
        drop(loans);
        assert_eq!(lender.take(1), Ok(None));
        assert_eq!(lender.take(0), Ok(Some(Arc::new(7))));
        assert_eq!(lender.take(0), Ok(None));
        assert_eq!(Arc::strong_count(&kept), 1, "nothing is left behind");
        assert!(lender.lend(here(), 0).is_none());
        assert!(lender.lend(here(), 2).is_none() && lender.put(2, Arc::new(1)).is_err());
    }

    #[test]
    fn a_loan_may_come_back_on_another_thread() {
        let lender = Lender::<u32, 1>::new(8);
        lender.put(0, Arc::new(7)).unwrap();
        thread::scope(|scope| {
            for _ in 0..20 {
                let loan = lender.lend(here(), 0).unwrap();
                scope.spawn(move || assert_eq!(*loan.value(), 7));
            }
        });
        assert_eq!(lender.take(0), Ok(Some(Arc::new(7))));
    }

    #[test]
    fn a_value_in_the_slot_is_dropped_with_the_lender() {
        let value = Arc::new(7);
        let lender = Lender::<u32, 2>::new(1);
        lender.put(1, Arc::clone(&value)).unwrap();
        drop(lender);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    /// Says so when it is used after it was dropped.
    struct Alive(AtomicBool);

    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[test]
    fn values_that_come_and_go_under_load_are_never_used_after_their_end() {
        let lender = Lender::<Alive, 1>::new(2);
        // Miri takes turns rarely: with four users one of them always has it.
        let (rounds, users) = if cfg!(miri) { (200, 1) } else { (300, 4) };
        let stop = AtomicBool::new(false);
        let (mut taken, mut refused) = (0, 0);
        let used = thread::scope(|scope| {
            // More threads than there are counters of their own.
            let user = || {
                scope.spawn(|| {
                    let mut used = 0_u64;
                    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                        if let Some(loan) = lender.lend(here(), 0) {
                            assert!(loan.value().0.load(std::sync::atomic::Ordering::SeqCst));
                            used += 1;
                        }
                    }
                    used
                })
            };
            let users: Vec<_> = (0..users).map(|_| user()).collect();
            for _ in 0..rounds {
                drop(lender.put(0, Arc::new(Alive(AtomicBool::new(true)))));
                thread::yield_now();
                match lender.take(0) {
                    Ok(_) => taken += 1,
                    Err(_) => refused += 1,
                }
            }
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            users.into_iter().map(|user| user.join().unwrap()).sum::<u64>()
        });
        assert!(taken > 0 && used > 0, "{taken} taken, {refused} refused, {used} used");
    }
}

/// Every interleaving of calls and a taker.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;

    fn lend_while_it_is_taken(own: [bool; 2]) {
        static USED: AtomicUsize = AtomicUsize::new(0);
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        static REFUSED: AtomicUsize = AtomicUsize::new(0);
        loom::model(move || {
            let lender = loom::sync::Arc::new(Lender::<UnsafeCell<u32>, 1>::new(2));
            assert!(lender.put(0, Arc::new(UnsafeCell::new(7))).is_ok());
            let users: Vec<_> = (0..2)
                .map(|number| {
                    let lender = loom::sync::Arc::clone(&lender);
                    let place = if own[number] { Place::of_test(number) } else { Place::shared() };
                    let number = place.number();
                    thread::spawn(move || {
                        let place = Place::of_test(number);
                        let Some(loan) = lender.lend(place, 0) else { return };
                        // loom notices when this meets the taker's write below.
                        loan.value().with(|value| {
                            // SAFETY: nobody writes while a loan is out: what is tested here.
                            assert_eq!(unsafe { *value }, 7);
                        });
                        USED.fetch_add(1, SeqCst);
                        loan.give_back(place);
                    })
                })
                .collect();
            match lender.take(0) {
                Ok(Some(value)) => {
                    value.with_mut(|value| {
                        // SAFETY: it was taken, so nobody has it: what is tested here.
                        unsafe { *value = 8 };
                    });
                    TAKEN.fetch_add(1, SeqCst);
                }
                Ok(None) => unreachable!("nobody else takes"),
                Err(_) => {
                    REFUSED.fetch_add(1, SeqCst);
                }
            }
            for user in users {
                user.join().unwrap();
            }
        });
        assert!(USED.load(SeqCst) > 0, "the value was never lent");
        assert!(TAKEN.load(SeqCst) > 0, "the value was never taken");
        assert!(REFUSED.load(SeqCst) > 0, "the taker never met a loan");
    }

    #[test]
    fn loom_a_value_is_never_taken_from_calls_with_counters_of_their_own() {
        lend_while_it_is_taken([true, true]);
    }

    #[test]
    fn loom_a_value_is_never_taken_from_calls_that_share_counters() {
        lend_while_it_is_taken([true, false]);
    }
}
