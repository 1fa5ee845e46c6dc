//! How calls are served and counted.

use std::time::Duration;

use pilotage::clock::{ManualClock, Moment};
use pilotage::ids::{Arm, Segment};
use pilotage::model;
use pilotage::outcome::{Outcome, Status};
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::builder::{BuildError, Fallback};
use pilotage::serve::request::Request;
use pilotage::serve::router::{DeployError, Retired, Router};
use pilotage::share::TrafficShare;

use crate::{Do, Failed, Told, begin_and_leave, block_on, ended, length, shift};

fn told(fallback: Fallback, bad_arm: Option<Arm>) -> (Router<Told, ManualClock>, ManualClock) {
    let clock = ManualClock::new();
    let model = || Told { bad_arm, clock: clock.clone() };
    let router = Router::builder("told")
        .clock(clock.clone())
        .deadline(Duration::from_millis(100))
        .fallback(fallback)
        .stable("old", model())
        .build()
        .unwrap();
    router.deploy("new", model()).unwrap();
    (router, clock)
}

#[test]
fn every_call_counts_once_as_what_became_of_it() {
    let (router, _) = told(Fallback::Never, Some(Arm::CANDIDATE));
    shift(&router, TrafficShare::ALL);
    assert_eq!(block_on(router.predict(Request::of("user"), &Do::Answer(5))).unwrap().output, 5);
    assert_eq!(block_on(router.predict(Request::of("user"), &Do::Fail)), Err(Failed));
    assert_eq!(block_on(router.predict(Request::of(7_u64), &Do::Dawdle(101))).unwrap().output, 2);
    assert_eq!(block_on(router.predict(Request::of(8_u64), &Do::Dawdle(99))).unwrap().output, 2);
    begin_and_leave(router.predict(Request::anonymous(), &Do::Hang));
    drop(router.begin(&Request::of("gone")));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = block_on(router.predict(Request::of("user"), &Do::Panic));
    }));
    assert!(panicked.is_err(), "without a fallback the model's panic is the caller's");
    let held = router.begin(&Request::of("still here"));

    let snapshot = router.snapshot();
    let counts = snapshot.arm(Arm::CANDIDATE).unwrap();
    assert_eq!(ended(&snapshot.arms, Arm::CANDIDATE), [2, 1, 1, 2, 1]);
    assert_eq!((counts.started, counts.in_flight()), (8, 1));
    assert_eq!(counts.latency.count(), 2);
    assert_eq!(counts.subjects.exposed, 3, "one user, 7 and 8");
    assert_eq!(snapshot.arm(Arm::BASELINE).unwrap().started, 0);
    held.finish(Outcome::ok());
    assert_eq!(router.totals()[1].in_flight(), 0);
}

#[test]
fn a_candidate_that_panics_is_covered_by_the_baseline_and_blamed() {
    let (router, _) = told(Fallback::default(), Some(Arm::CANDIDATE));
    shift(&router, TrafficShare::ALL);
    let answer = block_on(router.predict(Request::of("user"), &Do::Panic)).unwrap();
    assert_eq!((answer.output, answer.arm, answer.fell_back), (1, Arm::CANDIDATE, true));
    let snapshot = router.snapshot();
    assert_eq!(ended(&snapshot.arms, Arm::CANDIDATE), [0, 0, 0, 0, 1]);
    assert_eq!(snapshot.arms[1].fell_back, 1);
    assert_eq!(snapshot.arms[0].started, 0, "the baseline is not credited with it");
    assert_eq!(block_on(router.predict(Request::of("user"), &Do::Fail)), Err(Failed));
}

#[test]
fn a_candidate_that_fails_is_covered_where_the_policy_says_so() {
    let (router, _) = told(Fallback::OnFailure, Some(Arm::CANDIDATE));
    shift(&router, TrafficShare::ALL);
    assert!(block_on(router.predict(Request::of("user"), &Do::Fail)).unwrap().fell_back);
    let (router, _) = told(Fallback::OnFailure, None);
    shift(&router, TrafficShare::ALL);
    let both_fail = block_on(router.predict(Request::of("user"), &Do::Fail));
    assert_eq!(both_fail, Err(Failed), "the model's own error, never one of ours");
    assert_eq!(ended(&router.snapshot().arms, Arm::CANDIDATE), [0, 1, 0, 0, 0]);
}

