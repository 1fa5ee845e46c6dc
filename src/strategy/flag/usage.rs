//! How often a flag was asked, counted without a shared cache line.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use serde::{Deserialize, Serialize};

/// How often a flag was asked since this process started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Answers with the off variant.
    pub off: u64,
    /// Answers with any other variant.
    pub on: u64,
    /// Answers after the flag was archived or removed: callers that are still there.
    pub late: u64,
}

impl Usage {
    /// All answers.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.off.saturating_add(self.on).saturating_add(self.late)
    }
}

/// Which of a flag's counters.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answered {
    Off = 0,
    On = 1,
    Late = 2,
}

/// The counters of 32 flags: a row of 1 KB for each shard, so that a thread's increments stay in
/// lines of its own. With 8 shards that is 256 bytes a flag.
#[derive(Debug)]
struct Chunk {
    shards: Box<[CachePadded<[[AtomicU64; 4]; FLAGS]>]>,
}

/// Where one flag counts.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    chunk: Arc<Chunk>,
    at: usize,
}

impl Counter {
    #[inline]
    pub(super) fn count(&self, answered: Answered) {
        let shards = &self.chunk.shards;
        let shard = THREAD.with(|thread| {
            let mine = thread.get();
            if mine == usize::MAX { enrol(thread) } else { mine }
        });
        // The number of shards is a power of two.
        let shard = &shards[shard & (shards.len() - 1)];
        shard[self.at % FLAGS][answered as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Usage {
        let sum = |which: Answered| {
            self.chunk.shards.iter().fold(0_u64, |sum, shard| {
                sum.wrapping_add(shard[self.at % FLAGS][which as usize].load(Ordering::Relaxed))
            })
        };
        Usage { off: sum(Answered::Off), on: sum(Answered::On), late: sum(Answered::Late) }
    }
}

/// Hands out counters.
#[derive(Debug)]
pub(super) struct Counters {
    shards: usize,
    current: Arc<Chunk>,
    used: usize,
}

impl Counters {
    pub(super) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(4, std::num::NonZero::get);
        let shards = threads.next_power_of_two().clamp(2, MOST_SHARDS);
        Self { shards, current: Arc::new(Chunk::new(shards)), used: 0 }
    }

    pub(super) fn next(&mut self) -> Counter {
        if self.used == FLAGS {
            self.current = Arc::new(Chunk::new(self.shards));
            self.used = 0;
        }
        self.used += 1;
        Counter { chunk: Arc::clone(&self.current), at: self.used - 1 }
    }
}

impl Chunk {
    fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| CachePadded::default()).collect() }
    }
}

/// A thread's shard, taken in turn at its first count. Nothing is cleaned up when it ends: the
/// counts stay, and the number comes round again.
#[cold]
fn enrol(thread: &Cell<usize>) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mine = NEXT.fetch_add(1, Ordering::Relaxed) & (MOST_SHARDS - 1);
    thread.set(mine);
    mine
}

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

const FLAGS: usize = 32;
const MOST_SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_ended_threads_are_kept() {
        let mut counters = Counters::new();
        let (first, second) = (counters.next(), counters.next());
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..100).for_each(|_| first.count(Answered::On)));
            }
        });
        assert_eq!(first.read(), Usage { on: 4000, off: 0, late: 0 });
        assert_eq!(second.read(), Usage::default());
    }

    #[test]
    fn every_flag_of_many_has_counters_of_its_own() {
        let mut counters = Counters::new();
        let all: Vec<Counter> = (0..100).map(|_| counters.next()).collect();
        all[40].count(Answered::Late);
        for (at, counter) in all.iter().enumerate() {
            assert_eq!(counter.read().late, u64::from(at == 40));
        }
    }
}
