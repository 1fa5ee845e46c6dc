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
//! A value may be had at several *doors*: a call names the door it comes to, and one that is shut
//! (null) has nothing, whatever stands behind it. Each door has counters of its own, so what is said
//! above of a pointer and its counters holds of each door; a taker shuts all doors of a value before
//! it reads the counters of all. Which calls find a door shut costs them nothing to be told.
//!
//! Lenders with the same seats share counters and wait for each other's calls. One of them may be
//! [bounded](Lender::bounded): its loans are so many at once, and each gives its place back at its end,
//! whichever way it ends.
//!
//! A thread's counters lie beside whatever else it has to itself ([`Seats`]), so that one look finds
//! both. A call that ends on the thread it began on ([`Brief`]) does not look again.
//!
//! This is the only file of the crate with `unsafe`. It is worth 3 to 4 nanoseconds of some 70 a
//! call, and what it claims is tried out by `loom` and Miri, and by mutants of each ordering.

use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::observe::bulkhead::Bulkhead;
use crate::observe::thread_place::Place;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// Lends values at `N` doors, each to any number of calls.
pub(crate) struct Lender<T, D, const N: usize> {
    /// Each null or from `Arc::into_raw`. Of the doors of one value the first has the `Arc`'s count,
    /// the others have copies of the pointer while it has.
    values: CachePadded<[AtomicPtr<T>; N]>,
    /// One bit a door: whether it is the first of a value's.
    firsts: AtomicU64,
    /// Those that one thread each counts in, by the thread's place.
    own: Seats<D, N>,
    /// Where all others do.
    shared: CachePadded<Uses<N>>,
    /// Where its loans are counted, if they are bounded.
    bulkhead: Option<Arc<Bulkhead>>,
    /// A lender has what an `Arc` of its values has.
    values_are: PhantomData<Arc<T>>,
}

/// What threads with a place below so many have to themselves.
pub(crate) struct Seats<D, const N: usize>(Arc<[CachePadded<Seat<D, N>>]>);

/// A thread's counters, and beside them what else it has to itself, so that one look finds both.
#[derive(Debug)]
struct Seat<D, const N: usize> {
    uses: Uses<N>,
    desk: D,
}

#[derive(Debug)]
struct Uses<const N: usize> {
    /// Calls that asked, whether or not they got something.
    went: [AtomicU64; N],
    /// Calls that are done.
    back: [AtomicU64; N],
}

/// A value while a call has it.
pub(crate) struct Loan<'l, T, D, const N: usize> {
    lender: &'l Lender<T, D, N>,
    /// From `Arc::into_raw`, and not taken before this loan is counted as back.
    value: NonNull<T>,
    slot: usize,
}

/// Why a bounded lender lent nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// So many loans are out, which are as many as may be.
    Full { inside: u64 },
    /// There is nothing behind the door.
    Empty,
}

/// A thread's own counters of a lender, on that thread.
pub(crate) struct Here<'l, T, D, const N: usize> {
    lender: &'l Lender<T, D, N>,
    seat: &'l Seat<D, N>,
    stays_here: PhantomData<*const ()>,
}

/// A [`Loan`] that stays on the thread it was made on, and so knows where to count itself back.
///
/// It does not know its lender, which would have to be kept through each call for the few that
/// need it ([`Lender::set_free`]).
pub(crate) struct Brief<'l, T, D, const N: usize> {
    /// This thread's own.
    seat: &'l Seat<D, N>,
    /// As in a loan.
    value: NonNull<T>,
    slot: usize,
    stays_here: PhantomData<*const ()>,
}

// SAFETY: a loan gives out `&T` and clones of the `Arc<T>`, on whatever thread it is.
unsafe impl<T: Send + Sync, D: Send + Sync, const N: usize> Send for Loan<'_, T, D, N> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, D: Send + Sync, const N: usize> Sync for Loan<'_, T, D, N> {}

impl<T, D, const N: usize> Lender<T, D, N> {
    /// A lender without values, to the threads of these seats and all others. Lenders that have the
    /// same seats wait for each other's calls, and no more than that.
    pub(crate) fn new(own: Seats<D, N>) -> Self {
        Self {
            values: CachePadded::new(std::array::from_fn(|_| AtomicPtr::new(null_mut()))),
            firsts: AtomicU64::new(0),
            own,
            shared: CachePadded::new(Uses::new()),
            bulkhead: None,
            values_are: PhantomData,
        }
    }