#[test]
fn nobody_falls_back_on_a_baseline_that_is_not_there() {
    let clock = ManualClock::new();
    let model = Told { bad_arm: None, clock };
    let router = Router::builder("alone").fallback(Fallback::OnFailure).stable("old", model);
    let router = router.build().unwrap();
    // Promoted without a candidate: what stands serves, but nothing is where the baseline would be.
    router.switch().shift(&router.split().promoted()).unwrap();
    shift(&router, TrafficShare::ALL);
    assert_eq!(block_on(router.predict(Request::of("user"), &Do::Fail)), Err(Failed));
    let arms = router.totals();
    assert_eq!(ended(&arms, Arm::CANDIDATE), [0, 1, 0, 0, 0]);
    assert_eq!(arms[1].fell_back, 0, "nobody answered instead");
}

#[test]
fn enough_panics_take_the_candidate_out_by_themselves() {
    let clock = ManualClock::new();
    let model = || Told { bad_arm: Some(Arm::CANDIDATE), clock: clock.clone() };
    let router =
        Router::builder("trip").trip_after_panics(3).stable("old", model()).build().unwrap();
    router.deploy("new", model()).unwrap();
    shift(&router, TrafficShare::ALL);
    let arms: Vec<Arm> = (0..5)
        .map(|_| block_on(router.predict(Request::of("user"), &Do::Panic)).unwrap().arm)
        .collect();
    assert_eq!(arms[..3], [Arm::CANDIDATE; 3]);
    assert_eq!(arms[3..], [Arm::BASELINE; 2]);
}

#[test]
fn a_payload_that_panics_when_dropped_harms_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                std::panic::panic_any(Bomb);
            }
        }
    }
    let answers: fn(&u8) -> Result<u8, Failed> = |byte| Ok(*byte);
    let bursts: fn(&u8) -> Result<u8, Failed> = |_| std::panic::panic_any(Bomb);
    let router = Router::builder("bomb").stable("old", model::sync(answers)).build().unwrap();
    router.deploy("new", model::sync(bursts)).unwrap();
    shift(&router, TrafficShare::ALL);
    assert_eq!(router.predict_sync(&Request::of("user"), &3).unwrap().output, 3);
    assert_eq!(ended(&router.snapshot().arms, Arm::CANDIDATE), [0, 0, 0, 0, 1]);
}

#[test]
fn promotion_swaps_labels_and_traffic_and_keeps_both_models() {
    use pilotage::route::switch::TrafficSwitch;
    let router = Router::builder("swap").stable("old", "old").build().unwrap();
    router.deploy("new", "new").unwrap();
    assert_eq!(
        router.deploy("third", "third").unwrap_err(),
        DeployError::Occupied { there: router.model_name(Arm::CANDIDATE).unwrap() }
    );
    router.switch().shift(&router.split().promoted()).unwrap();
    let guard = router.begin(&Request::of("user"));
    assert_eq!((*guard.model(), guard.arm()), ("new", Arm::BASELINE));
    guard.finish(Outcome::ok());
    assert_eq!(router.model_name(Arm::CANDIDATE).unwrap().as_str(), "old");
    router.switch().shift(&router.split().promoted()).unwrap();
    assert_eq!(*router.begin(&Request::of("user")).model(), "old");
}

#[test]
fn an_arm_is_not_dropped_while_it_serves_or_a_call_holds_it() {
    let router = Router::builder("drain").stable("old", "old").build().unwrap();
    assert_eq!(router.retire_idle(), Retired::Nothing);
    router.deploy("new", "new").unwrap();
    shift(&router, TrafficShare::HALF);
    assert_eq!(router.retire_idle(), Retired::StillServing(TrafficShare::HALF));
    shift(&router, TrafficShare::ALL);
    let held = router.begin(&Request::of("user"));
    router.switch().roll_back();
    assert_eq!(router.retire_idle(), Retired::StillDraining(1));
    assert_eq!(*held.model(), "new");
    held.finish(Outcome::ok());
    assert!(matches!(router.retire_idle(), Retired::Gone(name) if name.as_str() == "new"));
}

#[test]
fn a_router_without_a_candidate_serves_everybody_from_the_baseline() {
    let router = Router::builder("alone").stable("old", model::sync(length())).build().unwrap();
    shift(&router, TrafficShare::ALL);
    let answer = router.predict_sync(&Request::of("user"), "four").unwrap();
    assert_eq!((answer.output, answer.arm), (4, Arm::BASELINE));
    assert_eq!(router.snapshot().arms[0].started, 0, "a forced choice is no evidence");
    assert_eq!(router.totals()[0].started, 1);
}

#[test]
fn a_call_that_ends_under_another_split_is_no_evidence_for_it() {
    let (router, clock) = told(Fallback::Never, None);
    shift(&router, TrafficShare::HALF);
    let held: Vec<_> = (0..100_u64).map(|user| router.begin(&Request::of(user))).collect();
    shift(&router, TrafficShare::ALL);
    clock.set(Moment::from_secs(1));
    for guard in held {
        guard.finish(Outcome::error());
    }
    let snapshot = router.snapshot();
    assert_eq!(snapshot.stale, 100);
    assert!(snapshot.arms.iter().all(|arm| arm.started == 0 && arm.finished() == 0));
    let totals = router.totals();
    assert_eq!(totals[0].failures() + totals[1].failures(), 100);
}

