//! Two processes write one journal, since nothing locks it. The later one wins, and what stopped the
//! earlier one is not lost.

use std::path::Path;

use pilotage::control::journal_file::Fenced;
use pilotage::ids::Name;
use pilotage::machine::{Command, Effect, Input, Shadowing};
use pilotage::rollout::journal::{Entry, Position, Recovered};

use super::*;

/// A journal in a file, on a file system without locks.
struct Unlocked(JournalFile);

impl JournalStore for Unlocked {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.0.read()
    }

    fn append(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        self.0.append(bytes, durability)
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
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

    fn keep_damaged(&mut self, bytes: &[u8]) -> io::Result<String> {
        self.0.keep_damaged(bytes)
    }

    fn note_stop(&mut self, note: &[u8]) -> io::Result<()> {
        self.0.note_stop(note)
    }

    fn stops(&mut self) -> io::Result<Vec<Vec<u8>>> {
        self.0.stops()
    }

    fn clear_stops(&mut self) -> io::Result<()> {
        self.0.clear_stops()
    }
}

/// Something that a store is asked for.
type Asked<'a> = &'a dyn Fn(&mut JournalFile) -> io::Result<()>;

fn builder(path: &Path) -> pilotage::control::start::PilotBuilder {
    Pilot::builder()
        .alerter(ChannelAlerter(sync_channel(64).0))
        .wall_clock(|| Date::from_unix(1_774_747_800))
        .journal(Unlocked(JournalFile::new(path)))
}

fn resumed(path: &Path) -> (Process, Pilot) {
    let process = Process::new("v1", Epoch::default());
    let pilot = builder(path).resume(&process.router, process.candidate()).unwrap();
    (process, pilot)
}

/// Two processes on one rollout, the second the later one.
fn two(path: &Path) -> ((Process, Pilot), (Process, Pilot)) {
    let mut first = Process::new("v1", Epoch::default());
    let pilot = builder(path).start(&first.router, "v2", first.candidate(), plan()).unwrap();
    first.run(&pilot, 3);
    ((first, pilot), resumed(path))
}

