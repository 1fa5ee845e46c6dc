//! One rollout in a storm: eight threads of orders, one that ticks, two of requests, and
//! dependencies that misbehave. What must hold meanwhile, and afterwards at rest, is counted.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilotage::alert::Alert;
use pilotage::control::Pilot;
use pilotage::control::journal_file::{Durability, JournalStore};
use pilotage::control::orders::{Did, Recorded};
use pilotage::ids::Arm;
use pilotage::judge::guardrail::Guardrail;
use pilotage::machine::Order;
use pilotage::model::{self, FnModel};
use pilotage::observe::sink::{MetricsSink, SinkError};
use pilotage::observe::window::Window;
use pilotage::rollout::pipeline::{End, Rollout, State};
use pilotage::rollout::plan::Plan;
use pilotage::route::switch::{Slot, Split, SwitchError, TrafficSwitch};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;
use pilotage::sim::inject::{Fault, Injector};
use pilotage::sim::rng::Rng;

/// What is done to each dependency, once the rollout has begun.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub journal: Fault,
    pub switch: Fault,
    pub sink: Fault,
    pub alerter: Fault,
}

/// What is wrong, and how often.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rollouts: u64,
    /// What must not be, by what it is; the first few with their seeds.
    pub violations: BTreeMap<&'static str, u64>,
    pub seeds: Vec<(u64, &'static str)>,
    /// For each kind of order: how many, the slowest answer, and the time from the order to the last
    /// request on the candidate.
    pub orders: BTreeMap<&'static str, Times>,
    pub ends: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub given: u64,
    pub taken: u64,
    pub slowest_answer: Duration,
    pub last_wrong_request: Duration,
}

impl Report {
    pub fn violated(&self) -> u64 {
        self.violations.values().sum()
    }

    pub fn add(&mut self, other: Self) {
        self.rollouts += other.rollouts;
        for (what, count) in other.violations {
            *self.violations.entry(what).or_default() += count;
        }
        self.seeds.extend(other.seeds);
        self.seeds.truncate(20);
        for (kind, times) in other.orders {
            let all = self.orders.entry(kind).or_default();
            all.given += times.given;
            all.taken += times.taken;
            all.slowest_answer = all.slowest_answer.max(times.slowest_answer);
            all.last_wrong_request = all.last_wrong_request.max(times.last_wrong_request);
        }
        for (end, count) in other.ends {
            *self.ends.entry(end).or_default() += count;
        }
    }
}

type Answer = Box<dyn Fn(&u64) -> Result<&'static str, String> + Send + Sync>;
type Stub = FnModel<u64, &'static str, String, Answer>;

fn named(name: &'static str, fails: &Arc<AtomicBool>) -> Stub {
    let fails = Arc::clone(fails);
    model::sync(Box::new(
        move |_: &u64| {
            if fails.load(SeqCst) { Err(name.to_owned()) } else { Ok(name) }
        },
    ))
}

/// A journal in memory, whose bytes can be looked at.
#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Option<Vec<u8>>>>,
    room: Arc<Mutex<Option<Vec<u8>>>>,
}

impl JournalStore for Disk {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.bytes.lock().clone())
    }

    fn append(&mut self, bytes: &[u8], _: Durability) -> io::Result<()> {
        self.bytes.lock().get_or_insert_default().extend(bytes);
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        *self.bytes.lock() = Some(bytes.to_vec());
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        *self.bytes.lock() = None;
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        *self.room.lock() = Some(bytes.to_vec());
        Ok(())
    }

    fn kept(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.room.lock().clone())
    }
}

/// A proxy outside: what it was told, and when.
#[derive(Clone)]
struct Proxy {
    in_force: Arc<Mutex<Split>>,
    /// When it was last told to give the candidate more than nothing.
    raised: Arc<AtomicU64>,
    clock: Arc<AtomicU64>,
}

