//! Where streams count as they end.
//!
//! A stream hands over what it remembers of itself in one go, into plain atomic counters by epoch
//! and arm; whoever drains turns these into [`StreamCounts`]. Nothing waits and nothing is lost.
//! Writers may meet on a cache line here, once a stream.
//!
//! Counters stand in banks by epoch, as those of the [`overflow`](crate::observe::overflow) do: a
//! stream that ends under another split than it began under is no evidence on the split in force.
//! The one in force, the five before it and two that the reader has not heard of yet are told apart.
//! Banks are made when their first stream ends, 95 KB for an arm; there are nine at most.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::ids::Epoch;
use crate::observe::histogram::{BUCKETS, Histogram, bucket_of};
use crate::observe::overflow::{BANKS, KEPT_APART};
use crate::observe::record::{CallKey, Draw};
use crate::observe::stream_counts::StreamCounts;
use crate::observe::stream_meter::{FullBucket, StreamEnd, StreamMeter};
use crate::sync::{AtomicU64, Ordering};

/// The bank of what is older, and of what is no evidence.
const PAST: usize = BANKS;
const CELLS: usize = if cfg!(loom) { 1 } else { BUCKETS };

/// Counters for streams that ended.
#[derive(Debug)]
pub(crate) struct Streams {
    /// By bank and arm.
    cells: Box<[ArcSwapOption<Cell>]>,
    arms: usize,
    /// One bit a bank: whether there may be something in it.
    dirty: AtomicU64,
    /// The epoch the reader is at.
    now: AtomicU64,
    kept: Mutex<Kept>,
}

/// What was taken out of the counters.
#[derive(Debug)]
struct Kept {
    epoch: Epoch,
    current: Vec<StreamCounts>,
    past: Vec<StreamCounts>,
    /// Of the current, what windows have had.
    in_windows: Vec<StreamCounts>,
    /// What no window of the split before has had.
    left_over: (Epoch, Vec<StreamCounts>),
}

/// The counters of one arm in one bank.
#[derive(Debug)]
struct Cell {
    ended: AtomicU64,
    answered: AtomicU64,
    broken: AtomicU64,
    abandoned: AtomicU64,
    items: AtomicU64,
    gap_nanos: AtomicU64,
    first: Buckets,
    gaps: Buckets,
    pace: Buckets,
    whole: Buckets,
    lengths: Buckets,
}

#[derive(Debug)]
struct Buckets(Box<[AtomicU64]>);

impl Streams {
    /// Counters for `arms` arms, of which none is there yet.
    pub(crate) fn new(arms: usize, epoch: Epoch) -> Self {
        let counts = || vec![StreamCounts::default(); arms];
        Self {
            cells: (0..arms * (BANKS + 1)).map(|_| ArcSwapOption::empty()).collect(),
            arms,
            dirty: AtomicU64::new(0),
            now: AtomicU64::new(epoch.number().into()),
            kept: Mutex::new(Kept {
                epoch,
                current: counts(),
                past: counts(),
                in_windows: counts(),
                left_over: (epoch, Vec::new()),
            }),
        }
    }

    /// Counts a stream that ended.
    pub(crate) fn ended(&self, key: CallKey, meter: &StreamMeter, end: StreamEnd) {
        self.add(key, |cell| cell.add(meter, end));
    }

    /// Counts gaps of a stream under way that it has no room for.
    #[cold]
    pub(crate) fn gaps(&self, key: CallKey, full: FullBucket) {
        self.add(key, |cell| cell.gaps.add(full.0, FullBucket::GAPS));
    }

    fn add(&self, key: CallKey, add: impl FnOnce(&Cell)) {
        let bank = self.bank(key);
        let slot = &self.cells[bank * self.arms + key.arm().index().min(self.arms - 1)];
        if slot.load().is_none() {
            // Whoever comes second drops its own.
            slot.compare_and_swap(&None::<Arc<Cell>>, Some(Arc::new(Cell::new())));
        }
        if let Some(cell) = slot.load().as_deref() {
            add(cell);
        }
        // Pairs with the Acquire of `take`: who sees the bit sees the counts.
        self.dirty.fetch_or(1 << bank, COUNTED);
    }

