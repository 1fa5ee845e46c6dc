//! Remembers what arms did.
//!
//! The two ends of the hot path: requests write into rings, one shard for each thread or nearly
//! so, and share no cache line in doing it; whoever drains folds the rings into counts. Nothing a
//! request does here waits, allocates or can fail.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::clock::Moment;
use crate::ids::{Arm, Epoch};
use crate::observe::fold::Fold;
use crate::observe::overflow::Overflow;
use crate::observe::record::{Draw, Observation, Words};
use crate::observe::ring::{Reader, Ring};
use crate::observe::snapshot::{ArmCounts, Snapshot};
use crate::observe::sync::{AtomicU64, Ordering};
use crate::observe::window::{Quantiles, Window};

/// The most arms that are told apart.
pub const MAX_ARMS: usize = 8;

/// How big a recorder is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size {
    /// How many arms there are, 1 to [`MAX_ARMS`].
    pub arms: usize,
    /// How many rings; near the number of threads that serve. Rounded up to a power of two.
    pub shards: usize,
    /// How many records a ring holds between two drains before they go into coarser counters.
    /// Rounded up to a power of two.
    pub records: usize,
    /// How many subjects are told apart in a ten-second window.
    pub subjects: usize,
}

impl Default for Size {
    /// Two arms, a ring for each processor, 8,192 records a ring, 65,536 subjects a window.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(4, usize::from);
        Self { arms: 2, shards: processors, records: 8_192, subjects: 65_536 }
    }
}

/// Remembers what arms did, without locks on the writers' side.
///
/// ```
/// use pilotage::clock::Moment;
/// use pilotage::ids::{Arm, Epoch};
/// use pilotage::observe::record::{Draw, Observation};
/// use pilotage::observe::recorder::{Recorder, Size};
/// use pilotage::outcome::{Outcome, Status};
///
/// let epoch = Epoch::new(1);
/// let recorder = Recorder::new(Size::default(), epoch, Moment::ZERO);
/// recorder.start(Arm::BASELINE, epoch, Draw::Random);
/// recorder.record(&Observation::new(Arm::BASELINE, epoch, 1_500, Outcome::ok()));
/// let snapshot = recorder.snapshot(Moment::from_secs(1), epoch);
/// assert_eq!(snapshot.arm(Arm::BASELINE).unwrap().of(Status::Ok), 1);
/// ```
#[derive(Debug)]
pub struct Recorder {
    shards: Box<[CachePadded<Shard>]>,
    overflow: Overflow,
    arms: usize,
    drain: Mutex<Drain>,
}

/// What the threads of one shard write to.
#[derive(Debug)]
struct Shard {
    ring: Ring,
    /// Calls begun, by arm and class of epoch; see [`class_of`].
    started: [[AtomicU64; CLASSES]; MAX_ARMS],
}

/// What whoever drains owns.
#[derive(Debug)]
struct Drain {
    readers: Vec<Reader>,
    fold: Fold,
    /// Calls begun in each class before its present epoch.
    bases: Bases,
}

type Bases = [[u64; CLASSES]; MAX_ARMS];

/// Calls begun are told apart by the last three bits of their epoch, and those that are no
/// evidence stand by themselves. A class is emptied (its base is set) long before its turn comes
/// again, so up to six changes of the split between two drains are told apart exactly.
const EPOCH_CLASSES: usize = 8;
const CHOSEN_CLASS: usize = EPOCH_CLASSES;
const CLASSES: usize = EPOCH_CLASSES + 1;

#[inline]
const fn class_of(epoch: Epoch, draw: Draw) -> usize {
    match draw {
        Draw::Random => epoch.number() as usize % EPOCH_CLASSES,
        Draw::Chosen => CHOSEN_CLASS,
    }
}