impl TrafficSwitch for Proxy {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        if order.candidate > TrafficShare::NONE || order.primary == Slot::Second {
            self.raised.store(self.clock.fetch_add(1, SeqCst) + 1, SeqCst);
        }
        *self.in_force.lock() = *order;
        Ok(())
    }

    fn in_force(&self) -> Option<Split> {
        Some(*self.in_force.lock())
    }
}

struct Sink;

impl MetricsSink for Sink {
    fn name(&self) -> &str {
        "storm"
    }

    fn window(&self, _: &Window) -> Result<(), SinkError> {
        Ok(())
    }
}

/// What the threads of one rollout share.
struct Storm {
    router: Router<Stub>,
    pilot: Pilot,
    begun: Instant,
    /// Numbers what happens, so that of two things one is later.
    clock: Arc<AtomicU64>,
    /// After this nobody is on the candidate: the answer to an abort or kill. 0 before.
    stopped: AtomicU64,
    /// When the first stop that had an effect was ordered, in nanoseconds. 0 before.
    stop_ordered: AtomicU64,
    /// When the last request on the candidate began, in nanoseconds.
    last_candidate: AtomicU64,
    resumes: AtomicU64,
    resumes_done: AtomicU64,
    /// Whether another took the router over: v2's rollout is over then.
    taken_over: AtomicBool,
    /// Tries to begin another rollout.
    thirds: AtomicU64,
    over: AtomicBool,
    report: Mutex<Report>,
    seed: u64,
    proxy: Proxy,
}

