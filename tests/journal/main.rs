//! A rollout that is written down comes back, whatever happened to the process or the disk.

mod damaged;
mod full_disk;
mod killed;
mod one_writer;
mod second_writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use pilotage::alert::Alert;
use pilotage::alert::alerter::ChannelAlerter;
use pilotage::clock::ManualClock;
use pilotage::control::Pilot;
use pilotage::control::journal_file::{Durability, JournalFile, JournalStore};
use pilotage::control::orders::{Did, OrderError};
use pilotage::control::start::{ResumeError, StartError};
use pilotage::date::Date;
use pilotage::ids::{Arm, Epoch};
use pilotage::judge::guardrail::Guardrail;
use pilotage::machine::Order;
use pilotage::model::{self, FnModel};
use pilotage::outcome::Outcome;
use pilotage::rollout::journal::{Journal, JournalError};
use pilotage::rollout::pipeline::{End, Rollout};
use pilotage::rollout::plan::Plan;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

type Stub = FnModel<
    u64,
    &'static str,
    String,
    Box<dyn Fn(&u64) -> Result<&'static str, String> + Send + Sync>,
>;

/// A disk in memory, which can be made to fail and remembers each state it was in.
#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Option<Vec<u8>>>>,
    states: Arc<Mutex<Vec<Vec<u8>>>>,
    full: Arc<AtomicBool>,
    aside: Arc<AtomicU64>,
    /// Room that was reserved, and whether it can be written.
    room: Arc<Mutex<Option<Vec<u8>>>>,
    broken: Arc<AtomicBool>,
    copies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Disk {
    fn holding(bytes: &[u8]) -> Self {
        let disk = Self::default();
        *disk.bytes.lock() = Some(bytes.to_vec());
        disk
    }

    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::Error::other("disk full")) } else { Ok(()) }
    }

    fn now(&self) -> Vec<u8> {
        self.bytes.lock().clone().unwrap_or_default()
    }
}

impl JournalStore for Disk {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.bytes.lock().clone())
    }

    fn append(&mut self, bytes: &[u8], _: Durability) -> io::Result<()> {
        self.check()?;
        let mut all = self.bytes.lock();
        all.get_or_insert_default().extend(bytes);
        self.states.lock().push(all.clone().unwrap());
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        *self.bytes.lock() = Some(bytes.to_vec());
        self.states.lock().push(bytes.to_vec());
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        *self.bytes.lock() = None;
        *self.room.lock() = None;
        self.aside.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        *self.room.lock() = Some(bytes.to_vec());
        Ok(())
    }

    fn kept(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.room.lock().clone())
    }

    fn keep_damaged(&mut self, bytes: &[u8]) -> io::Result<String> {
        self.check()?;
        let mut copies = self.copies.lock();
        copies.push(bytes.to_vec());
        Ok(format!("copy {}", copies.len()))
    }
}

/// A process: what a restart loses.
struct Process {
    clock: ManualClock,
    router: Router<Stub, ManualClock>,
    errs: Arc<AtomicBool>,
    next: u64,
    candidate_calls: Arc<AtomicU64>,
}

impl Process {
    fn new(stable: &'static str, epoch: Epoch) -> Self {
        let (clock, errs) = (ManualClock::new(), Arc::new(AtomicBool::new(false)));
        let router = Router::builder("journal-test")
            .stable(stable, stub(stable, &clock, &Arc::default(), &Arc::default()))
            .epoch(epoch)
            .clock(clock.clone())
            .build()
            .unwrap();
        Self { clock, router, errs, next: 0, candidate_calls: Arc::default() }
    }

    fn candidate(&self) -> Arc<Stub> {
        Arc::new(stub("v2", &self.clock, &self.errs, &self.candidate_calls))
    }

    fn run(&mut self, pilot: &Pilot, seconds: u64) {
        for _ in 0..seconds {
            for _ in 0..60 {
                self.next += 1;
                let _ = self.router.predict_sync(&Request::of(self.next), &0);
            }
            self.clock.advance(Duration::from_millis(990));
            pilot.tick();
        }
    }

