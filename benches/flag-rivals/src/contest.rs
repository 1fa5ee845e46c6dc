//! Batches, fairly.
//!
//! The engines differ by a factor of a hundred, so a batch is as many calls as last about 0.3
//! milliseconds. Before each the engine is asked about its visitors once, untimed: what is compared
//! is a busy server's flag, not who was put out of the cache by the engine before. A batch in which
//! the thread was put aside is dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

/// Something to be timed.
pub struct Contestant {
    pub name: &'static str,
    /// One call; the number is its own.
    pub call: Box<dyn Fn(u64) + Sync>,
}

/// Nanoseconds a call, batch by batch.
#[derive(Default)]
pub struct Times {
    nanos: Vec<f64>,
    pub dropped: usize,
}

impl Times {
    pub fn median(&self) -> Option<f64> {
        let mut nanos = self.nanos.clone();
        nanos.sort_unstable_by(f64::total_cmp);
        nanos.get(nanos.len() / 2).copied()
    }

    pub fn kept(&self) -> usize {
        self.nanos.len()
    }
}

/// One batch: when it began and ended, and whether the thread kept its core meanwhile.
struct Batch {
    calls: u64,
    began: Instant,
    ended: Instant,
    undisturbed: bool,
}

impl Batch {
    fn per_call(&self) -> f64 {
        self.ended.duration_since(self.began).as_nanos() as f64 / self.calls as f64
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn batch(contestant: &Contestant, calls: u64) -> Batch {
    (0..calls.min(WARM)).for_each(|at| (contestant.call)(at));
    let before = switches();
    let began = Instant::now();
    (0..calls).for_each(|at| (contestant.call)(at));
    let ended = Instant::now();
    Batch { calls, began, ended, undisturbed: before.is_some() && before == switches() }
}

/// How often this thread was put aside so far.
fn switches() -> Option<(i64, i64)> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
    Some((usage.involuntary_context_switches(), usage.voluntary_context_switches()))
}

/// How many calls of each contestant last about 0.3 milliseconds.
pub fn sizes(contestants: &[Contestant]) -> Vec<u64> {
    let quickest = |contestant| {
        let tries = (0..9).map(|_| batch(contestant, WARM).per_call());
        tries.fold(f64::INFINITY, f64::min).max(1.0)
    };
    contestants.iter().map(|one| ((3e5 / quickest(one)) as u64).max(64)).collect()
}

/// Every contestant on one thread.
pub fn alone(
    contestants: &[Contestant],
    sizes: &[u64],
    rounds: usize,
) -> BTreeMap<&'static str, Times> {
    let mut table: BTreeMap<&'static str, Times> = BTreeMap::new();
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let at = (turn + round) % contestants.len();
            let batch = batch(&contestants[at], sizes[at]);
            let times = table.entry(contestants[at].name).or_default();
            if batch.undisturbed {
                times.nanos.push(batch.per_call());
            } else {
                times.dropped += 1;
            }
        }
    }
    table
}

/// Every contestant on one pinned thread and then on two at once, each on a core of its own: what
/// else the machine does meets both alike.
pub fn one_and_two(
    contestants: &[Contestant],
    sizes: &[u64],
    rounds: usize,
) -> [BTreeMap<&'static str, Times>; 2] {
    let line = StartLine::default();
    let run = |core: usize| {
        pin(core);
        let mut batches = Vec::new();
        let mut meetings = 0;
        let mut meet = || {
            meetings += 1;
            line.meet(meetings);
        };
        for round in 0..rounds {
            for turn in 0..contestants.len() {
                let at = (turn + round) % contestants.len();
                let contestant = &contestants[at];
                let first = (core == 0).then(|| batch(contestant, sizes[at]));
                meet();
                batches.push((contestant.name, first, batch(contestant, sizes[at])));
                meet();
            }
        }
        batches
    };
    let mut tables: [BTreeMap<&'static str, Times>; 2] = Default::default();
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("one processor only: nothing to say about two threads");
        return tables;
    }
    if !(pin(1) && pin(0)) {
        println!("threads cannot be pinned here: nothing to say about two threads");
        return tables;
    }
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        (run(0), other.join().unwrap_or_default())
    });
    for ((name, alone, one), (_, _, two)) in first.iter().zip(&second) {
        let times = tables[0].entry(name).or_default();
        match alone {
            Some(alone) if alone.undisturbed => times.nanos.push(alone.per_call()),
            _ => times.dropped += 1,
        }
        let times = tables[1].entry(name).or_default();
        let shared = one.ended.min(two.ended).saturating_duration_since(one.began.max(two.began));
        let longer = one.ended.duration_since(one.began).max(two.ended.duration_since(two.began));
        let overlapped = shared.as_secs_f64() > 0.6 * longer.as_secs_f64();
        if one.undisturbed && two.undisturbed && overlapped {
            times.nanos.push((one.per_call() + two.per_call()) / 2.0);
        } else {
            times.dropped += 1;
        }
    }
    tables
}

/// Where two threads wait for each other awake: a thread that is put to sleep wakes up after a
/// batch of the other is over.
#[derive(Default)]
struct StartLine(AtomicUsize);

impl StartLine {
    /// Waits for the other thread's meeting of this number, from 1.
    fn meet(&self, number: usize) {
        self.0.fetch_add(1, Ordering::AcqRel);
        let mut turns = 0_u32;
        while self.0.load(Ordering::Acquire) < 2 * number {
            turns += 1;
            // On one core the other would never come.
            if turns.is_multiple_of(100_000) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

fn pin(core: usize) -> bool {
    let mut cores = CpuSet::new();
    cores.set(core).is_ok() && sched_setaffinity(Pid::from_raw(0), &cores).is_ok()
}

/// The most calls before a batch: as many as there are visitors.
const WARM: u64 = 1024;
