//! What a store holds of a rollout.

use crate::control::journal_file::JournalStore;
use crate::rollout::journal::{Journal, JournalError, Recovered};
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
    Store(String),
    Journal(JournalError),
}

impl Found {
    /// What the journal says, or what was kept beside it where that is later; `None` where nothing
    /// was ever written.
    pub(crate) fn read(store: &mut dyn JournalStore) -> Result<Option<Self>, FindError> {
        let Some(bytes) = all(store)? else { return Ok(None) };
        let recovered = Journal::read(&bytes).and_then(|journal| journal.recover());
        let recovered = recovered.map_err(FindError::Journal)?;
        Self { recovered, doubt: None, cut: None }.or_kept(store).map(Some)
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
        Self { recovered: salvaged.recovered, doubt, cut }.or_kept(store).map(Some)
    }

    /// What was kept beside the journal counts where it is the later of the two. Where it cannot be
    /// read, something was kept that cannot be told from a rollback.
    fn or_kept(mut self, store: &mut dyn JournalStore) -> Result<Self, FindError> {
        let kept = store.kept().map_err(|error| FindError::Store(error.to_string()))?;
        let Some(kept) = kept else { return Ok(self) };
        match Journal::read(&kept).and_then(|journal| journal.recover()) {
            Ok(kept) if kept.about != self.recovered.about => {}
            Ok(kept) if kept.revision <= self.recovered.revision => {}
            Ok(kept) => {
                // Of a damaged journal nobody knows whether it went on after this was kept, so its
                // doubt stays.
                self.recovered = kept;
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
}

fn all(store: &mut dyn JournalStore) -> Result<Option<Vec<u8>>, FindError> {
    store.read().map_err(|error| FindError::Store(error.to_string()))
}
