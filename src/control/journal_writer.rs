//! Writes a rollout down, on a thread of its own.
//!
//! Whoever decides hands entries over and goes on; what must be written first (a step that gives the
//! candidate more) asks later whether it is. A store that blocks holds up nothing but such steps.
//! While nothing can be written, nothing goes up; evidence and guardrails go on, and every way back
//! stays open. What could not be written leaves a gap, so writing begins anew with a snapshot.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::control::found::left_beside;
use crate::control::journal_file::{Durability, Fenced, JournalStore};
use crate::ids::Epoch;
use crate::rollout::journal::{Entry, Position, Snapshot};
use crate::rollout::journal_stops::Stops;

/// A journal is begun anew with a snapshot when it has grown by so many bytes.
pub const COMPACT_AFTER: u64 = 8 << 20;
/// So many jobs may wait for a store; what comes then takes their place as one snapshot.
pub const MOST_WAITING: usize = 256;

/// A store, on its thread. Dropping it lets what waits be written, and waits for nothing.
pub(crate) struct JournalWriter {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The writer waits here for something to write, others for what became of it.
    changed: Condvar,
}

struct State {
    jobs: VecDeque<Job>,
    /// The number of the last job that was handed over.
    last: u64,
    /// All jobs up to this one are in the store, or in a snapshot that is.
    written: u64,
    /// The last job that failed.
    failed: u64,
    /// Whether the store would be whole if all that waits were written.
    whole: bool,
    /// Why the last bytes are not there; `None` while all is well.
    gap: Option<String>,
    /// Whether the last step back that could not be written was kept elsewhere.
    unkept: Option<String>,
    /// Why this process is not the journal's writer any more: for good.
    fenced: Option<String>,
    /// What other processes left beside the journal, to be taken by the pilot.
    stops: Stops,
    /// Once this job is written, what was left there can go.
    clear: u64,
    /// Since when the store has been at work on one thing.
    busy: Option<Instant>,
    /// The number of the last entry, and bytes since the last snapshot.
    revision: u64,
    grown: u64,
    closing: bool,
    ended: bool,
}

struct Job {
    number: u64,
    what: What,
    epoch: Epoch,
    durability: Durability,
    /// Kept in the reserve where this cannot be written: it takes traffic back.
    keep: Option<Box<Snapshot>>,
    /// Whether it gives the candidate more, so that it is not written where another process left a
    /// stop.
    raises: bool,
}

enum What {
    /// Behind what is there.
    Entries(Vec<Entry>),
    /// In the place of all that is there, and then these.
    Anew(Box<Snapshot>, Vec<Entry>),
}

/// What became of a job.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// Not written yet.
    Waits,
    /// In the store.
    Written,
    /// Not in the store, since this failed.
    Failed(String),
}

