//! Which subjects were met in a window.
//!
//! One client that retries a failing request is one failing subject. A table of fixed size
//! remembers, for the window that is open, which arms a subject met and what happened to it
//! there. When it is full, subjects that come later in the window are not tracked (and counted as
//! such): those who came first are as good a sample of each arm as any, while counting the others
//! call by call would let the retries back in.

use crate::observe::record::SubjectTag;

/// A table of subjects met in the open window, in constant memory.
#[derive(Debug)]
pub struct SubjectTable {
    /// Generation 26 bits, subject and arm 28 bits, events 10 bits. An entry of another generation
    /// is empty, so that a new window costs nothing.
    entries: Box<[u64]>,
    generation: u64,
    used: usize,
    limit: usize,
}

/// What a subject met for the first time in this window: one bit an event.
pub type Events = u16;

/// It had a call that ended (cancelled ones apart).
pub const EXPOSED: Events = 1;
/// It met an error or a panic.
pub const FAILED: Events = 1 << 1;
/// It met a timeout.
pub const TIMED_OUT: Events = 1 << 2;
/// The first mark; the others follow.
pub const FIRST_MARK: Events = 1 << 3;
/// It gave a call up.
pub const ABANDONED: Events = 1 << 8;
/// It had a call that ended, however it did.
pub const ENDED: Events = 1 << 9;

const EVENT_BITS: u32 = 10;
const EVENTS: u64 = (1 << EVENT_BITS) - 1;
const KEY_BITS: u32 = 28;
const GENERATIONS: u64 = 1 << (u64::BITS - KEY_BITS - EVENT_BITS);

impl SubjectTable {
    /// A table for at most `limit` subjects a window, each arm counted by itself; at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, 1 << 22);
        let entries = vec![0; (limit * 2).next_power_of_two()].into();
        Self { entries, generation: 1, used: 0, limit }
    }

    /// Notes `events` of `subject` on `arm` and returns those that are new in this window, or
    /// `None` when the subject cannot be tracked because the table is full.
    #[inline]
    pub fn note(&mut self, subject: SubjectTag, arm: usize, events: Events) -> Option<Events> {
        let key = u64::from(subject.number()) << 4 | (arm as u64 & 0xf);
        let mask = self.entries.len() - 1;
        let mut at = self.place_of(subject, arm);
        loop {
            let entry = self.entries[at];
            if entry >> (KEY_BITS + EVENT_BITS) != self.generation {
                if self.used == self.limit {
                    return None;
                }
                self.used += 1;
                self.entries[at] = self.generation << (KEY_BITS + EVENT_BITS)
                    | key << EVENT_BITS
                    | u64::from(events);
                return Some(events);
            }
            if entry >> EVENT_BITS & ((1 << KEY_BITS) - 1) == key {
                self.entries[at] = entry | u64::from(events);
                return Some(events & !((entry & EVENTS) as Events));
            }
            at = (at + 1) & mask;
        }
    }

    /// Brings the place where this subject will be noted near: the table is larger than the caches
    /// that are.
    #[inline]
    pub fn expect(&self, subject: SubjectTag, arm: usize) {
        std::hint::black_box(self.entries[self.place_of(subject, arm)]);
    }

    /// Where the search for a subject begins.
    #[inline]
    fn place_of(&self, subject: SubjectTag, arm: usize) -> usize {
        // The tag is a hash already; the arm is folded in far from the low bits.
        (subject.number() as usize ^ (arm << 11)) & (self.entries.len() - 1)
    }

    /// Begins a new window: nobody was met yet.
    pub fn forget(&mut self) {
        self.used = 0;
        self.generation += 1;
        if self.generation == GENERATIONS {
            self.entries.fill(0);
            self.generation = 1;
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_table_keeps_whom_it_knows_and_takes_nobody_new() {
        let mut table = SubjectTable::new(2);
        let of = |number: u64| SubjectTag::of(number);
        assert_eq!(table.note(of(1), 0, EXPOSED), Some(EXPOSED));
        assert_eq!(table.note(of(2), 1, EXPOSED | FAILED), Some(EXPOSED | FAILED));
        assert_eq!(table.note(of(3), 0, EXPOSED), None);
        assert_eq!(table.note(of(1), 0, EXPOSED | FAILED), Some(FAILED));
        table.forget();
        assert_eq!(table.note(of(3), 0, EXPOSED), Some(EXPOSED));
        assert_eq!(table.note(of(1), 0, EXPOSED), Some(EXPOSED));
    }

    proptest! {
        #[test]
        fn each_event_is_new_once_a_window(
            calls in prop::collection::vec((0_u64..40, 0_usize..3, 0..1024_u16, 0_u8..20), 0..300),
        ) {
            let mut table = SubjectTable::new(256);
            let mut known: HashMap<(u64, usize), u16> = HashMap::new();
            for (subject, arm, events, pause) in calls {
                if pause == 0 {
                    table.forget();
                    known.clear();
                }
                let before = known.entry((subject, arm)).or_default();
                let new = table.note(SubjectTag::of(subject), arm, events);
                prop_assert_eq!(new, Some(events & !*before));
                *before |= events;
            }
        }
    }
}
