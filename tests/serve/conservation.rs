//! No call is lost and none is counted twice, whatever happens between its beginning and its end;
//! and what bad input is answered with.
//!
//! Three sets of books are held against each other: the router's, the test's own, and those of the
//! models, which know who asked them as what.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pilotage::clock::{Clock, ManualClock, Moment};
use pilotage::ids::{Arm, Segment};
use pilotage::observe::recorder::{MAX_ARMS, Size};
use pilotage::outcome::{Outcome, Status};
use pilotage::route::arms::ArmTable;
use pilotage::route::audience::Audience;
use pilotage::route::layer::{Holdout, LayerRange};
use pilotage::route::switch::{Slot, TrafficSwitch};
use pilotage::serve::builder::Fallback;
use pilotage::serve::guard::{Guard, OwnedGuard};
use pilotage::serve::limit::CandidateLimit;
use pilotage::serve::request::{OverrideKey, Request};
use pilotage::serve::router::{Retired, Router};
use pilotage::share::TrafficShare;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::ledger::{Asked, Books, Script, Scripted};
use crate::{begin_and_leave, block_on, shift};

/// What one history is made of.
#[derive(Clone, Debug)]
enum Step {
    Begin(Who),
    BeginOwned(Who),
    /// Ends a call, on another thread if `elsewhere`.
    End {
        which: u8,
        status: u8,
        elsewhere: bool,
    },
    Leave {
        which: u8,
    },
    Predict(Who, Script),
    /// So many calls at once, more than a ring holds.
    Burst(u8),
    Shift(u32),
    Expose(u32),
    Promote,
    RollBack,
    /// The split changes so often, and back.
    Churn(u8),
    Audience(u8),
    /// Shares of the arms beyond two in percent; 0 for not in the table. None for no table.
    Arms(Option<[u8; MAX_ARMS - 2]>),
    Deploy,
    DeployArm(u8),
    Retire,
    RetireArm(u8),
    Drain,
    Clock(u64),
    Truth(u8),
    /// A quiescent point: all books are compared.
    Compare,
}

#[derive(Clone, Copy, Debug)]
struct Who {
    user: u8,
    segment: u8,
    forced: u8,
}

