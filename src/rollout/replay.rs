//! The same history gives the same decisions, and here is where it would not.

use crate::machine::Machine;
use crate::rollout::journal::{Entry, Journal, same_effects};
use crate::rollout::journal_cbor::to_bytes;
pub use crate::rollout::journal_error::{Divergence, JournalError};
use crate::rollout::pipeline::Rollout;

/// A journal that was replayed without a difference.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Replayed {
    /// The machine at its end.
    pub rollout: Rollout,
    /// How many inputs it was told.
    pub inputs: u64,
    /// How many effects it answered.
    pub effects: u64,
    /// With how many later snapshots it was compared whole.
    pub snapshots: u64,
}

impl Journal {
    /// Feeds the machine of the first snapshot with everything that was told since, and compares
    /// each answer, and each later snapshot, with what was written down then: bit for bit, since
    /// what is compared are the bytes.
    ///
    /// # Errors
    ///
    /// [`JournalError::Diverged`] with the first difference; [`JournalError::NoBeginning`] without
    /// a snapshot.
    pub fn replay(&self) -> Result<Replayed, JournalError> {
        let mut entries = self.entries.iter();
        let Some(Entry::Snapshot(first)) = entries.next().map(|one| &one.entry) else {
            return Err(JournalError::NoBeginning);
        };
        let rollout = first.rollout.clone();
        let mut all = Replayed { rollout, inputs: 0, effects: 0, snapshots: 0 };
        for one in entries {
            match &one.entry {
                Entry::Handled { at, input, effects } => {
                    let found = all.rollout.handle(*at, input);
                    same_effects(one.revision, *at, effects, &found)?;
                    all.inputs += 1;
                    all.effects += effects.len() as u64;
                }
                Entry::Snapshot(snapshot) => {
                    let (then, now) = (&snapshot.rollout, &all.rollout);
                    if to_bytes(then).ok() != to_bytes(now).ok() {
                        return Err(Box::new(Divergence {
                            revision: one.revision,
                            at: snapshot.at,
                            then: place(then),
                            now: place(now),
                        })
                        .into());
                    }
                    all.snapshots += 1;
                }
                Entry::Ordered { .. } | Entry::InForce { .. } | Entry::Noted { .. } => {}
            }
        }
        Ok(all)
    }
}

fn place(rollout: &Rollout) -> String {
    let text = to_bytes(rollout).map_or(0, |bytes| xxhash_rust::xxh3::xxh3_64(&bytes));
    let samples = rollout.trial().map_or(0, |trial| trial.samples());
    let stage = rollout.stage().map_or("no stage", |stage| stage.name.as_str());
    format!("{stage} with {samples} samples (state {text:016x})")
}
