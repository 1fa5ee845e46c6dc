//! The lane: who runs, who waits, and what counts.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage::compare::comparator::{AsyncComparator, Comparator, Exact, Incomparable};
use pilotage::control::pool::WorkerPool;
use pilotage::ids::{Arm, Segment};
use pilotage::model::{self, Call, Model, SyncModel};
use pilotage::outcome::Status;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::executor::{Executor, Job, Rejected};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::serve::shadow_lane::{
    LaneError, LaneOptions, Offer, Offered, ShadowLane, Told, TruthBy,
};
use pilotage::share::TrafficShare;

use crate::{Later, block_on, served};

type Same = fn(&u64) -> Result<u64, Infallible>;
const SAME: Same = |n| Ok(*n);

fn willing() -> Arc<impl Model<Input = u64, Output = u64, Error = Infallible>> {
    Arc::new(model::sync(SAME).shadowable())
}

#[test]
fn no_more_run_at_once_than_the_lane_allows_whatever_the_executor_would() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&now), Arc::clone(&most));
    let slow = model::sync(move |n: &u64| {
        peak.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::park_timeout(Duration::from_millis(2));
        counted.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, Infallible>(*n)
    });
    let pool = WorkerPool::new("many", 8, 100).unwrap();
    let options = LaneOptions { at_once: 2, in_flight: 100, ..LaneOptions::default() };
    let lane = ShadowLane::builder(Arc::new(slow.shadowable()), pool)
        .compare(Exact)
        .options(options)
        .open()
        .unwrap();
    for n in 0..60 {
        assert_eq!(lane.offer(&Request::of(n), || served(n, n)), Offered::Taken);
    }
    while lane.in_flight() > 0 {
        std::thread::yield_now();
    }
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)), "{most:?} at once");
    assert_eq!((lane.counts().run, lane.counts().matches), (60, 60));
    assert_eq!((lane.running(), lane.overdue()), (0, 0));
}

#[test]
fn a_queue_of_zero_sheds_everything_and_says_so() {
    let options = LaneOptions { in_flight: 0, ..LaneOptions::default() };
    let lane =
        ShadowLane::builder(willing(), Later::default()).compare(Exact).options(options).open();
    let lane = lane.unwrap();
    for n in 0..50 {
        let never = || -> Offer<u64, u64> { unreachable!("nothing is described in vain") };
        assert_eq!(lane.offer(&Request::of(n), never), Offered::Shed);
    }
    let counts = lane.counts();
    assert_eq!((counts.sampled, counts.shed, counts.run), (50, 50, 0));
}

#[test]
fn an_executor_that_rejects_or_drops_its_work_costs_counts_and_nothing_else() {
    struct Full;
    impl Executor for Full {
        fn spawn(&self, _: Job) -> Result<(), Rejected> {
            Err(Rejected)
        }
    }
    let lane = ShadowLane::builder(willing(), Full).compare(Exact).open().unwrap();
    for n in 0..10 {
        let offer = || Offer { sample: Some(n), ..served(n, n) };
        assert_eq!(lane.offer(&Request::of(n), offer), Offered::Shed);
        assert_eq!(lane.truth(n, |_| true), Told::Unknown);
    }
    assert_eq!((lane.counts().shed, lane.in_flight()), (10, 0));
}

