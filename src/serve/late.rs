//! Truths that come late, counted once.
//!
//! Memory is bounded: two generations of fingerprints, of which the older is dropped when the
//! newer is full. So a repetition is recognised as long as fewer than [`REMEMBERED`] others came
//! in between, and never mistaken for one more than once in 2^64 times their number.

use std::collections::HashSet;

use crate::clock::Moment;
use crate::ids::Epoch;
use crate::serve::ticket::TIME_UNIT;

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

/// Since when the split in force may have been in force.
///
/// A ticket has 16 bits of its split's number, which come again after 65,536 changes, and the moment
/// its call began. Whoever looks at the split now and then notes what it saw: a call that began while
/// another split was seen in force is not of this one, whatever the numbers say.
#[derive(Debug)]
pub(crate) struct Noted {
    seen: (Epoch, Moment),
    /// When another split was last seen in force, if ever.
    other: Option<Moment>,
}

impl Noted {
    pub(crate) const fn new(epoch: Epoch, now: Moment) -> Self {
        Self { seen: (epoch, now), other: None }
    }

    /// This split is in force now.
    pub(crate) fn note(&mut self, epoch: Epoch, now: Moment) {
        if epoch != self.seen.0 {
            self.other = Some(self.seen.1);
        }
        self.seen = (epoch, now);
    }

    /// Whether a call of the number in force that began at this moment, as a ticket tells it, is of a
    /// split before. A call reads the clock and then the split, so it may be a little older than that.
    pub(crate) fn is_before(&self, began: Moment) -> bool {
        let Some(other) = self.other else { return false };
        let units = |moment: Moment| (moment.as_nanos() >> TIME_UNIT) as u32;
        // Tickets' moments wrap as well.
        let older = units(other).wrapping_sub(units(began));
        (SLACK..1 << 31).contains(&older)
    }
}

/// A call may have been interrupted so long between its two looks: 84 ms.
const SLACK: u32 = 5;

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

    #[test]
    fn a_call_from_before_another_split_was_seen_is_not_of_this_one() {
        let at = |millis: u64| Moment::from_nanos(millis * 1_000_000);
        let (this, other) = (Epoch::new(1), Epoch::new(2));
        let mut noted = Noted::new(this, at(0));
        noted.note(this, at(5_000));
        assert!(!noted.is_before(at(0)), "no other was ever seen");
        noted.note(other, at(6_000));
        noted.note(other, at(7_000));
        noted.note(this, at(8_000));
        assert!(noted.is_before(at(100)) && noted.is_before(at(6_800)));
        assert!(!noted.is_before(at(6_990)), "its call may have been interrupted");
        assert!(!noted.is_before(at(7_500)) && !noted.is_before(at(9_000)));
    }
}
