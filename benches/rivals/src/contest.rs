//! Batches, fairly.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

/// Calls in a batch.
pub const BATCH: u64 = 256;

/// Something to be timed.
pub struct Contestant {
    pub name: &'static str,
    /// One call; the number is its own.
    pub call: Box<dyn Fn(u64) + Sync>,
    /// What must happen between batches and is not part of the price.
    pub between: Box<dyn Fn() + Sync>,
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
    began: Instant,
    ended: Instant,
    undisturbed: bool,
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn batch(contestant: &Contestant, first: u64) -> Batch {
    let before = switches();
    let began = Instant::now();
    for at in first..first + BATCH {
        (contestant.call)(at);
    }
    let ended = Instant::now();
    Batch { began, ended, undisturbed: before.is_some() && before == switches() }
}

/// How often this thread was put aside so far.
fn switches() -> Option<(i64, i64)> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
    Some((usage.involuntary_context_switches(), usage.voluntary_context_switches()))
}

fn per_call(batch: &Batch) -> f64 {
    batch.ended.duration_since(batch.began).as_nanos() as f64 / BATCH as f64
}

/// Every contestant on one thread.
pub fn alone(contestants: &[Contestant], rounds: usize) -> BTreeMap<&'static str, Times> {
    let mut table: BTreeMap<&'static str, Times> = BTreeMap::new();
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let contestant = &contestants[(turn + round) % contestants.len()];
            let batch = batch(contestant, round as u64 * BATCH);
            (contestant.between)();
            let times = table.entry(contestant.name).or_default();
            if batch.undisturbed && round > 10 {
                times.nanos.push(per_call(&batch));
            } else if !batch.undisturbed {
                times.dropped += 1;
            }
        }
    }
    table
}

/// Every contestant on two threads at once, each on a core of its own.
pub fn together(contestants: &[Contestant], rounds: usize) -> BTreeMap<&'static str, Times> {
    let line = StartLine::default();
    let line = &line;
    let run = |core: usize| {
        pin(core);
        let mut batches = Vec::with_capacity(rounds * contestants.len());
        let mut meetings = 0;
        let mut meet = || {
            meetings += 1;
            line.meet(meetings);
        };
        for round in 0..rounds {
            for turn in 0..contestants.len() {
                let contestant = &contestants[(turn + round) % contestants.len()];
                meet();
                let first = (round as u64 * 2 + core as u64) * BATCH;
                // A few calls first, so that both are at it when the clock starts.
                (0..16).for_each(|at| (contestant.call)(first + at));
                let batch = batch(contestant, first);
                meet();
                if core == 0 {
                    (contestant.between)();
                }
                batches.push((contestant.name, batch));
            }
        }
        batches
    };
    let mut table: BTreeMap<&'static str, Times> = BTreeMap::new();
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("one processor only: nothing to say about two threads");
        return table;
    }
    if !(pin(1) && pin(0)) {
        println!("threads cannot be pinned here: nothing to say about two threads");
        return table;
    }
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        (run(0), other.join().unwrap_or_default())
    });
    for ((name, one), (_, two)) in first.iter().zip(&second) {
        let times = table.entry(name).or_default();
        let shared = one.ended.min(two.ended).saturating_duration_since(one.began.max(two.began));
        let longer = one.ended.duration_since(one.began).max(two.ended.duration_since(two.began));
        let overlapped = shared.as_secs_f64() > 0.6 * longer.as_secs_f64();
        if one.undisturbed && two.undisturbed && overlapped {
            times.nanos.push((per_call(one) + per_call(two)) / 2.0);
        } else {
            times.dropped += 1;
        }
    }
    table
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