    /// As [`Lender::new`], where each loan has a place of this bulkhead until its end. Loans are to
    /// be had by [`Lender::lend_bounded`] only.
    pub(crate) fn bounded(own: Seats<D, N>, bulkhead: Arc<Bulkhead>) -> Self {
        let mut lender = Self::new(own);
        lender.bulkhead = Some(bulkhead);
        lender
    }

    /// The value in `slot`, if there is one, to a call on the thread of this place; and how many
    /// calls counted in where this one did, a number none of them has had before.
    #[inline]
    pub(crate) fn lend(&self, place: Place, slot: usize) -> Option<(Loan<'_, T, D, N>, u64)> {
        let uses = self.own.get(place).map_or(&*self.shared, |seat| &seat.uses);
        let value = self.values.get(slot)?;
        let number = uses.count_in(slot);
        match NonNull::new(value.load(Ordering::Acquire)) {
            Some(value) => Some((Loan { lender: self, value, slot }, number)),
            None => {
                self.count_back(place, slot);
                None
            }
        }
    }

    /// As [`Lender::lend`], unless so many loans of the bulkhead are out: then [`Refused::Full`].
    pub(crate) fn lend_bounded(
        &self,
        place: Place,
        slot: usize,
        most: u64,
    ) -> Result<(Loan<'_, T, D, N>, u64), Refused> {
        let entered = self.bulkhead.as_ref().map_or(Ok(()), |bulkhead| bulkhead.enter(most));
        entered.map_err(|inside| Refused::Full { inside })?;
        // From here on the loan gives the place back; without one nobody else does.
        self.lend(place, slot).ok_or_else(|| {
            self.leave();
            Refused::Empty
        })
    }

    /// Gives the place of a loan back.
    #[inline]
    fn leave(&self) {
        if let Some(bulkhead) = &self.bulkhead {
            bulkhead.leave();
        }
    }

    /// Loans that are out now at these doors, never more than were at some moment of this call:
    /// first who went, then who is back.
    pub(crate) fn in_use(&self, doors: std::ops::Range<usize>) -> u64 {
        in_use(self.uses(), doors)
    }

    /// As [`Lender::in_use`], less what other lenders with the same seats count as well.
    pub(crate) fn in_use_here_alone(&self, doors: std::ops::Range<usize>) -> u64 {
        in_use([&*self.shared].into_iter(), doors)
    }

