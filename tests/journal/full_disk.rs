//! What is decided while nothing can be written is not forgotten.

use pilotage::control::orders::Recorded;
use pilotage::ids::Name;
use pilotage::machine::Command;
use pilotage::rollout::journal::{Entry, Position, Snapshot};
use pilotage::route::switch::{Split, SwitchError, TrafficSwitch};

use super::*;

/// A rollout at its first stage, on a disk that is full from now on.
fn on_a_full_disk() -> (Disk, Process, Pilot, Receiver<Alert>) {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, alerts) = world.start(&disk);
    world.run(&pilot, 3);
    disk.full.store(true, Ordering::SeqCst);
    (disk, world, pilot, alerts)
}

fn restarted(disk: &Disk) -> (Process, Pilot) {
    disk.full.store(false, Ordering::SeqCst);
    let again = Process::new("v1", Epoch::default());
    let resumed = again.resume(disk).unwrap();
    (again, resumed)
}

#[test]
fn a_rollback_on_a_full_disk_is_not_forgotten_over_a_crash() {
    let (disk, mut world, pilot, _alerts) = on_a_full_disk();
    world.errs.store(true, Ordering::Relaxed);
    world.run(&pilot, 10);
    assert_eq!(pilot.end(), Some(End::RolledBack), "{}", pilot.status().reason);
    let why = pilot.status().reason;
    assert!(!pilot.tick(), "it is kept, so a driver may end");
    drop(pilot); // before anything could be written

    let (mut again, resumed) = restarted(&disk);
    assert_eq!(resumed.end(), Some(End::RolledBack));
    assert_eq!(resumed.status().reason, why);
    again.run(&resumed, 5);
    assert_eq!(again.router.split().candidate, TrafficShare::NONE);
    assert_eq!(again.candidate_calls.load(Ordering::Relaxed), 0);

    // It is in the journal by now: what was kept is the older of the two, and does not come back.
    resumed.order(Order::Retry, "ann", "mended").unwrap();
    again.run(&resumed, 2);
    assert_eq!(again.router.split().candidate, TrafficShare::percent(20.0).unwrap());
    let (third, resumed) = restarted(&disk);
    assert_eq!(resumed.end(), None, "{}", resumed.status().reason);
    assert_eq!(third.router.split().candidate, TrafficShare::percent(20.0).unwrap());
}

#[test]
fn an_order_to_stop_on_a_full_disk_is_not_forgotten_over_a_crash() {
    for (order, end) in [(Order::Abort, End::Aborted), (Order::Kill, End::Killed)] {
        for ticked in [false, true] {
            let (disk, _world, pilot, _alerts) = on_a_full_disk();
            pilot.order(order, "ann", "it smokes").unwrap();
            if ticked {
                pilot.tick();
            }
            drop(pilot);
            let (again, resumed) = restarted(&disk);
            assert_eq!(resumed.end(), Some(end));
            assert_eq!(again.candidate_calls.load(Ordering::Relaxed), 0);
            assert!(resumed.history().to_string().contains("by ann"));
        }
    }
    let (disk, _world, pilot, _alerts) = on_a_full_disk();
    pilot.order(Order::Pause, "ann", "let me look").unwrap();
    drop(pilot);
    let (mut again, resumed) = restarted(&disk);
    again.run(&resumed, 60);
    assert_eq!(resumed.status().stage, "20 %", "{}", resumed.status().reason);
    assert!(resumed.history().to_string().contains("let me look"));
}

#[test]
fn a_rollback_that_no_disk_takes_is_told_at_once_and_written_as_soon_as_it_can_be() {
    let (disk, mut world, pilot, alerts) = on_a_full_disk();
    disk.broken.store(true, Ordering::SeqCst);
    let paused = pilot.order(Order::Pause, "ann", "let me look").unwrap();
    assert!(matches!(paused.recorded, Recorded::Failed { .. }), "{paused:?}");
    world.errs.store(true, Ordering::Relaxed);
    world.run(&pilot, 10);
    assert_eq!(pilot.end(), Some(End::RolledBack));
    assert!(pilot.tick(), "there is more to do until it is written");
    disk.full.store(false, Ordering::SeqCst);
    world.run(&pilot, 1);
    assert!(!pilot.tick());
    let told: Vec<Alert> =
        std::iter::from_fn(|| alerts.recv_timeout(Duration::from_millis(300)).ok()).collect();
    let unkept: Vec<bool> = told
        .iter()
        .filter(|alert| alert.key == "journal/unkept")
        .map(|alert| alert.resolved)
        .collect();
    assert_eq!(unkept, [false, true], "{told:?}");
    assert_eq!(restarted(&disk).1.end(), Some(End::RolledBack));
}

