//! Everything at once, for long: panics, cancellations, threads that end, stages that change.
//!
//! Alone in its program, because it watches the program's memory. Short by default. The long one is
//! `PILOTAGE_SOAK=100000000 cargo test --release --test soak -- --nocapture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use pilotage::ids::Arm;
use pilotage::model::{Call, SyncModel};
use pilotage::outcome::Outcome;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::builder::Fallback;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

/// Answers, fails or panics by its input. A model that says it was dropped must not be called.
struct Moody {
    dropped: Arc<AtomicBool>,
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

impl SyncModel for Moody {
    type Input = u64;
    type Output = u64;
    type Error = u64;

    fn predict_sync(&self, input: &u64, call: &Call) -> Result<u64, u64> {
        assert!(!self.dropped.load(Ordering::SeqCst), "called after it was dropped");
        match input % 1_000 {
            // resume_unwind is a panic without its message, which nobody could read here.
            0 if call.arm == Arm::CANDIDATE => std::panic::resume_unwind(Box::new("moody")),
            1..=9 => Err(*input),
            _ => Ok(*input),
        }
    }
}

fn moody() -> Moody {
    Moody { dropped: Arc::default() }
}

/// Bytes this process holds in memory, where the system says so.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4_096)
}

#[test]
fn a_soak_loses_no_call_and_holds_its_memory() {
    let requests: u64 =
        std::env::var("PILOTAGE_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(300_000);
    let router =
        Router::builder("soak").fallback(Fallback::OnPanic).stable("old", moody()).build().unwrap();
    let (begun, given_up, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let threads = thread::available_parallelism().map_or(2, usize::from).max(2);
    let half_way = AtomicU64::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    // Each round is a thread of its own, so that threads come and go.
                    while begun.load(Ordering::Relaxed) < requests {
                        thread::scope(|inner| {
                            inner.spawn(|| {
                                for _ in 0..10_000 {
                                    let at = begun.fetch_add(1, Ordering::Relaxed);
                                    if at % 500 == 250 {
                                        given_up.fetch_add(1, Ordering::Relaxed);
                                        drop(router.begin(&Request::of(at)));
                                        continue;
                                    }
                                    match router.predict_sync(&Request::of(at), &at) {
                                        Ok(answer) => assert_eq!(answer.output, at),
                                        Err(error) => assert_eq!(error, at),
                                    }
                                }
                            });
                        });
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut step = 0_u64;
            while !over.load(Ordering::Acquire) {
                step += 1;
                router.drain();
                let split = router.split();
                let order = match step % 6 {
                    0 => split.promoted(),
                    1 => split.rolled_back(),
                    more => split.shifted(TrafficShare::from_ppm(more as u32 * 150_000).unwrap()),
                };
                if router.model(Arm::CANDIDATE).is_none() {
                    let _ = router.deploy("next", moody());
                } else if step % 6 == 2 {
                    let _ = router.retire_idle();
                } else if step % 3 == 0 || order.candidate == TrafficShare::NONE {
                    let _ = router.switch().shift(&order);
                } else {
                    let _ = router.switch().shift(&split.shifted(TrafficShare::HALF));
                }
                if half_way.load(Ordering::Relaxed) == 0
                    && begun.load(Ordering::Relaxed) > requests / 2
                {
                    half_way.store(resident().unwrap_or(0), Ordering::Relaxed);
                }
                thread::yield_now();
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        over.store(true, Ordering::Release);
    });
    let totals = router.totals();
    let begun = begun.load(Ordering::Relaxed);
    assert_eq!(totals.iter().map(|arm| arm.started).sum::<u64>(), begun);
    for arm in &totals {
        assert_eq!(arm.in_flight(), 0);
        assert_eq!(arm.started, arm.finished());
    }
    let of = |status: usize| totals.iter().map(|arm| arm.ended[status]).sum::<u64>();
    assert_eq!(of(3), given_up.load(Ordering::Relaxed));
    assert!(of(4) > 0, "nothing ever panicked");
    router.begin(&Request::of("after all that")).finish(Outcome::ok());
    assert_eq!(router.totals().iter().map(|arm| arm.started).sum::<u64>(), begun + 1);
    let (half_way, end) = (half_way.load(Ordering::Relaxed), resident().unwrap_or(0));
    let grown = end.saturating_sub(half_way);
    // The allocator keeps what threads that ended had; windows are bounded.
    assert!(half_way == 0 || grown < 16 << 20, "memory grew by {grown} bytes to {end}");
    let spilled: u64 = totals.iter().map(|arm| arm.detail_lost).sum();
    println!(
        "{begun} requests, {end} bytes resident, {grown} more than half way, {spilled} spilled"
    );
}
