//! A bounded queue of records that many threads write and one reads; for those that have no
//! [`SoloRing`](super::solo_ring::SoloRing) to themselves.
//!
//! Each place carries a stamp that says whose turn it is. A writer claims the next place by moving
//! `head`, writes the two words of its record and hands the place to the reader by its stamp; the
//! reader hands it back one lap later. A full ring refuses the record, and the caller puts it
//! elsewhere: overwriting would lose observations of exactly the busiest moments, unseen.
//!
//! No `unsafe`: the words are atomics of their own, at a price of about three instructions.
//!
//! Source: the stamps are D. Vyukov's bounded queue, cut down to a single reader.

use crossbeam_utils::CachePadded;

use crate::observe::record::Words;
use crate::sync::{AtomicU64, Ordering};

/// A bounded queue with many writers and one reader.
#[derive(Debug)]
pub struct Ring {
    head: CachePadded<AtomicU64>,
    places: Box<[Place]>,
    mask: u64,
}

/// Where the one reader of a ring stands. A ring is only ever read with the reader made for it.
#[derive(Debug)]
pub struct Reader {
    tail: u64,
}

#[derive(Debug)]
struct Place {
    /// `n` when record `n` may be written here, `n + 1` when it may be read.
    stamp: AtomicU64,
    words: [AtomicU64; 2],
}

impl Ring {
    /// A ring of `capacity` places, rounded up to a power of two, and its reader.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, Reader) {
        Self::starting_at(capacity, 0)
    }

    /// A ring whose count of records begins at `first`, to try what happens where it wraps.
    #[must_use]
    pub fn starting_at(capacity: usize, first: u64) -> (Self, Reader) {
        // A ring of one place could not tell a full one from an empty one.
        let capacity = capacity.clamp(2, 1 << 20).next_power_of_two() as u64;
        let mask = capacity - 1;
        let stamp_of = |at: u64| first.wrapping_add(at.wrapping_sub(first) & mask);
        let places = (0..capacity).map(|at| Place {
            stamp: AtomicU64::new(stamp_of(at)),
            words: [AtomicU64::new(0), AtomicU64::new(0)],
        });
        let ring =
            Self { head: CachePadded::new(AtomicU64::new(first)), places: places.collect(), mask };
        (ring, Reader { tail: first })
    }

    /// Writes a record, or says `false` when the ring is full. Never waits.
    #[inline]
    #[must_use]
    pub fn push(&self, words: Words) -> bool {
        let mut at = self.head.load(Ordering::Relaxed);
        loop {
            let place = &self.places[(at & self.mask) as usize];
            // Pairs with the reader's Release: what it read here, it has read.
            let stamp = place.stamp.load(Ordering::Acquire);
            if stamp == at {
                match self.claim(at) {
                    Ok(_) => {
                        place.words[0].store(words.0[0], Ordering::Relaxed);
                        place.words[1].store(words.0[1], Ordering::Relaxed);
                        // Pairs with the reader's Acquire: the stamp shows the words.
                        place.stamp.store(at.wrapping_add(1), WRITER_STAMP);
                        return true;
                    }
                    Err(now) => at = now,
                }
            } else if stamp.wrapping_sub(at) > u64::MAX / 2 {
                return false; // the place still holds a record of the lap before
            } else {
                at = self.head.load(Ordering::Relaxed);
            }
        }
    }

    /// Takes place `at` for the caller alone, or says where the next one is.
    #[inline]
    fn claim(&self, at: u64) -> Result<u64, u64> {
        let next = at.wrapping_add(1);
        if cfg!(pilotage_mutant = "claim") {
            self.head.store(next, Ordering::Relaxed);
            return Ok(at);
        }
        self.head.compare_exchange_weak(at, next, Ordering::Relaxed, Ordering::Relaxed)
    }

    /// Hands the records to `take`, oldest first, at most one lap of them, and says how many there
    /// were. It stops at a place that was claimed and is not written yet.
    pub fn drain(&self, reader: &mut Reader, mut take: impl FnMut(Words)) -> usize {
        let mut taken = 0;
        while taken < self.places.len() {
            let at = reader.tail;
            let place = &self.places[(at & self.mask) as usize];
            if place.stamp.load(READER_STAMP) != at.wrapping_add(1) {
                break;
            }
            let words =
                [place.words[0].load(Ordering::Relaxed), place.words[1].load(Ordering::Relaxed)];
            // Pairs with the writer's Acquire: it may overwrite only after we have read.
            place.stamp.store(at.wrapping_add(self.mask + 1), Ordering::Release);
            reader.tail = at.wrapping_add(1);
            taken += 1;
            take(Words(words));
        }
        taken
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.places.len() * size_of::<Place>()
    }
}

// The orderings that matter have names, so that `scripts/mutants.sh` can weaken them one by one
// and show that a test notices.
const WRITER_STAMP: Ordering =
    if cfg!(pilotage_mutant = "writer_stamp") { Ordering::Relaxed } else { Ordering::Release };
const READER_STAMP: Ordering =
    if cfg!(pilotage_mutant = "reader_stamp") { Ordering::Relaxed } else { Ordering::Acquire };