    fn start(&self, disk: &Disk) -> (Pilot, Receiver<Alert>) {
        let (sender, alerts) = sync_channel(64);
        let pilot = Pilot::builder()
            .alerter(ChannelAlerter(sender))
            .wall_clock(|| Date::from_unix(1_774_747_800))
            .journal(disk.clone())
            .start(&self.router, "v2", self.candidate(), plan())
            .unwrap();
        (pilot, alerts)
    }

    fn resume(&self, disk: &Disk) -> Result<Pilot, ResumeError> {
        let (sender, _alerts) = sync_channel(64);
        Pilot::builder()
            .alerter(ChannelAlerter(sender))
            .wall_clock(|| Date::from_unix(1_774_747_800))
            .journal(disk.clone())
            .resume(&self.router, self.candidate())
    }
}

fn stub(
    name: &'static str,
    clock: &ManualClock,
    errs: &Arc<AtomicBool>,
    calls: &Arc<AtomicU64>,
) -> Stub {
    let (clock, errs, calls) = (clock.clone(), Arc::clone(errs), Arc::clone(calls));
    model::sync(Box::new(move |_: &u64| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        clock.advance(Duration::from_micros(100 + call % 20));
        if errs.load(Ordering::Relaxed) { Err(format!("{name} fails")) } else { Ok(name) }
    }))
}

fn plan() -> Plan {
    plan_of(Duration::from_secs(20))
}

fn plan_of(minute: Duration) -> Plan {
    let floored = |guardrail: Guardrail| {
        if guardrail.measure.is_rate() { guardrail.floor(0.05) } else { guardrail }
    };
    let guardrails: Vec<_> = Guardrail::standard().into_iter().map(floored).collect();
    Plan::builder()
        .canary(TrafficShare::percent(20.0).unwrap(), minute, 50)
        .canary(TrafficShare::HALF, minute, 50)
        .full(minute, 50)
        .guardrails(&guardrails)
        .build()
        .unwrap()
}

/// How far a rollout is: stages, then its end.
fn rank(pilot: &Pilot) -> usize {
    if pilot.is_over() { 100 } else { pilot.status().step.0 }
}

#[test]
fn a_process_that_is_killed_at_any_write_comes_back_where_it_was_or_earlier() {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, _alerts) = world.start(&disk);
    let mut reached = vec![(disk.states.lock().len(), rank(&pilot))];
    for _ in 0..400 {
        world.run(&pilot, 1);
        reached.push((disk.states.lock().len(), rank(&pilot)));
        if pilot.is_over() {
            break;
        }
    }
    assert_eq!(pilot.end(), Some(End::Promoted), "{}", pilot.status().reason);
    let states = disk.states.lock().clone();
    assert!(states.len() > 40);
    let (mut earlier, mut stages) = (0, std::collections::BTreeSet::new());
    // Every fifth write, and all around each step.
    let steps: Vec<usize> =
        reached.windows(2).filter(|w| w[0].1 != w[1].1).map(|w| w[1].0).collect();
    for (number, state) in states.iter().enumerate() {
        let near = steps.iter().any(|step| step.abs_diff(number) < 6);
        if number % 9 != 0 && !near {
            continue;
        }
        let was = reached.iter().find(|(writes, _)| *writes > number).map_or(100, |one| one.1);
        // Whoever starts the process anew loads the model that was the baseline last.
        let promoted = Rollout::resume(state).unwrap().promoted;
        let again = Process::new(if promoted { "v2" } else { "v1" }, Epoch::default());
        let resumed = again.resume(&Disk::holding(state)).unwrap();
        assert!(rank(&resumed) <= was, "write {number}: {} after {was}", rank(&resumed));
        earlier = earlier.max(rank(&resumed));
        stages.insert(resumed.status().stage);
        let share = again.router.split().candidate;
        assert_eq!(share, resumed.status().wanted, "what was meant is in force again");
        assert!(Journal::read(state).unwrap().replay().is_ok());
    }
    assert_eq!((earlier, stages.len()), (100, 3), "{stages:?}");
}