#[test]
fn the_callers_answer_outlives_a_shadow_that_hangs_panics_or_crawls() {
    let gate = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&gate);
    let bad = model::sync(move |n: &u64| {
        match n % 3 {
            // Without the message, which on a slow machine takes longer than the deadline.
            0 => std::panic::resume_unwind(Box::new("as the test wants it")),
            1 => {
                while !open.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            }
            _ => std::thread::park_timeout(Duration::from_millis(1)),
        }
        Ok::<_, Infallible>(*n)
    });
    let old = model::sync(|n: &u64| Ok::<_, Infallible>(*n));
    let router = Router::builder("r").stable("old", model::BoxModel::new(old)).build().unwrap();
    let options = LaneOptions {
        in_flight: 8,
        deadline: Duration::from_millis(200),
        ..LaneOptions::default()
    };
    let candidate = Arc::new(model::BoxModel::new(bad.shadowable()));
    let lane = ShadowLane::builder(candidate, WorkerPool::new("bad", 2, 8).unwrap())
        .compare(Exact)
        .options(options)
        .open()
        .unwrap();
    for n in 0..500_u64 {
        let answer = block_on(lane.predict(&router, Request::of(n), &Arc::new(n), None)).unwrap();
        assert_eq!((answer.output, answer.arm), (n, Arm::BASELINE));
    }
    let mut waited = 0;
    while lane.overdue() < 2 && waited < 5_000 {
        std::thread::park_timeout(Duration::from_millis(1));
        waited += 1;
    }
    assert_eq!(lane.overdue(), 2, "both threads hang, and it shows");
    gate.store(true, Ordering::Release);
    while lane.in_flight() > 0 {
        std::thread::yield_now();
    }
    let counts = lane.counts();
    assert_eq!(counts.sampled, 500);
    assert_eq!(counts.run + counts.shed + counts.skipped, 500, "{counts:?}");
    assert_eq!(counts.candidate.finished(), counts.run);
    let ended = [Status::Timeout, Status::Panicked].map(|status| counts.candidate.of(status));
    assert!(ended[0] >= 2 && ended[1] > 0, "{ended:?}");
}

#[test]
fn inputs_go_by_a_copy_where_they_are_behind_no_arc_and_large_ones_not_at_all() {
    let copies = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&copies);
    let length = |text: &str| Ok::<_, Infallible>(text.len());
    let router = Router::builder("r").stable("old", model::sync(length)).build().unwrap();
    let jobs = Later::default();
    let lane = ShadowLane::builder(Arc::new(model::sync(length).shadowable()), jobs.clone())
        .compare(Exact)
        .size(str::len)
        .copy(move |text| {
            counted.fetch_add(1, Ordering::Relaxed);
            assert_ne!(text, "panic", "as the test wants it");
            (text != "secret").then(|| text.into())
        })
        .options(LaneOptions { input_bytes: 10, ..LaneOptions::default() })
        .open()
        .unwrap();
    for text in ["short", "much too long for the lane", "secret", "panic"] {
        let answer = block_on(lane.predict_copied(&router, Request::of(text), text, None));
        assert_eq!(answer.unwrap().output, text.len());
    }
    jobs.run();
    let counts = lane.counts();
    assert_eq!((counts.run, counts.too_large, counts.not_shadowable), (1, 1, 2));
    assert_eq!((counts.sampled, counts.skipped), (4, 3));
    assert_eq!(copies.load(Ordering::Relaxed), 3, "what is too large is not copied first");
}

/// A model whose willingness and deeds can be watched.
#[derive(Default)]
struct Watched {
    unwilling: AtomicBool,
    written: Mutex<Vec<u64>>,
}

impl SyncModel for Watched {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn predict_sync(&self, n: &u64, call: &Call) -> Result<u64, Infallible> {
        if !call.is_shadow() {
            self.written.lock().push(*n);
        }
        Ok(*n)
    }

    fn shadowable(&self) -> bool {
        !self.unwilling.load(Ordering::Relaxed)
    }
}

#[test]
fn a_model_is_told_that_it_is_a_shadow_and_may_change_its_mind() {
    let candidate = Arc::new(Watched::default());
    let jobs = Later::default();
    let lane =
        ShadowLane::builder(Arc::clone(&candidate), jobs.clone()).compare(Exact).open().unwrap();
    lane.offer(&Request::of(1), || served(1, 1));
    jobs.run();
    assert!(candidate.written.lock().is_empty(), "a shadow that minds its purpose writes nothing");
    lane.offer(&Request::of(2), || served(2, 2));
    candidate.unwilling.store(true, Ordering::Relaxed);
    jobs.run();
    assert_eq!((lane.counts().run, lane.counts().not_shadowable), (1, 1));
    let again = ShadowLane::builder(Arc::clone(&candidate), Later::default()).compare(Exact).open();
    assert_eq!(again.unwrap_err(), LaneError::NotShadowable);
}

