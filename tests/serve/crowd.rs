//! The same conservation with many threads at once: guards that end on other threads, models that
//! come and go, a split that changes under them, and rings that are full.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use pilotage::clock::{ManualClock, StdClock};
use pilotage::ids::Arm;
use pilotage::observe::recorder::{MAX_ARMS, Size};
use pilotage::outcome::{Outcome, Status};
use pilotage::route::arms::ArmTable;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::builder::Fallback;
use pilotage::serve::guard::OwnedGuard;
use pilotage::serve::request::Request;
use pilotage::serve::router::{Retired, Router};
use pilotage::share::TrafficShare;

use crate::block_on;
use crate::ledger::{Asked, Books, Script, Scripted};

/// A small generator of its own, so that a seed means the same for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

type Passed = OwnedGuard<Scripted, StdClock>;

const WORKERS: u64 = 4;
const ROUNDS: usize = 10;
const CALLS: usize = 400;

/// One thread's calls in one round; what it saw is added to its books. Says how many panics came out
/// that no model made: a thread that panics here would leave the others waiting for ever.
fn work(
    router: &Router<Scripted>,
    dice: &mut Dice,
    books: &mut Books,
    pass: &Sender<Passed>,
    passed: &Mutex<Receiver<Passed>>,
) -> u64 {
    let mut escaped = 0;
    for _ in 0..CALLS {
        let user = dice.below(1_000);
        let request = Request::of(user);
        match dice.below(8) {
            0 => {
                let guard = router.begin_owned(&request);
                books.started[guard.arm().index()] += 1;
                pass.send(guard).unwrap();
            }
            1 => {
                let guard = passed.lock().unwrap().try_recv();
                if let Ok(guard) = guard {
                    let status = Status::ALL[dice.below(5) as usize];
                    let mut outcome = Outcome::ok();
                    outcome.status = status;
                    books.end_by_hand(guard.arm(), guard.diverted(), status);
                    guard.finish(outcome);
                }
            }
            2 => {
                let guard = router.begin(&request);
                books.started[guard.arm().index()] += 1;
                books.end_by_hand(guard.arm(), guard.diverted(), Status::Cancelled);
            }
            3 | 4 => {
                let guard = router.begin(&request);
                books.started[guard.arm().index()] += 1;
                books.end_by_hand(guard.arm(), guard.diverted(), Status::Error);
                guard.finish(Outcome::error());
            }
            more => {
                // Which arm it is the model alone knows; it keeps books too.
                let script = [Script::Answer, Script::Fail, Script::Panic][more as usize - 5];
                let call = || block_on(router.predict(request, &script));
                let heard = catch_unwind(AssertUnwindSafe(call));
                escaped += u64::from(script != Script::Panic && heard.is_err());
            }
        }
    }
    escaped
}

/// A table of all arms beyond two.
fn further() -> ArmTable {
    let share = TrafficShare::from_ppm(60_000).unwrap();
    ArmTable::new((2..MAX_ARMS as u8).map(|arm| (Arm::new(arm), share))).unwrap()
}

/// What came of asking for models back.
#[derive(Default)]
struct Asks {
    gone: u64,
    /// Calls had it; it stayed.
    draining: u64,
    /// It went under a call that had it.
    wrong: u64,
}

impl Asks {
    /// Asks until it is gone, or for as long as somebody waits who does nothing else.
    fn ask(&mut self, retire: impl Fn() -> Retired) {
        for _ in 0..500 {
            match retire() {
                Retired::Gone(_) => self.gone += 1,
                Retired::StillDraining(_) => {
                    self.draining += 1;
                    thread::yield_now();
                    continue;
                }
                _ => {}
            }
            return;
        }
    }