    /// Where a stream of this key counts; see [`Overflow`](crate::observe::overflow::Overflow).
    fn bank(&self, key: CallKey) -> usize {
        let now = self.now.load(Ordering::Relaxed) as u16;
        let behind = now.wrapping_sub(key.epoch().number());
        if key.draw() == Draw::Chosen || (KEPT_APART..1 << 15).contains(&behind) {
            PAST
        } else {
            bank_of(key.epoch())
        }
    }

    /// Empties the counters into counts.
    pub(crate) fn drain(&self, epoch: Epoch) {
        self.fold_in(&mut self.kept.lock(), epoch);
    }

    /// What a window of `epoch` that closes has to tell, arm by arm: all that no window had before.
    pub(crate) fn window(&self, epoch: Epoch) -> Vec<StreamCounts> {
        let mut kept = self.kept.lock();
        let kept = &mut *kept;
        if kept.epoch == epoch {
            kept.not_in_windows()
        } else if kept.left_over.0 == epoch {
            std::mem::take(&mut kept.left_over.1)
        } else {
            Vec::new()
        }
    }

    /// What was seen under `epoch`, arm by arm, where it is the one in force. Takes a lock and a
    /// while: not for the request path.
    pub(crate) fn counts(&self, epoch: Epoch) -> Vec<StreamCounts> {
        let mut kept = self.kept.lock();
        self.fold_in(&mut kept, epoch);
        if kept.epoch == epoch { kept.current.clone() } else { Vec::new() }
    }

    /// Everything ever seen, arm by arm.
    pub(crate) fn totals(&self, epoch: Epoch) -> Vec<StreamCounts> {
        let mut kept = self.kept.lock();
        self.fold_in(&mut kept, epoch);
        let mut totals = kept.past.clone();
        totals.iter_mut().zip(&kept.current).for_each(|(total, current)| total.merge(current));
        totals
    }

    /// Bytes on the heap, at most: those of all banks once there is one.
    pub(crate) fn memory_bytes(&self) -> usize {
        let handles = size_of_val(&*self.cells);
        if self.cells.iter().all(|cell| cell.load().is_none()) {
            return handles;
        }
        let histogram = BUCKETS * size_of::<u64>();
        let cells = self.cells.len() * (size_of::<Cell>() + 5 * histogram);
        handles + cells + 4 * self.arms * (size_of::<StreamCounts>() + 5 * histogram)
    }

    fn fold_in(&self, kept: &mut Kept, epoch: Epoch) {
        let ahead = epoch.number().wrapping_sub(kept.epoch.number());
        if (1..1 << 15).contains(&ahead) {
            self.take(bank_of(kept.epoch), &mut kept.current);
            kept.left_over = (kept.epoch, kept.not_in_windows());
            kept.in_windows.fill(StreamCounts::default());
            for (past, current) in kept.past.iter_mut().zip(&mut kept.current) {
                past.merge(&std::mem::take(current));
            }
            kept.epoch = epoch;
            self.now.store(epoch.number().into(), Ordering::Relaxed);
            // What is in the bank of a split that is told apart no longer would wait there for the
            // split to come that uses it next.
            for back in (KEPT_APART..BANKS as u16).filter(|back| ahead > back - KEPT_APART) {
                let lost = Epoch::new(epoch.number().wrapping_sub(back));
                self.take(bank_of(lost), &mut kept.past);
            }
        }
        self.take(bank_of(kept.epoch), &mut kept.current);
        for back in 1..KEPT_APART {
            let epoch = Epoch::new(kept.epoch.number().wrapping_sub(back));
            self.take(bank_of(epoch), &mut kept.past);
        }
        self.take(PAST, &mut kept.past);
    }

    fn take(&self, bank: usize, into: &mut [StreamCounts]) {
        if self.dirty.load(Ordering::Relaxed) & (1 << bank) == 0 {
            return;
        }
        // Cleared first: a stream that ends while we read sets it again.
        if !CLEAR_LAST {
            self.dirty.fetch_and(!(1 << bank), Ordering::Acquire);
        }
        for (arm, counts) in into.iter_mut().enumerate() {
            if let Some(cell) = self.cells[bank * self.arms + arm].load().as_deref() {
                cell.take(counts);
            }
        }
        if CLEAR_LAST {
            self.dirty.fetch_and(!(1 << bank), Ordering::Acquire);
        }
    }
}