/// The library cannot see what a model does to what it shares. This shows what then happens, as the
/// documentation says: the serving model meets the change.
#[test]
fn a_shadow_that_changes_shared_state_changes_it() {
    let shared = Arc::new(AtomicU64::new(0));
    let (theirs, ours) = (Arc::clone(&shared), Arc::clone(&shared));
    let rude =
        model::sync(move |_: &u64| Ok::<_, Infallible>(theirs.fetch_add(1, Ordering::SeqCst)));
    let jobs = Later::default();
    let lane = ShadowLane::builder(Arc::new(rude.shadowable()), jobs.clone()).compare(Exact).open();
    lane.unwrap().offer(&Request::of(1), || served(1, 1));
    jobs.run();
    assert_eq!(ours.load(Ordering::SeqCst), 1);
}

#[test]
fn a_comparator_that_lies_panics_or_hangs_is_counted_and_compares_nothing() {
    struct Odd;
    impl AsyncComparator<u64> for Odd {
        async fn compare(&self, a: &u64, _: &u64) -> Result<f64, Incomparable> {
            match a {
                0 => Ok(f64::NAN),
                1 => Ok(1.5),
                2 => Ok(-0.1),
                3 => panic!("as the test wants it"),
                4 => std::future::pending().await,
                5 => Err(Incomparable::Kinds),
                _ => Ok(1.0),
            }
        }
    }
    let options = LaneOptions { deadline: Duration::from_millis(5), ..LaneOptions::default() };
    let jobs = Later::default();
    let lane = ShadowLane::builder(willing(), jobs.clone())
        .compare_async(Odd)
        .options(options)
        .open()
        .unwrap();
    (0..8).for_each(|n| {
        lane.offer(&Request::of(n), || served(n, n));
    });
    jobs.run();
    let counts = lane.counts();
    assert_eq!((counts.run, counts.pairs, counts.matches, counts.uncomparable), (8, 2, 2, 6));
    assert_eq!((counts.similarity.count, counts.similarity.rejected), (2, 0));

    struct Panics;
    impl Comparator<u64> for Panics {
        fn compare(&self, _: &u64, _: &u64) -> Result<f64, Incomparable> {
            panic!("as the test wants it")
        }
    }
    let lane = ShadowLane::builder(willing(), jobs.clone()).compare(Panics).open().unwrap();
    lane.offer(&Request::of(1), || served(1, 1));
    jobs.run();
    assert_eq!((lane.counts().pairs, lane.counts().uncomparable), (0, 1));
    let none = ShadowLane::builder(willing(), jobs.clone()).open().unwrap();
    none.offer(&Request::of(1), || served(1, 1));
    jobs.run();
    assert_eq!(none.counts().uncomparable, 1, "no comparator compares nothing");
}

#[test]
fn a_sample_is_evidence_once_and_its_calls_count_each_time() {
    let jobs = Later::default();
    let lane = ShadowLane::builder(willing(), jobs.clone()).compare(Exact).open().unwrap();
    for _ in 0..5 {
        lane.offer(&Request::of("u"), || Offer { sample: Some(7), ..served(7, 7) });
        lane.offer(&Request::of("u"), || Offer { sample: None, ..served(7, 7) });
    }
    jobs.run();
    let counts = lane.counts();
    assert_eq!((counts.run, counts.pairs, counts.repeated), (10, 6, 4));
    assert_eq!((counts.answered.total(), counts.timed), (6, 6));
    assert_eq!(counts.candidate.finished(), 10);
}

