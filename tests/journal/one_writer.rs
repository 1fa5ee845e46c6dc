//! One journal, one writer: in real files, between real processes.
//!
//! A test starts this binary once more in a role, which is a test that does nothing otherwise.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use pilotage::clock::Moment;
use pilotage::control::journal_file::Held;
use pilotage::ids::Name;
use pilotage::machine::Transition;
use pilotage::rollout::history_line::Line;
use pilotage::rollout::journal::{About, Entry, Position, Snapshot};
use pilotage::route::switch::Split;

use super::*;

const ROLE: &str = "PILOTAGE_TEST_ROLE";
const JOURNAL: &str = "PILOTAGE_TEST_JOURNAL";

/// Another process, which is killed when this is dropped.
struct Other(Child, BufReader<ChildStdout>);

impl Other {
    fn start(role: &str, path: &Path) -> Self {
        Self::run(Command::new(std::env::current_exe().unwrap()), role, path)
    }

    fn run(mut command: Command, role: &str, path: &Path) -> Self {
        let mut child = command
            .args(["--exact", "one_writer::another_process_does_what_its_role_says", "--nocapture"])
            .env(ROLE, role)
            .env(JOURNAL, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    /// The number in the next line that has one of its own; `None` when it is gone.
    fn number(&mut self) -> Option<u64> {
        loop {
            let mut line = String::new();
            if self.1.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(number) = line.strip_prefix("acknowledged ") {
                return number.trim_end().parse().ok();
            }
        }
    }

    /// As by `kill -9`. What it had acknowledged until then and nobody read is returned last.
    fn kill(mut self) -> Option<u64> {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        let mut last = None;
        while let Some(number) = self.number() {
            last = Some(number);
        }
        last
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn another_process_does_what_its_role_says() {
    let (Ok(role), Some(path)) = (std::env::var(ROLE), std::env::var_os(JOURNAL)) else { return };
    let mut file = JournalFile::new(path);
    file.lock().unwrap();
    match role.as_str() {
        "hold" => {
            acknowledge(0);
            // Until it is killed.
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        "write" => {
            for revision in 1.. {
                if revision % 7 == 1 {
                    file.replace(&snapshot(revision)).unwrap();
                } else {
                    file.append(&noted(revision), Durability::Written).unwrap();
                }
                acknowledge(revision);
            }
        }
        // On a disk on which no file may grow beyond some size.
        "fill" => {
            let mut len = 1_u64;
            file.replace(b"1").unwrap();
            while file.append(&[7; 90_000], Durability::Written).is_ok() {
                len += 90_000;
            }
            assert_eq!(std::fs::metadata(file.path()).unwrap().len(), len, "it is cut off again");
            file.replace(b"anew").unwrap();
            file.append(b"!", Durability::Synced).unwrap();
            acknowledge(len);
        }
        other => panic!("no such role: {other}"),
    }
}

fn acknowledge(number: u64) {
    let mut out = std::io::stdout().lock();
    // A line of its own, whatever the test harness has begun.
    write!(out, "\nacknowledged {number}\n").unwrap();
    out.flush().unwrap();
}

const fn place(revision: u64) -> Position {
    Position { generation: 1, revision, epoch: Epoch::new(1) }
}

fn snapshot(revision: u64) -> Vec<u8> {
    let name = |text| Name::new(text).unwrap();
    let about = About {
        router: name("journal-test"),
        baseline: name("v1"),
        candidate: name("v2"),
        scheme: Process::new("v1", Epoch::default()).router.scheme().clone(),
        begun: 1,
    };
    let (rollout, _) = Rollout::begin(name("v2"), plan(), Moment::ZERO).unwrap();
    let snapshot = Snapshot::new(about, rollout, Moment::ZERO, Split::default());
    Entry::Snapshot(Box::new(snapshot)).encode(place(revision)).unwrap()
}

fn noted(revision: u64) -> Vec<u8> {
    let transition = Transition {
        at: Moment::ZERO,
        from: "here".to_owned(),
        to: "there".to_owned(),
        who: "ann".to_owned(),
        why: "a long reason ".repeat(revision as usize % 90),
    };
    let line = Box::new(Line::note(transition, None, TrafficShare::NONE));
    Entry::Noted { at: Moment::ZERO, line }.encode(place(revision)).unwrap()
}

#[test]
fn a_second_process_is_refused_with_the_holders_name_until_the_first_is_killed() {
    let folder = folder("held");
    let path = folder.join("rollout.journal");
    let mut other = Other::start("hold", &path);
    assert_eq!(other.number(), Some(0));

    let error = JournalFile::new(&path).lock().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let holder = &Held::of(&error).unwrap().holder;
    let id = format!("process {} ", other.0.id());
    assert!(holder.starts_with(&id) && holder.contains("since 20"), "{holder}");

    let world = Process::new("v1", Epoch::default());
    let builder = || Pilot::builder().journal(JournalFile::new(&path));
    let started = builder().start(&world.router, "v2", world.candidate(), plan());
    assert!(matches!(&started, Err(StartError::Held { holder }) if holder.starts_with(&id)));
    let resumed = builder().resume(&world.router, world.candidate());
    assert!(matches!(&resumed, Err(ResumeError::Held { holder }) if holder.starts_with(&id)));
    let said = resumed.unwrap_err().to_string();
    assert!(said.contains(&id) && said.contains("end that process first"), "{said}");
    assert!(world.router.model_name(Arm::CANDIDATE).is_none(), "nothing was changed");
    assert!(!path.exists());

    other.kill();
    let mut file = JournalFile::new(&path);
    file.lock().unwrap();
    file.lock().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn two_pilots_of_one_process_exclude_each_other_too() {
    let folder = folder("twice");
    let path = folder.join("rollout.journal");
    let mut world = Process::new("v1", Epoch::default());
    let builder = || {
        Pilot::builder()
            .alerter(ChannelAlerter(sync_channel(64).0))
            .wall_clock(|| Date::from_unix(0))
            .journal(JournalFile::new(&path))
    };
    let pilot = builder().start(&world.router, "v2", world.candidate(), plan()).unwrap();
    world.run(&pilot, 3);
    let bytes = std::fs::read(&path).unwrap();
    let again = Process::new("v1", Epoch::default());
    let refused = builder().resume(&again.router, again.candidate());
    let us = format!("process {} ", std::process::id());
    assert!(matches!(&refused, Err(ResumeError::Held { holder }) if holder.starts_with(&us)));
    assert!(matches!(
        builder().recover(&again.router, again.candidate()),
        Err(ResumeError::Held { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    world.run(&pilot, 1);
    drop(pilot);
    let resumed = builder().resume(&again.router, again.candidate()).unwrap();
    assert_eq!(resumed.end(), None);
    assert_eq!(Rollout::resume(&std::fs::read(&path).unwrap()).unwrap().generation, 2);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_process_killed_while_it_writes_leaves_a_journal_with_all_it_had_acknowledged() {
    let folder = folder("killed");
    let path = folder.join("rollout.journal");
    let mut torn = 0;
    for run in 0..50_u64 {
        let mut other = Other::start("write", &path);
        let mut acknowledged = 0;
        // Anywhere from the first writing to some thirty later, and a little after that.
        for _ in 0..=run * 7 % 31 {
            acknowledged = other.number().unwrap();
        }
        (0..run * 977 % 20_011).for_each(|_| std::hint::spin_loop());
        let acknowledged = other.kill().unwrap_or(acknowledged);
        let mut file = JournalFile::new(&path);
        file.lock().expect("the lock ended with its holder");
        let journal = Journal::read(&file.read().unwrap().unwrap()).unwrap();
        let last = journal.entries.last().unwrap().revision;
        assert!((acknowledged..=acknowledged + 1).contains(&last), "{acknowledged}, then {last}");
        torn += u64::from(journal.torn.is_some());
        file.set_aside().unwrap();
    }
    println!("{torn} of 50 ends were torn");
    std::fs::remove_dir_all(folder).unwrap();
}

#[cfg(unix)]
#[test]
fn what_a_full_disk_took_of_a_writing_is_cut_off_and_is_no_second_writer() {
    let folder = folder("fills");
    let path = folder.join("rollout.journal");
    let mut shell = Command::new("sh");
    // Blocks are of 512 bytes or of 1024; the room beside the journal fits in either way.
    shell.args(["-c", r#"trap "" XFSZ; ulimit -f 800; exec "$0" "$@""#]);
    shell.arg(std::env::current_exe().unwrap());
    let mut other = Other::run(shell, "fill", &path);
    assert!(other.number().expect("it wrote again") > 90_000);
    assert_eq!(std::fs::read(&path).unwrap(), b"anew!");
    std::fs::remove_dir_all(folder).unwrap();
}

/// A store that says in its own way that somebody else writes, or that it does not know.
struct Refusing(io::ErrorKind);

impl JournalStore for Refusing {
    fn lock(&mut self) -> io::Result<()> {
        Err(io::Error::new(self.0, "the lease of node 7"))
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        panic!("nothing is read before it is locked")
    }

    fn append(&mut self, _: &[u8], _: Durability) -> io::Result<()> {
        panic!("nothing is written")
    }

    fn replace(&mut self, _: &[u8]) -> io::Result<()> {
        panic!("nothing is written")
    }

    fn set_aside(&mut self) -> io::Result<()> {
        panic!("nothing is moved")
    }
}

#[test]
fn a_store_may_say_in_its_own_words_who_holds_it() {
    let world = Process::new("v1", Epoch::default());
    let builder = |kind| Pilot::builder().journal(Refusing(kind));
    let held = builder(io::ErrorKind::WouldBlock);
    let started = held.start(&world.router, "v2", world.candidate(), plan());
    assert!(
        matches!(&started, Err(StartError::Held { holder }) if holder == "the lease of node 7")
    );
    let held = builder(io::ErrorKind::WouldBlock).resume(&world.router, world.candidate());
    assert!(matches!(&held, Err(ResumeError::Held { holder }) if holder == "the lease of node 7"));
    let unknown = builder(io::ErrorKind::TimedOut).resume(&world.router, world.candidate());
    assert!(matches!(unknown, Err(ResumeError::Store(_))));
}