#[test]
fn the_earlier_process_goes_up_no_more_and_writes_nothing() {
    let folder = folder("fenced");
    let path = folder.join("rollout.journal");
    let ((mut first, earlier), (mut second, later)) = two(&path);
    let bytes = std::fs::read(&path).unwrap();
    first.run(&earlier, 200);
    assert_eq!(earlier.status().stage, "20 %", "{}", earlier.status().reason);
    let gap = earlier.status().journal.unwrap().gap.unwrap();
    assert!(gap.contains("somebody else wrote to the journal"), "{gap}");
    let refused = earlier.order(Order::PromoteFully, "ann", "now");
    assert!(matches!(refused, Err(OrderError::Unwritten { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert!(!folder.join("rollout.journal.stop").exists(), "nothing stops it");
    second.run(&later, 300);
    assert_eq!(later.end(), Some(End::Promoted), "{}", later.status().reason);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_stops_the_earlier_process_stops_the_later_one_when_it_comes_back() {
    for (order, end) in [(Order::Abort, End::Aborted), (Order::Kill, End::Killed)] {
        for ticked in [false, true] {
            let folder = folder("stops");
            let path = folder.join("rollout.journal");
            let ((_, earlier), (mut second, later)) = two(&path);
            earlier.order(order, "ann", "it smokes").unwrap();
            if ticked {
                earlier.tick();
            }
            drop(earlier);
            second.run(&later, 5);
            drop(later);
            let (third, pilot) = resumed(&path);
            assert_eq!(pilot.end(), Some(end));
            assert!(pilot.status().reason.contains("ann: it smokes"), "{}", pilot.status().reason);
            assert_eq!(third.candidate_calls.load(Ordering::Relaxed), 0);
            drop(pilot);
            assert!(!folder.join("rollout.journal.stop").exists(), "it is in the journal now");
            assert_eq!(resumed(&path).1.end(), Some(end));
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}

#[test]
fn a_pause_of_the_earlier_process_is_found_too_and_it_shows_the_candidate_to_nobody() {
    let folder = folder("pauses");
    let path = folder.join("rollout.journal");
    let ((mut first, earlier), (_, later)) = two(&path);
    earlier.order(Order::Pause, "ann", "let me look").unwrap();
    drop(later);
    let (mut third, pilot) = resumed(&path);
    third.run(&pilot, 60);
    assert_eq!(pilot.status().stage, "20 %");
    assert!(pilot.history().to_string().contains("let me look"));
    drop(pilot);

    // The earlier one shows the candidate to nobody, so there is nothing to roll back there.
    first.run(&earlier, 2);
    assert_eq!(first.router.split().candidate, TrafficShare::NONE);
    first.errs.store(true, Ordering::Relaxed);
    first.run(&earlier, 20);
    assert_eq!(earlier.end(), None);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_note_that_cannot_be_read_counts_as_a_rollback_and_one_of_an_earlier_rollout_as_nothing() {
    let folder = folder("notes");
    let path = folder.join("rollout.journal");
    let ((_, earlier), (_, later)) = two(&path);
    drop(later);
    earlier.order(Order::Abort, "ann", "it smokes").unwrap();
    let stop = folder.join("rollout.journal.stop");
    let (note, journal) = (std::fs::read(&stop).unwrap(), std::fs::read(&path).unwrap());
    for cut in [1, 30, note.len() - 1] {
        std::fs::write(&path, &journal).unwrap();
        std::fs::write(&stop, &note[..cut]).unwrap();
        let (_, pilot) = resumed(&path);
        assert_eq!(pilot.end(), Some(End::RolledBack), "cut at {cut}");
        assert!(pilot.status().reason.contains("cannot be read"), "{}", pilot.status().reason);
    }
    // A torn note hides none that came after it, nor one before it.
    for notes in [[&note[..9], &note].concat(), [&note[..], &note[..9]].concat()] {
        std::fs::write(&path, &journal).unwrap();
        std::fs::write(&stop, &notes).unwrap();
        let history = resumed(&path).1.history().to_string();
        assert!(history.contains("it smokes"), "{history}");
    }
    // The rollout after it, in the same place: the first process still knows only its own.
    std::fs::write(&path, &journal).unwrap();
    std::fs::write(&stop, &note).unwrap();
    assert_eq!(resumed(&path).1.end(), Some(End::Aborted));
    let before = Rollout::resume(&std::fs::read(&path).unwrap()).unwrap().generation;
    let mut next = Process::new("v1", Epoch::default());
    let pilot = builder(&path).start(&next.router, "v2", next.candidate(), plan()).unwrap();
    let now = Rollout::resume(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((now.generation, now.about.begun), (before + 1, before + 1));
    next.run(&pilot, 2);
    earlier.order(Order::Kill, "ann", "all of it").unwrap();
    assert!(stop.exists());
    drop(pilot);
    assert_eq!(resumed(&path).1.end(), None);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_fenced_store_writes_no_more_in_any_way_but_a_note() {
    let folder = folder("store");
    let path = folder.join("rollout.journal");
    let begun = || {
        let _ = std::fs::remove_file(&path);
        let mut file = JournalFile::new(&path);
        file.replace(b"one").unwrap();
        file.append(b" two", Durability::Written).unwrap();
        file
    };
    let replaced = || std::fs::write(folder.join("other"), b"one two").unwrap();
    let takes_over: [&dyn Fn(); 5] = [
        // Another file with the same bytes, the same file with more or less, or with as many others.
        &|| {
            replaced();
            std::fs::rename(folder.join("other"), &path).unwrap();
        },
        &|| std::fs::write(&path, b"one two three").unwrap(),
        &|| std::fs::write(&path, b"one").unwrap(),
        &|| std::fs::write(&path, b"one TWO").unwrap(),
        &|| JournalFile::new(&path).replace(b"later").unwrap(),
    ];
    let asked: [Asked<'_>; 5] = [
        &|file| file.append(b"!", Durability::Synced),
        &|file| file.replace(b"mine"),
        &|file| file.keep(b"mine"),
        &|file| file.set_aside(),
        &|file| file.clear_stops(),
    ];
    for take_over in takes_over {
        for first in asked {
            let mut file = begun();
            take_over();
            let theirs = std::fs::read(&path).unwrap();
            let error = first(&mut file).unwrap_err();
            assert!(Fenced::of(&error).is_some(), "{error}");
            for again in asked {
                assert!(Fenced::of(&again(&mut file).unwrap_err()).is_some());
            }
            assert_eq!(std::fs::read(&path).unwrap(), theirs);
            assert_eq!(file.kept().unwrap(), None);
            file.note_stop(b"stop").unwrap();
            let mut later = JournalFile::new(&path);
            assert_eq!(later.stops().unwrap(), [b"stop"]);
            file.note_stop(b"!").unwrap();
            later.clear_stops().unwrap();
            assert_eq!(later.stops().unwrap(), [b"!"], "what came after it was read stays");
            later.clear_stops().unwrap();
            assert_eq!(later.stops().unwrap(), Vec::<Vec<u8>>::new());
            assert!(!folder.join("rollout.journal.stop").exists());
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_the_earlier_process_acknowledged_while_it_was_taken_over_is_a_note() {
    let folder = folder("meanwhile");
    let path = folder.join("rollout.journal");
    let mut earlier = JournalFile::new(&path);
    earlier.replace(b"one").unwrap();
    let mut later = JournalFile::new(&path);
    assert_eq!(later.read().unwrap().unwrap(), b"one");
    earlier.append(b" abort", Durability::Synced).unwrap();
    later.replace(b"from one on").unwrap();
    assert_eq!(later.stops().unwrap(), [b" abort"]);
    assert_eq!(std::fs::read(folder.join("rollout.journal.old")).unwrap(), b"one abort");
    assert!(Fenced::of(&earlier.append(b"!", Durability::Synced).unwrap_err()).is_some());
    later.append(b"!", Durability::Synced).unwrap();

    // A third and a fourth read the same, and only one of them goes on from there.
    let (mut third, mut fourth) = (JournalFile::new(&path), JournalFile::new(&path));
    third.read().unwrap();
    fourth.read().unwrap();
    third.replace(b"third").unwrap();
    assert!(Fenced::of(&fourth.replace(b"fourth").unwrap_err()).is_some());
    assert_eq!(std::fs::read(&path).unwrap(), b"third");

    // Nor does it set aside what went on after it was read.
    let mut fifth = JournalFile::new(&path);
    fifth.read().unwrap();
    third.append(b" goes on", Durability::Written).unwrap();
    assert!(Fenced::of(&fifth.set_aside().unwrap_err()).is_some());

    // Where nothing was, whoever begins first has begun.
    std::fs::remove_file(&path).unwrap();
    let (mut sixth, mut seventh) = (JournalFile::new(&path), JournalFile::new(&path));
    assert_eq!((sixth.read().unwrap(), seventh.read().unwrap()), (None, None));
    sixth.replace(b"sixth").unwrap();
    assert!(Fenced::of(&seventh.replace(b"seventh").unwrap_err()).is_some());
    assert_eq!(std::fs::read(&path).unwrap(), b"sixth");
    // And one that is taken away by hand is begun again by its writer.
    std::fs::remove_file(&path).unwrap();
    let gone = sixth.append(b"!", Durability::Written).unwrap_err();
    assert!(Fenced::of(&gone).is_none(), "{gone}");
    sixth.replace(b"sixth again").unwrap();
    sixth.append(b"!", Durability::Written).unwrap();
    let names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|one| one.unwrap().path()).collect();
    let new = names.iter().any(|name| name.to_string_lossy().contains(".new"));
    assert!(!new, "nothing half written stays: {names:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_whenever_another_process_takes_over() {
    let folder = folder("race");
    let mut fenced_while_writing = 0;
    for run in 0..400_u64 {
        let path = folder.join(format!("{run}.journal"));
        let mut earlier = JournalFile::new(&path);
        earlier.replace(b"begin\n").unwrap();
        let writer = std::thread::Builder::new().spawn(move || {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let line = format!("line {number}\n");
                match earlier.append(line.as_bytes(), Durability::Written) {
                    Ok(()) => acknowledged.push(line),
                    Err(error) => {
                        assert!(Fenced::of(&error).is_some(), "{error}");
                        break;
                    }
                }
            }
            acknowledged
        });
        let mut later = JournalFile::new(&path);
        (0..run * 7919 % 40_009).for_each(|_| std::hint::spin_loop());
        let read = later.read().unwrap().unwrap();
        later.replace(b"from there on").unwrap();
        let acknowledged = writer.unwrap().join().unwrap();
        let found = [read, later.stops().unwrap().concat()].concat();
        let found = String::from_utf8(found).unwrap();
        for line in &acknowledged {
            assert!(found.contains(line), "run {run}: {line}");
        }
        fenced_while_writing +=
            u32::from(!found.ends_with(acknowledged.last().map_or("begin\n", |line| line)));
    }
    println!("{fenced_while_writing} of 400 were overtaken in the midst of a writing");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn notes_belong_to_the_journal_beside_which_they_lie() {
    let folder = folder("beside");
    let path = folder.join("rollout.journal");
    let mut file = JournalFile::new(&path);
    file.note_stop(b"of one that is gone").unwrap();
    assert_eq!(file.read().unwrap(), None);
    file.replace(b"begin").unwrap();
    assert!(file.stops().unwrap().is_empty());
    // Its writer begins it again where it was removed by hand: what stops it stops it still.
    file.note_stop(b"of this one").unwrap();
    std::fs::remove_file(&path).unwrap();
    file.replace(b"begin again").unwrap();
    assert_eq!(file.stops().unwrap(), [b"of this one"]);
    // A note in a file that nobody here has read is not cleared.
    std::fs::remove_file(folder.join("rollout.journal.stop")).unwrap();
    file.note_stop(b"another").unwrap();
    file.clear_stops().unwrap();
    assert_eq!(file.stops().unwrap(), [b"another"]);
    // Two without a lock do not write into one file that is to become the journal.
    std::fs::create_dir(folder.join("rollout.journal.new")).unwrap();
    file.replace(b"elsewhere").unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

fn ann(order: Order) -> Command {
    Command { order, who: Name::new("ann").unwrap(), why: "it smokes".to_owned(), at: None }
}

/// What a rollout's journal looks like where a writer of generation 1 wrote these entries into it
/// after a writer of generation 2 went on, or before that one began without having seen them.
fn intruded(entries: &dyn Fn(&Recovered) -> Vec<Entry>, seen: bool) -> Disk {
    let disk = Disk::default();
    let mut world = Process::new("v1", Epoch::default());
    let (pilot, _alerts) = world.start(&disk);
    world.run(&pilot, 3);
    drop(pilot);
    let first = disk.now();
    let last = Rollout::resume(&first).unwrap();
    let late: Vec<u8> = (last.revision + 1..)
        .zip(entries(&last))
        .flat_map(|(revision, entry)| {
            let position = Position { generation: 1, revision, epoch: last.split.epoch };
            entry.encode(position).unwrap()
        })
        .collect();
    let mut again = Process::new("v1", Epoch::default());
    let pilot = again.resume(&disk).unwrap();
    again.run(&pilot, 2);
    drop(pilot);
    let second = disk.now();
    Disk::holding(&if seen {
        [&first[..], &second, &late].concat()
    } else {
        [&first[..], &late, &second].concat()
    })
}

#[test]
fn what_an_earlier_generation_wrote_late_promotes_nobody_and_stops_all_the_same() {
    let promotes = |last: &Recovered| {
        let (at, command) = (last.at, ann(Order::PromoteFully));
        let input = Input::Command(command.clone());
        let mut rollout = last.rollout.clone();
        let effects = pilotage::machine::Machine::handle(&mut rollout, at, &input);
        vec![
            Entry::Ordered { at, command },
            Entry::Handled { at, input: Box::new(input), effects },
            Entry::InForce { at, split: last.split, promoted: true },
        ]
    };
    let stops =
        |order| move |last: &Recovered| vec![Entry::Ordered { at: last.at, command: ann(order) }];
    let handled = |last: &Recovered| {
        let input = Box::new(Input::Command(ann(Order::Abort)));
        vec![Entry::Handled { at: last.at, input, effects: Vec::new() }]
    };
    let rolled_back = |last: &Recovered| {
        let split = last.split.rolled_back();
        vec![Entry::InForce { at: last.at, split, promoted: false }]
    };
    let answered = |shadowing| {
        move |last: &Recovered| {
            let input = Box::new(Input::Wall(Date::from_unix(1_774_747_900)));
            let effects = vec![Effect::Shift(TrafficShare::NONE), Effect::Shadow(shadowing)];
            vec![Entry::Handled { at: last.at, input, effects }]
        }
    };
    let promoted = |last: &Recovered| {
        let split = last.split.rolled_back();
        vec![Entry::InForce { at: last.at, split, promoted: true }]
    };
    for seen in [false, true] {
        let disk = intruded(&promotes, seen);
        let recovered = Rollout::resume(&disk.now()).unwrap();
        assert_eq!((recovered.generation, recovered.promoted), (2, false));
        assert_eq!((recovered.orders.len(), recovered.intruded.len()), (0, 3));
        assert_eq!(Process::new("v1", Epoch::default()).resume(&disk).unwrap().end(), None);

        for (late, end) in [
            (&stops(Order::Abort) as &dyn Fn(&Recovered) -> Vec<Entry>, Some(End::Aborted)),
            (&stops(Order::Kill), Some(End::Killed)),
            (&handled, Some(End::Aborted)),
            (&rolled_back, Some(End::RolledBack)),
            (&answered(Shadowing::Off), Some(End::RolledBack)),
            // A shadow stage begins at nobody too.
            (&answered(Shadowing::On), None),
            (&promoted, None),
            (&stops(Order::Resume), None),
        ] {
            let disk = intruded(late, seen);
            // A damaged end hides none of it.
            let salvaged = Journal::salvage(&[&disk.now(), &b"what?"[..]].concat()).unwrap();
            assert_eq!(salvaged.recovered.intruded.len(), 1);
            assert!(salvaged.cut.unwrap().bytes >= 5);
            let resumed = Process::new("v1", Epoch::default()).resume(&disk).unwrap();
            assert_eq!(resumed.end(), end, "seen: {seen}");
        }
        // Nor does what was kept beside it later.
        let disk = intruded(&stops(Order::Abort), seen);
        let entry = Journal::read(&disk.now()).unwrap().entries[0].entry.clone();
        let position = Position { generation: 2, revision: 9_999, epoch: Epoch::default() };
        *disk.room.lock() = Some(entry.encode(position).unwrap());
        let resumed = Process::new("v1", Epoch::default()).resume(&disk).unwrap();
        assert_eq!(resumed.end(), Some(End::Aborted));

        let disk = intruded(&stops(Order::Pause), seen);
        let mut world = Process::new("v1", Epoch::default());
        let resumed = world.resume(&disk).unwrap();
        world.run(&resumed, 60);
        assert_eq!(resumed.status().stage, "20 %");
    }
}
