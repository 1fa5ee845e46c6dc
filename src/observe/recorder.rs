//! Remembers what arms did.
//!
//! The two ends of the hot path: requests write into rings, one shard for each thread or nearly
//! so, and share no cache line in doing it; whoever drains folds the rings into counts. Nothing a
//! request does here waits, allocates or can fail.
//!
//! A thread that has a shard to itself counts and writes with plain stores: a locked instruction
//! takes 5 ns where a whole record takes 3.

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::clock::Moment;
use crate::ids::{Arm, Epoch, Segment};
use crate::observe::fold::Fold;
use crate::observe::lender::Seats;
use crate::observe::overflow::{BANKS, KEPT_APART, Overflow};
use crate::observe::record::{CallKey, Draw, Observation, Words};
use crate::observe::ring::{Reader, Ring};
use crate::observe::snapshot::{ArmCounts, Snapshot};
use crate::observe::solo_ring::{SoloReader, SoloRing};
use crate::observe::thread_place::{Place, SHARED};
use crate::observe::window::{Quantiles, Window};
use crate::sync::{AtomicU64, Ordering};

/// The most arms that are told apart.
pub const MAX_ARMS: usize = 8;

/// How big a recorder is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size {
    /// How many arms there are, 1 to [`MAX_ARMS`].
    pub arms: usize,
    /// How many rings for one thread each, near the number of threads that serve. Rounded up to a
    /// power of two, at most 128. Threads beyond share as many further ones, at a small cost.
    pub shards: usize,
    /// How many records a ring holds between two drains before they go into coarser counters.
    /// Rounded up to a power of two.
    pub records: usize,
    /// How many subjects are told apart in a ten-second window.
    pub subjects: usize,
}

impl Default for Size {
    /// Two arms, a ring of its own for each of as many threads as there are processors, 8,192
    /// records a ring, 65,536 subjects a window.
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
    /// Those that one thread each writes to, by the thread's place.
    own: Seated,
    /// As many that all others share.
    shared: Box<[CachePadded<Shard<Ring>>]>,
    overflow: Overflow,
    arms: usize,
    drain: Mutex<Drain>,
}

/// Where threads write that have a shard to themselves. Models are lent to them by the same look.
pub(crate) type Seated = Seats<Own, DOORS>;

/// At how many doors models are lent: eight for the two that swap roles, one for each further arm, and
/// two for what stands in.
pub(crate) const DOORS: usize = MAX_ARMS + 8;

/// The shard of a thread that has one to itself.
pub(crate) type Own = Shard<SoloRing>;

/// What the threads of one shard write to.
#[derive(Debug)]
pub(crate) struct Shard<R> {
    ring: R,
    begun: Begun,
}

/// Calls begun.
#[derive(Debug)]
struct Begun {
    /// Those that are evidence, by epoch class and arm as their key has them side by side.
    drawn: [AtomicU64; EPOCH_CLASSES << ARM_BITS],
    /// Those that are none, by arm.
    chosen: [AtomicU64; 1 << ARM_BITS],
    /// Of `drawn`, those that found their arm as busy as it may be.
    diverted: [AtomicU64; EPOCH_CLASSES << ARM_BITS],
}

/// What whoever drains owns.
#[derive(Debug)]
struct Drain {
    readers: Vec<SoloReader>,
    shared_readers: Vec<Reader>,
    fold: Fold,
    /// Calls begun in each class before its present epoch.
    bases: Bases,
}

/// Calls begun, and those of them that were diverted, arm by arm.
pub(crate) type Started = Vec<[u64; 2]>;

type Bases = [[[u64; 2]; EPOCH_CLASSES]; MAX_ARMS];

/// Calls begun are told apart by the last three bits of their epoch. A class is emptied (its base
/// is set) long before its turn comes again, so up to six changes of the split between two drains
/// are told apart exactly.
const EPOCH_CLASSES: usize = 8;
/// How many records are looked at before the first of them is counted.
const HANDFUL: usize = 32;
/// A key has four bits for the arm, below the epoch.
const ARM_BITS: usize = 4;

impl Recorder {
    /// An empty recorder. Sizes out of range are brought into it.
    #[must_use]
    pub fn new(size: Size, epoch: Epoch, now: Moment) -> Self {
        let arms = size.arms.clamp(1, MAX_ARMS);
        let shards = size.shards.clamp(1, 128).next_power_of_two();
        let (own, readers) =
            (0..shards).map(|_| Shard::around(SoloRing::new(size.records))).unzip();
        let (shared, shared_readers) =
            (0..shards).map(|_| Shard::around(Ring::new(size.records))).unzip();
        let (own, shared): (Vec<_>, Vec<_>) = (own, shared);
        let fold = Fold::new(arms, size.subjects, epoch, now);
        Self {
            own: Seats::around(own),
            shared: shared.into_iter().map(CachePadded::new).collect(),
            overflow: Overflow::new(arms, epoch),
            arms,
            drain: Mutex::new(Drain {
                readers,
                shared_readers,
                fold,
                bases: [[[0; 2]; EPOCH_CLASSES]; MAX_ARMS],
            }),
        }
    }