    /// At a moment at which nobody else calls: a model that a guard has stays, for the guard to end
    /// on whichever thread gets it, and those that no guard has go.
    fn ask_for_one_in_use(
        &mut self,
        router: &Router<Scripted>,
        model: impl Fn() -> Scripted,
        books: &mut Books,
        pass: &Sender<Passed>,
    ) {
        let some = TrafficShare::from_ppm(100_000).unwrap();
        router.switch().shift(&router.split().shifted(some)).unwrap();
        for arm in 2..MAX_ARMS as u8 {
            let _ = router.deploy_arm(Arm::new(arm), "further", model());
        }
        router.set_arms(Some(&further())).unwrap();
        let mut guard = router.begin_owned(&Request::of(0_u64));
        books.started[guard.arm().index()] += 1;
        // Six further arms have a third of the users.
        for user in 1..1_000_u64 {
            if guard.arm().index() > 1 {
                break;
            }
            books.end_by_hand(guard.arm(), guard.diverted(), Status::Cancelled);
            guard = router.begin_owned(&Request::of(user));
            books.started[guard.arm().index()] += 1;
        }
        let _ = router.set_arms(None);
        for arm in 2..MAX_ARMS as u8 {
            let came = router.retire_arm(Arm::new(arm));
            self.gone += u64::from(matches!(came, Retired::Gone(_)));
            self.draining += u64::from(matches!(came, Retired::StillDraining(_)));
            let in_use = Arm::new(arm) == guard.arm();
            self.wrong += u64::from(in_use && !matches!(came, Retired::StillDraining(1..)));
        }
        pass.send(guard).unwrap();
    }
}

/// What an operator in a hurry does.
fn operate(
    router: &Router<Scripted>,
    dice: &mut Dice,
    model: &impl Fn() -> Scripted,
    asks: &mut Asks,
) {
    let split = router.split();
    let share = TrafficShare::from_ppm(dice.below(600_000) as u32).unwrap();
    match dice.below(10) {
        0 | 1 => drop(router.switch().shift(&split.shifted(share))),
        2 => drop(router.switch().shift(&split.promoted())),
        3 => drop(router.switch().roll_back()),
        4 => drop(router.deploy("next", model())),
        5 => {
            // Takes its traffic away first: calls begin until that moment and a little after it.
            let _ = router.switch().roll_back();
            asks.ask(|| router.retire_idle());
        }
        6 => {
            let _ = router.set_arms((dice.below(3) > 0).then_some(&further()));
        }
        7 => {
            let arm = Arm::new(2 + dice.below(6) as u8);
            let _ = router.deploy_arm(arm, "further", model());
        }
        8 => {
            let arm = Arm::new(2 + dice.below(6) as u8);
            let _ = router.set_arms(None);
            asks.ask(|| router.retire_arm(arm));
        }
        _ => drop(router.drain()),
    }
}

/// Says how many calls found no room at the candidate.
fn crowd(seed: u64, fallback: Fallback) -> u64 {
    let asked = Arc::<Asked>::default();
    let model =
        || Scripted { asked: Arc::clone(&asked), clock: ManualClock::new(), bad_baseline: false };
    let router = Router::builder("crowd")
        .fallback(fallback)
        .size(Size { arms: MAX_ARMS, shards: 2, records: 64, subjects: 64 })
        .stable("old", model())
        .build()
        .unwrap();
    router.deploy("new", model()).unwrap();
    for arm in 2..MAX_ARMS as u8 {
        router.deploy_arm(Arm::new(arm), "further", model()).unwrap();
    }
    router
        .switch()
        .shift(&router.split().shifted(TrafficShare::from_ppm(200_000).unwrap()))
        .unwrap();
    router.set_arms(Some(&further())).unwrap();
    let (pass, passed) = channel();
    let passed = Mutex::new(passed);
    let all = Mutex::new(Books::default());
    // Workers, operator and whoever compares meet twice a round: before and after comparing.
    let meet = Barrier::new(WORKERS as usize + 2);
    let asks = Mutex::new(Asks::default());
    // Rounds that workers have finished, all together.
    let finished = AtomicU64::new(0);
    let escaped = AtomicU64::new(0);
    let mut wrong = None;
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let (pass, passed, router, all, meet) = (pass.clone(), &passed, &router, &all, &meet);
            let (finished, escaped) = (&finished, &escaped);
            scope.spawn(move || {
                let mut dice = Dice((seed << 8) | (number + 1));
                for _ in 0..ROUNDS {
                    let mut books = Books::default();
                    let loose = work(router, &mut dice, &mut books, &pass, passed);
                    escaped.fetch_add(loose, Ordering::Relaxed);
                    finished.fetch_add(1, Ordering::SeqCst);
                    all.lock().unwrap().add(&books);
                    meet.wait();
                    meet.wait();
                }
            });
        }
        scope.spawn(|| {
            let mut dice = Dice((seed << 8) | 0xff);
            for round in 1..=ROUNDS as u64 {
                loop {
                    operate(&router, &mut dice, &model, &mut asks.lock().unwrap());
                    // Until the slowest worker is done.
                    if finished.load(Ordering::SeqCst) == round * WORKERS {
                        break;
                    }
                    thread::yield_now();
                }
                meet.wait();
                meet.wait();
            }
        });
        for round in 0..ROUNDS {
            meet.wait();
            let compared = catch_unwind(AssertUnwindSafe(|| {
                compare(seed, round, &router, &all.lock().unwrap(), &asked);
            }));
            if let (None, Err(first)) = (&wrong, compared) {
                wrong = Some(first);
            }
            let mut books = all.lock().unwrap();
            asks.lock().unwrap().ask_for_one_in_use(&router, model, &mut books, &pass);
            drop(books);
            meet.wait();
        }
    });
    drop(pass);
    if let Some(wrong) = wrong {
        resume_unwind(wrong);
    }
    assert_eq!(escaped.into_inner(), 0, "panics that no model made");
    let mut held = 0;
    while let Ok(guard) = passed.lock().unwrap().try_recv() {
        all.lock().unwrap().end_by_hand(guard.arm(), guard.diverted(), Status::Cancelled);
        held += 1;
    }
    compare(seed, ROUNDS, &router, &all.lock().unwrap(), &asked);
    let totals = router.totals();
    assert!(totals.iter().all(|arm| arm.in_flight() == 0));
    let met = |count: u64, what| assert!(count > 0, "seed {seed} never met {what}");
    met(held, "a guard that outlived its round");
    met(totals.iter().map(|arm| arm.detail_lost).sum(), "a full ring");
    met(totals[2..].iter().map(|arm| arm.started).sum(), "an arm beyond two");
    let asks = asks.lock().unwrap();
    assert_eq!(asks.wrong, 0, "models that went under a call");
    met(asks.gone, "a model that was retired");
    met(asks.draining, "a model that calls still had");
    totals.iter().map(|arm| arm.diverted).sum()
}

