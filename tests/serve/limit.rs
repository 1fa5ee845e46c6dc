//! A candidate that hangs or is slow holds no more than its part of what serves everybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use pilotage::clock::{Clock, ManualClock};
use pilotage::ids::Arm;
use pilotage::model::{Call, SyncModel};
use pilotage::observe::recorder::Size;
use pilotage::observe::snapshot::Snapshot;
use pilotage::outcome::{Outcome, Status};
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::builder::{BuildError, Fallback};
use pilotage::serve::limit::CandidateLimit;
use pilotage::serve::request::Request;
use pilotage::serve::router::{Counted, Retired, Router};
use pilotage::share::TrafficShare;
use pilotage::stream_model;

use crate::{Do, Failed, Told, begin_and_leave, block_on, ended, shift};

fn percent(percent: f64) -> TrafficShare {
    TrafficShare::percent(percent).unwrap()
}

/// A router of names, whose candidate has this limit, with half of the traffic on it.
fn names(limit: CandidateLimit) -> Router<&'static str> {
    let router = Router::builder("names").candidate_limit(limit).stable("old", "old");
    let router = router.build().unwrap();
    router.deploy("new", "new").unwrap();
    shift(&router, TrafficShare::HALF);
    router
}

/// A subject that is on the candidate now.
fn on_candidate<M, C: Clock>(router: &Router<M, C>) -> u64 {
    (0..).find(|id| router.arm_of(&Request::of(*id)) == Arm::CANDIDATE).unwrap()
}

/// Whether the next call of the candidate is answered by its own model.
fn has_room<C: Clock, M>(router: &Router<M, C>) -> bool {
    let guard = router.begin(&Request::of(on_candidate(router)));
    assert_eq!(guard.arm(), Arm::CANDIDATE);
    let has_room = !guard.diverted();
    guard.finish(Outcome::ok());
    has_room
}

/// Hangs as the candidate until it is told to go on.
#[derive(Default)]
struct Hangs {
    goes_on: Mutex<bool>,
    told: Condvar,
}

impl Hangs {
    fn go_on(&self) {
        *self.goes_on.lock().unwrap() = true;
        self.told.notify_all();
    }
}

struct Worker<'h>(&'h Hangs);

impl SyncModel for Worker<'_> {
    type Input = ();
    type Output = Arm;
    type Error = Failed;

    fn predict_sync(&self, (): &(), call: &Call) -> Result<Arm, Failed> {
        if call.arm == Arm::CANDIDATE {
            let goes_on = self.0.goes_on.lock().unwrap();
            drop(self.0.told.wait_while(goes_on, |goes_on| !*goes_on).unwrap());
        }
        Ok(call.arm)
    }
}

#[test]
fn in_a_pool_of_two_threads_a_hung_candidate_holds_one_and_the_other_answers_everybody() {
    let hangs = Hangs::default();
    let router = Router::builder("pool").stable("old", Worker(&hangs)).build().unwrap();
    router.deploy("new", Worker(&hangs)).unwrap();
    shift(&router, percent(25.0));
    let (next, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    if id >= 400 {
                        break;
                    }
                    let answer = router.predict_sync(&Request::of(id), &()).unwrap();
                    assert_eq!(answer.output, answer.answered_by(), "id {id}");
                    answered.fetch_add(1, Ordering::Relaxed);
                    // As a pilot would.
                    router.drain();
                }
            });
        }
        let patience = 6_000;
        for _ in 0..patience {
            if answered.load(Ordering::Relaxed) == 399 {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let in_time = answered.load(Ordering::Relaxed);
        hangs.go_on();
        assert_eq!(in_time, 399, "one hangs, the others are answered");
    });
    let totals = router.totals();
    assert_eq!(totals.iter().map(|arm| arm.of(Status::Ok)).sum::<u64>(), 400);
    assert!(totals[1].diverted > 50, "{}", totals[1].diverted);
    assert_eq!(totals[1].latency.count(), totals[1].of(Status::Ok) - totals[1].diverted);
    assert_eq!((totals[1].diverted_latency.count(), totals[0].diverted), (totals[1].diverted, 0));
}