#[test]
fn what_was_kept_and_cannot_be_read_counts_as_a_rollback() {
    let (disk, mut world, pilot, _alerts) = on_a_full_disk();
    world.errs.store(true, Ordering::Relaxed);
    world.run(&pilot, 10);
    drop(pilot);
    let kept = disk.room.lock().clone().unwrap();
    for cut in (0..kept.len()).step_by(97) {
        *disk.room.lock() = Some(kept[..cut].to_vec());
        let bytes = disk.now();
        let (again, resumed) = restarted(&disk);
        assert_eq!(resumed.end(), Some(End::RolledBack), "cut at {cut}");
        assert_eq!(again.router.split().candidate, TrafficShare::NONE);
        *disk.bytes.lock() = Some(bytes);
    }
}

/// A switch outside this process, which remembers what this process forgets.
#[derive(Clone)]
struct Outside(Arc<Mutex<Split>>);

impl TrafficSwitch for Outside {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        *self.0.lock() = *order;
        Ok(())
    }

    fn in_force(&self) -> Option<Split> {
        Some(*self.0.lock())
    }
}

#[test]
fn a_switch_that_says_the_candidate_was_taken_back_is_believed_and_one_that_forgot_is_not() {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let switch = Outside(Arc::new(Mutex::new(world.router.split())));
    let builder = |switch: &Outside| {
        let builder = Pilot::builder().alerter(ChannelAlerter(sync_channel(64).0));
        builder
            .wall_clock(|| Date::from_unix(1_774_747_800))
            .journal(disk.clone())
            .switch(switch.clone())
    };
    let pilot = builder(&switch).start(&world.router, "v2", world.candidate(), plan()).unwrap();
    world.run(&pilot, 3);
    std::mem::forget(pilot); // as a process that is killed
    let (bytes, in_force) = (disk.now(), *switch.0.lock());
    let share = in_force.candidate;
    assert!(share > TrafficShare::NONE);
    let mut by_hand = in_force;
    by_hand.candidate = TrafficShare::NONE;
    // As it was; taken back later; taken back by hand, without a number; one that lost its memory.
    for (outside, comes_back) in [
        (in_force, true),
        (in_force.rolled_back(), false),
        (by_hand, false),
        (Split::default(), true),
    ] {
        *disk.bytes.lock() = Some(bytes.clone());
        let switch = Outside(Arc::new(Mutex::new(outside)));
        let again = Process::new("v1", Epoch::new(9));
        let resumed = builder(&switch).resume(&again.router, again.candidate()).unwrap();
        let status = resumed.status();
        let expected =
            if comes_back { (None, share) } else { (Some(End::RolledBack), TrafficShare::NONE) };
        assert_eq!(
            (resumed.end(), again.router.split().candidate),
            expected,
            "{outside:?}: {}",
            status.reason
        );
        assert_eq!(switch.0.lock().candidate, expected.1);
        if !comes_back {
            assert!(status.reason.contains("the switch says"), "{}", status.reason);
        }
    }
}

#[test]
fn a_file_keeps_in_its_room_what_cannot_be_appended() {
    let folder = folder("room");
    let path = folder.join("rollout.journal");
    let mut file = JournalFile::new(&path);
    assert!(file.keep(b"x").is_err(), "there is no room before a journal began");
    file.replace(b"one").unwrap();
    let room = folder.join("rollout.journal.room");
    let taken = std::fs::metadata(&room).unwrap().len();
    assert_eq!(file.kept().unwrap(), None);
    for bytes in [&b"taken back"[..], b"again", &[7; 100_000], b"last"] {
        file.keep(bytes).unwrap();
        assert_eq!(JournalFile::new(&path).kept().unwrap().unwrap(), bytes);
        assert_eq!(std::fs::metadata(&room).unwrap().len(), taken, "it needs no byte more");
    }
    let too_much = file.keep(&vec![1; usize::try_from(taken).unwrap()]).unwrap_err();
    assert_eq!(too_much.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.kept().unwrap().unwrap(), b"last", "what was kept stays");

    // Each flipped bit of the head is noticed.
    let good = std::fs::read(&room).unwrap();
    for bit in 0..128 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&room, &flipped).unwrap();
        assert_ne!(file.kept().unwrap().unwrap(), b"last", "bit {bit}");
    }
    std::fs::write(&room, &good).unwrap();
    // With a larger journal it is larger, and what is kept then is gone with what it was kept for.
    file.replace(&vec![1; 300_000]).unwrap();
    assert_eq!(file.kept().unwrap(), None);
    assert!(std::fs::metadata(&room).unwrap().len() >= 1_200_000 && taken >= 256 << 10);
    file.replace(b"one").unwrap();
    file.keep(b"last").unwrap();
    // With the journal, it goes aside; another journal begins with nothing.
    file.set_aside().unwrap();
    assert_eq!(file.kept().unwrap(), None);
    assert!(folder.join("rollout.journal.1.room").exists());
    file.replace(b"two").unwrap();
    assert_eq!(file.kept().unwrap(), None);
    file.keep(b"of two").unwrap();
    // Somebody moves the journal away by hand: what was kept beside it is not the next one's.
    std::fs::remove_file(&path).unwrap();
    JournalFile::new(&path).replace(b"three").unwrap();
    assert_eq!(file.kept().unwrap(), None);
    std::fs::remove_dir_all(folder).unwrap();
}