/// A quiescent point: nobody calls. The router's books are the workers' for the calls begun by
/// hand, plus the models' for those it made itself.
fn compare(seed: u64, round: usize, router: &Router<Scripted>, by_hand: &Books, asked: &Asked) {
    let counted = Books::of(router);
    let [begun, answered, failed, panicked, left] = asked.counts();
    assert_eq!(left, [0; MAX_ARMS]);
    let stood_in: u64 = counted.fell_back.iter().sum();
    // Calls that found no room: those begun by hand no model knows of, the others the baseline answered.
    let diverted: [u64; MAX_ARMS] =
        std::array::from_fn(|arm| counted.diverted[arm] - by_hand.diverted[arm]);
    let by_baseline: u64 = stood_in + diverted.iter().sum::<u64>();
    let mut asked_in_all = 0;
    for arm in 0..MAX_ARMS {
        let what = format!("seed {seed}, round {round}, arm {arm}");
        let (started, ended) = (counted.started[arm], counted.ended[arm]);
        let hand = by_hand.ended[arm];
        // Who stands in is asked as the baseline and counts for the arm that failed.
        let own = started - by_hand.started[arm];
        let answers = ended[0] - hand[0];
        if arm == 0 {
            assert_eq!(begun[0], own + by_baseline, "{what}: begun");
            assert_eq!(answered[0], answers + by_baseline, "{what}: answered");
        } else {
            assert_eq!(begun[arm], own - diverted[arm], "{what}: begun");
            assert_eq!(answered[arm], answers - diverted[arm], "{what}: answered");
        }
        assert_eq!(failed[arm], ended[1] - hand[1], "{what}: failed");
        assert_eq!(ended[2], hand[2], "{what}: timed out");
        assert_eq!(ended[3], hand[3], "{what}: cancelled");
        assert_eq!(panicked[arm], ended[4] - hand[4], "{what}: panicked");
        asked_in_all += own;
    }
    assert!(asked_in_all > 0);
}

#[test]
fn a_crowd_of_threads_loses_no_call_while_everything_changes() {
    let diverted: u64 = (1..=3).map(|seed| crowd(seed, Fallback::Never)).sum();
    assert!(diverted > 0, "the candidate always had room");
}

#[test]
fn a_crowd_counts_whom_the_baseline_stood_in_for_once() {
    for seed in 4..=6 {
        let _ = crowd(seed, Fallback::OnFailure);
    }
}
