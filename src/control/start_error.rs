//! Why a rollout cannot begin, or cannot go on.

use crate::ids::{Name, NameError};
use crate::rollout::journal::JournalError;
use crate::rollout::trial::TrialError;
use crate::route::owner::OwnedError;
use crate::serve::router::DeployError;
use crate::share::TrafficShare;

/// A rollout that cannot begin. Stable goes on serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The candidate's name cannot be used.
    #[error("the candidate's name: {0}")]
    Name(#[from] NameError),
    /// The candidate could not be put beside the stable model.
    #[error("the candidate was not deployed: {0}")]
    Deploy(#[from] DeployError),
    /// Somebody else moves this router's traffic, whether or not it gives any now.
    #[error(transparent)]
    Owned(#[from] OwnedError),
    /// Another candidate still gets traffic, and nobody moves it.
    #[error("a candidate already gets {share} by nobody's order; roll the split back first")]
    Busy {
        /// What it gets.
        share: TrafficShare,
    },
    /// The plan has a shadow stage, and there is no lane to run it in.
    #[error(
        "stage {stage} is a shadow, and no shadow lane was given; give one, or remove the stage"
    )]
    NoShadowLane {
        /// The stage.
        stage: Name,
    },
    /// A stage of the plan cannot be judged.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// The system gives no thread for the alerts.
    #[error("no thread for the alerts: {0}")]
    Thread(#[from] std::io::Error),
    /// The journal holds a rollout that is not over.
    #[error(
        "the journal holds the rollout of {candidate}, which is not over; resume it, or put its journal aside"
    )]
    Unfinished {
        /// Whose.
        candidate: Name,
    },
    /// The journal holds something that cannot be read. It stays as it is.
    #[error("the journal cannot be read and stays as it is: {0}")]
    Journal(#[from] JournalError),
    /// Another process is the journal's writer, or another pilot of this one.
    #[error(
        "the journal is held by {holder}; end that rollout there, or give this one a journal of its own"
    )]
    Held {
        /// Who holds it.
        holder: String,
    },
    /// The journal cannot be written, so nothing is begun.
    #[error("the journal cannot be used ({0}); nothing was begun")]
    Store(String),
}

/// A rollout that cannot be resumed. Stable serves everybody, and the journal stays as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// There is no journal.
    #[error("no journal was given, or nothing was ever written to it; start a rollout")]
    Nothing,
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Another process is the journal's writer, or another pilot of this one.
    #[error(
        "the journal is held by {holder}; end that process first (if it hangs, kill it), or order there what you want"
    )]
    Held {
        /// Who holds it.
        holder: String,
    },
    /// The journal cannot be reached or written.
    #[error("the journal cannot be used ({0}); try again when it can")]
    Store(String),
    /// The journal is about something else.
    #[error("the journal is about the {what} {theirs}, and this is {ours}; is the path right?")]
    Other {
        /// What differs.
        what: &'static str,
        /// What the journal says.
        theirs: String,
        /// What is here.
        ours: String,
    },
    /// The rollout cannot go on here.
    #[error(transparent)]
    Start(#[from] StartError),
}
