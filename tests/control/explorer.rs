//! All sequences of orders, ticks, answers and crashes up to some length, each on a real pilot.
//!
//! The journal and the switch outside answer when the sequence says so and not before, and the
//! pilot waits for neither, so every interleaving of an order with what is on its way is one
//! sequence and runs alike each time. After each step the promises are checked: a stop answered is
//! a stop kept, the candidate never has more than was ordered, nothing is given before it is
//! written. At the end all calls are answered, and books, journal, split and switch must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilotage::alert::Alert;
use pilotage::clock::ManualClock;
use pilotage::control::Pilot;
use pilotage::control::orders::{Did, OrderError, Receipt, Recorded};
use pilotage::control::status::Status;
use pilotage::date::Date;
use pilotage::machine::Order;
use pilotage::rollout::pipeline::{End, Rollout, State};
use pilotage::rollout::plan::Plan;
use pilotage::route::switch::{Slot, Split};
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

use crate::gate::{Answer, Kept, Paper, Proxy};
use crate::{Behaviour, Stub, stub};

/// One step of a sequence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Tick,
    Order(Order),
    /// Somebody pulls the cord at the router.
    Hand,
    Journal(Answer),
    Switch(Answer),
    /// The process dies; what the journal was writing is lost, or came through. Another goes on.
    Crash(Lost),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lost {
    Yes,
    No,
}

const STEPS: [Step; 13] = [
    Step::Tick,
    Step::Order(Order::PromoteStage),
    Step::Order(Order::PromoteFully),
    Step::Order(Order::Pause),
    Step::Order(Order::Resume),
    Step::Order(Order::Abort),
    Step::Order(Order::Kill),
    Step::Hand,
    Step::Journal(Answer::Ok),
    Step::Journal(Answer::Fails),
    Step::Switch(Answer::Ok),
    Step::Switch(Answer::Fails),
    Step::Crash(Lost::Yes),
];

/// Where sequences begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Root {
    /// Just started: the first share waits for the switch.
    Begun,
    /// The first share is in force everywhere.
    AtFive,
    /// The next share was ordered and waits for the journal.
    Promoting,
    /// The same, written down: it waits for the switch.
    Raising,
    /// A promotion was ordered and waits for the switch.
    Finishing,
    /// Promoted, and can be taken back.
    Promoted,
}

const ROOTS: [Root; 6] =
    [Root::Begun, Root::AtFive, Root::Promoting, Root::Raising, Root::Finishing, Root::Promoted];

/// More than any share: the candidate is the baseline.
const PROMOTED: u32 = 1_000_001;
const SHARES: [u32; 4] = [50_000, 500_000, 1_000_000, PROMOTED];

/// What a split gives the candidate.
fn exposure(split: Split) -> u32 {
    if split.primary == Slot::Second { PROMOTED } else { split.candidate.ppm() }
}

fn plan() -> Plan {
    let hour = Duration::from_secs(3600);
    Plan::builder()
        .canary(TrafficShare::percent(5.0).unwrap(), hour, 1_000_000)
        .canary(TrafficShare::HALF, hour, 1_000_000)
        .full(hour, 1_000_000)
        .build()
        .unwrap()
}

/// A process, and what must hold of it.
struct World {
    router: Router<Stub, ManualClock>,
    pilot: Pilot,
    paper: Paper,
    proxy: Proxy,
    /// The most that was ordered for the candidate.
    ordered: u32,
    stop: Option<Stop>,
    /// Paused while the candidate had so much.
    paused: Option<u32>,
    /// Whether the stop, and the pause, were answered as written.
    stop_written: bool,
    pause_written: bool,
    /// How many calls of the switch were looked at.
    looked_at: usize,
    seen: BTreeSet<&'static str>,
    /// What went wrong already.
    broken: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stop {
    Ordered,
    /// While the candidate had so much: the switch outside may be told of that once more before
    /// the pilot looks again.
    ByHand(u32),
}

type Checked = Result<(), String>;

fn router(stable: &'static str) -> (Router<Stub, ManualClock>, Arc<Stub>) {
    let clock = ManualClock::new();
    let model = |name| stub(name, &clock, &Arc::<Behaviour>::default());
    let router = Router::builder("explorer")
        .stable(stable, model(stable))
        .clock(clock.clone())
        .build()
        .unwrap();
    (router, Arc::new(model("v2")))
}

impl World {
    fn begin(root: Root) -> Self {
        let (router, model) = router("v1");
        let paper = Paper::holding(Kept::default());
        let proxy = Proxy::at(router.split());
        paper.gate.open();
        let pilot = builder(&paper, &proxy).start(&router, "v2", model, plan()).unwrap();
        let mut world = Self {
            router,
            pilot,
            paper,
            proxy,
            ordered: SHARES[0],
            stop: None,
            paused: None,
            stop_written: false,
            pause_written: false,
            looked_at: 0,
            seen: BTreeSet::new(),
            broken: None,
        };
        world.settle();
        if root != Root::Begun {
            world.rest();
        }
        match root {
            Root::Begun | Root::AtFive => {}
            Root::Promoting => {
                world.paper.gate.close();
                world.must(Step::Order(Order::PromoteStage));
            }
            Root::Raising => {
                world.proxy.gate.close();
                world.must(Step::Order(Order::PromoteStage));
                world.pilot.tick();
            }
            Root::Finishing => {
                world.proxy.gate.close();
                world.must(Step::Order(Order::PromoteFully));
                world.pilot.tick();
            }
            Root::Promoted => {
                world.must(Step::Order(Order::PromoteFully));
                world.rest();
            }
        }
        world.settle();
        world.paper.gate.close();
        world.proxy.gate.close();
        world
    }