#[test]
fn evidence_and_history_come_back_and_the_rollout_ends_as_it_would_have() {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, _alerts) = world.start(&disk);
    world.run(&pilot, 10);
    let before = pilot.status();
    assert!(before.samples.0 > 50);
    let ticket = loop {
        world.next += 1;
        let answer = world.router.predict_sync(&Request::of(world.next), &0).unwrap();
        if answer.arm == Arm::CANDIDATE {
            break answer.ticket;
        }
    };
    drop(pilot);

    let recovered = Rollout::resume(&disk.now()).unwrap();
    let mut world = Process::new("v1", recovered.epoch());
    let posted = world.router.outcome(ticket, Outcome::correct(true));
    assert!(posted.is_ok(), "a ticket of before is known from the first request on: {posted:?}");
    let pilot = world.resume(&disk).unwrap();
    let after = pilot.status();
    assert_eq!(after.samples, before.samples, "the evidence is kept");
    assert_eq!(after.stage, before.stage);
    assert!(after.history.last().unwrap().why.contains("resumed"), "{:?}", after.history);
    world.run(&pilot, 200);
    assert_eq!(pilot.end(), Some(End::Promoted), "{}", pilot.status().reason);
    let text = pilot.history().to_string();
    for part in ["start -> 20 %", "resumed after a restart", "20 % -> 50 %", "-> promoted", "2026-"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[test]
fn an_abort_is_never_forgotten_and_a_promotion_is_finished() {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, _alerts) = world.start(&disk);
    world.run(&pilot, 5);
    pilot.abort("ann", "it smokes").unwrap();
    drop(pilot); // before any tick
    let again = Process::new("v1", Epoch::default());
    let resumed = again.resume(&disk).unwrap();
    assert_eq!(resumed.end(), Some(End::Aborted));
    assert_eq!(again.router.split().candidate, TrafficShare::NONE);
    assert_eq!(again.candidate_calls.load(Ordering::Relaxed), 0);
    assert!(resumed.history().to_string().contains("by ann"));

    // A rollout that is over makes room for the next, and its journal is kept.
    let (pilot, _alerts) = again.start(&disk);
    assert_eq!(disk.aside.load(Ordering::SeqCst), 1);
    let before = disk.states.lock().len();
    let done = pilot.order(Order::PromoteFully, "ann", "sure").unwrap();
    assert_eq!((done.did, pilot.end()), (Did::Done, Some(End::Promoted)));

    // Killed after it was written down, before it was done.
    let state = disk.states.lock()[before].clone();
    let third = Process::new("v1", Epoch::default());
    let resumed = third.resume(&Disk::holding(&state)).unwrap();
    resumed.tick();
    assert_eq!(third.router.model_name(Arm::BASELINE).unwrap().as_str(), "v2");
    // Killed after it was done: the router is built with the model that is the baseline.
    let fourth = Process::new("v2", Epoch::default());
    let resumed = fourth.resume(&disk).unwrap();
    assert_eq!(resumed.end(), Some(End::Promoted));
    // The former model is not loaded here, so nothing pretends that it could come back.
    assert_eq!(resumed.status().way_back_until, None);
    let late = resumed.abort("ann", "it smokes");
    assert!(matches!(late, Err(OrderError::TooLate { .. })), "{late:?}");
    assert_eq!(fourth.router.model_name(Arm::BASELINE).unwrap().as_str(), "v2");
    drop(resumed);
    let fifth = Process::new("v1", Epoch::default());
    let error = fifth.resume(&disk).unwrap_err();
    assert!(error.to_string().contains("baseline v2, and this is v1"), "{error}");
}

