//! A whole set as a file holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::compile::{Declared, Live};
use super::edit::Change;
use super::error::FlagError;
use super::observed::Observed;
use super::set::{FlagSet, FlagSetBuilder};
use super::spec::{FlagSpec, Holdout, Layer};
use crate::date::Date;

/// A whole set as a file holds it, in any serde format.
///
/// Fields that are not known are refused, never guessed: a set that means more than this release
/// understands must not be half obeyed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StoredFlags {
    /// Always `pilotage-flags/1`.
    pub format: String,
    /// Counts the changes to the set; for people, nothing depends on it.
    #[serde(default)]
    pub revision: u64,
    /// The declared segments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<String>,
    /// The declared layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// The declared holdouts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holdouts: Vec<Holdout>,
    /// Names of removed flags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tombstones: Vec<Tombstone>,
    /// The flags.
    #[serde(default)]
    pub flags: Vec<StoredFlag>,
}

/// A name that must not come back to life with another meaning.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// The name.
    pub name: String,
    /// The last generation that had it.
    pub generation: u32,
}

/// One flag with what is remembered of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StoredFlag {
    /// Whether it is killed. Loading can kill a flag, never revive one.
    #[serde(default)]
    pub killed: bool,
    /// When it was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Date>,
    /// Since when it is on for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_since: Option<Date>,
    /// When it was last seen in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Date>,
    /// How often it was asked up to then.
    #[serde(default)]
    pub uses: u64,
    /// What it does.
    pub spec: FlagSpec,
}

impl StoredFlag {
    /// A flag of which nothing is remembered.
    #[must_use]
    pub fn new(spec: FlagSpec) -> Self {
        Self { killed: false, first_seen: None, full_since: None, used_at: None, uses: 0, spec }
    }
}

impl StoredFlags {
    /// The format that this release writes and reads.
    pub const FORMAT: &'static str = "pilotage-flags/1";
}

impl FlagSet {
    /// Everything there is to keep, as of one moment.
    #[must_use]
    pub fn stored(&self) -> StoredFlags {
        let writer = self.inner.writer.lock();
        let table = self.inner.table.load();
        let flags = table.present().map(|(slot, flag)| {
            let seen = &writer.observed[slot as usize];
            StoredFlag {
                killed: flag.live.is_killed(),
                first_seen: seen.first_seen,
                full_since: seen.full_since,
                used_at: seen.used_at,
                uses: seen.uses_before.saturating_add(flag.live.counter.read().total()),
                spec: (*flag.spec).clone(),
            }
        });
        let tombstones = table.tombstones.iter();
        StoredFlags {
            format: StoredFlags::FORMAT.to_owned(),
            revision: table.revision,
            segments: table.declared.segments.clone(),
            layers: table.declared.layers.clone(),
            holdouts: table.declared.holdouts.clone(),
            tombstones: tombstones
                .map(|(name, generation)| Tombstone { name: name.clone(), generation: *generation })
                .collect(),
            flags: flags.collect(),
        }
    }

    /// A set from what was kept.
    ///
    /// # Errors
    ///
    /// [`FlagError`] for whatever is wrong first.
    pub fn from_stored(stored: StoredFlags) -> Result<Self, FlagError> {
        let set = FlagSetBuilder::default().build()?;
        set.load(stored)?;
        Ok(set)
    }

    /// Puts a stored set in the place of this one, as a whole or not at all. Handles stay valid.
    ///
    /// A killed flag stays killed, whatever the stored set says; a flag that the stored set lacks
    /// is off until it comes back; a name with a tombstone, here or there, does not come back in
    /// an old generation. Dates and counts noticed by this process are kept where it has any.
    ///
    /// # Errors
    ///
    /// [`FlagError`] for whatever is wrong first. The set in force stays in force.
    pub fn load(&self, stored: StoredFlags) -> Result<(), FlagError> {
        if stored.format != StoredFlags::FORMAT {
            return Err(FlagError::Format {
                field: "format",
                value: stored.format.chars().take(80).flat_map(char::escape_debug).collect(),
                expected: StoredFlags::FORMAT,
            });
        }
        let mut writer = self.inner.writer.lock();
        let base = self.inner.table.load_full();

        let mut tombstones: BTreeMap<String, u32> = BTreeMap::new();
        for tombstone in stored.tombstones {
            let last = tombstones.entry(tombstone.name).or_default();
            *last = (*last).max(tombstone.generation);
        }
        for (name, generation) in base.tombstones.iter() {
            let last = tombstones.entry(name.clone()).or_default();
            *last = (*last).max(*generation);
        }

        let mut change = Change::default();
        let mut killed: Vec<u32> = Vec::new();
        let mut memories: Vec<(u32, Observed)> = Vec::new();
        let mut names = BTreeSet::new();
        let mut next = base.flags.len() as u32;
        for flag in stored.flags {
            let spec = flag.spec;
            if let Some(generation) = tombstones.get(&spec.name) {
                if spec.generation <= *generation {
                    return Err(FlagError::Tombstone { name: spec.name, generation: *generation });
                }
            }
            if !names.insert(spec.name.clone()) {
                return Err(FlagError::Duplicate { kind: "flag", name: spec.name });
            }
            let known = base
                .slot(&spec.name)
                .filter(|slot| base.flags[*slot as usize].spec.generation == spec.generation);
            let slot = known.unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            if flag.killed {
                killed.push(slot);
            }
            let memory = Observed {
                first_seen: flag.first_seen,
                full_since: flag.full_since,
                used_at: flag.used_at,
                uses_before: flag.uses,
                ..Observed::default()
            };
            memories.push((slot, memory));
            change.specs.insert(slot, Arc::new(spec));
        }
        change.gone = base
            .present()
            .map(|(slot, _)| slot)
            .filter(|s| !change.specs.contains_key(s))
            .collect();
        change.declared = Some(Declared {
            segments: stored.segments,
            layers: stored.layers,
            holdouts: stored.holdouts,
        });
        change.tombstones = tombstones;

        let table = change.apply(&base, writer.today, &mut writer.counters)?;
        // Everything holds together. First the kills, so that no reader sees a killed flag on.
        for slot in killed {
            let live: &Live = &table.flags[slot as usize].live;
            if !live.is_killed() {
                live.kill();
            }
        }
        writer.observed.resize(table.flags.len(), Observed::default());
        for (slot, memory) in memories {
            let seen = &mut writer.observed[slot as usize];
            if seen.first_seen.is_none() {
                *seen = memory;
            }
        }
        self.inner.table.store(table, &mut writer.retired);
        Ok(())
    }
}