impl JournalWriter {
    /// Begins a journal with `snapshot`, on this thread, and goes on with it on its own.
    ///
    /// # Errors
    ///
    /// When it cannot be begun, or the system gives no thread.
    pub(crate) fn begin(
        store: Box<dyn JournalStore>,
        generation: u64,
        revision: u64,
        snapshot: Snapshot,
        epoch: Epoch,
    ) -> Result<Self, String> {
        let (begun, left) = (snapshot.about.begun, Stops::default());
        let mut book = Book { store, generation, begun, revision, left, grown: 0, fenced: None };
        book.anew(snapshot, epoch)?;
        // What others left beside it is in it by now; if it stays there, it is taken twice.
        let _ = book.ask(|store| store.clear_stops());
        let state = State {
            jobs: VecDeque::new(),
            last: 0,
            written: 0,
            failed: 0,
            whole: true,
            gap: None,
            unkept: None,
            fenced: None,
            stops: Stops::default(),
            clear: 0,
            busy: None,
            revision: book.revision,
            grown: 0,
            closing: false,
            ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("pilotage-journal".into())
            .spawn(move || write_all(&theirs, book))
            .map_err(|error| format!("no thread for the journal: {error}"))?;
        Ok(Self { shared })
    }

    /// Whether the next thing to hand over is a snapshot: there is a gap, or too much waits.
    pub(crate) fn wants_snapshot(&self) -> bool {
        let state = self.shared.state.lock();
        !state.whole || state.grown > COMPACT_AFTER || state.jobs.len() >= MOST_WAITING
    }

    /// Hands entries over. They are written behind all that was handed over before. Where that has
    /// a gap they fail.
    pub(crate) fn add(
        &self,
        entries: Vec<Entry>,
        epoch: Epoch,
        durability: Durability,
        keep: Option<Box<Snapshot>>,
        raises: bool,
    ) -> u64 {
        self.hand_over(What::Entries(entries), epoch, durability, keep, raises)
    }

    /// Hands over a snapshot that takes the place of everything, and entries after it. What still
    /// waits is in it and is not written by itself.
    pub(crate) fn anew(
        &self,
        snapshot: Snapshot,
        entries: Vec<Entry>,
        epoch: Epoch,
        keep: Option<Box<Snapshot>>,
    ) -> u64 {
        // Only what gives the candidate more comes with entries behind it.
        let raises = !entries.is_empty();
        let what = What::Anew(Box::new(snapshot), entries);
        self.hand_over(what, epoch, Durability::Synced, keep, raises)
    }

    fn hand_over(
        &self,
        what: What,
        epoch: Epoch,
        durability: Durability,
        keep: Option<Box<Snapshot>>,
        raises: bool,
    ) -> u64 {
        let mut state = self.shared.state.lock();
        if state.closing {
            // Nobody writes any more: it fails at once.
            state.last += 1;
            state.failed = state.last;
            return state.last;
        }
        if matches!(what, What::Anew(..)) {
            state.jobs.clear();
            state.whole = true;
            state.grown = 0;
        }
        state.last += 1;
        let number = state.last;
        state.jobs.push_back(Job { number, what, epoch, durability, keep, raises });
        self.shared.changed.notify_all();
        number
    }

    /// What became of a job.
    pub(crate) fn fate(&self, job: u64) -> Fate {
        self.shared.state.lock().fate(job)
    }

    /// What became of a job, after it was waited for until something became of it; not for long, and
    /// hardly at all for a store that keeps everybody waiting already.
    pub(crate) fn wait(&self, job: u64, patience: Duration) -> Fate {
        let mut state = self.shared.state.lock();
        let begun = now();
        loop {
            let fate = state.fate(job);
            if fate != Fate::Waits {
                return fate;
            }
            let patience = if state.is_stuck() { patience.min(STUCK_PATIENCE) } else { patience };
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return fate;
            }
            let _ = self.shared.changed.wait_for(&mut state, left.min(TURN));
        }
    }

    /// Waits for all that was handed over, as [`JournalWriter::wait`] does.
    pub(crate) fn wait_for_all(&self, patience: Duration) {
        let last = self.shared.state.lock().last;
        let _ = self.wait(last, patience);
    }

    /// Why nothing can be written, if nothing can.
    pub(crate) fn gap(&self) -> Option<String> {
        let state = self.shared.state.lock();
        let busy = state.busy.map(|since| since.elapsed()).filter(|busy| *busy >= SLOW);
        let hangs =
            || busy.map(|busy| format!("it has not answered for {:.1} s", busy.as_secs_f64()));
        state.gap.clone().or_else(hangs)
    }

    /// Why this process is not the journal's writer any more, if it is not.
    pub(crate) fn fenced(&self) -> Option<String> {
        self.shared.state.lock().fenced.clone()
    }

    /// What other processes left beside the journal, and was not taken yet.
    pub(crate) fn stops(&self) -> Stops {
        std::mem::take(&mut self.shared.state.lock().stops)
    }

    /// What was taken of it is in the jobs up to now: it can go once they are written.
    pub(crate) fn clear_stops(&self) {
        let mut state = self.shared.state.lock();
        state.clear = state.last;
        self.shared.changed.notify_all();
    }

    /// Why a step back is written nowhere, if one is.
    pub(crate) fn unkept(&self) -> Option<String> {
        self.shared.state.lock().unkept.clone()
    }

    /// The number of the last entry.
    pub(crate) fn revision(&self) -> u64 {
        self.shared.state.lock().revision
    }

    /// How many jobs wait.
    pub(crate) fn waiting(&self) -> u64 {
        let state = self.shared.state.lock();
        state.last - state.written.max(state.failed)
    }
}

/// What waits is written still. A store that answers is waited for, so that it can be opened again.
impl Drop for JournalWriter {
    fn drop(&mut self) {
        self.close();
    }
}

impl JournalWriter {
    /// Gives the store up where all that was handed over is written, or is soon. What is not is
    /// written when it can be, and the store is held for that.
    pub(crate) fn close_if_written(&self) {
        self.wait_for_all(LAST_PATIENCE);
        let last = self.shared.state.lock().last;
        if self.fate(last) == Fate::Written {
            self.close();
        }
    }

    /// Writes what waits, and gives the store up. Waits for a store that answers, and for no other.
    /// What is handed over afterwards fails.
    pub(crate) fn close(&self) {
        let mut state = self.shared.state.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        let begun = now();
        while !state.ended && !state.is_stuck() && begun.elapsed() < LAST_PATIENCE {
            let _ = self.shared.changed.wait_for(&mut state, TURN);
        }
    }
}