#[test]
fn a_full_disk_lets_a_candidate_go_down_and_never_up() {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, alerts) = world.start(&disk);
    world.run(&pilot, 3);
    disk.full.store(true, Ordering::SeqCst);
    world.run(&pilot, 120);
    let status = pilot.status();
    assert_eq!(
        (status.share, status.stage.as_str()),
        (TrafficShare::percent(20.0).unwrap(), "20 %")
    );
    assert!(status.journal.unwrap().gap.unwrap().contains("disk full"));
    let told: Vec<Alert> =
        std::iter::from_fn(|| alerts.recv_timeout(Duration::from_millis(300)).ok()).collect();
    assert_eq!(told.iter().filter(|alert| alert.key == "journal").count(), 1, "{told:?}");
    let refused = pilot.order(Order::PromoteStage, "ann", "now");
    assert!(matches!(refused, Err(OrderError::Unwritten { .. })), "{refused:?}");
    world.run(&pilot, 2);
    assert_eq!(pilot.status().stage, "20 %");

    disk.full.store(false, Ordering::SeqCst);
    world.run(&pilot, 2);
    assert_eq!(pilot.status().stage, "50 %", "the evidence was kept: {}", pilot.status().reason);
    assert!(Journal::read(&disk.now()).unwrap().replay().is_ok());

    disk.full.store(true, Ordering::SeqCst);
    world.errs.store(true, Ordering::Relaxed);
    world.run(&pilot, 10);
    assert_eq!(pilot.end(), Some(End::RolledBack), "{}", pilot.status().reason);
    assert_eq!(world.router.split().candidate, TrafficShare::NONE);
    disk.full.store(false, Ordering::SeqCst);
    world.run(&pilot, 1);
    assert!(matches!(
        Process::new("v1", Epoch::default()).resume(&disk).unwrap().end(),
        Some(End::RolledBack)
    ));
}

