//! Which shard a thread writes to.
//!
//! Each living thread has a small number of its own, the lowest that was free when it first asked;
//! it goes back when the thread ends. So numbers stay as small as the most threads that ever lived
//! at once, and what a thread with a number writes, no other thread writes meanwhile: a counter of
//! its own needs no locked instruction, which would cost more than the rest of a record.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers given out at once; threads beyond share.
const PLACES: usize = 1024;

/// The number of a thread that has none of its own.
pub(crate) const SHARED: usize = usize::MAX >> 1;

const UNKNOWN: usize = usize::MAX;

/// One bit a number: whether a living thread has it.
static TAKEN: [AtomicU64; PLACES / 64] = [const { AtomicU64::new(0) }; PLACES / 64];

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(UNKNOWN) };
    /// Gives the number back when the thread ends.
    static LEASE: Lease = const { Lease };
}

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        // Whatever else runs while the thread ends records as one of many.
        let place = PLACE.replace(SHARED);
        if place < PLACES {
            // Pairs with the Acquire of `take`: the next owner sees what this one wrote.
            TAKEN[place / 64].fetch_and(!(1 << (place % 64)), Ordering::Release);
        }
    }
}

/// The place of the thread that holds it, which it cannot leave: so what was made from a number
/// is only done on the thread that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    number: usize,
    stays_here: PhantomData<*const ()>,
}

impl Place {
    /// This thread's.
    #[inline]
    pub(crate) fn here() -> Self {
        let number = PLACE.get();
        Self::numbered(if number == UNKNOWN { first_use() } else { number })
    }

    /// This thread's if it asked before; else one that nobody has to itself.
    #[inline]
    pub(crate) fn if_known() -> Self {
        Self::numbered(PLACE.get())
    }

    /// Below 1,024 and the thread's own while it lives, or a larger one that many have.
    #[inline]
    pub(crate) const fn number(self) -> usize {
        self.number
    }

    #[inline]
    const fn numbered(number: usize) -> Self {
        Self { number, stays_here: PhantomData }
    }

    /// The place of a thread that has none to itself.
    #[cfg(all(test, loom))]
    pub(crate) const fn shared() -> Self {
        Self::numbered(SHARED)
    }

    /// A place that a model of interleavings gives out by itself, once each.
    #[cfg(all(test, loom))]
    pub(crate) const fn of_test(number: usize) -> Self {
        Self::numbered(number)
    }
}

#[cold]
#[inline(never)]
fn first_use() -> usize {
    // Under `loom` all threads of a model are one thread to the system.
    let lasting = !cfg!(loom) && LEASE.try_with(|_| ()).is_ok();
    let place = if lasting { take().unwrap_or(SHARED) } else { SHARED };
    PLACE.set(place);
    place
}

/// The lowest free number.
fn take() -> Option<usize> {
    TAKEN.iter().enumerate().find_map(|(at, word)| {
        let mut free = 0;
        word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
            free = (!taken).trailing_zeros() as usize;
            (free < 64).then(|| taken | 1 << free)
        })
        .ok()
        .map(|_| at * 64 + free)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn living_threads_have_different_numbers_and_the_dead_leave_theirs() {
        let mut highest = 0;
        for _ in 0..50 {
            let barrier = std::sync::Barrier::new(8);
            let places = thread::scope(|scope| {
                let threads = [(); 8].map(|()| {
                    scope.spawn(|| {
                        let place = Place::here().number();
                        barrier.wait();
                        place
                    })
                });
                threads.map(|thread| thread.join().unwrap())
            });
            let different: std::collections::HashSet<_> = places.into_iter().collect();
            assert_eq!(different.len(), 8);
            highest = highest.max(*different.iter().max().unwrap());
        }
        // Other tests run meanwhile and take numbers too, but not 400.
        assert!(highest < 400, "{highest}");
    }

    #[test]
    fn a_number_stays_with_its_thread() {
        assert_eq!(Place::here().number(), Place::here().number());
    }
}