impl State {
    fn fate(&self, job: u64) -> Fate {
        if job <= self.written {
            Fate::Written
        } else if job <= self.failed {
            Fate::Failed(self.gap.clone().unwrap_or_else(|| "the journal was closed".to_owned()))
        } else {
            Fate::Waits
        }
    }

    fn is_stuck(&self) -> bool {
        self.busy.is_some_and(|since| since.elapsed() >= STUCK)
    }
}

fn write_all(shared: &Shared, mut book: Book) {
    let mut state = shared.state.lock();
    loop {
        let Some(job) = state.jobs.pop_front() else {
            if state.closing {
                drop(state);
                // Whoever opens it next waits for this: what holds the store goes first.
                drop(book);
                shared.state.lock().ended = true;
                shared.changed.notify_all();
                return;
            }
            shared.changed.wait(&mut state);
            continue;
        };
        let mut jobs = vec![job];
        // Entries that wait behind entries go with them: one write for a store that is slow.
        while jobs.len() < MOST_AT_ONCE
            && matches!(jobs[0].what, What::Entries(_))
            && state.jobs.front().is_some_and(|next| matches!(next.what, What::Entries(_)))
        {
            jobs.extend(state.jobs.pop_front());
        }
        let gap = state.gap.clone();
        state.busy = Some(now());
        let clear = state.clear;
        let (done, number, kept, found) =
            MutexGuard::unlocked(&mut state, || book.write(jobs, gap, clear));
        state.busy = None;
        if let Some(found) = found {
            state.stops = found;
        }
        if clear > 0 && done.is_ok() && number >= clear {
            state.clear = 0;
        }
        if book.fenced.is_some() {
            state.fenced.clone_from(&book.fenced);
        }
        state.revision = book.revision;
        state.grown = book.grown;
        match done {
            Ok(()) => {
                state.written = number;
                state.gap = None;
                state.unkept = None;
            }
            Err(why) => {
                state.failed = number;
                state.gap = Some(why);
                // A snapshot that was handed over meanwhile makes it whole again.
                state.whole = state.jobs.iter().any(|job| matches!(job.what, What::Anew(..)));
                match kept {
                    Some(Ok(())) => (state.written, state.unkept) = (number, None),
                    Some(Err(why)) => state.unkept = Some(why),
                    None => {}
                }
            }
        }
        shared.changed.notify_all();
    }
}

/// A store, and how far it is written.
struct Book {
    store: Box<dyn JournalStore>,
    /// Higher than that of any writer there was before.
    generation: u64,
    /// The generation in which the rollout began.
    begun: u64,
    revision: u64,
    grown: u64,
    /// What was left beside a journal that is another process's by now.
    left: Stops,
    /// Why this one writes no more.
    fenced: Option<String>,
}

type Kept = Option<Result<(), String>>;

impl Book {
    /// Writes these jobs, all or none of them acknowledged: whether they are there, the number of
    /// the last, and what became of the step back that must not be forgotten where they are not. And
    /// what other processes left beside the journal.
    fn write(
        &mut self,
        jobs: Vec<Job>,
        gap: Option<String>,
        clear: u64,
    ) -> (Result<(), String>, u64, Kept, Option<Stops>) {
        let (mut number, mut keep) = (0, None);
        let raises = jobs.iter().any(|job| job.raises);
        let mut found = None;
        let (mut entries, mut epoch, mut durability) =
            (Vec::new(), Epoch::default(), Durability::Written);
        // Behind a gap nothing is written, unless it takes the place of everything.
        let mut done = gap.map_or(Ok(()), Err);
        if let Some(why) = &self.fenced {
            done = Err(why.clone());
        } else if raises {
            // Another process may have been told to stop, and could only leave that here.
            match self.ask_for_stops() {
                Ok(stops) if stops.is_empty() => {}
                Ok(stops) => {
                    found = Some(stops);
                    done = Err("another process was told to stop this rollout".to_owned());
                }
                Err(why) => done = Err(why),
            }
        }
        let stopped = raises && done.is_err();
        for job in jobs {
            (number, epoch) = (job.number, job.epoch);
            keep = job.keep.or(keep);
            if job.durability == Durability::Synced {
                durability = Durability::Synced;
            }
            match job.what {
                What::Entries(more) => entries.extend(more),
                What::Anew(..) if self.fenced.is_some() || stopped => {}
                What::Anew(snapshot, more) => {
                    done = self.anew(*snapshot, epoch);
                    entries.extend(more);
                }
            }
        }
        let done = done.and_then(|()| self.add(&entries, epoch, durability));
        let kept = match (&done, keep) {
            (Err(_), Some(keep)) => Some(self.keep(*keep, epoch)),
            _ => None,
        };
        if done.is_ok() && !raises {
            if clear > 0 && number >= clear {
                let _ = self.ask(|store| store.clear_stops());
            } else {
                found = self.ask_for_stops().ok().filter(|stops| !stops.is_empty());
            }
        }
        (done, number, kept, found)
    }