/// What both kinds of ring promise, tried on one.
#[cfg(all(test, not(loom)))]
macro_rules! ring_contract {
    ($ring:ident, $reader:ident) => {
        mod contract {
            use super::*;

            fn words(number: u64) -> Words {
                Words([number, !number])
            }

            fn drained(ring: &$ring, reader: &mut $reader) -> Vec<u64> {
                let mut got = Vec::new();
                ring.drain(reader, |Words([first, second])| {
                    assert_eq!(second, !first, "a torn record");
                    got.push(first);
                });
                got
            }

            #[test]
            fn what_goes_in_comes_out_in_order_lap_after_lap() {
                for first in [0, 5, u64::MAX - 10] {
                    let (ring, mut reader) = $ring::starting_at(8, first);
                    for lap in 0..10_u64 {
                        let numbers: Vec<u64> = (lap * 5..lap * 5 + 5).collect();
                        assert!(numbers.iter().all(|number| ring.push(words(*number))));
                        assert_eq!(drained(&ring, &mut reader), numbers, "starting at {first}");
                    }
                }
            }

            #[test]
            fn a_full_ring_refuses_and_keeps_what_it_has() {
                let (ring, mut reader) = $ring::starting_at(4, u64::MAX - 2);
                assert!((0..4).all(|number| ring.push(words(number))));
                assert!(!ring.push(words(4)) && !ring.push(words(4)));
                assert_eq!(drained(&ring, &mut reader), [0, 1, 2, 3]);
                assert!(ring.push(words(5)));
                assert_eq!(drained(&ring, &mut reader), [5]);
            }

            #[test]
            fn a_writer_and_a_reader_at_once_lose_and_tear_nothing() {
                let (ring, mut reader) = $ring::starting_at(8, u64::MAX - 100);
                let count = if cfg!(miri) { 500 } else { 100_000 };
                let (mut got, mut torn) = (Vec::new(), 0);
                let full = std::sync::atomic::AtomicBool::new(false);
                std::thread::scope(|scope| {
                    let writer = scope.spawn(|| {
                        for number in 0..count {
                            while !ring.push(words(number)) {
                                full.store(true, std::sync::atomic::Ordering::Relaxed);
                                std::thread::yield_now();
                            }
                        }
                    });
                    // Not before the ring was full once, whichever thread is given its turn first.
                    while !full.load(std::sync::atomic::Ordering::Relaxed) && !writer.is_finished()
                    {
                        std::thread::yield_now();
                    }
                    loop {
                        let over = writer.is_finished();
                        let read = ring.drain(&mut reader, |Words([first, second])| {
                            torn += u64::from(second != !first);
                            got.push(first);
                        });
                        if over && read == 0 {
                            break;
                        }
                        std::thread::yield_now();
                    }
                });
                assert!(full.into_inner(), "the ring was never full");
                assert!(got.into_iter().eq(0..count) && torn == 0, "{torn} torn");
            }
        }
    };
}
#[cfg(all(test, not(loom)))]
pub(super) use ring_contract;
#[cfg(all(test, not(loom)))]
ring_contract!(Ring, Reader);

/// Every interleaving of a small ring, tried out. What `loom` cannot show is the Release by which
/// the reader hands a place back: it does not let a load see a store that has not happened yet.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn drain_whole(ring: &Ring, reader: &mut Reader, read: &mut Vec<u64>) {
        ring.drain(reader, |Words([first, second])| {
            assert_eq!(second, !first, "a torn record");
            read.push(first);
        });
    }

    #[test]
    fn loom_two_writers_and_a_reader_lose_and_tear_nothing() {
        static FULL: AtomicUsize = AtomicUsize::new(0);
        static READ_MEANWHILE: AtomicUsize = AtomicUsize::new(0);
        loom::model(|| {
            // The count wraps within this run.
            let (ring, mut reader) = Ring::starting_at(2, u64::MAX - 1);
            let ring = Arc::new(ring);
            let writers = [[1_u64, 2], [3, 4]].map(|numbers| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    numbers.map(|number| ring.push(Words([number, !number])).then_some(number))
                })
            });
            // `loom` finds the races of an access with the last one before it. So the reader is a
            // thread of its own, begun last: were it first, a writer's own load would hide it.
            let reading = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    let mut read = Vec::new();
                    drain_whole(&ring, &mut reader, &mut read);
                    (reader, read)
                })
            };
            let written: Vec<Option<u64>> =
                writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
            let (mut reader, mut read) = reading.join().unwrap();
            // Four records and two places: who wrote more than two met the reader.
            let refused = written.iter().filter(|number| number.is_none()).count();
            FULL.fetch_add(refused, SeqCst);
            READ_MEANWHILE.fetch_add(2 - refused, SeqCst);
            drain_whole(&ring, &mut reader, &mut read);
            let mut written: Vec<u64> = written.into_iter().flatten().collect();
            written.sort_unstable();
            read.sort_unstable();
            assert_eq!(read, written);
        });
        assert!(FULL.load(SeqCst) > 0, "the ring was never full");
        assert!(READ_MEANWHILE.load(SeqCst) > 0, "the reader never met a writer");
    }
}