// What matters has a name, so that `scripts/mutants.sh` can spoil it and show that a test notices.
const COUNTED: Ordering =
    if cfg!(pilotage_mutant = "streams_counted") { Ordering::Relaxed } else { Ordering::Release };
const CLEAR_LAST: bool = cfg!(pilotage_mutant = "streams_clear_last");

impl Kept {
    fn not_in_windows(&mut self) -> Vec<StreamCounts> {
        let before = std::mem::replace(&mut self.in_windows, self.current.clone());
        self.current.iter().zip(&before).map(|(now, before)| now.since(before)).collect()
    }
}

const fn bank_of(epoch: Epoch) -> usize {
    epoch.number() as usize % BANKS
}

impl Cell {
    fn new() -> Self {
        let none = || AtomicU64::new(0);
        Self {
            ended: none(),
            answered: none(),
            broken: none(),
            abandoned: none(),
            items: none(),
            gap_nanos: none(),
            first: Buckets::new(),
            gaps: Buckets::new(),
            pace: Buckets::new(),
            whole: Buckets::new(),
            lengths: Buckets::new(),
        }
    }

    fn add(&self, meter: &StreamMeter, end: StreamEnd) {
        let add = |counter: &AtomicU64, count| _ = counter.fetch_add(count, Ordering::Relaxed);
        add(&self.ended, 1);
        if end == StreamEnd::Complete {
            self.whole.add(bucket_of(meter.waited()), 1);
            self.lengths.add(bucket_of(meter.items()), 1);
        }
        let Some(first) = meter.first() else { return };
        add(&self.answered, 1);
        match end {
            StreamEnd::Complete | StreamEnd::Excused => {}
            StreamEnd::Broken => add(&self.broken, 1),
            StreamEnd::Abandoned => add(&self.abandoned, 1),
        }
        add(&self.items, meter.items());
        add(&self.gap_nanos, meter.gap_nanos());
        self.first.add(bucket_of(first), 1);
        if let Some(pace) = meter.pace() {
            self.pace.add(bucket_of(pace), 1);
        }
        meter.gaps().for_each(|(bucket, count)| self.gaps.add(bucket, count));
    }

    fn take(&self, into: &mut StreamCounts) {
        let take = |counter: &AtomicU64, count: &mut u64| {
            *count = count.saturating_add(counter.swap(0, Ordering::Relaxed));
        };
        take(&self.ended, &mut into.ended);
        take(&self.answered, &mut into.answered);
        take(&self.broken, &mut into.broken);
        take(&self.abandoned, &mut into.abandoned);
        take(&self.items, &mut into.items);
        take(&self.gap_nanos, &mut into.gap_nanos);
        self.first.take(&mut into.first);
        self.gaps.take(&mut into.gaps);
        self.pace.take(&mut into.pace);
        self.whole.take(&mut into.whole);
        self.lengths.take(&mut into.lengths);
    }
}

impl Buckets {
    fn new() -> Self {
        Self((0..CELLS).map(|_| AtomicU64::new(0)).collect())
    }

    fn add(&self, bucket: usize, count: u64) {
        self.0[bucket.min(CELLS - 1)].fetch_add(count, Ordering::Relaxed);
    }