fn who() -> impl Strategy<Value = Who> {
    (any::<u8>(), 0..4_u8, 0..8_u8).prop_map(|(user, segment, forced)| Who {
        user,
        segment,
        forced,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let script = prop_oneof![
        3 => Just(Script::Answer),
        1 => Just(Script::Fail),
        1 => Just(Script::SayTimeout),
        1 => Just(Script::SayCancelled),
        1 => Just(Script::PanicOverTheError),
        2 => Just(Script::Panic),
        1 => (50..200_u64).prop_map(Script::Dawdle),
        1 => Just(Script::Hang)
    ];
    let table = proptest::option::weighted(0.8, proptest::array::uniform6(0..17_u8));
    prop_oneof![
        8 => who().prop_map(Step::Begin),
        3 => who().prop_map(Step::BeginOwned),
        7 => (any::<u8>(), 0..5_u8, proptest::bool::weighted(0.1))
            .prop_map(|(which, status, elsewhere)| Step::End { which, status, elsewhere }),
        2 => any::<u8>().prop_map(|which| Step::Leave { which }),
        6 => (who(), script).prop_map(|(who, script)| Step::Predict(who, script)),
        1 => (1..40_u8).prop_map(Step::Burst),
        2 => (0..=1_000_000_u32).prop_map(Step::Shift),
        1 => (0..=1_000_000_u32).prop_map(Step::Expose),
        1 => Just(Step::Promote),
        1 => Just(Step::RollBack),
        1 => (1..12_u8).prop_map(Step::Churn),
        1 => (0..4_u8).prop_map(Step::Audience),
        3 => table.prop_map(Step::Arms),
        1 => Just(Step::Deploy),
        3 => (0..9_u8).prop_map(Step::DeployArm),
        1 => Just(Step::Retire),
        1 => (0..9_u8).prop_map(Step::RetireArm),
        1 => Just(Step::Drain),
        1 => (0..40_u64).prop_map(Step::Clock),
        1 => any::<u8>().prop_map(Step::Truth),
        2 => Just(Step::Compare),
    ]
}

const DEADLINE: Duration = Duration::from_millis(100);

fn outcome(status: Status) -> Outcome {
    let mut outcome = Outcome::ok();
    outcome.status = status;
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

fn table(percents: [u8; MAX_ARMS - 2]) -> ArmTable {
    let shares = percents.iter().enumerate().filter(|(_, percent)| **percent > 0);
    let shares = shares.map(|(at, percent)| {
        let share = TrafficShare::percent(f64::from(*percent)).unwrap();
        (Arm::new(at as u8 + 2), share)
    });
    ArmTable::new(shares).unwrap()
}

fn request<'a>(id: &'a str, who: Who, key: &OverrideKey) -> Request<'a> {
    let mut request = Request::of(id);
    if who.segment > 0 {
        request = request.segment(["free", "paid", "no such"][usize::from(who.segment) - 1]);
    }
    match who.forced {
        1 => request.force(key.force(Arm::BASELINE)),
        2 => request.force(key.force(Arm::CANDIDATE)),
        3 => request.force(key.force_slot(Slot::Second)),
        4 => request.force(key.force_slot_while(Slot::Second, Slot::First)),
        _ => request,
    }
}

/// What the histories of all cases met together. A property that never meets what it is about
/// proves nothing.
#[derive(Debug, Default)]
struct Met {
    spilled: AtomicU64,
    further_arms: AtomicU64,
    fell_back: AtomicU64,
    nobody_stood_in: AtomicU64,
    too_late: AtomicU64,
    left_too_late: AtomicU64,
    draining: AtomicU64,
    refused_tables: AtomicU64,
    ended_elsewhere: AtomicU64,
    ended_many_splits_later: AtomicU64,
    tripped: AtomicU64,
    stale: AtomicU64,
}

impl Met {
    fn note(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    fn assert_all(&self) {
        let text = format!("{self:?}");
        assert!(!text.contains(": 0,") && !text.ends_with(": 0 }"), "never met: {text}");
    }
}

/// One history and its books.
struct History<'r> {
    router: &'r Router<Scripted, ManualClock>,
    clock: ManualClock,
    asked: Arc<Asked>,
    fallback: Fallback,
    met: &'r Met,
    guards: Vec<(Moment, u64, Guard<'r, Scripted, ManualClock>)>,
    owned: Vec<(Moment, u64, OwnedGuard<Scripted, ManualClock>)>,
    tickets: Vec<pilotage::serve::ticket::Ticket>,
    books: Books,
    /// By arm: calls of models that the test's own rules say were made.
    calls: [u64; MAX_ARMS],
    splits: u64,
    names: u64,
}

impl<'r> History<'r> {
    fn model(&self) -> Scripted {
        let (asked, clock) = (Arc::clone(&self.asked), self.clock.clone());
        Scripted { asked, clock, bad_baseline: self.names % 2 == 1 }
    }

    /// Which late answer is a timeout is the router's rule, told once more.
    /// How a call that is dropped now is booked.
    fn dropped(&self, began: Moment) -> Status {
        match self.booked(began, Status::Ok) {
            Status::Timeout => Status::Timeout,
            _ => Status::Cancelled,
        }
    }

    fn booked(&self, began: Moment, status: Status) -> Status {
        let late = self.clock.now().since(began) > DEADLINE;
        if status == Status::Ok && late {
            Met::note(&self.met.too_late, 1);
            Status::Timeout
        } else {
            status
        }
    }

    fn end(&mut self, which: u8, status: Status, elsewhere: bool) {
        let which = usize::from(which);
        let finish = outcome(status);
        let (began, split, arm, ticket) = if which % 2 == 0 && !self.guards.is_empty() {
            let (began, split, guard) = self.guards.swap_remove(which % self.guards.len());
            let arm = guard.arm();
            let ticket = if elsewhere {
                thread::scope(|scope| scope.spawn(|| guard.finish(finish)).join().unwrap())
            } else {
                guard.finish(finish)
            };
            (began, split, arm, ticket)
        } else if !self.owned.is_empty() {
            let (began, split, guard) = self.owned.swap_remove(which % self.owned.len());
            let arm = guard.arm();
            let ticket = if elsewhere {
                thread::scope(|scope| scope.spawn(|| guard.finish(finish)).join().unwrap())
            } else {
                guard.finish(finish)
            };
            (began, split, arm, ticket)
        } else {
            return;
        };
        Met::note(&self.met.ended_elsewhere, u64::from(elsewhere));
        Met::note(&self.met.ended_many_splits_later, u64::from(self.splits - split > 8));
        let booked = self.booked(began, status);
        self.books.end(arm, booked);
        self.tickets.push(ticket);
    }

    fn predict(&mut self, who: Who, script: Script) -> Result<(), TestCaseError> {
        let (router, id) = (self.router, who.user.to_string());
        let request = request(&id, who, &router.override_key());
        let meant = router.arm_of(&request);
        // An arm without a model is served by the baseline.
        let arm = if router.model_name(meant).is_some() { meant } else { Arm::BASELINE };
        let stands_in = router.model(Arm::BASELINE);
        let serves = router.model(arm).or_else(|| router.model(Arm::CANDIDATE)).unwrap();
        let spared = arm == Arm::BASELINE && !serves.bad_baseline;
        let status = match script {
            Script::Hang => Status::Cancelled,
            Script::Dawdle(millis) if millis > 100 => Status::Timeout,
            Script::Dawdle(_) | Script::Answer => Status::Ok,
            _ if spared => Status::Ok,
            Script::Fail | Script::PanicOverTheError => Status::Error,
            Script::SayTimeout => Status::Timeout,
            Script::SayCancelled => Status::Cancelled,
            Script::Panic => Status::Panicked,
        };
        let failed = status != Status::Ok && !matches!(script, Script::Dawdle(_) | Script::Hang);
        let falls_back = failed
            && arm != Arm::BASELINE
            && match self.fallback {
                Fallback::OnPanic => status == Status::Panicked,
                Fallback::OnFailure => status != Status::Cancelled,
                _ => false,
            };
        self.books.started[arm.index()] += 1;
        self.books.end(arm, status);
        // Where there is no baseline, nobody falls back on it.
        let stood_in = u64::from(falls_back && stands_in.is_some());
        self.books.fell_back[arm.index()] += stood_in;
        self.calls[arm.index()] += 1;
        self.calls[0] += stood_in;
        Met::note(&self.met.fell_back, stood_in);
        Met::note(&self.met.nobody_stood_in, u64::from(falls_back && stands_in.is_none()));
        let epoch = router.split().epoch;
        let stand_in_answers =
            falls_back && stands_in.as_ref().is_some_and(|model| !model.bad_baseline);
        drop((serves, stands_in));
        if script == Script::Hang {
            begin_and_leave(router.predict(request, &script));
            return Ok(());
        }
        let call = std::panic::AssertUnwindSafe(|| block_on(router.predict(request, &script)));
        let heard = std::panic::catch_unwind(call);
        Met::note(&self.met.tripped, u64::from(router.split().epoch != epoch));
        if status == Status::Panicked && !stand_in_answers {
            prop_assert!(heard.is_err(), "a panic nobody stood in for is the caller's");
        } else if failed && !stand_in_answers {
            prop_assert!(heard.is_ok_and(|heard| heard.is_err()));
        } else {
            let answer = heard.map_err(|_| TestCaseError::fail("panicked"))?.unwrap();
            prop_assert_eq!((answer.arm, answer.fell_back), (arm, falls_back));
            let by = if falls_back { Arm::BASELINE } else { arm };
            prop_assert_eq!(answer.output, by, "the model that answered was told so");
            self.tickets.push(answer.ticket);
        }
        Ok(())
    }

    fn walk(&mut self, step: Step) -> Result<(), TestCaseError> {
        let router = self.router;
        match step {
            Step::Begin(who) => {
                let id = who.user.to_string();
                let guard = router.begin(&request(&id, who, &router.override_key()));
                self.books.started[guard.arm().index()] += 1;
                self.guards.push((self.clock.now(), self.splits, guard));
            }
            Step::BeginOwned(who) => {
                let id = who.user.to_string();
                let guard = router.begin_owned(&request(&id, who, &router.override_key()));
                self.books.started[guard.arm().index()] += 1;
                self.owned.push((self.clock.now(), self.splits, guard));
            }
            Step::End { which, status, elsewhere } => {
                self.end(which, Status::ALL[usize::from(status)], elsewhere);
            }
            Step::Leave { which } => {
                let which = usize::from(which);
                let (began, arm) = if which % 2 == 0 && !self.guards.is_empty() {
                    let (began, _, guard) = self.guards.swap_remove(which % self.guards.len());
                    (began, guard.arm())
                } else if !self.owned.is_empty() {
                    let (began, _, guard) = self.owned.swap_remove(which % self.owned.len());
                    (began, guard.arm())
                } else {
                    return Ok(());
                };
                let dropped = self.dropped(began);
                Met::note(&self.met.left_too_late, u64::from(dropped == Status::Timeout));
                self.books.end(arm, dropped);
            }
            Step::Predict(who, script) => self.predict(who, script)?,
            Step::Burst(calls) => {
                for user in 0..u64::from(calls) {
                    let guard = router.begin(&Request::of(user));
                    self.books.started[guard.arm().index()] += 1;
                    self.books.end(guard.arm(), Status::Ok);
                    guard.finish(Outcome::ok());
                }
            }
            Step::Shift(ppm) => shift(router, TrafficShare::from_ppm(ppm).unwrap()),
            Step::Expose(ppm) => {
                let share = TrafficShare::from_ppm(ppm).unwrap();
                router.switch().shift(&router.split().exposed(share)).unwrap();
            }
            Step::Promote => router.switch().shift(&router.split().promoted()).unwrap(),
            Step::RollBack => drop(router.switch().roll_back()),
            Step::Churn(times) => {
                let share = router.split().candidate;
                (0..times).for_each(|_| shift(router, share));
                self.splits += u64::from(times);
            }
            Step::Audience(number) => {
                router.set_audience(audience(number).as_ref()).unwrap();
            }
            Step::Arms(percents) => {
                let before = router.split();
                let table = percents.map(table);
                match router.set_arms(table.as_ref()) {
                    Ok(split) => prop_assert_eq!(split, router.split()),
                    Err(_) => {
                        Met::note(&self.met.refused_tables, 1);
                        prop_assert_eq!(before, router.split(), "what is in force stays");
                    }
                }
            }
            Step::Deploy => {
                self.names += 1;
                let _ = router.deploy(&format!("v{}", self.names), self.model());
            }
            Step::DeployArm(arm) => {
                self.names += 1;
                let name = format!("v{}", self.names);
                let put = router.deploy_arm(Arm::new(arm), &name, self.model());
                prop_assert!(put.is_err() || (2..8).contains(&arm));
            }
            Step::Retire => self.note_retired(&router.retire_idle()),
            Step::RetireArm(arm) => self.note_retired(&router.retire_arm(Arm::new(arm))),
            Step::Drain => drop(router.drain()),
            Step::Clock(second) => self.clock.set(Moment::from_secs(second)),
            Step::Truth(which) => {
                if !self.tickets.is_empty() {
                    // A second truth of the same ticket is refused, and neither ends a call.
                    let ticket = self.tickets[usize::from(which) % self.tickets.len()];
                    let _ = router.outcome(ticket, Outcome::correct(true));
                }
            }
            Step::Compare => self.compare()?,
        }
        Ok(())
    }

    fn note_retired(&self, retired: &Retired) {
        let draining = matches!(retired, Retired::StillDraining(_));
        Met::note(&self.met.draining, u64::from(draining));
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let router = self.router;
        prop_assert_eq!(&Books::of(router), &self.books);
        let mut held = [0; MAX_ARMS];
        self.guards.iter().for_each(|(_, _, guard)| held[guard.arm().index()] += 1);
        self.owned.iter().for_each(|(_, _, guard)| held[guard.arm().index()] += 1);
        let in_flight = router.totals().iter().map(|arm| arm.in_flight()).collect::<Vec<_>>();
        prop_assert_eq!(in_flight, held.to_vec());
        // What the models say: each call began once, ended once, and on the arm it was counted for.
        let [begun, answered, failed, panicked, left] = self.asked.counts();
        prop_assert_eq!(begun, self.calls);
        for arm in 0..MAX_ARMS {
            let ended = answered[arm] + failed[arm] + panicked[arm] + left[arm];
            prop_assert_eq!(begun[arm], ended);
        }
        // The split in force: no more than all, and what segments have adds up to it.
        let snapshot = router.snapshot();
        for (arm, counts) in snapshot.arms.iter().enumerate() {
            prop_assert_eq!(counts.started, counts.finished() + counts.in_flight());
            prop_assert!(counts.started <= self.books.started[arm]);
            let segments = snapshot.segments.iter().filter_map(|one| one.arm(Arm::new(arm as u8)));
            let apart: u64 = segments.map(|tally| tally.ended.iter().sum::<u64>()).sum();
            prop_assert_eq!(apart + counts.detail_lost, counts.finished());
        }
        Met::note(&self.met.stale, snapshot.stale);
        Ok(())
    }
}

/// How a history begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    fallback: Fallback,
    /// The router rolls back by itself after panics.
    trips: bool,
    /// All eight arms have models and shares.
    stocked: bool,
}

fn start() -> impl Strategy<Value = Start> {
    let fallback =
        prop_oneof![Just(Fallback::Never), Just(Fallback::OnPanic), Just(Fallback::OnFailure)];
    (fallback, any::<bool>(), any::<bool>()).prop_map(|(fallback, trips, stocked)| Start {
        fallback,
        trips,
        stocked,
    })
}

fn history(start: Start, steps: Vec<Step>, met: &Met) -> Result<(), TestCaseError> {
    let Start { fallback, trips, stocked } = start;
    let clock = ManualClock::new();
    let asked = Arc::<Asked>::default();
    let stable = Scripted { asked: Arc::clone(&asked), clock: clock.clone(), bad_baseline: false };
    let mut builder = Router::builder("books")
        .clock(clock.clone())
        .deadline(DEADLINE)
        .fallback(fallback)
        // Who finds no room is told apart in `limit.rs`.
        .candidate_limit(CandidateLimit::Unlimited)
        .segments(["free", "paid"])
        .size(Size { arms: MAX_ARMS, shards: 1, records: 8, subjects: 64 });
    if trips {
        builder = builder.trip_after_panics(2);
    }
    let router = builder.stable("old", stable).build().unwrap();
    let mut history = History {
        router: &router,
        clock,
        asked,
        fallback,
        met,
        guards: Vec::new(),
        owned: Vec::new(),
        tickets: Vec::new(),
        books: Books::default(),
        calls: [0; MAX_ARMS],
        splits: 0,
        names: 0,
    };
    if stocked {
        let mut first = vec![Step::Deploy];
        first.extend((2..MAX_ARMS as u8).map(Step::DeployArm));
        first.extend([Step::Shift(200_000), Step::Arms(Some([10; MAX_ARMS - 2]))]);
        first.into_iter().try_for_each(|step| history.walk(step))?;
    }
    for step in steps {
        history.walk(step)?;
    }
    history.compare()?;
    for (began, _, guard) in std::mem::take(&mut history.guards) {
        let dropped = history.dropped(began);
        history.books.end(guard.arm(), dropped);
    }
    for (began, _, guard) in std::mem::take(&mut history.owned) {
        let dropped = history.dropped(began);
        history.books.end(guard.arm(), dropped);
    }
    history.compare()?;
    prop_assert_eq!(history.books.in_flight(), [0; MAX_ARMS]);
    let totals = router.totals();
    Met::note(&met.spilled, totals.iter().map(|arm| arm.detail_lost).sum());
    Met::note(&met.further_arms, totals[2..].iter().map(|arm| arm.started).sum());
    Ok(())
}

/// Rings of 8 records that are emptied now and then, so that most histories overflow them.
#[test]
fn every_call_that_began_ended_or_is_in_flight() {
    let met = Met::default();
    let all = (start(), vec(step(), 0..160));
    let run = |mut runner: TestRunner| {
        let run = runner.run(&all, |(start, steps)| history(start, steps, &met));
        run.unwrap_or_else(|error| panic!("{error}"));
    };
    let config = |cases| ProptestConfig {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // Always the same ones, so that what they meet is sure, and a few others each time.
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    run(TestRunner::new_with_rng(config(64), seed));
    met.assert_all();
    run(TestRunner::new(config(16)));
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