    /// The seat of the thread of this place, if it has one to itself.
    #[inline]
    pub(crate) fn here(&self, place: Place) -> Option<Here<'_, T, D, N>> {
        let seat = self.own.get(place)?;
        Some(Here { lender: self, seat, stays_here: PhantomData })
    }

    /// A brief loan of this lender's as one that may leave its thread.
    #[cold]
    pub(crate) fn set_free<'l>(&'l self, brief: Brief<'l, T, D, N>) -> Loan<'l, T, D, N> {
        // A loan counts itself back by its lender: it must be the one that lent the value.
        let ours = self.own.iter().any(|seat| std::ptr::eq(seat, brief.seat));
        assert!(ours, "a loan of another lender");
        let loan = Loan { lender: self, value: brief.value, slot: brief.slot };
        // What it had to count back, the loan does.
        std::mem::forget(brief);
        loan
    }

    #[inline]
    fn count_back(&self, place: Place, slot: usize) {
        match self.own.get(place) {
            Some(seat) => seat.uses.count_back_alone(slot),
            None => {
                self.shared.back[slot].fetch_add(1, CALL_BACK);
            }
        }
    }

    /// Opens these doors to a value, if nothing stands behind the first; else the value comes back.
    ///
    /// Whoever puts and takes values does so in turn, under a lock of theirs.
    pub(crate) fn put(&self, doors: &[usize], value: Arc<T>) -> Result<(), Arc<T>> {
        let raw = Arc::into_raw(value).cast_mut();
        let first = doors.first().and_then(|first| self.values.get(*first));
        // Release, here and below: whoever gets the value sees it whole.
        let put = first.map(|at| {
            at.compare_exchange(null_mut(), raw, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        if put != Some(true) {
            // SAFETY: `raw` is from `Arc::into_raw` above and went nowhere.
            return Err(unsafe { Arc::from_raw(raw) });
        }
        self.firsts.fetch_or(1 << doors[0], Ordering::Relaxed);
        for door in doors.iter().skip(1).filter_map(|door| self.values.get(*door)) {
            door.store(raw, Ordering::Release);
        }
        Ok(())
    }

    /// Shuts these doors, all that the value at the first of them has, and takes it out, unless so
    /// many calls have it, or may have it.
    pub(crate) fn take(&self, doors: &[usize]) -> Result<Option<Arc<T>>, u64> {
        let mut raw = null_mut();
        let mut open = [false; N];
        // All but the first, where a test is to notice that they matter.
        let shut = if SHUT_FIRST_ONLY { &doors[..1] } else { doors };
        for (at, door) in shut.iter().enumerate() {
            let Some(value) = self.values.get(*door) else { continue };
            let was = value.swap(null_mut(), TAKE_VALUE);
            open[*door] = !was.is_null();
            if at == 0 {
                raw = was;
            }
        }
        if raw.is_null() {
            return Ok(None);
        }
        // First who is back, then who went: a call that goes in between only makes them differ.
        let back = self.sum(doors, |uses, door| uses.back[door].load(TAKE_BACK));
        let went = self.sum(doors, |uses, door| uses.went[door].fetch_add(0, TAKE_WENT));
        if went == back {
            self.firsts.fetch_and(!(1 << doors[0]), Ordering::Relaxed);
            // SAFETY: `raw` is from `Arc::into_raw`, and the swap made it ours alone to turn back.
            // No call has it: see the head of this file.
            return Ok(Some(unsafe { Arc::from_raw(raw) }));
        }
        // Only whoever puts could have been in between, and does not while we take.
        for door in doors.iter().filter(|door| open.get(**door) == Some(&true)) {
            self.values[*door].store(raw, Ordering::Release);
        }
        Err(went.wrapping_sub(back))
    }

    fn sum(&self, doors: &[usize], count: impl Fn(&Uses<N>, usize) -> u64) -> u64 {
        let doors = || doors.iter().copied().filter(|door| *door < N);
        let each = self.uses().flat_map(|uses| doors().map(move |door| (uses, door)));
        each.map(|(uses, door)| count(uses, door)).fold(0, u64::wrapping_add)
    }

    fn uses(&self) -> impl Iterator<Item = &Uses<N>> + Clone {
        self.own.iter().map(|seat| &seat.uses).chain([&*self.shared])
    }
}

/// Went, then back: what is back of a call that went is seen with it, so nobody counts twice.
fn in_use<'u, const N: usize>(
    uses: impl Iterator<Item = &'u Uses<N>> + Clone,
    doors: std::ops::Range<usize>,
) -> u64 {
    let sum = |counts: fn(&Uses<N>) -> &[AtomicU64; N]| {
        let all = uses.clone().flat_map(|uses| &counts(uses)[doors.clone()]);
        all.map(|count| count.load(Ordering::Acquire)).fold(0, u64::wrapping_add)
    };
    let went = sum(|uses| &uses.went);
    let back = sum(|uses| &uses.back);
    let in_use = went.wrapping_sub(back);
    // More are back than went when we looked.
    if in_use > u64::MAX / 2 { 0 } else { in_use }
}

impl<T, D, const N: usize> Drop for Lender<T, D, N> {
    fn drop(&mut self) {
        let firsts = self.firsts.load(Ordering::Relaxed);
        for (door, value) in self.values.iter().enumerate() {
            let raw = value.swap(null_mut(), Ordering::AcqRel);
            if !raw.is_null() && firsts >> door & 1 == 1 {
                // SAFETY: `raw` is from `Arc::into_raw`, its count is this door's, and loans borrow
                // the lender, which ends.
                drop(unsafe { Arc::from_raw(raw) });
            }
        }
    }
}

impl<D, const N: usize> Seats<D, N> {
    /// A seat for each of these desks, to be had by the threads of places from 0 on.
    pub(crate) fn around(desks: impl IntoIterator<Item = D>) -> Self {
        let seat = |desk| CachePadded::new(Seat { uses: Uses::new(), desk });
        Self(desks.into_iter().map(seat).collect())
    }

    /// The desk of the thread of this place, if it has one to itself.
    #[inline]
    pub(crate) fn desk(&self, place: Place) -> Option<&D> {
        Some(&self.get(place)?.desk)
    }

    /// All desks.
    pub(crate) fn desks(&self) -> impl Iterator<Item = &D> {
        self.iter().map(|seat| &seat.desk)
    }

    /// Bytes on the heap, less what desks have there.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    #[inline]
    fn get(&self, place: Place) -> Option<&Seat<D, N>> {
        self.0.get(place.number()).map(|seat| &**seat)
    }

    fn iter(&self) -> impl Iterator<Item = &Seat<D, N>> + Clone {
        self.0.iter().map(|seat| &**seat)
    }
}

impl<D, const N: usize> Clone for Seats<D, N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: std::fmt::Debug, const N: usize> std::fmt::Debug for Seats<D, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.desks()).finish()
    }
}

