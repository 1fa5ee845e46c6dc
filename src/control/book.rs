//! Writes a rollout down before it is carried out.
//!
//! While nothing can be written, nothing goes up: the machine's answers that would give the
//! candidate more are put off, evidence and guardrails go on, and every way back stays open. What
//! could not be written leaves a gap, so writing begins anew with a snapshot.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::control::journal_file::{Durability, Fenced, JournalStore};
use crate::ids::Epoch;
use crate::rollout::journal::{Entry, Position, Snapshot};
use crate::rollout::journal_stops::Stops;

/// A journal is begun anew with a snapshot when it has grown by so many bytes.
pub const COMPACT_AFTER: u64 = 8 << 20;

/// A store, and how far it is written.
pub(crate) struct Book {
    store: Box<dyn JournalStore>,
    generation: u64,
    revision: u64,
    /// What was left beside a journal that is another process's by now.
    left: Stops,
    grown: u64,
    /// Why the last bytes are not there.
    gap: Option<String>,
}

impl Book {
    /// A journal that `generation` writes, which is higher than any that was found; `revision` is the
    /// last that was.
    pub(crate) fn new(store: Box<dyn JournalStore>, generation: u64, revision: u64) -> Self {
        let (left, gap) = (Stops::default(), Some("it was not begun".to_owned()));
        Self { store, generation, revision, left, grown: 0, gap }
    }

    const fn at(&self, revision: u64, epoch: Epoch) -> Position {
        Position { generation: self.generation, revision, epoch }
    }

    /// Whether the next thing to write is a snapshot.
    pub(crate) const fn needs_snapshot(&self) -> bool {
        self.gap.is_some() || self.grown > COMPACT_AFTER
    }

    /// Why nothing can be written; `None` while all is well.
    pub(crate) fn gap(&self) -> Option<&str> {
        self.gap.as_deref()
    }

    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    /// Begins anew. If that fails, a journal without a gap goes on as it is.
    pub(crate) fn begin(&mut self, snapshot: Snapshot, epoch: Epoch) -> Result<(), String> {
        let entry = Entry::Snapshot(Box::new(snapshot));
        let done =
            entry.encode(self.at(self.revision + 1, epoch)).map_err(|error| error.to_string());
        let done = done.and_then(|bytes| {
            self.ask(|store| store.replace(&bytes)).map_err(|error| error.to_string())
        });
        match done {
            Ok(()) => {
                self.revision += 1;
                self.grown = 0;
                self.gap = None;
                Ok(())
            }
            Err(why) => {
                // A store that failed to replace may have lost its place.
                self.gap = Some(why.clone());
                Err(why)
            }
        }
    }

    /// Adds entries, all or none of them acknowledged.
    pub(crate) fn add(
        &mut self,
        entries: &[Entry],
        epoch: Epoch,
        durability: Durability,
    ) -> Result<(), String> {
        if let Some(why) = &self.gap {
            return Err(why.clone());
        }
        let mut bytes = Vec::new();
        let mut revision = self.revision;
        for entry in entries {
            revision += 1;
            match entry.encode(self.at(revision, epoch)) {
                Ok(frame) => bytes.extend(frame),
                Err(error) => {
                    self.gap = Some(error.to_string());
                    return Err(error.to_string());
                }
            }
        }
        match self.ask(|store| store.append(&bytes, durability)).map_err(|error| error.to_string())
        {
            Ok(()) => {
                self.revision = revision;
                self.grown += bytes.len() as u64;
                Ok(())
            }
            Err(why) => {
                self.gap = Some(why.clone());
                Err(why)
            }
        }
    }

    /// Keeps where a rollout stands in the room reserved for it, while the journal has a gap. The
    /// oldest of its history goes where the whole does not fit. Where the journal is another
    /// process's by now, what stops the rollout is left beside it.
    ///
    /// Its number leaves out as many as may stand in the journal unacknowledged: the higher number
    /// is the later one.
    pub(crate) fn keep(&mut self, mut snapshot: Snapshot, epoch: Epoch) -> Result<(), String> {
        let revision = self.revision + UNACKNOWLEDGED;
        loop {
            let entry = Entry::Snapshot(Box::new(snapshot.clone()));
            let bytes =
                entry.encode(self.at(revision, epoch)).map_err(|error| error.to_string())?;
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

    /// What was left beside the journal is in it.
    pub(crate) fn clear_stops(&mut self) -> Result<(), String> {
        self.ask(|store| store.clear_stops()).map_err(|error| error.to_string())
    }

    fn ask(
        &mut self,
        what: impl FnOnce(&mut dyn JournalStore) -> io::Result<()>,
    ) -> io::Result<()> {
        catch_unwind(AssertUnwindSafe(|| what(&mut *self.store)))
            .unwrap_or_else(|_| Err(io::Error::other("the store panicked")))
    }
}

/// More entries than one call of [`Book::add`] is given.
const UNACKNOWLEDGED: u64 = 1024;