/// Counts how many calls of the candidate are inside at once.
struct Inside<'c>(&'c [AtomicU64; 2]);

impl SyncModel for Inside<'_> {
    type Input = ();
    type Output = Arm;
    type Error = Failed;

    fn predict_sync(&self, (): &(), call: &Call) -> Result<Arm, Failed> {
        if call.arm == Arm::CANDIDATE {
            let [inside, most] = self.0;
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(call.arm)
    }
}

#[test]
fn a_limit_holds_at_every_moment_whatever_threads_there_are() {
    let inside = [const { AtomicU64::new(0) }; 2];
    let router = Router::builder("crowd")
        .candidate_limit(CandidateLimit::Calls(2))
        .size(Size { shards: 2, records: 4, ..Size::default() })
        .stable("old", Inside(&inside))
        .build()
        .unwrap();
    router.deploy("new", Inside(&inside)).unwrap();
    shift(&router, percent(90.0));
    let answers = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            let (router, answers) = (&router, &answers);
            scope.spawn(move || {
                for call in 0..500 {
                    let answer = router.predict_sync(&Request::of(thread << 32 | call), &());
                    let answer = answer.unwrap();
                    assert_eq!(answer.output, answer.answered_by());
                    answers.fetch_add(u64::from(answer.diverted), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(inside[1].load(Ordering::SeqCst) <= 2);
    // Rings of four records overflow: the count is kept all the same.
    let (snapshot, totals) = (router.snapshot(), router.totals());
    let diverted = answers.load(Ordering::Relaxed);
    assert_eq!((snapshot.arms[1].diverted, totals[1].diverted), (diverted, diverted));
    assert!(totals[1].detail_lost > 0 && diverted > 0, "{diverted}");
    assert_eq!(totals[0].started + totals[1].started, 3_000);
    assert!(has_room(&router), "every place was given back");
}

#[test]
fn a_call_gives_its_place_back_whichever_way_it_ends() {
    let clock = ManualClock::new();
    let model = || Told { bad_arm: Some(Arm::CANDIDATE), clock: clock.clone() };
    for fallback in [Fallback::Never, Fallback::OnFailure] {
        let router = Router::builder("ends")
            .clock(clock.clone())
            .fallback(fallback)
            .candidate_limit(CandidateLimit::Calls(1))
            .stable("old", model())
            .build()
            .unwrap();
        router.deploy("new", model()).unwrap();
        shift(&router, TrafficShare::HALF);
        let request = Request::of(on_candidate(&router));
        let predict = |what| router.predict(request, what);
        let _ = block_on(predict(&Do::Answer(3)));
        assert!(has_room(&router), "an answer");
        let _ = block_on(predict(&Do::Fail));
        assert!(has_room(&router), "an error");
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = block_on(predict(&Do::Panic));
        }));
        assert!(has_room(&router), "a panic");
        begin_and_leave(predict(&Do::Hang));
        assert!(has_room(&router), "a future that was dropped");
        drop(router.begin(&request));
        assert!(has_room(&router), "a guard that was dropped");
        let owned = router.begin_owned(&request);
        assert!(!owned.diverted() && !has_room(&router), "it has the only place");
        std::thread::scope(|scope| {
            scope.spawn(|| owned.finish(Outcome::ok()));
        });
        assert!(has_room(&router), "an owned guard, on another thread");
        drop(router.begin_owned(&request));
        assert!(has_room(&router), "an owned guard that was dropped");
        let kept = router.model(Arm::CANDIDATE);
        assert!(kept.is_some() && has_room(&router), "a model that is used elsewhere is no call");
    }
}

#[test]
fn a_stream_has_its_place_until_its_end() {
    let numbers = || stream_model::sync(|from: &u32| Ok((0..*from).map(Ok::<_, Failed>)));
    let router = Router::builder("streams").candidate_limit(CandidateLimit::Calls(1));
    let router = router.stable("old", numbers()).build().unwrap();
    router.deploy("new", numbers()).unwrap();
    shift(&router, TrafficShare::HALF);
    let request = Request::of(on_candidate(&router));
    for drops in [false, true] {
        let answer = router.predict_stream_sync(&request, &3).unwrap();
        assert!(!answer.diverted);
        let other = router.predict_stream_sync(&request, &3).unwrap();
        assert_eq!((other.diverted, other.answered_by()), (true, Arm::BASELINE));
        assert_eq!(other.output.count(), 3);
        if drops {
            drop(answer);
        } else {
            assert_eq!(answer.output.count(), 3);
        }
        assert!(has_room(&router));
    }
    let counts = router.totals();
    assert_eq!((ended(&counts, Arm::CANDIDATE), counts[1].diverted), ([5, 0, 0, 1, 0], 2));
}

#[test]
fn what_finds_no_room_is_answered_by_the_baseline_and_counts_for_the_candidate() {
    let router = names(CandidateLimit::Calls(1));
    let request = Request::of(on_candidate(&router));
    let first = router.begin(&request);
    let second = router.begin(&request);
    assert_eq!(
        (*first.model(), first.diverted(), first.call().arm),
        ("new", false, Arm::CANDIDATE)
    );
    assert_eq!((*second.model(), second.arm()), ("old", Arm::CANDIDATE));
    assert_eq!((second.diverted(), second.call().arm), (true, Arm::BASELINE));
    let ticket = second.finish(Outcome::ok());
    drop(first);
    assert_eq!(router.outcome(ticket, Outcome::correct(true)), Ok(Counted::InForce));
    let snapshot = router.snapshot();
    let stored = serde_json::to_string(&snapshot).unwrap();
    let snapshot: Snapshot = serde_json::from_str(&stored).unwrap();
    assert_eq!(ended(&snapshot.arms, Arm::CANDIDATE), [1, 0, 0, 1, 0]);
    let counts = snapshot.arm(Arm::CANDIDATE).unwrap();
    assert_eq!((counts.diverted, counts.correct, counts.latency.count()), (1, 1, 0));
    assert_eq!((counts.diverted_latency.count(), snapshot.arms[0].started), (1, 0));
    // They are kept when the split changes, and add up with another replica's.
    shift(&router, percent(10.0));
    assert_eq!((router.snapshot().arms[1].diverted, router.totals()[1].diverted), (0, 1));
    let mut both = snapshot.clone();
    assert!(both.merge(&snapshot));
    assert_eq!((both.arms[1].diverted, both.since(&snapshot).arms[1].diverted), (2, 1));
}

#[test]
fn a_promoted_candidate_is_bounded_no_longer_and_the_one_it_replaced_is() {
    let router = names(CandidateLimit::Calls(1));
    router.switch().shift(&router.split().promoted()).unwrap();
    let everybody: Vec<_> = (0..20_u64).map(|id| router.begin(&Request::of(id))).collect();
    assert!(everybody.iter().all(|guard| *guard.model() == "new" && !guard.diverted()));
    // No drain in between: a shift alone is enough.
    shift(&router, TrafficShare::HALF);
    let request = Request::of(on_candidate(&router));
    let held = [router.begin(&request), router.begin(&request)];
    assert_eq!(held.each_ref().map(|guard| *guard.model()), ["old", "new"]);
    assert_eq!(held.each_ref().map(|guard| guard.diverted()), [false, true]);
}

#[test]
fn by_default_there_is_no_bound_where_the_candidate_has_nearly_all_and_at_once_one_below() {
    let router = names(CandidateLimit::default());
    let hold = |router: &Router<&'static str>| {
        let request = Request::of(on_candidate(router));
        let held: Vec<_> = (0..10).map(|_| router.begin_owned(&request)).collect();
        held.iter().filter(|guard| guard.diverted()).count()
    };
    shift(&router, percent(75.0));
    assert_eq!(hold(&router), 0);
    shift(&router, percent(25.0));
    assert_eq!(hold(&router), 3, "of 10 calls at once 7 may be the candidate's by chance");
    shift(&router, TrafficShare::ALL);
    assert_eq!(hold(&router), 0);
    assert_eq!(hold(&names(CandidateLimit::Unlimited)), 0);
    let strict = names(CandidateLimit::Calls(3));
    shift(&strict, TrafficShare::ALL);
    assert_eq!(hold(&strict), 7, "a number holds at every share");
}

