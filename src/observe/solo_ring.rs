//! A bounded queue of records that one thread writes and one reads.
//!
//! The writer knows how far it may go before it must look at the reader again, so that a record
//! costs two words, a count and no locked instruction; the reader takes all there is by one look
//! and hands it back by one store. Where several threads write, [`Ring`](super::ring::Ring) does
//! it, at the price of a stamp a record.
//!
//! No `unsafe`: the words are atomics. Who lets two threads write at once loses records, and no
//! more than records.
//!
//! Source: L. Lamport's queue of one producer and one consumer, with the producer's view of the
//! consumer kept back, as several later ones have it.

use crossbeam_utils::CachePadded;

use crate::observe::record::Words;
use crate::sync::{AtomicU64, Ordering};

/// A bounded queue with one writer and one reader.
#[derive(Debug)]
pub struct SoloRing {
    /// How many records were written, ever.
    written: AtomicU64,
    /// Up to which count the writer may write without asking. Only the writer looks at it.
    limit: AtomicU64,
    places: Box<[Place]>,
    mask: usize,
    /// How many records were read, ever. The reader's line: the writer looks once a lap.
    read: CachePadded<AtomicU64>,
}

/// Where the one reader of a ring stands. A ring is only ever read with the reader made for it.
#[derive(Debug)]
pub struct SoloReader {
    read: u64,
}

type Place = [AtomicU64; 2];

impl SoloRing {
    /// A ring of `capacity` places, rounded up to a power of two, and its reader.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, SoloReader) {
        Self::starting_at(capacity, 0)
    }

    /// A ring whose count of records begins at `first`, to try what happens where it wraps.
    #[must_use]
    pub fn starting_at(capacity: usize, first: u64) -> (Self, SoloReader) {
        let capacity = capacity.clamp(2, 1 << 20).next_power_of_two();
        let ring = Self {
            written: AtomicU64::new(first),
            limit: AtomicU64::new(first.wrapping_add(capacity as u64)),
            places: (0..capacity).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect(),
            mask: capacity - 1,
            read: CachePadded::new(AtomicU64::new(first)),
        };
        (ring, SoloReader { read: first })
    }

    /// Writes a record, or says `false` when the ring is full. Never waits.
    #[inline]
    #[must_use]
    pub fn push(&self, words: Words) -> bool {
        let at = self.written.load(Ordering::Relaxed);
        if at == self.limit.load(Ordering::Relaxed) && !self.renew_limit(at) {
            return false;
        }
        let Some(place) = self.place(at) else { return false };
        place[0].store(words.0[0], Ordering::Relaxed);
        place[1].store(words.0[1], Ordering::Relaxed);
        // Pairs with the reader's Acquire: who sees the count sees the words.
        self.written.store(at.wrapping_add(1), SOLO_WRITTEN);
        true
    }

    /// Looks how far the reader has come; `false` when the ring is full.
    #[cold]
    #[inline(never)]
    fn renew_limit(&self, at: u64) -> bool {
        // Pairs with the reader's Release: what it handed back, it has read.
        let read = self.read.load(Ordering::Acquire);
        let limit = read.wrapping_add(self.places.len() as u64);
        self.limit.store(limit, Ordering::Relaxed);
        at != limit
    }

    #[inline]
    fn place(&self, at: u64) -> Option<&Place> {
        // Always there: the number of places is a power of two.
        self.places.get(at as usize & self.mask)
    }

    /// Hands the records to `take`, oldest first, and says how many there were.
    pub fn drain(&self, reader: &mut SoloReader, mut take: impl FnMut(Words)) -> usize {
        let written = self.written.load(SOLO_READ);
        let mut taken = 0;
        // One lap at most, whatever a writer that broke the rules has made of the count.
        while reader.read != written && taken < self.places.len() {
            if let Some(place) = self.place(reader.read) {
                let words = [place[0].load(Ordering::Relaxed), place[1].load(Ordering::Relaxed)];
                take(Words(words));
            }
            reader.read = reader.read.wrapping_add(1);
            taken += 1;
        }
        // Pairs with the writer's Acquire: it may overwrite only after we have read.
        self.read.store(reader.read, Ordering::Release);
        taken
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.places)
    }
}

// The orderings that matter have names, so that `scripts/mutants.sh` can weaken them one by one
// and show that a test notices.
const SOLO_WRITTEN: Ordering =
    if cfg!(pilotage_mutant = "solo_written") { Ordering::Relaxed } else { Ordering::Release };
const SOLO_READ: Ordering =
    if cfg!(pilotage_mutant = "solo_read") { Ordering::Relaxed } else { Ordering::Acquire };

#[cfg(all(test, not(loom)))]
crate::observe::ring::ring_contract!(SoloRing, SoloReader);

/// Every interleaving of a small ring, tried out. What `loom` cannot show is the Release by which
/// the reader hands places back: it does not let a load see a store that has not happened yet.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn loom_a_writer_alone_and_a_reader_lose_and_tear_nothing() {
        static FULL: AtomicUsize = AtomicUsize::new(0);
        static RENEWED: AtomicUsize = AtomicUsize::new(0);
        static READ_MEANWHILE: AtomicUsize = AtomicUsize::new(0);
        loom::model(|| {
            // The count wraps within this run.
            let (ring, mut reader) = SoloRing::starting_at(2, u64::MAX - 1);
            let ring = Arc::new(ring);
            let writer = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    [1_u64, 2, 3, 4]
                        .map(|number| ring.push(Words([number, !number])).then_some(number))
                })
            };
            let reading = {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    let mut read = Vec::new();
                    let mut take = |Words([first, second]): Words| {
                        assert_eq!(second, !first, "a torn record");
                        read.push(first);
                    };
                    let first = ring.drain(&mut reader, &mut take);
                    ring.drain(&mut reader, &mut take);
                    (reader, read, first)
                })
            };
            let written: Vec<u64> = writer.join().unwrap().into_iter().flatten().collect();
            let (mut reader, mut read, first) = reading.join().unwrap();
            FULL.fetch_add(4 - written.len(), SeqCst);
            RENEWED.fetch_add(usize::from(written.len() > 2), SeqCst);
            READ_MEANWHILE.fetch_add(first, SeqCst);
            ring.drain(&mut reader, |Words([first, second])| {
                assert_eq!(second, !first, "a torn record");
                read.push(first);
            });
            assert_eq!(read, written);
        });
        assert!(FULL.load(SeqCst) > 0, "the ring was never full");
        assert!(RENEWED.load(SeqCst) > 0, "the writer never got places back");
        assert!(READ_MEANWHILE.load(SeqCst) > 0, "the reader never met the writer");
    }
}