impl Storm {
    fn stamp(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst) + 1
    }

    fn nanos(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn violated(&self, what: &'static str) {
        let mut report = self.report.lock();
        *report.violations.entry(what).or_default() += 1;
        if report.seeds.len() < 20 {
            report.seeds.push((self.seed, what));
        }
    }

    fn requests(&self, thread: u64) {
        let mut user = thread << 32;
        while !self.over.load(SeqCst) {
            user += 1;
            let (at, number) = (self.nanos(), self.stamp());
            let answer = self.router.predict_sync(&Request::of(user), &0);
            let by_candidate = match &answer {
                Ok(answer) => answer.output == "v2",
                Err(name) => name == "v2",
            };
            if by_candidate {
                self.last_candidate.fetch_max(at, SeqCst);
                let stopped = self.stopped.load(SeqCst);
                if stopped != 0 && number > stopped {
                    self.violated("a request met the candidate after a stop was answered");
                }
            }
            if user % 64 == 0 {
                thread::yield_now();
            }
        }
    }

    fn orders(&self, thread: u64, calm: Duration) {
        let mut random = Rng::new(self.seed.wrapping_mul(31).wrapping_add(thread));
        let count = 2 + random.below(5);
        for _ in 0..count {
            if random.chance(0.7) {
                let pause = calm.mul_f64(random.unit());
                thread::park_timeout(pause);
            }
            self.order(&mut random);
        }
    }

    fn order(&self, random: &mut Rng) {
        let who =
            ["ann", "", "bob\n", "a name that is far too long for a label; ".repeat(5).leak()];
        let who = if random.chance(0.8) { "ann" } else { who[random.below(4) as usize] };
        let at = self.pilot.at();
        let (kind, order) = match random.below(100) {
            0..=29 => ("promote_stage", Order::PromoteStage),
            30..=37 => ("promote_fully", Order::PromoteFully),
            38..=50 => ("pause", Order::Pause),
            51..=63 => ("resume", Order::Resume),
            64..=66 => ("approve", Order::Approve),
            67..=69 => ("extend", Order::Extend { by: Duration::from_secs(60) }),
            70..=77 => ("abort", Order::Abort),
            78..=81 => ("kill", Order::Kill),
            82..=92 => return self.status(),
            93..=96 => return self.second_start(random.chance(0.2)),
            _ => ("finish", Order::Finish),
        };
        if order == Order::Resume {
            self.resumes.fetch_add(1, SeqCst);
        }
        // None is under way, or it may end the pause legitimately.
        let done = self.resumes_done.load(SeqCst);
        let resumes = self.resumes.load(SeqCst);
        let resumes = if resumes == done { resumes } else { u64::MAX };
        let ordered = self.nanos();
        let begun = now();
        let answer = if random.chance(0.5) {
            self.pilot.order(order, who, "a storm")
        } else {
            self.pilot.order_at(&at, order, who, "a storm")
        };
        let took = begun.elapsed();
        if order == Order::Resume {
            self.resumes_done.fetch_add(1, SeqCst);
        }
        match &answer {
            Ok(receipt) => self.taken(order, &receipt.did, &receipt.recorded, ordered, resumes),
            Err(error) if order.stops() => {
                // A stop is refused only where there is nothing to stop any more.
                let over = self.pilot.end().is_some();
                if !over {
                    eprintln!("{order} was refused: {error}");
                    self.violated("a stop was refused");
                }
            }
            Err(_) => {}
        }
        let mut report = self.report.lock();
        let times = report.orders.entry(kind).or_default();
        times.given += 1;
        times.taken += u64::from(answer.is_ok());
        times.slowest_answer = times.slowest_answer.max(took);
    }

    fn taken(&self, order: Order, did: &Did, _: &Recorded, ordered: u64, resumes: u64) {
        match (order, did) {
            (Order::Abort | Order::Kill, Did::Stopped | Did::TookPromotionBack) => {
                let number = self.stamp();
                let _ = self.stopped.compare_exchange(0, number, SeqCst, SeqCst);
                let _ = self.stop_ordered.compare_exchange(0, ordered.max(1), SeqCst, SeqCst);
                let split = self.router.split();
                let third = self.thirds.load(SeqCst) > 0;
                if split.candidate > TrafficShare::NONE && !third {
                    self.violated("the split gives the candidate something after a stop");
                }
                if self.proxy.raised.load(SeqCst) > number {
                    self.violated("the switch outside was told to raise after a stop");
                }
            }
            (Order::Pause, Did::Paused) => {
                let first = self.router.split();
                for _ in 0..20 {
                    thread::yield_now();
                    let now = self.router.split();
                    let raised = now.candidate > first.candidate
                        || first.primary == Slot::First && now.primary == Slot::Second;
                    if raised
                        && self.pilot.end().is_none()
                        && self.resumes.load(SeqCst) == resumes
                        && !self.taken_over.load(SeqCst)
                    {
                        self.violated("the share rose during a pause");
                        return;
                    }
                }
            }
            _ => {}
        }
    }

    fn status(&self) {
        let begun = now();
        let status = self.pilot.status();
        let took = begun.elapsed();
        let mut report = self.report.lock();
        let times = report.orders.entry("status").or_default();
        (times.given, times.taken) = (times.given + 1, times.taken + 1);
        times.slowest_answer = times.slowest_answer.max(took);
        drop(report);
        if status.share > TrafficShare::ALL {
            self.violated("a share above everybody");
        }
    }

    /// Another rollout on the same router, refused or by force.
    fn second_start(&self, by_force: bool) {
        self.thirds.fetch_add(1, SeqCst);
        let mut builder = Pilot::builder().alerter(|_: &Alert| ());
        if by_force {
            self.taken_over.store(true, SeqCst);
            builder = builder.take_over();
        }
        let owner = self.router.owner();
        let model = Arc::new(named("v3", &Arc::default()));
        let begun = builder.start(&self.router, "v3", model, slow_plan());
        match begun {
            Ok(third) => {
                let may = by_force || owner.is_none() || !self.is_live();
                if !may {
                    self.violated("two owners");
                }
                self.taken_over.store(true, SeqCst);
                let _ = third.abort("storm", "enough");
            }
            Err(_) if by_force && self.is_live() => {
                // Calls of the first may hold the model still.
            }
            Err(_) => {}
        }
    }

    fn is_live(&self) -> bool {
        let status = self.pilot.status();
        status.end.is_none() || status.way_back_until.is_some()
    }
}