#[test]
fn every_pair_is_in_its_segment_and_the_segments_add_up() {
    let jobs = Later::default();
    let router = Router::builder("r")
        .stable("old", model::sync(SAME))
        .segments(["free", "paid"])
        .build()
        .unwrap();
    let doubled: Same = |n| Ok(if n % 2 == 0 { *n } else { n + 1 });
    let lane = ShadowLane::builder(Arc::new(model::sync(doubled).shadowable()), jobs.clone())
        .compare(Exact)
        .options(LaneOptions { in_flight: 1_000, truth: TruthBy::Ticket, ..LaneOptions::default() })
        .open()
        .unwrap();
    let mut tickets = Vec::new();
    for n in 0..300_u64 {
        let request = match n % 3 {
            0 => Request::of(n).segment("free"),
            1 => Request::of(n).segment("paid"),
            _ => Request::of(n).segment("unheard of"),
        };
        tickets.push(lane.predict_sync(&router, request, &Arc::new(n), None).unwrap().ticket);
    }
    jobs.run();
    for (n, ticket) in (0..).zip(tickets) {
        assert_eq!(lane.truth_of(ticket, move |answer| *answer == n), Told::Counted);
        assert_eq!(lane.truth_of(ticket, move |answer| *answer == n), Told::Before);
    }
    let counts = lane.counts();
    let of = |number| counts.segment(Segment::new(number)).copied().unwrap();
    for (segment, pairs) in [(1, 100), (2, 100), (255, 100)] {
        let seen = of(segment);
        assert_eq!((seen.pairs, seen.matches, seen.truth.only_baseline), (pairs, 50, 50));
    }
    assert_eq!((counts.pairs, counts.matches, counts.truth.total()), (300, 150, 300));
    assert!(lane.clusters().filled() > 200);
}

#[test]
fn an_error_is_the_baselines_only_where_no_other_could_have_made_it() {
    let fails = |_: &u64| Err::<u64, String>("down".into());
    let router = Router::builder("r").stable("old", model::sync(fails)).build().unwrap();
    let jobs = Later::default();
    let candidate = Arc::new(model::sync(fails).shadowable());
    let lane = ShadowLane::builder(candidate, jobs.clone()).compare(Exact).open().unwrap();
    assert!(lane.predict_sync(&router, Request::of(1), &Arc::new(1), None).is_err());
    jobs.run();
    assert_eq!((lane.counts().answered.both_wrong, lane.counts().pairs), (1, 0));
    router.deploy("new", model::sync(fails)).unwrap();
    router.switch().shift(&router.split().shifted(TrafficShare::HALF)).unwrap();
    (0..50).for_each(|n| {
        assert!(lane.predict_sync(&router, Request::of(n), &Arc::new(n), None).is_err());
    });
    assert_eq!(lane.counts().sampled, 1);
}

#[test]
fn a_pause_and_a_stop_take_effect_at_once() {
    let jobs = Later::default();
    let lane = ShadowLane::builder(willing(), jobs.clone()).compare(Exact).open().unwrap();
    let router = Router::builder("r").stable("old", model::sync(SAME)).build().unwrap();
    let router = router; // the lane's model is of another type: offers are made by hand
    let ask = |n: u64| {
        assert_eq!(router.predict_sync(&Request::of(n), &n).unwrap().output, n);
        lane.offer(&Request::of(n), || served(n, n))
    };
    assert_eq!(ask(1), Offered::Taken);
    lane.pause();
    assert_eq!(ask(2), Offered::Skipped);
    jobs.run();
    lane.resume();
    assert_eq!(ask(3), Offered::Taken);
    jobs.run();
    lane.stop();
    assert_eq!(ask(4), Offered::Skipped);
    let counts = lane.counts();
    assert_eq!((counts.run, counts.paused, counts.sampled), (1, 2, 3));
}

#[test]
fn truths_and_offers_from_many_threads_lose_no_count() {
    let (done, finished) = channel();
    let pool = WorkerPool::new("busy", 2, 100_000).unwrap();
    let options = LaneOptions { in_flight: 100_000, samples: 100_000, ..LaneOptions::default() };
    let lane = ShadowLane::builder(willing(), pool).compare(Exact).options(options).open().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (lane, done) = (lane.clone(), done.clone());
            scope.spawn(move || {
                for n in 0..2_000 {
                    let key = thread * 2_000 + n;
                    lane.offer(&Request::of(key), || Offer {
                        sample: Some(key),
                        ..served(key, key)
                    });
                    let _ = lane.truth(key, |_| true);
                }
                done.send(()).unwrap();
            });
        }
    });
    assert_eq!(finished.try_iter().count(), 4);
    while lane.in_flight() > 0 {
        std::thread::yield_now();
    }
    let counts = lane.counts();
    assert_eq!((counts.sampled, counts.run, counts.pairs), (8_000, 8_000, 8_000));
    assert_eq!(counts.truth.both_right + lane.untracked(), 8_000);
}
