//! Work that is spread over threads and comes back in its order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What `work` makes of each number below `jobs`.
pub fn each<T: Send>(jobs: u64, threads: usize, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let done: Mutex<Vec<(u64, T)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    if job >= jobs {
                        return;
                    }
                    let made = work(job);
                    done.lock().expect("no worker panics").push((job, made));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panics");
    done.sort_by_key(|(job, _)| *job);
    done.into_iter().map(|(_, made)| made).collect()
}

/// Processor time of this process so far, in seconds; 0 where the system does not tell.
pub fn cpu_seconds() -> f64 {
    let Ok(told) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    // After the name in brackets; 14th and 15th field in all, in hundredths of a second.
    let rest = told.rsplit(')').next().unwrap_or_default();
    let ticks = rest.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
