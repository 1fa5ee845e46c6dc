//! All flags of a set at one moment, as readers see them.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::compile::{Compiled, Declared};
use super::error::FlagError;

/// All flags of a set at one moment. Never changed once readers see it; a change makes another.
///
/// Slots are never reused, so that a handle to a removed flag cannot come to mean another one.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) revision: u64,
    pub(super) flags: Vec<Arc<Compiled>>,
    pub(super) names: Arc<NameIndex>,
    pub(super) declared: Arc<Declared>,
    pub(super) tombstones: Arc<BTreeMap<String, u32>>,
}

impl Table {
    pub(super) fn empty() -> Self {
        Self {
            revision: 0,
            flags: Vec::new(),
            names: Arc::new(NameIndex::new(std::iter::empty())),
            declared: Arc::default(),
            tombstones: Arc::default(),
        }
    }

    /// The slot of the flag that has this name now, or had it last.
    #[inline]
    pub(super) fn slot(&self, name: &str) -> Option<u32> {
        self.names.find(name, |slot| &self.flags[slot as usize].spec.name)
    }

    /// The flag of this name that was not removed.
    pub(super) fn live(&self, name: &str) -> Result<(u32, &Arc<Compiled>), FlagError> {
        let slot = self.slot(name);
        let found = slot.map(|slot| (slot, &self.flags[slot as usize]));
        found.filter(|(_, flag)| !flag.is_gone()).ok_or_else(|| FlagError::UnknownFlag {
            name: name.chars().take(160).flat_map(char::escape_debug).collect(),
        })
    }

    /// The flags that were not removed, with their slots.
    pub(super) fn present(&self) -> impl Iterator<Item = (u32, &Arc<Compiled>)> {
        (0..).zip(&self.flags).filter(|(_, flag)| !flag.is_gone())
    }

    /// Refuses circles of requirements, chains of more than 16 flags, and nets so wide that one
    /// evaluation would ask more than 256 flags.
    pub(super) fn check_requirements(&self) -> Result<(), FlagError> {
        let mut known: Vec<Option<Weight>> = vec![None; self.flags.len()];
        for (slot, flag) in self.present() {
            if !flag.requires.is_empty() {
                self.weigh(slot, &mut known, &mut Vec::new())?;
            }
        }
        Ok(())
    }

    fn weigh(
        &self,
        slot: u32,
        known: &mut [Option<Weight>],
        path: &mut Vec<u32>,
    ) -> Result<Weight, FlagError> {
        if let Some(weight) = known[slot as usize] {
            return Ok(weight);
        }
        let name = |slot: u32| self.flags[slot as usize].spec.name.clone();
        let too_long = |path: &[u32]| FlagError::Prerequisites {
            flag: name(path[0]),
            through: path.iter().map(|slot| name(*slot)).collect::<Vec<_>>().join(" → "),
        };
        path.push(slot);
        // A circle never ends, so it exceeds the limit as well: the recursion is bounded by it.
        if path.len() > LONGEST_CHAIN {
            return Err(too_long(path));
        }
        let mut weight = Weight { flags_deep: 1, flags_asked: 1 };
        for (other, _) in &self.flags[slot as usize].requires {
            if path.contains(other) {
                path.push(*other);
                return Err(too_long(path));
            }
            let below = self.weigh(*other, known, path)?;
            weight.flags_deep = weight.flags_deep.max(1 + below.flags_deep);
            weight.flags_asked += below.flags_asked;
        }
        if weight.flags_deep > LONGEST_CHAIN {
            return Err(too_long(path));
        }
        if weight.flags_asked > MOST_ASKED {
            return Err(FlagError::TooMany {
                flag: name(slot),
                field: "questions through requirements",
                count: weight.flags_asked,
                most: MOST_ASKED,
            });
        }
        path.pop();
        known[slot as usize] = Some(weight);
        Ok(weight)
    }

    /// Refuses ranges of one layer that overlap.
    pub(super) fn check_layers(&self) -> Result<(), FlagError> {
        let mut ranges: Vec<(&str, u32, u32, &str)> = Vec::new();
        for (_, flag) in self.present() {
            if let (Some(range), None) = (&flag.spec.layer, &flag.spec.archived) {
                let (from, size) = (range.from.ppm(), range.size.ppm());
                if size > 0 {
                    ranges.push((&range.layer, from, from + size, &flag.spec.name));
                }
            }
        }
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            let [(layer, _, end, first), (other, start, _, second)] = [pair[0], pair[1]];
            if layer == other && start < end {
                return Err(FlagError::LayerOverlap {
                    layer: layer.to_owned(),
                    first: first.to_owned(),
                    second: second.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// What one evaluation of a flag costs.
#[derive(Clone, Copy)]
struct Weight {
    flags_deep: usize,
    flags_asked: usize,
}

/// Names to slots: open addressing over a keyed hash, half full at most.
#[derive(Debug)]
pub(super) struct NameIndex {
    /// Differs in every process, so that names cannot be chosen to collide.
    seed: u64,
    entries: Box<[(u64, u32)]>,
}

impl NameIndex {
    /// An index of these names; of two that are the same, the later slot counts.
    pub(super) fn new<'a>(names: impl Iterator<Item = (u32, &'a str)>) -> Self {
        let seed = std::collections::hash_map::RandomState::new().hash_one(0_u64);
        let mut unique: BTreeMap<&str, u32> = BTreeMap::new();
        for (slot, name) in names {
            unique.insert(name, slot);
        }
        let mut entries = vec![(0, VACANT); (unique.len() * 2).max(2).next_power_of_two()];
        let mask = entries.len() - 1;
        for (name, slot) in unique {
            let hash = xxh3_64_with_seed(name.as_bytes(), seed);
            let mut at = hash as usize & mask;
            while entries[at].1 != VACANT {
                at = (at + 1) & mask;
            }
            entries[at] = (hash, slot);
        }
        Self { seed, entries: entries.into() }
    }

    #[inline]
    pub(super) fn find<'a>(&self, name: &str, name_of: impl Fn(u32) -> &'a String) -> Option<u32> {
        let hash = xxh3_64_with_seed(name.as_bytes(), self.seed);
        let mask = self.entries.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let (known, slot) = self.entries[at];
            if slot == VACANT {
                return None;
            }
            if known == hash && name_of(slot) == name {
                return Some(slot);
            }
            at = (at + 1) & mask;
        }
    }
}

const VACANT: u32 = u32::MAX;
/// The longest chain of flags that require one another.
const LONGEST_CHAIN: usize = 16;
/// The most flags one evaluation may ask, itself included.
const MOST_ASKED: usize = 256;
