//! What a store holds of a rollout.

use std::io;

use crate::control::journal_file::{Held, JournalStore};
use crate::rollout::journal::{Journal, JournalError, Recovered};
use crate::rollout::journal_stops::Stops;
use crate::rollout::salvage::Cut;

/// A rollout as its store leaves it.
pub(crate) struct Found {
    pub recovered: Recovered,
    /// Why a step back may be missing in it.
    pub doubt: Option<String>,
    /// What does not count of a damaged journal, and all of that journal's bytes.
    pub cut: Option<(Cut, Vec<u8>)>,
}

/// What stands in the way of reading it.
#[derive(Debug)]
pub(crate) enum FindError {
    /// Another process is its writer.
    Held {
        holder: String,
    },
    Store(String),
    Journal(JournalError),
}

impl Found {
    /// What the journal says, or what was kept beside it where that is later, and what stops it by
    /// another way; `None` where nothing was ever written. From then on the store is the journal's
    /// writer, unless there is another.
    pub(crate) fn read(store: &mut dyn JournalStore) -> Result<Option<Self>, FindError> {
        let Some(bytes) = all(store)? else { return Ok(None) };
        let recovered = Journal::read(&bytes).and_then(|journal| journal.recover());
        let recovered = recovered.map_err(FindError::Journal)?;
        let found = Self { recovered, doubt: None, cut: None }.or_kept(store)?;
        found.and_stops(store).map(Some)
    }

    /// The same, from as much of a damaged journal as can be trusted.
    pub(crate) fn salvage(store: &mut dyn JournalStore) -> Result<Option<Self>, FindError> {
        let Some(bytes) = all(store)? else { return Ok(None) };
        let salvaged = Journal::salvage(&bytes).map_err(FindError::Journal)?;
        let doubt = salvaged.cut.as_ref().map(|cut| {
            format!(
                "the journal is damaged, and what was cut off it may have held a step back: {cut}"
            )
        });
        let cut = salvaged.cut.map(|cut| (cut, bytes));
        let found = Self { recovered: salvaged.recovered, doubt, cut }.or_kept(store)?;
        found.and_stops(store).map(Some)
    }

    /// What was kept beside the journal counts where it is the later of the two. Where it cannot be
    /// read, something was kept that cannot be told from a rollback.
    fn or_kept(mut self, store: &mut dyn JournalStore) -> Result<Self, FindError> {
        let kept = store.kept().map_err(failed)?;
        let Some(kept) = kept else { return Ok(self) };
        match Journal::read(&kept).and_then(|journal| journal.recover()) {
            Ok(kept) if kept.about != self.recovered.about => {}
            Ok(kept) if number(&kept) <= number(&self.recovered) => {}
            Ok(kept) => {
                // Of a damaged journal nobody knows whether it went on after this was kept, so its
                // doubt stays.
                let intruded = std::mem::replace(&mut self.recovered, kept).intruded;
                self.recovered.intrude(&intruded);
            }
            Err(JournalError::NewerVersion { version, known }) => {
                return Err(FindError::Journal(JournalError::NewerVersion { version, known }));
            }
            Err(error) => {
                self.doubt.get_or_insert_with(|| {
                    format!("what was kept beside the journal cannot be read ({error}), and it may have been a step back")
                });
            }
        }
        Ok(self)
    }

    /// What other processes left beside the journal, or wrote in it too late.
    fn and_stops(mut self, store: &mut dyn JournalStore) -> Result<Self, FindError> {
        let begun = self.recovered.about.begun;
        let left = left_beside(store, begun).map_err(failed)?;
        let late = Stops::among(&self.recovered.intruded, begun);
        self.recovered.order(left.orders.into_iter().chain(late.orders));
        self.doubt = self.doubt.or(left.doubt).or(late.doubt);
        Ok(self)
    }
}

/// The higher one is the later one.
const fn number(recovered: &Recovered) -> (u64, u64) {
    (recovered.generation, recovered.revision)
}

/// What others left beside the journal of the rollout that began in generation `begun`. Whoever
/// writes the journal asks before it writes what gives a candidate more traffic; once what is found
/// is written, [`JournalStore::clear_stops`].
pub(crate) fn left_beside(store: &mut dyn JournalStore, begun: u64) -> io::Result<Stops> {
    Ok(Stops::read(&store.stops()?, begun))
}

fn all(store: &mut dyn JournalStore) -> Result<Option<Vec<u8>>, FindError> {
    store.lock().map_err(|error| match Held::of(&error) {
        Some(held) => FindError::Held { holder: held.holder.clone() },
        None if error.kind() == io::ErrorKind::WouldBlock => {
            FindError::Held { holder: error.to_string() }
        }
        None => failed(error),
    })?;
    store.read().map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: io::Error) -> FindError {
    FindError::Store(error.to_string())
}
