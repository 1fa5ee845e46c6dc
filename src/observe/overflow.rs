//! Where an observation goes when its ring is full.
//!
//! Nothing is dropped: the call is counted in plain atomic counters, by arm, status, mark and
//! latency bucket. What they have no room for (segment, score, subject) is lost, and how often
//! that happened is counted as well. Writers may meet on a cache line here; this is the price of
//! overload, and it is bounded.
//!
//! Counters stand in eight banks by epoch, so that calls of a split that has just ended are never
//! taken for calls of the one in force, and calls of a split long past in a bank of their own: they
//! must not wait in a bank until a later split reads it as its own.

use crate::ids::Epoch;
use crate::observe::histogram::BUCKETS;
use crate::observe::record::{Draw, Words};
use crate::outcome::{Marks, Status};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Splits whose calls are kept apart: the one in force, the five before it, and two that the reader
/// has not heard of yet.
pub const BANKS: usize = 8;
/// The one in force and those before it that are told apart.
pub const KEPT_APART: u16 = 6;
/// The bank of all that is older.
const PAST: usize = BANKS;
/// Latency buckets; `loom` tries out too many interleavings for all of them.
const CELLS: usize = if cfg!(loom) { 1 } else { BUCKETS };

/// Counters for the calls a ring had no room for.
#[derive(Debug)]
pub struct Overflow {
    /// By bank and arm.
    cells: Box<[Cell]>,
    arms: usize,
    /// One bit a bank: whether there may be something in it.
    dirty: AtomicU64,
    /// The epoch the reader is at.
    now: AtomicU64,
}

/// The counters of one arm in one bank.
#[derive(Debug)]
struct Cell {
    ended: [AtomicU64; 5],
    marks: [AtomicU64; Marks::COUNT],
    fell_back: AtomicU64,
    diverted: AtomicU64,
    chosen_diverted: AtomicU64,
    /// Calls that are no evidence, by status, and how many of them the baseline answered instead.
    chosen: [AtomicU64; 5],
    chosen_fell_back: AtomicU64,
    /// Latencies of answers, then of failures.
    latency: [Box<[AtomicU32]>; 2],
}

/// What was taken out of one arm's counters.
#[derive(Clone, Debug, Default)]
pub struct Spilled {
    /// Calls ended, by status number.
    pub ended: [u64; 5],
    /// Ended calls that carried each mark.
    pub marks: [u64; Marks::COUNT],
    /// Calls the baseline answered instead.
    pub fell_back: u64,
    /// Calls that are no evidence, by status number; not in `ended`. Their marks and latencies are
    /// lost with the rest.
    pub chosen: [u64; 5],
    /// Of those, calls the baseline answered instead.
    pub chosen_fell_back: u64,
    /// Calls of which the arm was as busy as it may be. They are in the counts above, and their
    /// latencies are lost.
    pub diverted: u64,
    /// The same of calls that are no evidence.
    pub chosen_diverted: u64,
    /// Bucket and count of answers.
    pub answered: Vec<(usize, u64)>,
    /// Bucket and count of failures.
    pub failed: Vec<(usize, u64)>,
}

impl Overflow {
    /// Empty counters for `arms` arms.
    #[must_use]
    pub fn new(arms: usize, epoch: Epoch) -> Self {
        let cells = (0..arms * (BANKS + 1)).map(|_| Cell::new());
        let now = AtomicU64::new(epoch.number().into());
        Self { cells: cells.collect(), arms, dirty: AtomicU64::new(0), now }
    }

    /// The reader goes on to `epoch`: what is [`KEPT_APART`] or more splits older is past.
    pub fn advance(&self, epoch: Epoch) {
        self.now.store(epoch.number().into(), Ordering::Relaxed);
    }

    /// Where a call of `epoch` counts. A writer that reads where the reader was some splits ago errs
    /// by a bank only if as many splits pass between this line and the next.
    fn bank(&self, epoch: Epoch) -> usize {
        let now = self.now.load(Ordering::Relaxed) as u16;
        let behind = now.wrapping_sub(epoch.number());
        if (KEPT_APART..1 << 15).contains(&behind) { PAST } else { bank_of(epoch) }
    }