    /// Counts a call that begins.
    pub fn start(&self, arm: Arm, epoch: Epoch, draw: Draw) {
        self.begin(Place::here(), CallKey::new(arm, epoch, Segment::NONE, None, draw));
    }

    /// Records a call that ended. Exactly one for each [`Recorder::start`], with the same arm,
    /// epoch and draw.
    pub fn record(&self, seen: &Observation) {
        self.end(Place::here(), Words::pack(seen));
    }

    /// Counts a call that begins on the thread of this place. The arm's number is below 16; one
    /// that does not exist is counted nowhere.
    #[inline]
    pub(crate) fn begin(&self, place: Place, key: CallKey) {
        match self.own.desk(place) {
            Some(shard) => {
                add_alone(shard.begun.counter(key));
                if key.is_diverted() && key.draw() == Draw::Random {
                    add_alone(&shard.begun.diverted[key.class()]);
                }
            }
            None => self.begin_shared(place, key),
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_shared(&self, place: Place, key: CallKey) {
        let shard = &self.shared[self.spread(place)];
        shard.begun.counter(key).fetch_add(1, Ordering::Relaxed);
        if key.is_diverted() && key.draw() == Draw::Random {
            shard.begun.diverted[key.class()].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where threads write that have a shard to themselves.
    pub(crate) fn seated(&self) -> Seated {
        self.own.clone()
    }

    /// Records a call that ended on the thread of this shard.
    #[inline]
    pub(crate) fn end_at(&self, shard: &Own, words: Words) {
        if !shard.ring.push(words) {
            self.spill(words.0[0], words.0[1]);
        }
    }

    /// By their parts: what is handed over whole has to lie in memory, even where the ring has room.
    #[cold]
    #[inline(never)]
    fn spill(&self, first: u64, second: u64) {
        self.overflow.add(Words([first, second]));
    }

    /// Records a call that ended on the thread of this place, which need not be the one it began
    /// on.
    #[inline]
    pub(crate) fn end(&self, place: Place, words: Words) {
        let written = match self.own.desk(place) {
            Some(shard) => shard.ring.push(words),
            None => self.shared[self.spread(place)].ring.push(words),
        };
        if !written {
            self.spill(words.0[0], words.0[1]);
        }
    }

    /// Records a packed call; see [`Recorder::record`].
    #[inline]
    pub fn write(&self, words: Words) {
        self.end(Place::here(), words);
    }

    /// The shared shard of a thread that has none to itself.
    #[cold]
    fn spread(&self, place: Place) -> usize {
        // Threads with a number are spread by it, those without by where their stack lies.
        let here = match place.number() {
            SHARED => std::ptr::from_ref(&place).addr() >> 16,
            number => number,
        };
        here & (self.shared.len() - 1)
    }

    fn begun(&self) -> impl Iterator<Item = &Begun> {
        let own = self.own.desks().map(|shard| &shard.begun);
        own.chain(self.shared.iter().map(|shard| &shard.begun))
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
        let started: Started = (0..self.arms)
            .map(|arm| {
                let classes = (0..EPOCH_CLASSES).map(|class| self.sum(arm, class));
                let [drawn, diverted] =
                    classes.fold([0; 2], |sum, class| [sum[0] + class[0], sum[1] + class[1]]);
                let chosen = self.begun().map(|begun| &begun.chosen[arm]);
                let chosen: u64 = chosen.map(|count| count.load(Ordering::Relaxed)).sum();
                [drawn + chosen, diverted]
            })
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
        let own = self.own.desks().map(|shard| shard.ring.memory_bytes());
        let shared = self.shared.iter().map(|shard| shard.ring.memory_bytes());
        own.chain(shared).sum::<usize>()
            + self.own.memory_bytes()
            + size_of_val(&*self.shared)
            + self.overflow.memory_bytes()
            + self.drain.lock().fold.memory_bytes()
    }

    fn fold_in(&self, drain: &mut Drain, now: Moment, epoch: Epoch) {
        let Drain { readers, shared_readers, fold, bases } = drain;
        self.advance(fold, bases, now, epoch);
        // In handfuls: what a record will need of a table that is in no near cache is asked for
        // while those before it are counted.
        let mut handful = [Words([0; 2]); HANDFUL];
        let mut held = 0;
        let mut count = |handful: &[Words]| {
            handful.iter().for_each(|words| fold.expect(*words));
            for words in handful {
                if words.epoch() != fold.epoch() {
                    // The split may have changed after the caller looked.
                    self.advance(fold, bases, now, words.epoch());
                }
                fold.record(*words);
            }
        };
        let mut take = |words: Words| {
            handful[held] = words;
            held += 1;
            if held == HANDFUL {
                count(&handful);
                held = 0;
            }
        };
        for (shard, reader) in self.own.desks().zip(readers) {
            shard.ring.drain(reader, &mut take);
        }
        for (shard, reader) in self.shared.iter().zip(shared_readers) {
            shard.ring.drain(reader, &mut take);
        }
        count(&handful[..held]);
        for back in 0..KEPT_APART {
            let epoch = Epoch::new(fold.epoch().number().wrapping_sub(back));
            self.overflow.take(epoch, |arm, spilled| fold.spilled(epoch, arm, &spilled));
        }
        let past = Epoch::new(fold.epoch().number().wrapping_sub(KEPT_APART));
        self.overflow.take_past(|arm, spilled| fold.spilled(past, arm, &spilled));
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
        self.overflow.advance(epoch);
        // What is in the bank of a split that is told apart no longer would wait there for the split
        // to come that uses it next.
        let ahead = epoch.number().wrapping_sub(old.number());
        for back in (KEPT_APART..BANKS as u16).filter(|back| ahead > back - KEPT_APART) {
            let lost = Epoch::new(epoch.number().wrapping_sub(back));
            self.overflow.take(lost, |arm, spilled| fold.spilled(lost, arm, &spilled));
        }
        for (arm, bases) in bases.iter_mut().enumerate().take(self.arms) {
            for (class, base) in bases.iter_mut().enumerate() {
                let back = (epoch.number() as usize).wrapping_sub(class) % EPOCH_CLASSES;
                // The epoch in force and the one before it may still begin calls.
                if back > 1 {
                    *base = self.sum(arm, class);
                }
            }
        }
    }

    /// Calls begun under `epoch`, arm by arm.
    fn started(&self, bases: &Bases, epoch: Epoch) -> Started {
        let class = epoch.number() as usize % EPOCH_CLASSES;
        let begun = |arm: usize| {
            let ([begun, diverted], base) = (self.sum(arm, class), bases[arm][class]);
            [begun.saturating_sub(base[0]), diverted.saturating_sub(base[1])]
        };
        (0..self.arms).map(begun).collect()
    }

    fn sum(&self, arm: usize, class: usize) -> [u64; 2] {
        let at = class << ARM_BITS | arm;
        let each = self.begun().map(|begun| [&begun.drawn[at], &begun.diverted[at]]);
        let each = each.map(|counts| counts.map(|count| count.load(Ordering::Relaxed)));
        each.fold([0; 2], |sum, counts| [sum[0] + counts[0], sum[1] + counts[1]])
    }
}

impl<R> Shard<R> {
    fn around<Reader>((ring, reader): (R, Reader)) -> (Self, Reader) {
        (Self { ring, begun: Begun::none() }, reader)
    }
}

impl Begun {
    fn none() -> Self {
        let drawn = std::array::from_fn(|_| AtomicU64::new(0));
        let diverted = std::array::from_fn(|_| AtomicU64::new(0));
        Self { drawn, chosen: std::array::from_fn(|_| AtomicU64::new(0)), diverted }
    }

    /// Where a call of this key is counted.
    #[inline]
    fn counter(&self, key: CallKey) -> &AtomicU64 {
        match key.draw() {
            Draw::Random => &self.drawn[key.class()],
            Draw::Chosen => &self.chosen[key.arm().index() & (self.chosen.len() - 1)],
        }
    }
}

impl Own {
    /// Counts a call that begins on the thread of this shard, of which the draw decided the arm.
    #[inline]
    pub(crate) fn begin_drawn(&self, key: CallKey) {
        add_alone(&self.begun.drawn[key.class()]);
    }
}

/// Adds one to a counter only this thread writes to.
#[inline]
fn add_alone(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Whether `epoch` came after `other`, as far as numbers that wrap can tell.
fn is_newer(epoch: Epoch, other: Epoch) -> bool {
    (1..1 << 15).contains(&epoch.number().wrapping_sub(other.number()))
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

#[cfg(all(test, not(loom)))]
mod bank_tests {
    use super::*;
    use crate::outcome::{Outcome, Status};

    #[test]
    fn a_call_spilled_of_a_split_just_too_old_is_never_read_as_one_of_a_split_to_come() {
        let size = Size { records: 2, shards: 1, arms: 1, subjects: 16 };
        let recorder = Recorder::new(size, Epoch::new(10), Moment::ZERO);
        let old = Epoch::new(5);
        let seen = Observation::new(Arm::BASELINE, old, 1_000, Outcome::ok());
        for _ in 0..100 {
            recorder.start(Arm::BASELINE, old, Draw::Random);
            recorder.record(&seen);
        }
        for epoch in 11..30 {
            let snapshot = recorder.snapshot(Moment::from_secs(1), Epoch::new(epoch));
            assert_eq!(snapshot.arms[0].of(Status::Ok), 0, "at {epoch}");
        }
        let totals = recorder.totals(Moment::from_secs(1), Epoch::new(30));
        assert_eq!(totals[0].of(Status::Ok), 100);
    }
}