    fn must(&mut self, step: Step) {
        assert!(self.take(step), "{step:?}");
        self.settle();
    }

    /// Until the journal and the switch are idle, or wait at their gates.
    fn settle(&self) -> Status {
        let begun = now();
        loop {
            let status = self.pilot.status();
            let writes = status.journal.as_ref().is_some_and(|one| one.waiting > 0);
            let calls = status.switch.as_ref().is_some_and(|one| one.busy);
            let journal = !writes || self.paper.gate.is_waiting();
            let switch = !calls || self.proxy.gate.is_waiting();
            if journal && switch {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not settle: {status:?}");
            thread::yield_now();
        }
    }

    fn may(&self, step: Step) -> bool {
        match step {
            Step::Journal(_) | Step::Crash(Lost::No) => self.paper.gate.is_waiting(),
            Step::Switch(_) => self.proxy.gate.is_waiting(),
            Step::Tick | Step::Order(_) | Step::Hand | Step::Crash(Lost::Yes) => true,
        }
    }

    /// Takes a step. Says whether anything can have come of it.
    fn take(&mut self, step: Step) -> bool {
        let status = self.pilot.status();
        let waits = status.change.as_ref().map(|change| change.waits_for);
        match step {
            Step::Tick => _ = self.pilot.tick(),
            Step::Order(order) => {
                let answer = self.pilot.order(order, "ann", "as the test wants it");
                return self.answered(order, &status, waits, answer);
            }
            Step::Hand => {
                let before = self.router.split();
                self.router.switch().roll_back();
                if self.pilot.end().is_none() {
                    self.stop = self.stop.or(Some(Stop::ByHand(exposure(before))));
                }
                self.note(waits, ["hand while the journal writes", "hand while the switch obeys"]);
            }
            Step::Journal(answer) => self.paper.gate.answer(answer),
            Step::Switch(answer) => self.proxy.gate.answer(answer),
            Step::Crash(lost) => {
                self.note(
                    waits,
                    ["crash while the journal writes", "crash while the switch obeys"],
                );
                self.crash(lost);
            }
        }
        true
    }

    fn note(&mut self, waits: Option<&str>, what: [&'static str; 2]) {
        match waits {
            Some("the journal") => _ = self.seen.insert(what[0]),
            Some("the switch") => _ = self.seen.insert(what[1]),
            _ => {}
        }
    }

    fn answered(
        &mut self,
        order: Order,
        before: &Status,
        waits: Option<&str>,
        answer: Result<Receipt, OrderError>,
    ) -> bool {
        let receipt = match answer {
            Ok(receipt) => receipt,
            Err(_) if order.stops() && before.end.is_none() => {
                self.broken = Some("a stop was refused".to_owned());
                return true;
            }
            // Nothing was touched.
            Err(OrderError::Busy { .. } | OrderError::Over { .. }) => return false,
            Err(_) => return true,
        };
        let written = receipt.recorded == Recorded::Written;
        match (order, receipt.did) {
            (Order::PromoteStage, Did::Done | Did::Pending { .. }) => {
                self.ordered = self.ordered.max(SHARES[before.step.0]);
            }
            (Order::PromoteFully, Did::Done | Did::Pending { .. }) => self.ordered = PROMOTED,
            (Order::Pause, Did::Paused) => {
                self.paused = Some(exposure(self.router.split()));
                self.pause_written = written;
                self.note(
                    waits,
                    ["pause while the journal writes", "pause while the switch obeys"],
                );
            }
            (Order::Resume, Did::Done) => (self.paused, self.pause_written) = (None, false),
            (Order::Abort | Order::Kill, did) => {
                if did == Did::TookPromotionBack {
                    self.seen.insert("a promotion taken back");
                }
                if let Did::AlreadyOver { end: End::RolledBack | End::Refused } = did {
                    return true;
                }
                self.stop = Some(Stop::Ordered);
                self.stop_written |= written;
                self.paused = None;
                self.note(waits, ["stop while the journal writes", "stop while the switch obeys"]);
                return !matches!(did, Did::AlreadyOver { .. });
            }
            _ => {}
        }
        true
    }

    /// The process is gone; another finds what was kept.
    fn crash(&mut self, lost: Lost) {
        let kept = self.paper.kept.lock().clone();
        let kept = if lost == Lost::Yes { kept.lost() } else { kept.written() };
        let proxy = self.proxy.again();
        let promoted = Rollout::resume(kept.bytes.as_ref().unwrap()).unwrap().promoted;
        // What was kept beside the journal may know of a promotion that was taken back.
        let loaded = if promoted { ["v2", "v1"] } else { ["v1", "v2"] };
        let mut resumed = Err(String::new());
        for stable in loaded {
            let (router, model) = router(stable);
            let paper = Paper::holding(kept.clone());
            paper.gate.open();
            match builder(&paper, &proxy).resume(&router, model) {
                Ok(pilot) => {
                    resumed = Ok((router, pilot, paper, stable == "v2"));
                    break;
                }
                Err(error) => resumed = resumed.map_err(|why| format!("{why} {error}")),
            }
        }
        let (router, pilot, paper, promoted) = match resumed {
            Ok(resumed) => resumed,
            Err(why) => {
                self.broken = Some(format!("it cannot be resumed: {why}"));
                return;
            }
        };
        // What the old one does from now on, it does to things of its own.
        self.paper.gate.open();
        self.proxy.gate.open();
        (self.router, self.pilot, self.paper, self.proxy) = (router, pilot, paper, proxy);
        self.looked_at = 0;
        self.settle();
        self.paper.gate.close();
        // What was not answered as written may be forgotten.
        if !self.stop_written {
            self.stop = None;
        }
        if !self.pause_written {
            self.paused = None;
        }
        if promoted {
            self.seen.insert("crash after a promotion");
        }
    }

    /// What must hold at any time.
    fn check(&mut self) -> Checked {
        let status = self.settle();
        let split = self.router.split();
        let here = exposure(split);
        if let Some(waits) = status.change.as_ref().map(|change| change.waits_for) {
            self.seen.insert(if waits == "the journal" {
                "waits for it to be written"
            } else {
                waits
            });
        }
        let is = |holds: bool, what: &str| -> Checked {
            if holds { Ok(()) } else { Err(format!("{what}; {split:?}")) }
        };
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        is(here <= self.ordered, "the candidate has more than was ordered")?;
        let begun = self.proxy.begun.lock().clone();
        let news = begun[self.looked_at.min(begun.len())..].iter().map(|order| exposure(*order));
        let most = news.max().unwrap_or(0);
        self.looked_at = begun.len();
        is(most <= self.ordered, "the switch was told to give more than was ordered")?;
        if self.stop == Some(Stop::Ordered) {
            is(here == 0, "the candidate has traffic after a stop")?;
            let ended = matches!(status.end, Some(End::Aborted | End::Killed));
            is(ended, "the books forgot a stop")?;
            is(most == 0, "the switch was told to raise after a stop")?;
        }
        if let Some(Stop::ByHand(had)) = self.stop {
            is(most <= had, "the switch was told to raise after a hand")?;
            is(split.candidate == TrafficShare::NONE, "the candidate has a share after a hand")?;
            is(status.end != Some(End::Promoted), "promoted after a hand")?;
        }
        if let Some(paused) = self.paused.filter(|_| self.stop.is_none()) {
            is(here <= paused, "the share rose during a pause")?;
            is(most <= paused, "the switch was told to raise during a pause")?;
            let kept = status.paused.is_some() || status.end.is_some();
            is(kept, "the books forgot a pause")?;
        }
        // What is given was written before; a restart would know of it.
        let bytes = self.paper.kept.lock().bytes.clone().unwrap();
        let found = Rollout::resume(&bytes).map_err(|error| error.to_string())?;
        let promoted =
            matches!(found.rollout.state(), State::Ended(one) if one.end == End::Promoted);
        let written = if promoted { PROMOTED } else { found.rollout.share().ppm() };
        let told = if matches!(self.stop, Some(Stop::ByHand(_))) { 0 } else { most };
        is(told.max(here) <= written, "it was given before it was written")?;
        if status.end.is_none() {
            is(self.router.own_traffic("bob by hand").is_err(), "two owners")?;
        }
        Ok(())
    }

    /// Answers everything and ticks until nothing is left to do.
    fn rest(&self) -> Status {
        self.paper.gate.open();
        self.proxy.gate.open();
        let mut last = self.settle();
        for _ in 0..50 {
            self.pilot.tick();
            let status = self.settle();
            let journal = status.journal.as_ref().is_none_or(|one| one.gap.is_none());
            let switch = status.switch.as_ref().is_none_or(|one| !one.owes_back);
            let change = status.change.is_none() || status.paused.is_some();
            let same = (&status.at, status.end) == (&last.at, last.end);
            last = status;
            if journal && switch && change && same {
                break;
            }
        }
        last
    }

    /// Once nothing moves any more: books, journal, split and switch outside say the same.
    fn agree(&mut self) -> Checked {
        self.rest();
        self.check()?;
        let (status, split) = (self.pilot.status(), self.router.split());
        let told = *self.proxy.in_force.lock();
        let is = |holds: bool, what: &str| -> Checked {
            if holds {
                return Ok(());
            }
            let (change, end) = (&status.change, status.end);
            Err(format!("at rest {what}: {split:?}, outside {told:?}, {end:?}, {change:?}"))
        };
        // A paused rollout that a restart found stays at nobody here until it is resumed.
        if status.paused.is_some() && status.change.is_some() {
            return is(split.candidate == TrafficShare::NONE, "a paused one has traffic");
        }
        is(
            (told.candidate, told.primary) == (split.candidate, split.primary),
            "the switch differs",
        )?;
        let stopped = matches!(self.stop, Some(Stop::ByHand(_)));
        is(!stopped || status.end.is_some(), "the books do not know of a hand")?;
        let promoted = status.end == Some(End::Promoted);
        let baseline = status.baseline.as_str();
        is(promoted == (baseline == "v2"), "books and models differ")?;
        if status.end.is_some() {
            is(split.candidate == TrafficShare::NONE, "what is over has traffic")?;
        } else if status.paused.is_none() {
            is(split.candidate == status.wanted, "what is wanted is not in force")?;
        }
        let bytes = self.paper.kept.lock().bytes.clone().unwrap();
        let found = Rollout::resume(&bytes).map_err(|error| error.to_string())?;
        let end = match found.rollout.state() {
            State::Ended(ended) => Some(ended.end),
            _ => None,
        };
        is((end, found.rollout.at()) == (status.end, status.at.clone()), "the journal differs")
    }
}

impl Drop for World {
    /// Nobody waits at a gate that is left.
    fn drop(&mut self) {
        self.paper.gate.open();
        self.proxy.gate.open();
    }
}

fn builder(paper: &Paper, proxy: &Proxy) -> pilotage::control::start::PilotBuilder {
    Pilot::builder()
        .alerter(|_: &Alert| ())
        .wall_clock(|| Date::from_unix(1_774_747_800))
        .unattended_for_ever()
        .patience(Duration::ZERO)
        .journal(paper.clone())
        .switch(proxy.clone())
}

/// What came of one sequence.
struct Run {
    checked: Checked,
    seen: BTreeSet<&'static str>,
    /// What can come next.
    next: Vec<Step>,
}

fn run(root: Root, steps: &[Step]) -> Run {
    let mut world = World::begin(root);
    let mut checked = world.check();
    let mut touched = true;
    for step in steps {
        if checked.is_err() {
            break;
        }
        // Two writers at most: whoever is quicker may have answered by itself.
        if !world.may(*step) {
            touched = false;
            break;
        }
        touched = world.take(*step);
        checked = world.check();
    }
    let over = world.seen.contains("crash after a promotion");
    let next = if checked.is_err() || !touched || over {
        Vec::new()
    } else {
        let lost = [Step::Crash(Lost::No)];
        STEPS.iter().chain(&lost).filter(|step| world.may(**step)).copied().collect()
    };
    if checked.is_ok() && !over {
        checked = world.agree();
    }
    Run { checked, seen: std::mem::take(&mut world.seen), next }
}

#[derive(Default)]
struct Visited {
    sequences: u64,
    seen: BTreeMap<&'static str, u64>,
    violations: Vec<(Root, Vec<Step>, String)>,
}

/// All sequences of up to `depth` steps from each root.
fn explore(roots: &[Root], depth: usize) -> Visited {
    let work: Mutex<Vec<(Root, Vec<Step>)>> =
        Mutex::new(roots.iter().map(|root| (*root, Vec::new())).collect());
    let busy = AtomicUsize::new(0);
    let visited = Mutex::new(Visited::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = {
                        let mut work = work.lock();
                        let next = work.pop();
                        if next.is_some() {
                            busy.fetch_add(1, Ordering::SeqCst);
                        }
                        next
                    };
                    let Some((root, steps)) = next else {
                        if busy.load(Ordering::SeqCst) == 0 {
                            return;
                        }
                        thread::yield_now();
                        continue;
                    };
                    let Run { checked, seen, next } = run(root, &steps);
                    {
                        let mut visited = visited.lock();
                        visited.sequences += 1;
                        seen.into_iter()
                            .for_each(|what| *visited.seen.entry(what).or_default() += 1);
                        if let Err(why) = checked {
                            visited.violations.push((root, steps.clone(), why));
                        }
                    }
                    if steps.len() < depth {
                        let longer = next.into_iter().map(|step| {
                            let steps = steps.iter().copied().chain([step]).collect();
                            (root, steps)
                        });
                        work.lock().extend(longer);
                    }
                    busy.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    let mut visited = visited.into_inner();
    visited.violations.sort_by_key(|(_, steps, _)| steps.len());
    visited
}

fn explored(depth: usize) {
    let begun = now();
    let visited = explore(&ROOTS, depth);
    println!("{} sequences in {:.1?}: {:?}", visited.sequences, begun.elapsed(), visited.seen);
    let mut kinds = BTreeMap::<&str, u64>::new();
    for (_, _, why) in &visited.violations {
        *kinds.entry(why.split([';', ':']).next().unwrap()).or_default() += 1;
    }
    let first = visited.violations.iter().take(8);
    let shown: Vec<String> =
        first.map(|(root, steps, why)| format!("{root:?} {steps:?}: {why}")).collect();
    assert!(visited.violations.is_empty(), "{kinds:?}\n{}", shown.join("\n"));
    for what in REACHED {
        assert!(visited.seen.contains_key(what), "never reached: {what}");
    }
}

/// Without these the search would show nothing.
const REACHED: [&str; 12] = [
    "waits for it to be written",
    "the switch",
    "stop while the journal writes",
    "stop while the switch obeys",
    "hand while the journal writes",
    "hand while the switch obeys",
    "pause while the journal writes",
    "pause while the switch obeys",
    "crash while the journal writes",
    "crash while the switch obeys",
    "crash after a promotion",
    "a promotion taken back",
];

const THREADS: usize = 3;

#[test]
fn every_short_sequence_of_orders_answers_and_crashes_keeps_the_promises() {
    explored(2);
}

/// Sequences that broke a promise once.
#[test]
fn sequences_that_broke_a_promise_once_keep_it() {
    use Order::{Abort, Kill, Pause, Resume};
    use Step::{Crash, Hand, Journal, Switch, Tick};
    let order = Step::Order;
    let found: [(Root, &[Step]); 9] = [
        // The journal had the step that was given up, and could not be read.
        (Root::Finishing, &[Hand]),
        (Root::Raising, &[Hand, Switch(Answer::Ok), Tick, Journal(Answer::Ok)]),
        // A step was asked of the switch after the hand.
        (Root::Promoting, &[Hand, Journal(Answer::Ok), Tick]),
        (Root::Begun, &[order(Pause), order(Resume), Hand]),
        // A look gave up the promotion that a restart had found decided.
        (Root::Finishing, &[Crash(Lost::Yes), Tick]),
        // A promotion that had been taken back could be resumed by nobody.
        (Root::Promoted, &[order(Abort), Crash(Lost::No)]),
        // The switch was told once what was in force, and not again where it refused.
        (Root::Finishing, &[Switch(Answer::Ok), order(Pause), Switch(Answer::Fails)]),
        (Root::Finishing, &[order(Kill), Crash(Lost::No), Switch(Answer::Fails)]),
        (Root::Promoted, &[order(Abort), Crash(Lost::No), Switch(Answer::Fails)]),
    ];
    for (root, steps) in found {
        let run = run(root, steps);
        assert_eq!(run.checked, Ok(()), "{root:?} {steps:?}");
    }
}

/// `cargo test --test control every_longer_sequence -- --ignored --nocapture`
#[test]
#[ignore = "it takes minutes"]
fn every_longer_sequence_keeps_the_promises() {
    let depth = std::env::var("PILOTAGE_DEPTH").ok().and_then(|depth| depth.parse().ok());
    explored(depth.unwrap_or(4));
}

#[expect(clippy::disallowed_methods, reason = "how long a search takes is about this machine")]
fn now() -> Instant {
    Instant::now()
}