impl Recorder {
    /// An empty recorder. Sizes out of range are brought into it.
    #[must_use]
    pub fn new(size: Size, epoch: Epoch, now: Moment) -> Self {
        let arms = size.arms.clamp(1, MAX_ARMS);
        let shards = size.shards.clamp(1, 256).next_power_of_two();
        let (mut rings, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let (ring, reader) = Ring::new(size.records);
            let started = std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)));
            rings.push(CachePadded::new(Shard { ring, started }));
            readers.push(reader);
        }
        let fold = Fold::new(arms, size.subjects, epoch, now);
        Self {
            shards: rings.into(),
            overflow: Overflow::new(arms),
            arms,
            drain: Mutex::new(Drain { readers, fold, bases: [[0; CLASSES]; MAX_ARMS] }),
        }
    }

    /// Counts a call that begins, and returns a number no other call of this arm and shard has
    /// had in the last 16 million. An arm that does not exist counts as the last one.
    #[inline]
    pub fn start(&self, arm: Arm, epoch: Epoch, draw: Draw) -> u32 {
        let shard = self.shard_index();
        let started = &self.shards[shard].started[arm.index().min(self.arms - 1)];
        let number = started[class_of(epoch, draw)].fetch_add(1, Ordering::Relaxed);
        (shard as u32) << 24 | (number as u32 & 0xff_ffff)
    }

    /// Records a call that ended. Exactly one for each [`Recorder::start`], with the same arm,
    /// epoch and draw.
    #[inline]
    pub fn record(&self, seen: &Observation) {
        let words = Words::pack(seen);
        if !self.shards[self.shard_index()].ring.push(words) {
            self.overflow.add(words);
        }
    }

    #[inline]
    fn shard_index(&self) -> usize {
        thread_index() & (self.shards.len() - 1)
    }

    /// Empties the rings into the counts of `epoch`, the one in force, and returns the windows
    /// that closed. Whoever drains must not be a request: it takes a lock and a while.
    pub fn drain(&self, now: Moment, epoch: Epoch) -> Vec<Window> {
        let mut drain = self.drain.lock();
        self.fold_in(&mut drain, now, epoch);
        drain.fold.take_windows()
    }

    /// What was seen under `epoch`, the one in force, drained up to now.
    #[must_use]
    pub fn snapshot(&self, now: Moment, epoch: Epoch) -> Snapshot {
        let mut drain = self.drain.lock();
        self.fold_in(&mut drain, now, epoch);
        let started = self.started(&drain.bases, drain.fold.epoch());
        drain.fold.snapshot(now, &started)
    }

    /// Everything ever seen, arm by arm, over all epochs and with the calls that are no evidence.
    /// At every quiescent point `started` is the sum of all that ended.
    #[must_use]
    pub fn totals(&self, now: Moment, epoch: Epoch) -> Vec<ArmCounts> {
        let mut drain = self.drain.lock();
        self.fold_in(&mut drain, now, epoch);
        let started: Vec<u64> = (0..self.arms)
            .map(|arm| (0..CLASSES).map(|class| self.sum(arm, class)).sum())
            .collect();
        drain.fold.totals(&started)
    }

    /// Quantiles of the answers of the last five minutes under the epoch in force, as of the last
    /// drain. `None` without answers.
    #[must_use]
    pub fn recent(&self, arm: Arm) -> Option<Quantiles> {
        self.drain.lock().fold.recent(arm)
    }

    /// Counts a truth about a call of `arm` under `epoch` that came after its end. `true` when it
    /// counts for `in_force`, the epoch in force. Takes a short lock: not for the request path.
    pub fn truth(&self, now: Moment, in_force: Epoch, of: &Observation) -> bool {
        let mut drain = self.drain.lock();
        let Drain { fold, bases, .. } = &mut *drain;
        self.advance(fold, bases, now, in_force);
        fold.truth(of)
    }

    /// Bytes on the heap, at most, however much is recorded.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let rings = self.shards.iter().map(|shard| shard.ring.memory_bytes());
        rings.sum::<usize>()
            + size_of_val(&*self.shards)
            + self.overflow.memory_bytes()
            + self.drain.lock().fold.memory_bytes()
    }

    fn fold_in(&self, drain: &mut Drain, now: Moment, epoch: Epoch) {
        let Drain { readers, fold, bases } = drain;
        self.advance(fold, bases, now, epoch);
        for (shard, reader) in self.shards.iter().zip(readers) {
            shard.ring.drain(reader, |words| {
                if words.epoch() != fold.epoch() {
                    // The split may have changed after the caller looked.
                    self.advance(fold, bases, now, words.epoch());
                }
                fold.record(words);
            });
        }
        for back in 0..3 {
            let epoch = Epoch::new(fold.epoch().number().wrapping_sub(back));
            self.overflow.take(epoch, |arm, spilled| fold.spilled(epoch, arm, &spilled));
        }
        let started = self.started(bases, fold.epoch());
        fold.tick(now, &started);
    }

    /// Brings the counts over to `epoch` if it is newer than theirs. What the rings still hold of
    /// the old one was written too late for its stage and counts as stale.
    fn advance(&self, fold: &mut Fold, bases: &mut Bases, now: Moment, epoch: Epoch) {
        let old = fold.epoch();
        if !is_newer(epoch, old) {
            return;
        }
        self.overflow.take(old, |arm, spilled| fold.spilled(old, arm, &spilled));
        fold.advance(epoch, now, &self.started(bases, old));
        for (arm, bases) in bases.iter_mut().enumerate().take(self.arms) {
            for (class, base) in bases.iter_mut().enumerate().take(EPOCH_CLASSES) {
                let back = (epoch.number() as usize).wrapping_sub(class) % EPOCH_CLASSES;
                // The epoch in force and the one before it may still begin calls.
                if back > 1 {
                    *base = self.sum(arm, class);
                }
            }
        }
    }

    /// Calls begun under `epoch`, arm by arm.
    fn started(&self, bases: &Bases, epoch: Epoch) -> Vec<u64> {
        let class = class_of(epoch, Draw::Random);
        let begun = |arm: usize| self.sum(arm, class).saturating_sub(bases[arm][class]);
        (0..self.arms).map(begun).collect()
    }

    fn sum(&self, arm: usize, class: usize) -> u64 {
        let counts = self.shards.iter().map(|shard| &shard.started[arm][class]);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Whether `epoch` came after `other`, as far as numbers that wrap can tell.
fn is_newer(epoch: Epoch, other: Epoch) -> bool {
    (1..1 << 15).contains(&epoch.number().wrapping_sub(other.number()))
}

/// A number of this thread, from 0 in the order of first use. Nothing is registered, so nothing is
/// left behind when a thread ends; two threads may share a shard, which is only slower.
#[inline]
pub(crate) fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    #[cold]
    fn first_use(index: &Cell<usize>) -> usize {
        let mine = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) & (usize::MAX >> 1);
        index.set(mine);
        mine
    }
    INDEX.with(|index| match index.get() {
        usize::MAX => first_use(index),
        mine => mine,
    })
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::outcome::Outcome;

    #[test]
    fn loom_calls_of_two_splits_are_counted_once_each_while_the_split_changes() {
        static STALE: AtomicUsize = AtomicUsize::new(0);
        static SPILLED: AtomicUsize = AtomicUsize::new(0);
        loom::model(|| {
            let (old, new) = (Epoch::new(0), Epoch::new(1));
            let size = Size { arms: 1, shards: 1, records: 2, subjects: 1 };
            let recorder = Arc::new(Recorder::new(size, old, Moment::ZERO));
            let writer = {
                let recorder = Arc::clone(&recorder);
                thread::spawn(move || {
                    for epoch in [old, new, new] {
                        recorder.start(Arm::BASELINE, epoch, Draw::Random);
                        let seen = Observation::new(Arm::BASELINE, epoch, 70, Outcome::ok());
                        recorder.record(&seen);
                    }
                })
            };
            drop(recorder.drain(Moment::ZERO, old));
            let between = recorder.snapshot(Moment::ZERO, new);
            STALE.fetch_add(between.stale as usize, SeqCst);
            writer.join().unwrap();
            let snapshot = recorder.snapshot(Moment::ZERO, new);
            let counts = &snapshot.arms[0];
            assert_eq!((counts.started, counts.finished()), (2, 2));
            SPILLED.fetch_add(counts.detail_lost as usize, SeqCst);
            let totals = recorder.totals(Moment::ZERO, new);
            assert_eq!((totals[0].started, totals[0].finished()), (3, 3));
        });
        assert!(STALE.load(SeqCst) > 0, "no call was ever overtaken by the split");
        assert!(SPILLED.load(SeqCst) > 0, "the ring never overflowed");
    }
}