#[test]
fn exposure_keeps_those_outside_on_the_baseline_and_out_of_the_evidence() {
    use pilotage::route::switch::TrafficSwitch;
    let router = Router::builder("exposed").stable("old", ()).build().unwrap();
    router.deploy("new", ()).unwrap();
    shift(&router, TrafficShare::HALF);
    let arms = || (0..20_000_u64).map(|user| router.arm_of(&Request::of(user))).collect::<Vec<_>>();
    let all = arms();
    router.switch().shift(&router.split().exposed(TrafficShare::percent(20.0).unwrap())).unwrap();
    let fifth = arms();
    let on = |arms: &[Arm]| arms.iter().filter(|arm| **arm == Arm::CANDIDATE).count();
    // 20,000 draws: a half is 10,000 ± 71, a tenth 2,000 ± 42; five deviations of room.
    assert!(on(&all).abs_diff(10_000) < 355 && on(&fifth).abs_diff(2_000) < 212);
    let moved = all.iter().zip(&fifth).any(|(before, after)| before < after);
    assert!(!moved, "nobody on the baseline is moved by exposure");
    (0..1_000_u64).for_each(|user| {
        router.begin(&Request::of(user)).finish(Outcome::ok());
    });
    let seen: u64 = router.snapshot().arms.iter().map(|arm| arm.finished()).sum();
    assert!(seen.abs_diff(200) < 64, "{seen} of 1,000 in the evidence");
    assert_eq!(router.totals().iter().map(|arm| arm.finished()).sum::<u64>(), 1_000);
}

#[test]
fn only_a_key_of_this_router_forces_an_arm() {
    let router = |name| {
        let router = Router::builder(name).stable("old", ()).build().unwrap();
        router.deploy("new", ()).unwrap();
        router
    };
    let (mine, other) = (router("mine"), router("other"));
    let forced = mine.override_key().force(Arm::CANDIDATE);
    assert_eq!(mine.arm_of(&Request::of("user").force(forced)), Arm::CANDIDATE);
    assert_eq!(other.arm_of(&Request::of("user").force(forced)), Arm::BASELINE);
    mine.begin(&Request::of("user").force(forced)).finish(Outcome::error());
    assert_eq!(mine.snapshot().arms[1].finished(), 0);
    assert_eq!(mine.totals()[1].of(Status::Error), 1);
}

#[test]
fn segments_are_counted_by_name_and_strangers_together() {
    let router =
        Router::builder("groups").segments(["free", "premium"]).stable("old", ()).build().unwrap();
    for name in ["premium", "premium", "free", "no such", ""] {
        router.begin(&Request::of("user").segment(name)).finish(Outcome::ok());
    }
    router.begin(&Request::of("user")).finish(Outcome::ok());
    router.begin(&Request::of("user").segment_number(Segment::new(200))).finish(Outcome::ok());
    let snapshot = router.snapshot();
    let of = |segment| snapshot.segment(segment).unwrap().arms[0].ended[0];
    let numbered = [Segment::NONE, router.segment("free"), router.segment("premium")];
    assert_eq!(numbered.map(of), [1, 1, 2]);
    assert_eq!(of(Segment::OTHER), 3);
    assert_eq!(router.segment_name(Segment::new(2)).unwrap().as_str(), "premium");
}

#[test]
fn one_client_that_retries_is_one_failing_subject() {
    let router = Router::builder("retries").stable("old", ()).build().unwrap();
    for _ in 0..50 {
        router.begin(&Request::of("impatient")).finish(Outcome::error().with_mark(1));
    }
    router.begin(&Request::of("patient")).finish(Outcome::ok());
    for _ in 0..3 {
        router.begin(&Request::anonymous()).finish(Outcome::timeout());
    }
    let snapshot = router.snapshot();
    let subjects = snapshot.arms[0].subjects;
    assert_eq!((subjects.exposed, subjects.failed, subjects.timed_out), (5, 1, 3));
    assert_eq!(subjects.marks, [0, 1, 0, 0, 0]);
    assert_eq!(snapshot.arms[0].failures(), 50);
}

#[test]
fn any_id_of_any_length_is_served() {
    let router = Router::builder("ids").stable("old", ()).build().unwrap();
    router.deploy("new", ()).unwrap();
    shift(&router, TrafficShare::HALF);
    let giant = vec![0xff_u8; 1 << 20];
    for id in [&b""[..], b"\0\n\xfe", &giant] {
        assert_eq!(router.arm_of(&Request::of(id)), router.arm_of(&Request::of(id)));
    }
    assert_eq!(router.arm_of(&Request::of(42_u64)), router.arm_of(&Request::of("42")));
    assert_eq!(router.arm_of(&Request::of(-1_i64)), router.arm_of(&Request::of("-1")));
}