#[test]
fn a_candidate_in_use_by_bounded_calls_is_not_retired_and_goes_after_them() {
    let router = names(CandidateLimit::Calls(2));
    let request = Request::of(on_candidate(&router));
    let held = (router.begin(&request), router.begin_owned(&request));
    router.switch().roll_back();
    assert_eq!(router.retire_idle(), Retired::StillDraining(1), "first what is on loan");
    drop(held.0);
    assert_eq!(router.retire_idle(), Retired::StillDraining(1), "then what is kept");
    drop(held.1);
    assert!(matches!(router.retire_idle(), Retired::Gone(name) if name.as_str() == "new"));
    router.deploy("newer", "newer").unwrap();
    shift(&router, TrafficShare::HALF);
    assert!(has_room(&router));
}

#[test]
fn a_candidate_without_a_baseline_serves_beyond_its_bound() {
    let router = Router::builder("alone").candidate_limit(CandidateLimit::Calls(1));
    let router = router.stable("old", "old").build().unwrap();
    // Promoted without a candidate: nothing stands where the baseline would be.
    router.switch().shift(&router.split().promoted()).unwrap();
    shift(&router, TrafficShare::HALF);
    let request = Request::of(on_candidate(&router));
    let held = [router.begin(&request), router.begin(&request)];
    assert!(held.iter().all(|guard| !guard.diverted() && *guard.model() == "old"));
}

