//! Truths that come late, counted once.
//!
//! Memory is bounded: two generations of fingerprints, of which the older is dropped when the
//! newer is full. So a repetition is recognised as long as fewer than [`REMEMBERED`] others came
//! in between, and never mistaken for one more than once in 2^64 times their number.

use std::collections::HashSet;

/// How many truths are surely remembered.
pub const REMEMBERED: usize = 65_536;

/// Fingerprints of the last truths.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    new: HashSet<u64>,
    old: HashSet<u64>,
}

impl Seen {
    /// Whether a fingerprint was noted.
    pub(crate) fn has(&self, fingerprint: u64) -> bool {
        self.new.contains(&fingerprint) || self.old.contains(&fingerprint)
    }

    /// Notes a fingerprint; `false` when it was there.
    pub(crate) fn first(&mut self, fingerprint: u64) -> bool {
        if self.has(fingerprint) {
            return false;
        }
        if self.new.len() == REMEMBERED {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(fingerprint)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_in_bounded_memory() {
        let mut seen = Seen::default();
        for number in 0..REMEMBERED as u64 * 5 {
            assert!(seen.first(number));
            assert!(!seen.first(number));
        }
        assert!(!seen.first(REMEMBERED as u64 * 4 + 1));
        assert!(seen.new.len() + seen.old.len() <= 2 * REMEMBERED);
    }
}