    fn take(&self, into: &mut Histogram) {
        for (bucket, counter) in self.0.iter().enumerate() {
            if counter.load(Ordering::Relaxed) > 0 {
                into.record_bucket(bucket, counter.swap(0, Ordering::Relaxed));
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ids::{Arm, Segment};

    fn key(epoch: u16, draw: Draw) -> CallKey {
        CallKey::new(Arm::CANDIDATE, Epoch::new(epoch), Segment::NONE, None, draw)
    }

    fn stream(items: u64) -> StreamMeter {
        let mut meter = StreamMeter::new();
        for item in 0..items {
            meter.asked(|| 10 * item);
            assert_eq!(meter.item(10 * item + 5), None);
        }
        meter
    }

    #[test]
    fn a_stream_counts_under_the_split_it_began_under() {
        let streams = Streams::new(2, Epoch::new(7));
        streams.ended(key(7, Draw::Random), &stream(3), StreamEnd::Complete);
        streams.ended(key(7, Draw::Chosen), &stream(1), StreamEnd::Complete);
        let counts = streams.counts(Epoch::new(7));
        assert_eq!((counts[0].ended, counts[1].ended, counts[1].items), (0, 1, 3));
        streams.ended(key(7, Draw::Random), &stream(2), StreamEnd::Broken);
        streams.ended(key(8, Draw::Random), &stream(4), StreamEnd::Abandoned);
        let counts = streams.counts(Epoch::new(8));
        assert_eq!((counts[1].ended, counts[1].items, counts[1].abandoned), (1, 4, 1));
        assert!(streams.counts(Epoch::new(7)).is_empty(), "that split is over");
        let totals = streams.totals(Epoch::new(8));
        assert_eq!((totals[1].ended, totals[1].items, totals[1].broken), (4, 10, 1));
    }

    #[test]
    fn nothing_is_lost_however_many_splits_go_by() {
        let streams = Streams::new(2, Epoch::new(65_530));
        for step in 0..60_u16 {
            let epoch = 65_530_u16.wrapping_add(step);
            for back in (0..12).chain([40]) {
                let meter = stream(u64::from(back) + 1);
                streams.ended(
                    key(epoch.wrapping_sub(back), Draw::Random),
                    &meter,
                    StreamEnd::Complete,
                );
            }
            // One or two splits begin between two looks.
            if step % 2 == 1 || step % 5 == 0 {
                let counts = streams.counts(Epoch::new(epoch));
                assert_eq!(counts[1].items, 1, "only what began under this one");
            }
        }
        let total = &streams.totals(Epoch::new(65_530_u16.wrapping_add(59)))[1];
        assert_eq!((total.ended, total.lengths.count()), (780, 780));
    }

    #[test]
    fn memory_is_what_it_says_from_the_first_stream_on() {
        let streams = Streams::new(2, Epoch::new(0));
        assert!(streams.memory_bytes() < 1_000);
        streams.ended(key(0, Draw::Random), &stream(1), StreamEnd::Complete);
        let bytes = streams.memory_bytes();
        assert!((1_000_000..2_500_000).contains(&bytes), "{bytes}");
        for epoch in 0..100 {
            streams.ended(key(epoch, Draw::Random), &stream(9), StreamEnd::Complete);
            drop(streams.counts(Epoch::new(epoch)));
        }
        assert_eq!(streams.memory_bytes(), bytes);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::ids::{Arm, Segment};

    #[test]
    fn loom_a_stream_that_ends_while_others_are_taken_is_not_lost() {
        static TAKEN_MEANWHILE: AtomicUsize = AtomicUsize::new(0);
        loom::model(|| {
            let epoch = Epoch::new(0);
            let streams = Arc::new(Streams::new(1, epoch));
            let key = CallKey::new(Arm::BASELINE, epoch, Segment::NONE, None, Draw::Random);
            let end = move |streams: &Streams| {
                streams.ended(key, &StreamMeter::new(), StreamEnd::Complete);
            };
            // The first makes the counters, in a way that is another crate's to try out.
            end(&streams);
            assert_eq!(streams.counts(epoch)[0].ended, 1);
            let writers = [(); 2].map(|()| {
                let streams = Arc::clone(&streams);
                thread::spawn(move || end(&streams))
            });
            let between = streams.counts(epoch)[0].lengths.count() - 1;
            TAKEN_MEANWHILE.fetch_add(between as usize, SeqCst);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            let counts = &streams.counts(epoch)[0];
            assert_eq!((counts.ended, counts.lengths.count(), counts.whole.count()), (3, 3, 3));
        });
        assert!(TAKEN_MEANWHILE.load(SeqCst) > 0, "nothing was ever taken in between");
    }
}