    /// Counts a call. Never waits; a call of an arm that does not exist counts for the last one.
    #[cold]
    pub fn add(&self, words: Words) {
        let bank = self.bank(words.epoch());
        let cell = &self.cells[bank * self.arms + words.arm().min(self.arms - 1)];
        let status = words.status().min(Status::ALL.len() - 1);
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        if words.draw() == Draw::Chosen {
            count(&cell.chosen[status]);
            if words.fell_back() {
                count(&cell.chosen_fell_back);
            }
            if words.diverted() {
                count(&cell.chosen_diverted);
            }
        } else {
            count(&cell.ended[status]);
            for (number, counter) in cell.marks.iter().enumerate() {
                if words.marks().has(number as u8) {
                    count(counter);
                }
            }
            if words.fell_back() {
                count(&cell.fell_back);
            }
            if words.diverted() {
                count(&cell.diverted);
            } else if let Some(kind) = kind_of(status) {
                let bucket = words.bucket().min(CELLS - 1);
                cell.latency[kind][bucket].fetch_add(1, Ordering::Relaxed);
            }
        }
        // Pairs with the Acquire of `take`: who sees the bit sees the counts.
        self.dirty.fetch_or(1 << bank, COUNTED);
    }

    /// Takes everything counted under `epoch` and hands it over arm by arm.
    pub fn take(&self, epoch: Epoch, hand_over: impl FnMut(usize, Spilled)) {
        self.take_bank(bank_of(epoch), hand_over);
    }

    /// Takes everything counted under splits long past.
    pub fn take_past(&self, hand_over: impl FnMut(usize, Spilled)) {
        self.take_bank(PAST, hand_over);
    }

    fn take_bank(&self, bank: usize, mut hand_over: impl FnMut(usize, Spilled)) {
        if self.dirty.load(Ordering::Relaxed) & (1 << bank) == 0 {
            return;
        }
        // Cleared first: a count that comes while we read sets it again.
        if !CLEAR_LAST {
            self.dirty.fetch_and(!(1 << bank), Ordering::Acquire);
        }
        for arm in 0..self.arms {
            hand_over(arm, self.cells[bank * self.arms + arm].take());
        }
        if CLEAR_LAST {
            self.dirty.fetch_and(!(1 << bank), Ordering::Acquire);
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.cells.len() * (size_of::<Cell>() + 2 * CELLS * size_of::<AtomicU32>())
    }
}

/// Which histogram a status belongs to: answers, failures, or none.
#[inline]
#[must_use]
pub const fn kind_of(status: usize) -> Option<usize> {
    const OK: usize = Status::Ok.index();
    const ERROR: usize = Status::Error.index();
    const PANICKED: usize = Status::Panicked.index();
    match status {
        OK => Some(0),
        ERROR | PANICKED => Some(1),
        _ => None,
    }
}

// What matters has a name, so that `scripts/mutants.sh` can spoil it and show that a test notices.
const COUNTED: Ordering =
    if cfg!(pilotage_mutant = "overflow_counted") { Ordering::Relaxed } else { Ordering::Release };
const CLEAR_LAST: bool = cfg!(pilotage_mutant = "overflow_clear_last");

const fn bank_of(epoch: Epoch) -> usize {
    epoch.number() as usize % BANKS
}

impl Cell {
    fn new() -> Self {
        let buckets = || (0..CELLS).map(|_| AtomicU32::new(0)).collect();
        Self {
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            marks: std::array::from_fn(|_| AtomicU64::new(0)),
            fell_back: AtomicU64::new(0),
            diverted: AtomicU64::new(0),
            chosen_diverted: AtomicU64::new(0),
            chosen: std::array::from_fn(|_| AtomicU64::new(0)),
            chosen_fell_back: AtomicU64::new(0),
            latency: [buckets(), buckets()],
        }
    }