impl<const N: usize> Uses<N> {
    fn new() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { went: zeros(), back: zeros() }
    }

    /// A locked addition for all: the counter's order is what the proof rests on.
    #[inline]
    fn count_in(&self, slot: usize) -> u64 {
        self.went[slot].fetch_add(1, CALL_WENT)
    }

    /// On the thread whose counters these are: no other writes to them while it lives.
    #[inline]
    fn count_back_alone(&self, slot: usize) {
        let back = self.back[slot].load(Ordering::Relaxed);
        self.back[slot].store(back.wrapping_add(1), CALL_BACK);
    }
}

impl<'l, T, D, const N: usize> Here<'l, T, D, N> {
    /// What else the thread has to itself.
    #[inline]
    pub(crate) fn desk(&self) -> &'l D {
        &self.seat.desk
    }

    /// Takes a loan back that may have been made on another thread, as its drop would.
    #[inline]
    pub(crate) fn give_back(&self, loan: Loan<'l, T, D, N>) {
        if std::ptr::eq(self.lender, loan.lender) {
            let slot = loan.slot;
            std::mem::forget(loan);
            self.seat.uses.count_back_alone(slot);
        }
    }

    /// As [`Lender::lend`].
    #[inline]
    pub(crate) fn lend_free(&self, slot: usize) -> Option<(Loan<'l, T, D, N>, u64)> {
        let value = self.lender.values.get(slot)?;
        let number = self.seat.uses.count_in(slot);
        match NonNull::new(value.load(Ordering::Acquire)) {
            Some(value) => Some((Loan { lender: self.lender, value, slot }, number)),
            None => {
                self.seat.uses.count_back_alone(slot);
                None
            }
        }
    }

    /// As [`Lender::lend`], to a call that begins and ends on this thread.
    #[inline]
    pub(crate) fn lend(&self, slot: usize) -> Option<(Brief<'l, T, D, N>, u64)> {
        let seat = self.seat;
        let value = self.lender.values.get(slot)?;
        let number = seat.uses.count_in(slot);
        match NonNull::new(value.load(Ordering::Acquire)) {
            Some(value) => Some((Brief { seat, value, slot, stays_here: PhantomData }, number)),
            None => {
                seat.uses.count_back_alone(slot);
                None
            }
        }
    }
}

impl<T, D, const N: usize> Brief<'_, T, D, N> {
    /// The value.
    #[inline]
    pub(crate) fn value(&self) -> &T {
        // SAFETY: as for a loan.
        unsafe { self.value.as_ref() }
    }
}

impl<T, D, const N: usize> Drop for Brief<'_, T, D, N> {
    #[inline]
    fn drop(&mut self) {
        self.seat.uses.count_back_alone(self.slot);
    }
}

impl<T, D, const N: usize> Loan<'_, T, D, N> {
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

    /// At which door it was lent.
    #[inline]
    pub(crate) const fn slot(&self) -> usize {
        self.slot
    }

    /// Gives the value back and keeps its place of the bulkhead, if it has one, for a call that goes
    /// on with a handle of its own.
    pub(crate) fn leave_its_place(self) -> Option<Arc<Bulkhead>> {
        let (lender, slot) = (self.lender, self.slot);
        std::mem::forget(self);
        lender.count_back(Place::here(), slot);
        lender.bulkhead.clone()
    }

    /// Gives it back as the thread of this place would.
    #[cfg(all(test, loom))]
    fn give_back(self, place: Place) {
        let (lender, slot) = (self.lender, self.slot);
        std::mem::forget(self);
        lender.count_back(place, slot);
        lender.leave();
    }
}