    fn ask_for_stops(&mut self) -> Result<Stops, String> {
        let begun = self.begun;
        self.ask(|store| left_beside(store, begun)).map_err(|error| error.to_string())
    }

    const fn at(&self, revision: u64, epoch: Epoch) -> Position {
        Position { generation: self.generation, revision, epoch }
    }

    /// Begins anew. If that fails, a journal without a gap goes on as it is.
    fn anew(&mut self, snapshot: Snapshot, epoch: Epoch) -> Result<(), String> {
        let entry = Entry::Snapshot(Box::new(snapshot));
        let bytes = entry.encode(self.at(self.revision + 1, epoch));
        let bytes = bytes.map_err(|error| error.to_string())?;
        self.ask(|store| store.replace(&bytes)).map_err(|error| error.to_string())?;
        self.revision += 1;
        self.grown = 0;
        Ok(())
    }

    fn add(
        &mut self,
        entries: &[Entry],
        epoch: Epoch,
        durability: Durability,
    ) -> Result<(), String> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let mut revision = self.revision;
        for entry in entries {
            revision += 1;
            let frame = entry.encode(self.at(revision, epoch));
            bytes.extend(frame.map_err(|error| error.to_string())?);
        }
        self.ask(|store| store.append(&bytes, durability)).map_err(|error| error.to_string())?;
        self.revision = revision;
        self.grown += bytes.len() as u64;
        Ok(())
    }

    /// Keeps where a rollout stands in the reserve, while the journal has a gap. The oldest of its
    /// history goes where the whole does not fit. Where the journal is another process's by now,
    /// what stops the rollout is left beside it.
    ///
    /// Its number leaves out as many as may stand in the journal unacknowledged: the higher number
    /// is the later one.
    fn keep(&mut self, mut snapshot: Snapshot, epoch: Epoch) -> Result<(), String> {
        let revision = self.revision + UNACKNOWLEDGED;
        loop {
            let entry = Entry::Snapshot(Box::new(snapshot.clone()));
            let bytes = entry.encode(self.at(revision, epoch));
            let bytes = bytes.map_err(|error| error.to_string())?;
            match self.ask(|store| store.keep(&bytes)) {
                Ok(()) => {
                    self.revision = revision;
                    return Ok(());
                }
                Err(error)
                    if error.kind() == io::ErrorKind::StorageFull
                        && !snapshot.history.is_empty() =>
                {
                    let half = snapshot.history.len().div_ceil(2);
                    snapshot.history.drain(..half);
                }
                Err(error) if Fenced::of(&error).is_some() => {
                    return self.leave(&snapshot, epoch).map_err(|why| format!("{error}; {why}"));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Leaves what stops the rollout for the process that holds the journal, once.
    fn leave(&mut self, snapshot: &Snapshot, epoch: Epoch) -> Result<(), String> {
        let stops = Stops::of(snapshot);
        if stops.is_empty() {
            return Err("there is nothing in it that stops a rollout".to_owned());
        }
        if stops == self.left {
            return Ok(());
        }
        let note = stops.encode(snapshot, self.at(self.revision, epoch));
        let note = note.map_err(|error| error.to_string())?;
        self.ask(|store| store.note_stop(&note)).map_err(|error| error.to_string())?;
        self.left = stops;
        Ok(())
    }

    fn ask<T>(
        &mut self,
        what: impl FnOnce(&mut dyn JournalStore) -> io::Result<T>,
    ) -> io::Result<T> {
        let done = catch_unwind(AssertUnwindSafe(|| what(&mut *self.store)))
            .unwrap_or_else(|_| Err(io::Error::other("the store panicked")));
        if let Some(fenced) = done.as_ref().err().and_then(Fenced::of) {
            self.fenced = Some(fenced.to_string());
        }
        done
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a store takes is about this machine")]
fn now() -> Instant {
    Instant::now()
}

/// More entries than one write is given.
const UNACKNOWLEDGED: u64 = 4096;
/// Jobs that are written at once.
const MOST_AT_ONCE: usize = 64;
/// A store that is at work on one thing for so long keeps everybody waiting; nobody does.
const STUCK: Duration = Duration::from_millis(50);
const STUCK_PATIENCE: Duration = Duration::from_millis(1);
/// So long is worth a word.
const SLOW: Duration = Duration::from_secs(2);
/// How long dropping a journal waits for a store that answers.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether a store has become stuck.
const TURN: Duration = Duration::from_millis(10);
