//! So many calls at once, and no more.
//!
//! A counter that never exceeds its limit, not for a moment: with a limit of one, two calls are never
//! inside together. Nobody waits: who finds no room is told so. One locked instruction each way where
//! nobody else comes at that moment. What it promises of interleavings, the models of the lender try
//! out.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering};

/// How many calls are inside.
#[derive(Debug)]
pub(crate) struct Bulkhead(CachePadded<AtomicU64>);

impl Bulkhead {
    /// Nobody is inside.
    pub(crate) fn new() -> Self {
        Self(CachePadded::new(AtomicU64::new(0)))
    }

    /// Enters, or says how many are inside, where those are `most` or more.
    #[inline]
    pub(crate) fn enter(&self, most: u64) -> Result<(), u64> {
        // Acquire: who comes in sees what those did that have left.
        let enter = |inside: u64| (inside < most || ADMITS_ALL).then_some(inside + 1);
        self.0.fetch_update(ENTER, Ordering::Relaxed, enter).map(|_| ())
    }

    /// Leaves. Exactly once for each time somebody entered.
    #[inline]
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, LEAVE);
    }

    /// How many are inside.
    #[cfg(test)]
    pub(crate) fn inside(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// The orderings that matter have names, so that `scripts/mutants.sh` can weaken them one by one.
const ENTER: Ordering =
    if cfg!(pilotage_mutant = "bulkhead_enter") { Ordering::Relaxed } else { Ordering::Acquire };
const LEAVE: Ordering =
    if cfg!(pilotage_mutant = "bulkhead_leave") { Ordering::Relaxed } else { Ordering::Release };
const ADMITS_ALL: bool = cfg!(pilotage_mutant = "bulkhead_admits_all");

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn as_many_enter_as_may_and_one_more_for_each_that_leaves() {
        let bulkhead = Bulkhead::new();
        assert_eq!([0; 3].map(|_| bulkhead.enter(2)), [Ok(()), Ok(()), Err(2)]);
        bulkhead.leave();
        assert_eq!((bulkhead.enter(2), bulkhead.enter(2), bulkhead.inside()), (Ok(()), Err(2), 2));
        // Room may shrink while calls are inside.
        assert_eq!(bulkhead.enter(1), Err(2));
    }
}