fn slow_plan() -> Plan {
    let hour = Duration::from_secs(3600);
    let percent = |share| TrafficShare::percent(share).unwrap();
    Plan::builder()
        .canary(percent(5.0), hour, 1_000_000)
        .canary(percent(25.0), hour, 1_000_000)
        .canary(percent(50.0), hour, 1_000_000)
        .full(hour, 1_000_000)
        .build()
        .unwrap()
}

fn quick_plan() -> Plan {
    let rates: Vec<_> = Guardrail::standard()
        .into_iter()
        .filter(|guardrail| guardrail.measure.is_rate())
        .map(|guardrail| guardrail.floor(0.5))
        .collect();
    let moment = Duration::from_millis(1);
    Plan::builder()
        .canary(TrafficShare::HALF, moment, 10)
        .full(moment, 10)
        .guardrails(&rates)
        .build()
        .unwrap()
}

/// What a watch reads.
#[expect(clippy::disallowed_methods, reason = "a storm lives in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// One rollout; what was wrong with it.
pub fn rollout(seed: u64, faults: Faults) -> Report {
    let mut random = Rng::new(seed);
    let [journal, switch, sink, alerter] = [(); 4].map(|()| Injector::default());
    let (good, bad) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let router = Router::builder("storm")
        .stable("v1", named("v1", &good))
        .sink(sink.wrap(Sink))
        .build()
        .unwrap();
    let clock = Arc::new(AtomicU64::new(0));
    let disk = Disk::default();
    let proxy = Proxy {
        in_force: Arc::new(Mutex::new(router.split())),
        raised: Arc::default(),
        clock: Arc::clone(&clock),
    };
    let (kept, outside) = (random.chance(0.7), random.chance(0.6));
    let mut builder = Pilot::builder().alerter(alerter.wrap(|_: &Alert| ()));
    if kept {
        builder = builder.journal(journal.wrap(disk.clone()));
    }
    if outside {
        builder = builder.switch(switch.wrap(proxy.clone()));
    }
    let plan = if random.chance(0.3) { quick_plan() } else { slow_plan() };
    let model = Arc::new(named("v2", &bad));
    let pilot = builder.start(&router, "v2", model, plan).unwrap();
    journal.set(faults.journal);
    switch.set(faults.switch);
    sink.set(faults.sink);
    alerter.set(faults.alerter);
    let storm = Storm {
        router,
        pilot,
        begun: now(),
        clock,
        stopped: AtomicU64::new(0),
        stop_ordered: AtomicU64::new(0),
        last_candidate: AtomicU64::new(0),
        resumes: AtomicU64::new(0),
        resumes_done: AtomicU64::new(0),
        taken_over: AtomicBool::new(false),
        thirds: AtomicU64::new(0),
        over: AtomicBool::new(false),
        report: Mutex::default(),
        seed,
        proxy,
    };
    let turns_bad = random.chance(0.2);
    thread::scope(|scope| {
        let storm = &storm;
        for thread in 0..2 {
            scope.spawn(move || storm.requests(thread));
        }
        scope.spawn(|| {
            while !storm.over.load(SeqCst) {
                storm.pilot.tick();
                thread::park_timeout(Duration::from_micros(200));
            }
        });
        let calm = Duration::from_micros(200 + random.below(2_000));
        let ordering: Vec<_> =
            (0..8).map(|thread| scope.spawn(move || storm.orders(thread, calm))).collect();
        if turns_bad {
            thread::park_timeout(calm);
            bad.store(true, SeqCst);
        }
        let mut lost = false;
        for thread in ordering {
            lost |= thread.join().is_err();
        }
        if lost {
            storm.violated("an order panicked");
        }
        // Requests go on for a moment: what would be raised late is raised now.
        thread::park_timeout(Duration::from_micros(500));
        storm.over.store(true, SeqCst);
    });
    for injector in [&journal, &switch, &sink, &alerter] {
        injector.set(Fault::None);
    }
    at_rest(&storm, kept.then_some(&disk), outside);
    let mut report = storm.report.lock().clone();
    report.rollouts = 1;
    let end = storm.pilot.end().map_or("under way", End::word);
    *report.ends.entry(end).or_default() += 1;
    let ordered = storm.stop_ordered.load(SeqCst);
    if ordered > 0 {
        let last = storm.last_candidate.load(SeqCst).saturating_sub(ordered);
        let times = report.orders.entry("abort").or_default();
        times.last_wrong_request = times.last_wrong_request.max(Duration::from_nanos(last));
    }
    report
}