#[test]
fn time_that_stands_still_or_steps_back_is_no_time() {
    let clock = ManualClock::new();
    clock.set(Moment::from_secs(100));
    let router = Router::builder("clock").clock(clock.clone()).stable("old", ()).build().unwrap();
    router.begin(&Request::of("a")).finish(Outcome::ok());
    let guard = router.begin(&Request::of("b"));
    clock.set(Moment::from_secs(50));
    guard.finish(Outcome::ok());
    let guard = router.begin(&Request::of("c"));
    clock.set(Moment::from_nanos(u64::MAX));
    guard.finish(Outcome::ok());
    let latency = &router.snapshot().arms[0].latency;
    assert_eq!(latency.count(), 3);
    assert_eq!(latency.quantile(0.5), Some(0));
    clock.set(Moment::ZERO);
    assert_eq!(router.snapshot().arms[0].latency.count(), 3);
}

#[test]
fn a_router_that_cannot_be_is_refused_with_the_reason() {
    let builder = || Router::builder("r").stable("old", ());
    let error = builder().segments(["a", "b", "a"]).build().unwrap_err();
    assert!(matches!(&error, BuildError::DuplicateSegment { name } if name.as_str() == "a"));
    let many: Vec<String> = (0..255).map(|number| number.to_string()).collect();
    assert_eq!(
        builder().segments(many).build().unwrap_err(),
        BuildError::TooManySegments { count: 255 }
    );
    assert_eq!(builder().deadline(Duration::ZERO).build().unwrap_err(), BuildError::ZeroDeadline);
    assert!(Router::builder("").stable("old", ()).build().is_err());
    assert!(Router::builder("r").stable("bad\nname", ()).build().is_err());
}

#[test]
fn a_stream_that_breaks_off_counts_once_wherever_it_ends() {
    let router = Router::builder("stream").stable("old", "model").build().unwrap();
    let guards: Vec<_> = (0..6_u64).map(|user| router.begin_owned(&Request::of(user))).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (at, guard) in guards.into_iter().enumerate() {
                let outcome = match at % 3 {
                    0 => continue,
                    1 => Outcome::error(),
                    _ => Outcome::ok().with_score(0.5),
                };
                assert_eq!(guard.finish(outcome).arm(), Arm::BASELINE);
            }
        });
    });
    let snapshot = router.snapshot();
    assert_eq!(ended(&snapshot.arms, Arm::BASELINE), [2, 2, 0, 2, 0]);
    assert_eq!((snapshot.arms[0].started, snapshot.arms[0].in_flight()), (6, 0));
}

#[test]
fn a_call_that_is_dropped_past_its_deadline_timed_out_and_before_it_was_cancelled() {
    for (millis, timed_out) in [(100, 0), (101, 3)] {
        let (router, clock) = told(Fallback::Never, None);
        let time = Duration::from_millis(millis);
        let guard = router.begin(&Request::of("user"));
        let owned = router.begin_owned(&Request::of("user"));
        {
            // Polled once, then its caller goes away.
            let mut future = std::pin::pin!(router.predict(Request::of("user"), &Do::Hang));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(std::future::Future::poll(future.as_mut(), &mut context).is_pending());
            clock.advance(time);
        }
        drop(guard);
        drop(owned);
        let ended = ended(&router.snapshot().arms, Arm::BASELINE);
        assert_eq!(ended, [0, 0, timed_out, 3 - timed_out, 0], "after {millis} ms");
    }
    // Who says that the caller is to blame is believed, however late.
    let (router, clock) = told(Fallback::Never, None);
    let guard = router.begin(&Request::of("user"));
    clock.advance(Duration::from_secs(1));
    guard.finish(Outcome::cancelled());
    assert_eq!(ended(&router.snapshot().arms, Arm::BASELINE), [0, 0, 0, 1, 0]);
}

#[test]
fn a_subject_that_gives_up_again_and_again_counts_once_a_window_as_one_that_gave_up() {
    let (router, _) = told(Fallback::Never, None);
    (0..5).for_each(|_| drop(router.begin(&Request::of("hasty"))));
    router.begin(&Request::of("hasty")).finish(Outcome::ok());
    router.begin(&Request::of("patient")).finish(Outcome::ok());
    let subjects = router.snapshot().arms[0].subjects;
    assert_eq!((subjects.ended, subjects.abandoned, subjects.exposed), (2, 1, 2));
}