    fn take(&self) -> Spilled {
        let all = |counters: &[AtomicU64; 5]| {
            std::array::from_fn(|at| counters[at].swap(0, Ordering::Relaxed))
        };
        let buckets = |counters: &[AtomicU32]| {
            let filled = counters.iter().enumerate();
            let filled = filled.filter(|(_, counter)| counter.load(Ordering::Relaxed) > 0);
            filled.map(|(at, counter)| (at, counter.swap(0, Ordering::Relaxed).into())).collect()
        };
        Spilled {
            ended: all(&self.ended),
            marks: all(&self.marks),
            fell_back: self.fell_back.swap(0, Ordering::Relaxed),
            diverted: self.diverted.swap(0, Ordering::Relaxed),
            chosen_diverted: self.chosen_diverted.swap(0, Ordering::Relaxed),
            chosen: all(&self.chosen),
            chosen_fell_back: self.chosen_fell_back.swap(0, Ordering::Relaxed),
            answered: buckets(&self.latency[0]),
            failed: buckets(&self.latency[1]),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ids::Arm;
    use crate::observe::record::Observation;
    use crate::outcome::Outcome;

    #[test]
    fn what_is_added_is_taken_once_and_by_its_own_epoch() {
        let overflow = Overflow::new(2, Epoch::new(0));
        let (old, new) = (Epoch::new(65_535), Epoch::new(0));
        let add = |epoch, outcome| {
            overflow.add(Words::pack(&Observation::new(Arm::CANDIDATE, epoch, 70, outcome)));
        };
        add(old, Outcome::error());
        add(new, Outcome::ok().with_mark(2));
        add(new, Outcome::ok());
        let mut seen = Vec::new();
        overflow.take(new, |arm, spilled| seen.push((arm, spilled)));
        assert_eq!(seen[0].1.ended, [0; 5]);
        assert_eq!(seen[1].1.ended, [2, 0, 0, 0, 0]);
        assert_eq!(seen[1].1.marks, [0, 0, 1, 0, 0]);
        assert_eq!(seen[1].1.answered.len(), 1);
        overflow.take(new, |_, _| panic!("taken twice"));
        overflow.take(old, |arm, spilled| assert_eq!(spilled.ended[1], arm as u64));
    }

    #[test]
    fn a_call_of_long_ago_never_waits_in_the_bank_of_a_split_to_come() {
        // As many as there are banks, and one: Miri takes long over each.
        let (from, to) = if cfg!(miri) { (4, 9) } else { (0, 40) };
        for back in from..to {
            let (begun, now) = (Epoch::new(3), Epoch::new(3 + back));
            let overflow = Overflow::new(1, begun);
            overflow.advance(now);
            overflow.add(Words::pack(&Observation::new(Arm::BASELINE, begun, 70, Outcome::ok())));
            for ahead in 1..=2 {
                let next = Epoch::new(now.number() + ahead);
                overflow.take(next, |_, _| panic!("{back} back, found {ahead} ahead"));
            }
            if back > 0 {
                overflow.take(now, |_, _| panic!("{back} back, found in force"));
            }
            let mut found = 0;
            for back in 0..KEPT_APART {
                let epoch = Epoch::new(now.number().wrapping_sub(back));
                overflow.take(epoch, |_, spilled| found += spilled.ended[0]);
            }
            overflow.take_past(|_, spilled| found += spilled.ended[0]);
            assert_eq!(found, 1, "{back} back");
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::ids::Arm;
    use crate::observe::record::Observation;
    use crate::outcome::Outcome;

    #[test]
    fn loom_a_count_added_while_another_is_taken_is_not_lost() {
        static TAKEN_MEANWHILE: AtomicUsize = AtomicUsize::new(0);
        loom::model(|| {
            let epoch = Epoch::new(0);
            let overflow = Arc::new(Overflow::new(1, Epoch::new(0)));
            let writers = [(); 2].map(|()| {
                let overflow = Arc::clone(&overflow);
                thread::spawn(move || {
                    let seen = Observation::new(Arm::BASELINE, epoch, 70, Outcome::ok());
                    overflow.add(Words::pack(&seen));
                })
            });
            let mut taken = [0, 0];
            let mut take = || {
                overflow.take(epoch, |_, spilled| {
                    taken[0] += spilled.ended[0];
                    taken[1] += spilled.answered.iter().map(|(_, count)| count).sum::<u64>();
                });
                taken[1] as usize
            };
            TAKEN_MEANWHILE.fetch_add(take(), SeqCst);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            take();
            assert_eq!(taken, [2, 2]);
        });
        assert!(TAKEN_MEANWHILE.load(SeqCst) > 0, "nothing was ever taken in between");
    }
}