/// Once nothing moves any more: books, journal, split and switch outside say the same.
fn at_rest(storm: &Storm, disk: Option<&Disk>, outside: bool) {
    let pilot = &storm.pilot;
    for _ in 0..400 {
        pilot.tick();
        let status = pilot.status();
        let journal = status.journal.as_ref();
        let written = journal.is_none_or(|one| one.gap.is_none() && one.waiting == 0);
        let told = status.switch.as_ref().is_none_or(|one| !one.owes_back && !one.busy);
        if written && told && (status.change.is_none() || status.paused.is_some()) {
            break;
        }
        thread::park_timeout(Duration::from_millis(2));
    }
    let (status, split) = (pilot.status(), storm.router.split());
    let baseline = storm.router.model_name(Arm::BASELINE).map(String::from);
    let promoted = status.end == Some(End::Promoted);
    let taken_over = storm.taken_over.load(SeqCst);
    let stopped = storm.stopped.load(SeqCst) != 0;
    if stopped && !matches!(status.end, Some(End::Aborted | End::Killed)) {
        storm.violated("the books forgot a stop");
    }
    if promoted != (baseline.as_deref() == Some("v2")) {
        eprintln!(
            "seed {}: {baseline:?} {:?} {split:?} taken over: {taken_over} {:#?}",
            storm.seed, status.end, status.history
        );
        storm.violated("books and models differ");
    }
    if status.end.is_some() && split.candidate > TrafficShare::NONE {
        eprintln!(
            "seed {}: {split:?}, owner {:?}, {:?}",
            storm.seed,
            storm.router.owner(),
            status.end
        );
        storm.violated("a rollout that is over gives the candidate something");
    }
    let paused = status.paused.is_some();
    if status.end.is_none() && !paused && !taken_over && split.candidate != status.wanted {
        storm.violated("what is wanted is not in force at rest");
    }
    if outside {
        let told = *storm.proxy.in_force.lock();
        if (told.candidate, told.primary) != (split.candidate, split.primary) {
            eprintln!(
                "seed {}: outside {told:?}, here {split:?}, {:?}, {:?}, taken over: {taken_over}",
                storm.seed, status.end, status.change
            );
            storm.violated("the switch outside differs from the split at rest");
        }
    }
    let Some(disk) = disk else { return };
    let Some(bytes) = disk.bytes.lock().clone() else {
        return storm.violated("the journal is gone");
    };
    match Rollout::resume(&bytes) {
        Ok(found) => {
            let end = match found.rollout.state() {
                State::Ended(ended) => Some(ended.end),
                _ => None,
            };
            if end != status.end || found.rollout.at() != status.at {
                storm.violated("books and journal differ at rest");
            }
            if found.promoted && !promoted && !stopped && !taken_over {
                // A promotion that was taken back by evidence is noted as in force once.
                let back = matches!(end, Some(End::RolledBack | End::Aborted | End::Killed));
                if !back {
                    storm.violated("the journal knows of a promotion that the books do not");
                }
            }
        }
        Err(error) => {
            eprintln!("seed {}: {error}", storm.seed);
            storm.violated("the journal cannot be read at rest");
        }
    }
}
