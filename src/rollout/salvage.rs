//! What can be taken from a damaged journal.
//!
//! A journal that is damaged is not read: [`Journal::read`] says where, and leaves the rest to a
//! person. Where that person decides to go on, [`Journal::salvage`] gives the longest beginning that
//! can be trusted: every entry up to the first that is not what was written, or means nothing, or is
//! decided otherwise by this release. What comes after is left out even where it looks whole, since
//! what was between is not known.
//!
//! What was cut off may have held a rollback or an order to stop. [`Rollout::distrust`] counts it as
//! one.

use crate::clock::Moment;
use crate::machine::Effect;
use crate::rollout::journal::{Entry, Journal, Numbered, Recovered};
use crate::rollout::journal_error::JournalError;
use crate::rollout::journal_frame::{Standing, walk, whole_among};
use crate::rollout::pipeline::{MACHINE, Rollout};
use crate::rollout::state::State;

/// The beginning of a journal that can be trusted, and what was cut off.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Salvaged {
    /// The rollout, as the last entry that can be trusted leaves it.
    pub recovered: Recovered,
    /// What was cut off; `None` where nothing is wrong.
    pub cut: Option<Cut>,
}

/// What was cut off a damaged journal.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{bytes} bytes from byte {at} on were cut off, with {whole} entries that are still whole; entry {revision} is the last that counts: {why}"
)]
#[non_exhaustive]
pub struct Cut {
    /// The first byte that does not count.
    pub at: u64,
    /// How many bytes do not count.
    pub bytes: u64,
    /// The last entry that counts.
    pub revision: u64,
    /// How many entries among those bytes are whole in themselves. They do not count either.
    pub whole: u64,
    /// What is wrong with the first of them.
    pub why: JournalError,
}

impl Journal {
    /// The rollout as the longest trustworthy beginning of `bytes` leaves it.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when there is no such beginning: the bytes are empty, something else, too
    /// short, or damaged in the first entry. And [`JournalError::NewerVersion`] wherever a newer
    /// release wrote: that is no damage, and that release can read it.
    pub fn salvage(bytes: &[u8]) -> Result<Salvaged, JournalError> {
        let walked = walk(bytes);
        if walked.frames.is_empty() {
            return Err(walked.wrong.unwrap_or(JournalError::Empty));
        }
        if let Some(newer @ JournalError::NewerVersion { .. }) = walked.wrong {
            return Err(newer);
        }
        let (mut entries, mut wrong) = (Vec::with_capacity(walked.frames.len()), walked.wrong);
        let (mut intruded, mut ends) = (Vec::new(), Vec::new());
        for (frame, end) in walked.frames.iter().zip(&walked.ends) {
            match Numbered::of(frame) {
                Ok(one) if frame.standing == Standing::Intruded => intruded.push(one),
                Ok(one) => {
                    entries.push(one);
                    ends.push(*end);
                }
                Err(error) => {
                    wrong = Some(error);
                    break;
                }
            }
        }
        match entries.first() {
            Some(Numbered { entry: Entry::Snapshot(_), .. }) => {}
            Some(_) => return Err(JournalError::NoBeginning),
            None => return Err(wrong.unwrap_or(JournalError::NoBeginning)),
        }
        let torn = if wrong.is_none() { walked.torn } else { None };
        let mut journal = Self { entries, intruded: Vec::new(), torn };
        // A second try at the most: what is cut off lies after the last snapshot that counts.
        let mut recovered = loop {
            match journal.recover() {
                Ok(recovered) => break recovered,
                Err(JournalError::Diverged(divergence)) => {
                    let kept =
                        journal.entries.partition_point(|one| one.revision < divergence.revision);
                    if kept == 0 {
                        return Err(JournalError::Diverged(divergence));
                    }
                    journal.entries.truncate(kept);
                    journal.torn = None;
                    wrong = Some(JournalError::Diverged(divergence));
                }
                Err(error) => return Err(error),
            }
        };
        // Also from behind the last entry that counts: they can only stop it.
        recovered.intrude(&intruded);
        let cut = wrong.map(|why| {
            let at = ends[journal.entries.len() - 1];
            let rest = &bytes[usize::try_from(at).unwrap_or(bytes.len())..];
            let (bytes, revision) = (rest.len() as u64, recovered.revision);
            Cut { at, bytes, revision, whole: whole_among(rest), why }
        });
        Ok(Salvaged { recovered, cut })
    }
}

impl Rollout {
    /// What is known of this rollout may lack a step back: whoever feeds it tells it so before it
    /// goes on, and carries out what it answers.
    ///
    /// A step back that may have been taken counts as taken. In a stage, the candidate goes back to
    /// nobody as after harm that was seen: the rollout ends as rolled back (in a shadow, refused), and
    /// an operator's retry leads on, with fresh evidence. A rollout that has not begun is paused. One
    /// that is over stays so.
    pub fn distrust(&mut self, now: Moment, why: &str) -> Vec<Effect> {
        match &mut self.state {
            State::Running(_) => self.take_back(now, why.to_owned()),
            State::Waiting(waiting) => {
                waiting.paused = Some(why.to_owned());
                self.paused(now, MACHINE, why)
            }
            State::Ended(_) => Vec::new(),
        }
    }
}