#[test]
fn what_cannot_be_resumed_is_named_and_left_as_it_is() {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, _alerts) = world.start(&disk);
    world.run(&pilot, 3);
    drop(pilot);
    let good = disk.now();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    for bytes in [Vec::new(), b"what".to_vec(), good[..20].to_vec(), flipped] {
        let process = Process::new("v1", Epoch::default());
        let disk = Disk::holding(&bytes);
        let error = process.resume(&disk).unwrap_err();
        assert!(matches!(error, ResumeError::Journal(_)), "{error}");
        let again = process.router.predict_sync(&Request::of(1_u64), &0).unwrap();
        assert_eq!(again.output, "v1", "stable serves");
        assert!(process.router.model_name(Arm::CANDIDATE).is_none());
        let start = Pilot::builder().journal(disk.clone()).start(
            &process.router,
            "v2",
            process.candidate(),
            plan(),
        );
        assert!(matches!(start, Err(StartError::Journal(_))));
        assert_eq!(disk.now(), bytes, "the bytes stay as they are");
    }
    let unfinished = Process::new("v1", Epoch::default());
    let start = Pilot::builder().journal(disk.clone()).start(
        &unfinished.router,
        "v2",
        unfinished.candidate(),
        plan(),
    );
    assert!(matches!(start, Err(StartError::Unfinished { .. })));
    assert!(matches!(unfinished.resume(&Disk::default()), Err(ResumeError::Nothing)));
    assert!(matches!(
        Process::new("v9", Epoch::default()).resume(&disk),
        Err(ResumeError::Other { what: "baseline", .. })
    ));
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pilotage-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_file_is_replaced_whole_and_nothing_is_overwritten() {
    let folder = folder("file");
    let path = folder.join("rollout.journal");
    let mut file = JournalFile::new(&path);
    assert!(file.append(b"x", Durability::Written).is_err(), "it was not begun");
    file.replace(b"one").unwrap();
    file.append(b" two", Durability::Synced).unwrap();
    assert_eq!(file.read().unwrap().unwrap(), b"one two");
    file.replace(b"three").unwrap();
    assert_eq!(std::fs::read(folder.join("rollout.journal.old")).unwrap(), b"one two");

    std::fs::write(&path, b"somebody else's").unwrap();
    let error = file.append(b"!", Durability::Written).unwrap_err();
    assert!(error.to_string().contains("somebody else"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody else's");

    let mut file = JournalFile::new(&path);
    file.note_stop(b"stop").unwrap();
    file.set_aside().unwrap();
    assert_eq!(std::fs::read(folder.join("rollout.journal.1.stop")).unwrap(), b"stop");
    assert!(file.stops().unwrap().is_empty());
    std::fs::write(&path, b"again").unwrap();
    file.set_aside().unwrap();
    assert_eq!(std::fs::read(folder.join("rollout.journal.1")).unwrap(), b"somebody else's");
    assert_eq!(std::fs::read(folder.join("rollout.journal.2")).unwrap(), b"again");
    assert_eq!(file.read().unwrap(), None);

    // A folder in the place of the new file: nothing can be written, the old one stays.
    file.lock().unwrap();
    file.replace(b"good").unwrap();
    std::fs::create_dir(folder.join("rollout.journal.new")).unwrap();
    assert!(file.replace(b"lost").is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"good");

    // Something that large is something else.
    let large = std::fs::File::create(&path).unwrap();
    large.set_len(pilotage::control::journal_file::MOST_BYTES + 1).unwrap();
    assert!(file.read().unwrap_err().to_string().contains("is the path right"));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A file that does not wait for the disk.
struct Unsynced(JournalFile);

impl JournalStore for Unsynced {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.0.read()
    }

    fn append(&mut self, bytes: &[u8], _: Durability) -> io::Result<()> {
        self.0.append(bytes, Durability::Written)
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.replace(bytes)
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.0.set_aside()
    }
}

#[test]
fn a_journal_does_not_grow_for_ever() {
    let folder = folder("grow");
    let path = folder.join("rollout.journal");
    let mut world = Process::new("v1", Epoch::default());
    let pilot = Pilot::builder()
        .alerter(ChannelAlerter(sync_channel(64).0))
        .wall_clock(|| Date::from_unix(0))
        .journal(Unsynced(JournalFile::new(&path)))
        .start(&world.router, "v2", world.candidate(), plan())
        .unwrap();
    pilot.order(Order::Pause, "ann", &"a long reason ".repeat(70)).unwrap();
    let mut most = 0;
    for round in 0..4_000 {
        let order = if round % 2 == 0 { Order::Resume } else { Order::Pause };
        pilot.order(order, "ann", &"a long reason ".repeat(70)).unwrap();
        if round % 400 == 0 {
            world.run(&pilot, 1);
            most = most.max(std::fs::metadata(&path).unwrap().len());
        }
        if round % 50 == 0 {
            pilot.tick();
        }
    }
    assert!(most < 24 << 20, "{most} bytes");
    assert!(std::fs::metadata(folder.join("rollout.journal.old")).is_ok(), "it was begun anew");
    let bytes = std::fs::read(&path).unwrap();
    assert!(!matches!(Rollout::resume(&bytes), Err(JournalError::Damaged { .. })));
    std::fs::remove_dir_all(folder).unwrap();
}

/// All that the candidate had begun in the last second before the process died never ended, and
/// none of the baseline's calls: at half of the traffic, and again at all of it.
#[test]
fn calls_that_a_restart_cut_off_are_no_hang() {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let builder = Pilot::builder().journal(disk.clone());
    let plan = plan_of(Duration::from_secs(180));
    let mut pilot = builder.start(&world.router, "v2", world.candidate(), plan).unwrap();
    for stage in ["50 %", "100 %"] {
        for _ in 0..600 {
            if pilot.status().stage != stage {
                world.run(&pilot, 1);
            }
        }
        assert_eq!(pilot.status().stage, stage, "{}", pilot.status().reason);
        world.run(&pilot, 20);
        let calls = (0..400_u64).map(|user| world.router.begin_owned(&Request::of(user)));
        let mut cut_off: Vec<_> = calls.collect();
        cut_off.retain(|call| call.arm() == Arm::CANDIDATE);
        assert!(cut_off.len() > 100);
        pilot.tick();
        let started = pilot.status().arms[1].in_flight;
        assert_eq!(started, cut_off.len() as u64, "they were seen to begin");
        drop(pilot);

        let epoch = Rollout::resume(&disk.now()).unwrap().epoch();
        let dead = std::mem::replace(&mut world, Process::new("v1", epoch));
        pilot = world.resume(&disk).unwrap();
        assert_eq!(pilot.status().stage, stage);
        world.run(&pilot, 100);
        assert_ne!(pilot.end(), Some(End::RolledBack), "{}", pilot.status().reason);
        drop((cut_off, dead));
    }
    world.run(&pilot, 400);
    assert_eq!(pilot.end(), Some(End::Promoted), "{}", pilot.status().reason);
}