impl<T, D, const N: usize> Drop for Loan<'_, T, D, N> {
    #[inline]
    fn drop(&mut self) {
        self.lender.count_back(Place::here(), self.slot);
        self.lender.leave();
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
const SHUT_FIRST_ONLY: bool = cfg!(pilotage_mutant = "shut_first_only");

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    fn with_seats<T, const N: usize>(own: usize) -> Lender<T, (), N> {
        Lender::new(Seats::around(std::iter::repeat_n((), own)))
    }

    fn here() -> Place {
        Place::here()
    }

    #[test]
    fn a_value_on_loan_stays_and_goes_later() {
        let lender = with_seats::<u32, 2>(2);
        assert!(lender.lend(here(), 0).is_none());
        lender.put(&[0], Arc::new(7)).unwrap();
        assert_eq!(lender.put(&[0], Arc::new(8)).unwrap_err(), 8.into());
        let loans: Vec<_> = (0..19).map(|_| lender.lend(here(), 0).unwrap().0).collect();
        assert_eq!(lender.take(&[0]), Err(19));
        assert_eq!((*loans[3].value(), loans[3].slot()), (7, 0));
        let kept = loans[0].share();
        drop(loans);
        assert_eq!(lender.take(&[1]), Ok(None));
        assert_eq!(lender.take(&[0]), Ok(Some(Arc::new(7))));
        assert_eq!(lender.take(&[0]), Ok(None));
        assert_eq!(Arc::strong_count(&kept), 1, "nothing is left behind");
        assert!(lender.lend(here(), 0).is_none());
        assert!(lender.lend(here(), 2).is_none() && lender.put(&[2], Arc::new(1)).is_err());
    }

    #[test]
    fn a_brief_loan_stays_on_its_thread_or_becomes_one_that_may_leave() {
        let lender = with_seats::<u32, 1>(1024);
        assert!(lender.here(here()).unwrap().lend(0).is_none());
        lender.put(&[0], Arc::new(7)).unwrap();
        let (brief, first) = lender.here(here()).unwrap().lend(0).unwrap();
        assert_eq!((*brief.value(), lender.take(&[0])), (7, Err(1)));
        let loan = lender.set_free(brief);
        assert_eq!(lender.take(&[0]), Err(1));
        let second = lender.here(here()).unwrap().lend(0).unwrap().1;
        assert_eq!(second, first + 1, "no two calls have a number");
        thread::scope(|scope| {
            scope.spawn(move || drop(loan));
        });
        assert_eq!(lender.take(&[0]), Ok(Some(Arc::new(7))));
        // A thread without counters of its own has none.
        assert!(with_seats::<u32, 1>(0).here(here()).is_none());
    }

    #[test]
    fn a_value_behind_several_doors_goes_when_none_of_them_has_calls() {
        let lender = with_seats::<u32, 4>(1024);
        let value = Arc::new(7);
        lender.put(&[0, 2], Arc::clone(&value)).unwrap();
        assert!(lender.lend(here(), 1).is_none(), "this door is shut");
        for door in [0, 2] {
            let (loan, _) = lender.lend(here(), door).unwrap();
            assert_eq!((*loan.value(), loan.slot(), lender.in_use(0..4)), (7, door, 1));
            assert_eq!(lender.take(&[0, 2, 3]), Err(1));
        }
        assert!(lender.lend(here(), 2).is_some(), "it is open again after it was not taken");
        assert!(lender.lend(here(), 3).is_none(), "and no other is");
        assert_eq!(lender.take(&[0, 2, 3]), Ok(Some(Arc::new(7))));
        assert!([0, 1, 2, 3].iter().all(|door| lender.lend(here(), *door).is_none()));
        // One value may stand at two places, and is given back by each.
        lender.put(&[0, 2], Arc::clone(&value)).unwrap();
        lender.put(&[1, 3], Arc::clone(&value)).unwrap();
        drop(lender);
        assert_eq!(Arc::strong_count(&value), 1, "nothing is left behind");
    }

    #[test]
    fn a_bounded_lender_lends_so_often_at_once_and_a_loan_gives_its_place_back() {
        let bulkhead = Arc::new(Bulkhead::new());
        let lender =
            Lender::<u32, (), 1>::bounded(Seats::around([(); 1024]), Arc::clone(&bulkhead));
        let lend = || lender.lend_bounded(here(), 0, 2);
        assert_eq!(lend().err(), Some(Refused::Empty));
        lender.put(&[0], Arc::new(7)).unwrap();
        let (first, second) = (lend().unwrap().0, lend().unwrap().0);
        assert_eq!(lend().err(), Some(Refused::Full { inside: 2 }));
        // Another lender's way of giving back quickly leaves it to the loan itself.
        let other = with_seats::<u32, 1>(1024);
        other.here(here()).unwrap().give_back(first);
        assert!(lend().is_ok());
        let place = second.leave_its_place().unwrap();
        assert_eq!((place.inside(), lender.in_use(0..1)), (1, 0));
        assert!(lend().is_ok(), "there is room for one more");
        place.leave();
        assert_eq!((bulkhead.inside(), lender.take(&[0])), (0, Ok(Some(Arc::new(7)))));
    }

    #[test]
    fn a_loan_may_come_back_on_another_thread() {
        let lender = with_seats::<u32, 1>(8);
        lender.put(&[0], Arc::new(7)).unwrap();
        thread::scope(|scope| {
            for _ in 0..20 {
                let (loan, _) = lender.lend(here(), 0).unwrap();
                scope.spawn(move || assert_eq!(*loan.value(), 7));
            }
        });
        assert_eq!(lender.take(&[0]), Ok(Some(Arc::new(7))));
    }

    #[test]
    fn a_value_in_the_slot_is_dropped_with_the_lender() {
        let value = Arc::new(7);
        let lender = with_seats::<u32, 2>(1);
        lender.put(&[1], Arc::clone(&value)).unwrap();
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
        use std::sync::atomic::AtomicU64;
        use std::sync::atomic::Ordering::{Relaxed, SeqCst};
        let lender = with_seats::<Alive, 1>(2);
        // Miri takes turns rarely: with four users one of them always has it.
        let (rounds, users) = if cfg!(miri) { (200, 1) } else { (300, 4) };
        let (stop, used) = (AtomicBool::new(false), AtomicU64::new(0));
        // The threads may be given their turns as late and as unevenly as it pleases the machine,
        // so this goes on until both have come to pass, for a minute at least.
        let most = rounds + 60_000;
        let (mut taken, mut refused) = (0, 0);
        thread::scope(|scope| {
            // More threads than there are counters of their own.
            for _ in 0..users {
                scope.spawn(|| {
                    while !stop.load(SeqCst) {
                        if let Some((brief, _)) = lender.here(here()).and_then(|here| here.lend(0))
                        {
                            assert!(brief.value().0.load(SeqCst));
                            used.fetch_add(1, Relaxed);
                        } else if let Some((loan, _)) = lender.lend(here(), 0) {
                            assert!(loan.value().0.load(SeqCst));
                            used.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
            for round in 0..most {
                if round >= rounds && taken > 0 && used.load(Relaxed) > 0 {
                    break;
                }
                drop(lender.put(&[0], Arc::new(Alive(AtomicBool::new(true)))));
                if round < rounds {
                    thread::yield_now();
                } else {
                    thread::park_timeout(std::time::Duration::from_millis(1));
                }
                match lender.take(&[0]) {
                    Ok(_) => taken += 1,
                    Err(_) => refused += 1,
                }
            }
            stop.store(true, SeqCst);
        });
        let used = used.into_inner();
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

    fn lend_while_it_is_taken(own: [bool; 2], brief: bool) {
        static USED: AtomicUsize = AtomicUsize::new(0);
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        static REFUSED: AtomicUsize = AtomicUsize::new(0);
        loom::model(move || {
            let lender =
                loom::sync::Arc::new(Lender::<UnsafeCell<u32>, (), 1>::new(Seats::around([(); 2])));
            assert!(lender.put(&[0], Arc::new(UnsafeCell::new(7))).is_ok());
            let users: Vec<_> = (0..2)
                .map(|number| {
                    let lender = loom::sync::Arc::clone(&lender);
                    let place = if own[number] { Place::of_test(number) } else { Place::shared() };
                    let number = place.number();
                    thread::spawn(move || {
                        let place = Place::of_test(number);
                        // loom notices when this meets the taker's write below.
                        let read = |value: *const u32| {
                            // SAFETY: nobody writes while a loan is out: what is tested here.
                            assert_eq!(unsafe { *value }, 7);
                            USED.fetch_add(1, SeqCst);
                        };
                        if brief {
                            let here = lender.here(place).unwrap();
                            let Some((brief, _)) = here.lend(0) else { return };
                            brief.value().with(read);
                        } else {
                            let Some((loan, _)) = lender.lend(place, 0) else { return };
                            loan.value().with(read);
                            loan.give_back(place);
                        }
                    })
                })
                .collect();
            match lender.take(&[0]) {
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
        lend_while_it_is_taken([true, true], false);
    }

    #[test]
    fn loom_a_value_is_never_taken_from_calls_that_share_counters() {
        lend_while_it_is_taken([true, false], false);
    }

    #[test]
    fn loom_a_value_is_never_taken_from_brief_calls() {
        lend_while_it_is_taken([true, true], true);
    }

    /// A call at either of two doors of one value, while it is taken.
    #[test]
    fn loom_a_value_is_never_taken_from_a_call_at_another_door() {
        static USED: AtomicUsize = AtomicUsize::new(0);
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        loom::model(|| {
            let lender =
                loom::sync::Arc::new(Lender::<UnsafeCell<u32>, (), 2>::new(Seats::around([(); 2])));
            assert!(lender.put(&[0, 1], Arc::new(UnsafeCell::new(7))).is_ok());
            let users: Vec<_> = (0..2)
                .map(|number| {
                    let lender = loom::sync::Arc::clone(&lender);
                    thread::spawn(move || {
                        let place = Place::of_test(number);
                        let Some((loan, _)) = lender.lend(place, number) else { return };
                        loan.value().with(|value| {
                            // SAFETY: nobody writes while a loan is out: what is tested here.
                            assert_eq!(unsafe { *value }, 7);
                        });
                        USED.fetch_add(1, SeqCst);
                        loan.give_back(place);
                    })
                })
                .collect();
            if let Ok(Some(value)) = lender.take(&[0, 1]) {
                value.with_mut(|value| {
                    // SAFETY: it was taken, so nobody has it: what is tested here.
                    unsafe { *value = 8 };
                });
                TAKEN.fetch_add(1, SeqCst);
            }
            for user in users {
                user.join().unwrap();
            }
        });
        assert!(USED.load(SeqCst) > 0, "the value was never lent");
        assert!(TAKEN.load(SeqCst) > 0, "the value was never taken");
    }

    #[test]
    fn loom_with_a_limit_of_one_two_calls_never_have_the_value_together() {
        static LENT: AtomicUsize = AtomicUsize::new(0);
        static FULL: AtomicUsize = AtomicUsize::new(0);
        loom::model(|| {
            let bulkhead = Arc::new(Bulkhead::new());
            let seats = Seats::around([(); 2]);
            let lender = Lender::<UnsafeCell<u32>, (), 1>::bounded(seats, Arc::clone(&bulkhead));
            let lender = loom::sync::Arc::new(lender);
            assert!(lender.put(&[0], Arc::new(UnsafeCell::new(0))).is_ok());
            let callers: Vec<_> = (0..2)
                .map(|number| {
                    let lender = loom::sync::Arc::clone(&lender);
                    thread::spawn(move || {
                        let place = Place::of_test(number);
                        match lender.lend_bounded(place, 0, 1) {
                            Ok((loan, _)) => {
                                // loom notices when two have it at a time, or one does not see what
                                // the other did.
                                loan.value().with_mut(|value| {
                                    // SAFETY: nobody else has it: what is tested here.
                                    unsafe { *value += 1 };
                                });
                                LENT.fetch_add(1, SeqCst);
                                loan.give_back(place);
                            }
                            Err(refused) => {
                                assert_eq!(refused, Refused::Full { inside: 1 });
                                FULL.fetch_add(1, SeqCst);
                            }
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
            assert_eq!(bulkhead.inside(), 0, "each place was given back");
        });
        assert!(LENT.load(SeqCst) > 0, "the value was never lent");
        assert!(FULL.load(SeqCst) > 0, "nobody was ever refused");
    }
}
