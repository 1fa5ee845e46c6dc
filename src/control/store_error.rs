//! Why a process may not write in a journal.
//!
//! Both come inside of an [`io::Error`], since a [`JournalStore`] answers with those; `of` finds them
//! there.
//!
//! [`JournalStore`]: crate::control::journal_file::JournalStore

use std::io;

/// Another process, or another store of this one, is the journal's writer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the journal is held by {holder}")]
#[non_exhaustive]
pub struct Held {
    /// Who: the process, its machine, and since when, as far as that is known.
    pub holder: String,
}

/// Another process took the journal over, or wrote to it. The store that says so writes nothing
/// ever again; what must not be forgotten goes to [`JournalStore::note_stop`].
///
/// [`JournalStore::note_stop`]: crate::control::journal_file::JournalStore::note_stop
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("somebody else wrote to the journal, and this process must not any more: {what}")]
#[non_exhaustive]
pub struct Fenced {
    /// What was noticed.
    pub what: String,
}

impl Held {
    /// Who holds a journal, in words for people.
    #[must_use]
    pub fn by(holder: impl Into<String>) -> Self {
        Self { holder: holder.into() }
    }

    /// The answer to [`JournalStore::lock`](crate::control::journal_file::JournalStore::lock).
    #[must_use]
    pub fn into_error(self) -> io::Error {
        io::Error::new(io::ErrorKind::WouldBlock, self)
    }

    /// Who holds it, if that is what the error says.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl Fenced {
    /// What was noticed, in words for people.
    #[must_use]
    pub fn because(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }

    /// The answer of a store that must not write any more.
    #[must_use]
    pub fn into_error(self) -> io::Error {
        io::Error::other(self)
    }

    /// What was noticed, if that is what the error says.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}