#[test]
fn a_panic_of_the_baseline_in_the_candidates_stead_takes_nobody_back() {
    let clock = ManualClock::new();
    let model = || Told { bad_arm: Some(Arm::BASELINE), clock: clock.clone() };
    let router = Router::builder("blame")
        .trip_after_panics(1)
        .candidate_limit(CandidateLimit::Calls(1))
        .stable("old", model())
        .build()
        .unwrap();
    router.deploy("new", model()).unwrap();
    shift(&router, TrafficShare::HALF);
    let request = Request::of(on_candidate(&router));
    let _held = router.begin(&request);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = block_on(router.predict(request, &Do::Panic));
    }));
    assert!(panicked.is_err(), "it is not asked twice");
    assert_eq!(router.split().candidate, TrafficShare::HALF);
}

#[test]
fn a_limit_of_nothing_is_refused() {
    for limit in [CandidateLimit::Calls(0), CandidateLimit::Part(TrafficShare::NONE)] {
        let router = Router::builder("none").stable("old", "old");
        assert_eq!(router.candidate_limit(limit).build().unwrap_err(), BuildError::ZeroLimit);
    }
}

#[test]
fn a_router_that_is_emptied_and_filled_from_both_sides_always_has_a_model() {
    let router = Router::builder("last").stable("old", "old").build().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3_000 {
                let _ = router.retire_idle();
            }
        });
        scope.spawn(|| {
            for _ in 0..3_000 {
                let _ = router.deploy("new", "new");
                let _ = router.switch().shift(&router.split().promoted());
            }
        });
        for id in 0..3_000_u64 {
            // Waits for ever where there is none.
            router.begin(&Request::of(id)).finish(Outcome::ok());
        }
    });
    assert!([0, 1].iter().any(|arm| router.model_name(Arm::new(*arm)).is_some()));
}
