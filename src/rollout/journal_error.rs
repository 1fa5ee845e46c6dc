//! Why a journal cannot be read.

use crate::clock::Moment;

/// A journal that cannot be read, or an entry that cannot be written. Whoever meets it leaves the
/// bytes as they are: they are evidence.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// There is nothing in it.
    #[error("the journal is empty; put it aside and start the rollout anew")]
    Empty,
    /// It is something else.
    #[error("this is no journal of a rollout; look whether the path is right")]
    Foreign,
    /// A newer release wrote it.
    #[error(
        "the journal is of version {version} and this release reads up to {known}; resume it with the release that wrote it"
    )]
    NewerVersion {
        /// Its version.
        version: u16,
        /// The newest that is read.
        known: u16,
    },
    /// It ends before its first entry does.
    #[error("the journal ends after {bytes} bytes, before its first entry does; put it aside")]
    Truncated {
        /// How long it is.
        bytes: u64,
    },
    /// Something in it was altered after it was written.
    #[error(
        "the journal is damaged at byte {at} (entry {revision}): {what}; keep it, put it aside, and start the rollout anew"
    )]
    Damaged {
        /// The first byte that cannot be trusted.
        at: u64,
        /// The entry there, or that should be there.
        revision: u64,
        /// What is wrong.
        what: String,
    },
    /// It is whole and means nothing to this release.
    #[error("entry {revision} of the journal means nothing to this release: {what}")]
    Unreadable {
        /// Which entry.
        revision: u64,
        /// Why.
        what: String,
    },
    /// It does not begin with where the rollout stood.
    #[error("the journal does not say where its rollout began; put it aside")]
    NoBeginning,
    /// What was decided then would not be decided now.
    #[error(transparent)]
    Diverged(#[from] Box<Divergence>),
    /// An entry too long to be written, or a journal too long to be read.
    #[error("{bytes} bytes are more than a journal holds; is the path right?")]
    TooLong {
        /// How many.
        bytes: u64,
    },
    /// A value that has no bytes.
    #[error("an entry cannot be written: {what}")]
    Unwritable {
        /// Why.
        what: String,
    },
}

/// The first place where a replay does not do what was done then.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "entry {revision} (at {:.3} s) is decided otherwise by this release: then {then}; now {now}",
    at.as_secs_f64()
)]
#[non_exhaustive]
pub struct Divergence {
    /// Number of the entry.
    pub revision: u64,
    /// The rollout's time there.
    pub at: Moment,
    /// What was decided then.
    pub then: String,
    /// What is decided now.
    pub now: String,
}