/// A journal in a file whose disk fills up.
struct Filling(JournalFile, Arc<AtomicBool>);

impl Filling {
    fn check(&self) -> io::Result<()> {
        let full = self.1.load(Ordering::SeqCst);
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl JournalStore for Filling {
    fn lock(&mut self) -> io::Result<()> {
        self.0.lock()
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.0.read()
    }

    fn append(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        self.check()?;
        self.0.append(bytes, durability)
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        self.0.replace(bytes)
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.0.set_aside()
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.keep(bytes)
    }

    fn kept(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.0.kept()
    }
}

#[test]
fn a_rollback_is_kept_in_a_real_file_when_the_journal_cannot_be_written() {
    let folder = folder("keeps");
    let path = folder.join("rollout.journal");
    let full = Arc::new(AtomicBool::new(false));
    let mut world = Process::new("v1", Epoch::default());
    let builder = || {
        Pilot::builder()
            .alerter(ChannelAlerter(sync_channel(64).0))
            .wall_clock(|| Date::from_unix(0))
            .journal(Filling(JournalFile::new(&path), Arc::clone(&full)))
    };
    let pilot = builder().start(&world.router, "v2", world.candidate(), plan()).unwrap();
    world.run(&pilot, 3);
    full.store(true, Ordering::SeqCst);
    world.errs.store(true, Ordering::Relaxed);
    world.run(&pilot, 10);
    assert_eq!(pilot.end(), Some(End::RolledBack));
    drop(pilot);
    full.store(false, Ordering::SeqCst);
    let again = Process::new("v1", Epoch::default());
    let resumed = builder().resume(&again.router, again.candidate()).unwrap();
    assert_eq!(resumed.end(), Some(End::RolledBack));
    std::fs::remove_dir_all(folder).unwrap();
}

/// The snapshot that `disk` holds first, altered and written at that place.
fn kept_as(disk: &Disk, generation: u64, revision: u64, alter: impl Fn(&mut Snapshot)) -> Vec<u8> {
    let Entry::Snapshot(mut snapshot) =
        Journal::read(&disk.now()).unwrap().entries[0].entry.clone()
    else {
        panic!("it begins with a snapshot")
    };
    alter(&mut snapshot);
    let position = Position { generation, revision, epoch: Epoch::default() };
    Entry::Snapshot(snapshot).encode(position).unwrap()
}

#[test]
fn what_was_kept_counts_only_where_it_is_later_and_of_this_rollout() {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, _alerts) = world.start(&disk);
    world.run(&pilot, 3);
    drop(pilot);
    let (journal, last) = (disk.now(), Rollout::resume(&disk.now()).unwrap());
    assert_eq!(last.generation, 1);
    let abort = Command {
        order: Order::Abort,
        who: Name::new("ann").unwrap(),
        why: "it smokes".to_owned(),
        at: None,
    };
    let aborts = |snapshot: &mut Snapshot| snapshot.orders.push(abort.clone());
    let of_another = |snapshot: &mut Snapshot| {
        aborts(snapshot);
        snapshot.about.candidate = Name::new("v3").unwrap();
    };
    let of_another_try = |snapshot: &mut Snapshot| {
        aborts(snapshot);
        snapshot.about.begun = 7;
    };
    let (later, same) = (last.revision + 1, last.revision);
    for (kept, end) in [
        (kept_as(&disk, 1, later, aborts), Some(End::Aborted)),
        (kept_as(&disk, 1, same, aborts), None),
        // The generation first, then the number.
        (kept_as(&disk, 2, 1, aborts), Some(End::Aborted)),
        (kept_as(&disk, 0, later, aborts), None),
        (kept_as(&disk, 1, later, of_another), None),
        (kept_as(&disk, 2, later, of_another_try), None),
    ] {
        *disk.bytes.lock() = Some(journal.clone());
        *disk.room.lock() = Some(kept);
        assert_eq!(restarted(&disk).1.end(), end);
    }
    // Of a newer release: nobody here can say what it is.
    let mut newer = kept_as(&disk, 1, later, aborts);
    newer[4..6].copy_from_slice(&9_u16.to_le_bytes());
    let head = xxhash_rust::xxh3::xxh3_64(&newer[..32]);
    newer[32..40].copy_from_slice(&head.to_le_bytes());
    *disk.bytes.lock() = Some(journal);
    *disk.room.lock() = Some(newer);
    let refused = Process::new("v1", Epoch::default()).resume(&disk);
    let newer = JournalError::NewerVersion { version: 9, known: 2 };
    assert!(matches!(&refused, Err(ResumeError::Journal(error)) if *error == newer), "{refused:?}");
}
