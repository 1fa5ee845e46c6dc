//! No call is lost and none is counted twice, whatever happens between its beginning and its end;
//! and what bad input is answered with.

use std::time::Duration;

use pilotage::clock::{Clock, ManualClock, Moment};
use pilotage::ids::{Arm, Segment};
use pilotage::observe::recorder::Size;
use pilotage::outcome::{Outcome, Status};
use pilotage::route::audience::Audience;
use pilotage::route::layer::{Holdout, LayerRange};
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::builder::Fallback;
use pilotage::serve::request::Request;
use pilotage::serve::router::{Retired, Router};
use pilotage::share::TrafficShare;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Do, Told, begin_and_leave, block_on, shift};

#[derive(Clone, Debug)]
enum Step {
    Begin { user: u8, segment: u8, forced: u8 },
    BeginOwned { user: u8 },
    End { which: u8, status: u8 },
    Leave { which: u8 },
    Predict { user: u8, told: Do },
    Shift(u32),
    Expose(u32),
    Promote,
    RollBack,
    Audience(u8),
    Deploy,
    Retire,
    Drain,
    Clock(u64),
    Truth(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let told = prop_oneof![
        Just(Do::Answer(7)),
        Just(Do::Fail),
        Just(Do::Panic),
        Just(Do::Dawdle(150)),
        Just(Do::Hang)
    ];
    prop_oneof![
        6 => (any::<u8>(), 0..4_u8, 0..4_u8).prop_map(|(user, segment, forced)| Step::Begin { user, segment, forced }),
        2 => any::<u8>().prop_map(|user| Step::BeginOwned { user }),
        5 => (any::<u8>(), 0..5_u8).prop_map(|(which, status)| Step::End { which, status }),
        1 => any::<u8>().prop_map(|which| Step::Leave { which }),
        4 => (any::<u8>(), told).prop_map(|(user, told)| Step::Predict { user, told }),
        2 => (0..=1_000_000_u32).prop_map(Step::Shift),
        1 => (0..=1_000_000_u32).prop_map(Step::Expose),
        1 => Just(Step::Promote),
        1 => Just(Step::RollBack),
        1 => (0..4_u8).prop_map(Step::Audience),
        1 => Just(Step::Deploy),
        1 => Just(Step::Retire),
        2 => Just(Step::Drain),
        1 => (0..40_u64).prop_map(Step::Clock),
        1 => any::<u8>().prop_map(Step::Truth),
    ]
}

/// What the test itself has counted: per arm, how many began, and how each ended.
#[derive(Debug, Default, PartialEq)]
struct Books {
    started: [u64; 2],
    ended: [[u64; 5]; 2],
}

impl Books {
    fn of<C: Clock>(router: &Router<Told, C>) -> Self {
        let mut books = Self::default();
        for (arm, counts) in router.totals().iter().enumerate().take(2) {
            books.started[arm] = counts.started;
            books.ended[arm] = Status::ALL.map(|status| counts.of(status));
        }
        books
    }
}

fn outcome(status: u8) -> Outcome {
    let mut outcome = Outcome::ok();
    outcome.status = Status::ALL[usize::from(status)];
    outcome
}

fn audience(number: u8) -> Option<Audience> {
    let share = TrafficShare::percent(20.0).unwrap();
    let builder = Audience::builder().allow(["1", "2"]).deny(["2", "3"]);
    let builder = match number {
        0 => return None,
        1 => builder,
        2 => builder.segments(["free"]),
        _ => builder.holdout(Holdout { salt: "year".to_owned(), share }).layer(LayerRange {
            salt: "layer".to_owned(),
            from_ppm: 0,
            to_ppm: 700_000,
        }),
    };
    Some(builder.build().unwrap())
}

fn told(clock: &ManualClock) -> Told {
    Told { bad_arm: None, clock: clock.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The ring is of 8 records, so that most histories overflow it.
    #[test]
    fn every_call_that_began_ended_or_is_in_flight(steps in vec(step(), 0..120)) {
        let clock = ManualClock::new();
        let router = Router::builder("books")
            .clock(clock.clone())
            .deadline(Duration::from_millis(100))
            .fallback(Fallback::Never)
            .segments(["free", "paid"])
            .size(Size { shards: 1, records: 8, subjects: 64, ..Size::default() })
            .stable("old", told(&clock))
            .build()
            .unwrap();
        let key = router.override_key();
        let (mut guards, mut owned, mut tickets) = (Vec::new(), Vec::new(), Vec::new());
        let mut books = Books::default();
        let mut deployed = 0;
        for step in steps {
            match step {
                Step::Begin { user, segment, forced } => {
                    let id = user.to_string();
                    let mut request = Request::of(&id);
                    if segment > 0 {
                        request = request.segment(["free", "paid", "no such"][usize::from(segment) - 1]);
                    }
                    if forced > 1 {
                        request = request.force(key.force(Arm::new(forced - 2)));
                    }
                    let guard = router.begin(&request);
                    books.started[guard.arm().index()] += 1;
                    guards.push((clock.now(), guard));
                }
                Step::BeginOwned { user } => {
                    let guard = router.begin_owned(&Request::of(u64::from(user)));
                    books.started[guard.arm().index()] += 1;
                    owned.push((clock.now(), guard));
                }
                Step::End { which, status } => {
                    // Which late answer is a timeout is the router's rule, told once more.
                    let late = |began: Moment| clock.now().since(began) > Duration::from_millis(100);
                    let booked = |began| if status == 0 && late(began) { 2 } else { usize::from(status) };
                    let ticket = if which % 2 == 0 && !guards.is_empty() {
                        let (began, guard) = guards.swap_remove(usize::from(which) % guards.len());
                        books.ended[guard.arm().index()][booked(began)] += 1;
                        guard.finish(outcome(status))
                    } else if !owned.is_empty() {
                        let (began, guard) = owned.swap_remove(usize::from(which) % owned.len());
                        books.ended[guard.arm().index()][booked(began)] += 1;
                        guard.finish(outcome(status))
                    } else {
                        continue;
                    };
                    tickets.push(ticket);
                }
                Step::Leave { which } => if !guards.is_empty() {
                    let (_, guard) = guards.swap_remove(usize::from(which) % guards.len());
                    books.ended[guard.arm().index()][3] += 1;
                },
                Step::Predict { user, told } => {
                    let id = user.to_string();
                    let request = Request::of(&id);
                    let before = Books::of(&router);
                    let status = match told {
                        Do::Answer(_) => 0,
                        Do::Fail => 1,
                        Do::Dawdle(_) => 2,
                        Do::Hang => 3,
                        Do::Panic => 4,
                    };
                    match told {
                        Do::Hang => begin_and_leave(router.predict(request, &told)),
                        Do::Panic => {
                            // Not the thread's own hook: others run beside this test.
                            let call = std::panic::AssertUnwindSafe(|| {
                                let _ = block_on(router.predict(request, &told));
                            });
                            prop_assert!(std::panic::catch_unwind(call).is_err());
                        }
                        _ => drop(block_on(router.predict(request, &told))),
                    }
                    let arm = usize::from(Books::of(&router).started[1] > before.started[1]);
                    books.started[arm] += 1;
                    books.ended[arm][status] += 1;
                }
                Step::Shift(ppm) => shift(&router, TrafficShare::from_ppm(ppm).unwrap()),
                Step::Expose(ppm) => {
                    let share = TrafficShare::from_ppm(ppm).unwrap();
                    router.switch().shift(&router.split().exposed(share)).unwrap();
                }
                Step::Promote => router.switch().shift(&router.split().promoted()).unwrap(),
                Step::RollBack => drop(router.switch().roll_back()),
                Step::Audience(number) => {
                    router.set_audience(audience(number).as_ref()).unwrap();
                }
                Step::Deploy => {
                    deployed += 1;
                    let _ = router.deploy(&format!("v{deployed}"), told(&clock));
                }
                Step::Retire => drop(router.retire_idle()),
                Step::Drain => drop(router.drain()),
                Step::Clock(second) => clock.set(Moment::from_secs(second)),
                Step::Truth(which) => if !tickets.is_empty() {
                    // A second truth of the same ticket is refused, and neither ends a call.
                    let _ = router.outcome(tickets[usize::from(which) % tickets.len()], Outcome::correct(true));
                },
            }
            prop_assert_eq!(&Books::of(&router), &books);
        }
        let mut held = [0; 2];
        guards.iter().for_each(|(_, guard)| held[guard.arm().index()] += 1);
        owned.iter().for_each(|(_, guard)| held[guard.arm().index()] += 1);
        let totals = router.totals();
        prop_assert_eq!([totals[0].in_flight(), totals[1].in_flight()], held);
        drop((guards, owned));
        let totals = router.totals();
        prop_assert_eq!([totals[0].in_flight(), totals[1].in_flight()], [0; 2]);
    }
}

/// Without a way out the request would look for the promoted model for ever.
#[test]
fn a_promotion_of_nobody_leaves_the_model_that_stands_in_service() {
    let router = Router::builder("nobody").stable("old", "old").build().unwrap();
    router.switch().shift(&router.split().promoted()).unwrap();
    let guard = router.begin(&Request::of("user"));
    assert_eq!((*guard.model(), guard.arm()), ("old", Arm::BASELINE));
    guard.finish(Outcome::ok());
    assert_eq!(*router.begin_owned(&Request::of("user").segment("x")).model(), "old");
    let last = router.retire_idle();
    assert_eq!(last, Retired::StillServing(TrafficShare::ALL), "the last model stays");
    router.switch().shift(&router.split().promoted()).unwrap();
    assert_eq!(*router.begin(&Request::of("user")).model(), "old");
    router.deploy("new", "new").unwrap();
}

#[test]
fn segment_names_of_any_length_share_the_other_bucket_when_undeclared() {
    let router = Router::builder("long").segments(["free"]).stable("old", ()).build().unwrap();
    let giant = "x".repeat(1 << 20);
    for name in [giant.as_str(), "free ", "FREE", "", "\u{0}"] {
        router.begin(&Request::of("user").segment(name)).finish(Outcome::ok());
    }
    let snapshot = router.snapshot();
    assert_eq!(snapshot.segment(Segment::OTHER).unwrap().arms[0].ended[0], 5);
    assert!(Router::builder("long").segments([giant]).stable("old", ()).build().is_err());
}

#[test]
fn a_call_of_centuries_counts_once_and_at_the_top_of_the_scale() {
    let clock = ManualClock::new();
    let router = Router::builder("old").clock(clock.clone()).stable("old", ()).build().unwrap();
    let short = router.begin(&Request::of("a"));
    let long = router.begin(&Request::of("b"));
    short.finish(Outcome::ok());
    clock.set(Moment::from_secs(5 * 100 * 365 * 24 * 3_600));
    long.finish(Outcome::ok());
    let totals = router.totals();
    assert_eq!((totals[0].started, totals[0].of(Status::Ok), totals[0].in_flight()), (2, 2, 0));
    assert_eq!(totals[0].latency.quantile(0.1), Some(0));
    let top = totals[0].latency.quantile(1.0).unwrap();
    assert!(top >= 1_000_000_000 * 3_600, "an hour at least, not wrapped round: {top}");
}

#[test]
fn a_router_that_goes_before_its_streams_leaves_them_their_model() {
    let router = Router::builder("gone").stable("old", "old").build().unwrap();
    let guard = router.begin_owned(&Request::of("user"));
    let switch = router.switch();
    drop(router);
    switch.roll_back();
    assert_eq!(*guard.model(), "old");
    assert_eq!(guard.finish(Outcome::ok()).arm(), Arm::BASELINE);
}
