//! A change to a set: prepared apart, then taken as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compile::{Compiled, Declared, Live};
use super::error::FlagError;
use super::leftover::Leftover;
use super::spec::{FlagSpec, Holdout, Layer};
use super::table::{NameIndex, Table};
use super::usage::Counters;
use crate::date::Date;
use crate::ids::Name;
use crate::share::TrafficShare;

/// A change being prepared. Readers see nothing of it until
/// [`FlagSet::change`](super::FlagSet::change) has taken it as a whole.
#[derive(Debug)]
pub struct Draft<'t> {
    base: &'t Table,
    change: Change,
    added: Vec<FlagSpec>,
    edited: BTreeMap<u32, FlagSpec>,
    renamed: BTreeSet<u32>,
    resalted: BTreeSet<u32>,
}

/// What a change comes to.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// New definitions by slot; slots beyond the table's are new.
    pub(super) specs: BTreeMap<u32, Arc<FlagSpec>>,
    /// Slots to compile again because the date moved.
    pub(super) touched: BTreeSet<u32>,
    pub(super) gone: BTreeSet<u32>,
    /// Former names of renamed flags, which go on answering off.
    pub(super) ghosts: Vec<Arc<FlagSpec>>,
    pub(super) declared: Option<Declared>,
    pub(super) tombstones: BTreeMap<String, u32>,
}

/// Where a draft finds a flag.
#[derive(Clone, Copy)]
enum Place {
    Slot(u32),
    Added(usize),
}

impl<'t> Draft<'t> {
    pub(super) fn new(base: &'t Table) -> Self {
        let (renamed, resalted) = (BTreeSet::new(), BTreeSet::new());
        let (change, added, edited) = (Change::default(), Vec::new(), BTreeMap::new());
        Self { base, change, added, edited, renamed, resalted }
    }

    /// The definition of this flag, to be changed. Its name, generation and salts stay what they
    /// are, even if another definition is assigned: for those there are [`Draft::rename`] and
    /// [`Draft::resalt`].
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`]; [`FlagError::Archived`] since an archived flag does not change.
    pub fn flag(&mut self, name: &str) -> Result<&mut FlagSpec, FlagError> {
        let place = self.find(name)?;
        let spec = self.spec_mut(place);
        if spec.archived.is_some() {
            return Err(FlagError::Archived { flag: name.to_owned() });
        }
        Ok(spec)
    }

    /// Adds a flag.
    ///
    /// # Errors
    ///
    /// [`FlagError::Duplicate`] when the name is taken, [`FlagError::Tombstone`] when it was.
    pub fn insert(&mut self, spec: FlagSpec) -> Result<(), FlagError> {
        if let Some(generation) = self.tombstone(&spec.name) {
            return Err(FlagError::Tombstone { name: spec.name, generation });
        }
        self.add(spec, 1)
    }

    /// Adds a flag under a name that a removed one had. It is a new generation: callers that do
    /// not name it ([`FlagKey::generation`](super::FlagKey::generation)) were written for the old
    /// meaning, and see it off.
    ///
    /// # Errors
    ///
    /// [`FlagError::Duplicate`] when the name is taken by a flag that was not removed.
    pub fn insert_next_generation(&mut self, spec: FlagSpec) -> Result<u32, FlagError> {
        let generation = self.tombstone(&spec.name).map_or(1, |old| old.saturating_add(1));
        self.add(spec, generation)?;
        Ok(generation)
    }

    /// Freezes a flag: from now on it answers this variant to everybody, and counts who still
    /// asks.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`], [`FlagError::Archived`] or, for the variant,
    /// [`FlagError::Undeclared`].
    pub fn archive(&mut self, name: &str, serves: &str) -> Result<(), FlagError> {
        let spec = self.flag(name)?;
        if !spec.variants.iter().any(|variant| variant.name == serves) {
            return Err(FlagError::undeclared(name, "archived", serves));
        }
        spec.archived = Some(serves.to_owned());
        spec.ramp = None;
        Ok(())
    }

    /// Removes an archived flag. Its name is kept as a tombstone; handles to it answer off.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`]; [`FlagError::NotArchived`].
    pub fn remove(&mut self, name: &str) -> Result<(), FlagError> {
        let place = self.find(name)?;
        let spec = self.spec_mut(place);
        if spec.archived.is_none() {
            return Err(FlagError::NotArchived { flag: name.to_owned() });
        }
        let generation = spec.generation;
        if let Place::Slot(slot) = place {
            self.edited.remove(&slot);
            self.change.gone.insert(slot);
        }
        self.change.tombstones.insert(name.to_owned(), generation);
        Ok(())
    }

    /// Gives a flag another name. Nobody moves: its salts stay. Flags that require it follow; the
    /// old name becomes a tombstone.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`], [`FlagError::Duplicate`], [`FlagError::Tombstone`].
    pub fn rename(&mut self, old: &str, new: &str) -> Result<(), FlagError> {
        let place = self.find(old)?;
        if self.find(new).is_ok() {
            return Err(FlagError::Duplicate { kind: "flag", name: new.to_owned() });
        }
        if let Some(generation) = self.tombstone(new) {
            return Err(FlagError::Tombstone { name: new.to_owned(), generation });
        }
        Name::new(new).map_err(|source| FlagError::Name {
            flag: old.to_owned(),
            field: "name",
            source,
        })?;
        if let Place::Slot(slot) = place {
            self.renamed.insert(slot);
        }
        let spec = self.spec_mut(place);
        let ghost = spec.clone();
        new.clone_into(&mut spec.name);
        self.change.tombstones.insert(old.to_owned(), ghost.generation);
        self.change.ghosts.push(Arc::new(ghost));
        let dependents: Vec<u32> = self
            .base
            .present()
            .filter(|(_, flag)| flag.spec.requires.iter().any(|required| required.flag == old))
            .map(|(slot, _)| slot)
            .collect();
        for slot in dependents {
            for required in &mut self.spec_mut(Place::Slot(slot)).requires {
                if required.flag == old {
                    new.clone_into(&mut required.flag);
                }
            }
        }
        Ok(())
    }

    /// Replaces the salts: everybody's place is drawn again. For a new question under an old name,
    /// never to "fix" a running one.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`], [`FlagError::Archived`].
    pub fn resalt(&mut self, name: &str, exposure: &str, arm: &str) -> Result<(), FlagError> {
        if let Place::Slot(slot) = self.find(name)? {
            self.resalted.insert(slot);
        }
        let spec = self.flag(name)?;
        exposure.clone_into(&mut spec.salt);
        arm.clone_into(&mut spec.arm_salt);
        Ok(())
    }

    /// Makes a variant what everybody gets, in one step with everything that would send somebody
    /// elsewhere: lists, segments, rules, share, limit, ramp, schedule, holdouts, layer and
    /// requirements are cleared. The off variant stays, so that the kill switch still leads back
    /// to the old model while it is warm; a killed flag stays killed. Says what is left to remove.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`], [`FlagError::Archived`] or, for the variant,
    /// [`FlagError::Undeclared`].
    pub fn promote(&mut self, name: &str, variant: &str) -> Result<Leftover, FlagError> {
        let spec = self.flag(name)?;
        if !spec.variants.iter().any(|known| known.name == variant) {
            return Err(FlagError::undeclared(name, "default", variant));
        }
        let leftover = Leftover::of(spec, variant);
        variant.clone_into(&mut spec.default);
        spec.share = None;
        spec.limit = TrafficShare::ALL;
        spec.ramp = None;
        (spec.opens, spec.closes, spec.layer) = (None, None, None);
        spec.deny.clear();
        spec.allow.clear();
        spec.segments.clear();
        spec.holdouts.clear();
        spec.rules.clear();
        spec.requires.clear();
        Ok(leftover)
    }

    /// Makes the default variant the off variant too, once the old model is no longer warm: from
    /// now on a kill cannot lead back to it.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`], [`FlagError::Archived`].
    pub fn retire_off(&mut self, name: &str) -> Result<(), FlagError> {
        let spec = self.flag(name)?;
        spec.off = spec.default.clone();
        Ok(())
    }

    /// Declares a segment, if it is not declared yet.
    pub fn declare_segment(&mut self, segment: impl Into<String>) {
        let segment = segment.into();
        let declared = self.declared();
        if !declared.segments.contains(&segment) {
            declared.segments.push(segment);
        }
    }

    /// Declares a mutual-exclusion layer, or changes its salt.
    pub fn declare_layer(&mut self, layer: Layer) {
        let declared = self.declared();
        declared.layers.retain(|known| known.name != layer.name);
        declared.layers.push(layer);
    }

    /// Declares a holdout, or changes it.
    pub fn declare_holdout(&mut self, holdout: Holdout) {
        let declared = self.declared();
        declared.holdouts.retain(|known| known.name != holdout.name);
        declared.holdouts.push(holdout);
    }

    pub(super) fn at(&mut self, slot: u32) -> Result<&mut FlagSpec, FlagError> {
        let flag = &self.base.flags[slot as usize];
        if flag.is_gone() {
            return Err(FlagError::UnknownFlag { name: flag.spec.name.clone() });
        }
        let spec = self.spec_mut(Place::Slot(slot));
        if spec.archived.is_some() {
            return Err(FlagError::Archived { flag: spec.name.clone() });
        }
        Ok(spec)
    }

    pub(super) fn finish(mut self) -> Change {
        for (slot, mut spec) in self.edited {
            let base = &self.base.flags[slot as usize].spec;
            spec.generation = base.generation;
            spec.version = base.version;
            if !self.renamed.contains(&slot) {
                spec.name.clone_from(&base.name);
            }
            if !self.resalted.contains(&slot) {
                spec.salt.clone_from(&base.salt);
                spec.arm_salt.clone_from(&base.arm_salt);
            }
            if **base != spec {
                spec.version += 1;
                self.change.specs.insert(slot, Arc::new(spec));
            }
        }
        for (slot, spec) in (self.base.flags.len() as u32..).zip(self.added) {
            self.change.specs.insert(slot, Arc::new(spec));
        }
        self.change
    }

    fn add(&mut self, mut spec: FlagSpec, generation: u32) -> Result<(), FlagError> {
        if self.find(&spec.name).is_ok() {
            return Err(FlagError::Duplicate { kind: "flag", name: spec.name });
        }
        spec.generation = generation;
        spec.version = 1;
        self.added.push(spec);
        Ok(())
    }

    fn tombstone(&self, name: &str) -> Option<u32> {
        let now = self.change.tombstones.get(name);
        now.or_else(|| self.base.tombstones.get(name)).copied()
    }

    fn declared(&mut self) -> &mut Declared {
        let base = self.base;
        self.change.declared.get_or_insert_with(|| (*base.declared).clone())
    }

    fn find(&self, name: &str) -> Result<Place, FlagError> {
        if let Some(at) = self.added.iter().position(|spec| spec.name == name) {
            return Ok(Place::Added(at));
        }
        if let Some((slot, _)) = self.edited.iter().find(|(_, spec)| spec.name == name) {
            return Ok(Place::Slot(*slot));
        }
        let (slot, _) = self.base.live(name)?;
        let renamed = self.edited.get(&slot).is_some_and(|spec| spec.name != name);
        if renamed || self.change.gone.contains(&slot) {
            return Err(FlagError::UnknownFlag { name: name.to_owned() });
        }
        Ok(Place::Slot(slot))
    }

    fn spec_mut(&mut self, place: Place) -> &mut FlagSpec {
        match place {
            Place::Added(at) => &mut self.added[at],
            Place::Slot(slot) => {
                let base = self.base;
                self.edited.entry(slot).or_insert_with(|| (*base.flags[slot as usize].spec).clone())
            }
        }
    }
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.specs.is_empty()
            && self.touched.is_empty()
            && self.gone.is_empty()
            && self.declared.is_none()
    }

    /// The table after this change, or why it cannot be.
    pub(super) fn apply(
        self,
        base: &Table,
        today: Option<Date>,
        counters: &mut Counters,
    ) -> Result<Table, FlagError> {
        let grown = self.specs.range(base.flags.len() as u32..).count();
        let total = base.flags.len() + grown + self.ghosts.len();
        if total > MOST_FLAGS {
            return Err(FlagError::TooMany {
                flag: "(the set)".to_owned(),
                field: "flags, with those removed since the process started,",
                count: total,
                most: MOST_FLAGS,
            });
        }
        if let Some(declared) = &self.declared {
            check_declared(declared)?;
        }
        let declared = self.declared.map_or_else(|| Arc::clone(&base.declared), Arc::new);

        let first_ghost = (base.flags.len() + grown) as u32;
        let spec_of = |slot: u32| -> &Arc<FlagSpec> {
            if slot >= first_ghost {
                return &self.ghosts[(slot - first_ghost) as usize];
            }
            self.specs.get(&slot).unwrap_or_else(|| &base.flags[slot as usize].spec)
        };
        let renamed = self.specs.iter().any(|(slot, spec)| {
            base.flags.get(*slot as usize).is_none_or(|known| known.spec.name != spec.name)
        });
        let names = if renamed {
            let names = (0..total as u32).map(|slot| (slot, spec_of(slot).name.as_str()));
            Arc::new(NameIndex::new(names))
        } else {
            Arc::clone(&base.names)
        };
        let resolve = |name: &str| {
            let slot = names.find(name, |slot| &spec_of(slot).name)?;
            let is_there = slot < first_ghost
                && !self.gone.contains(&slot)
                && (self.specs.contains_key(&slot) || !base.flags[slot as usize].is_gone());
            is_there.then(|| (slot, Arc::clone(spec_of(slot))))
        };

        // A name or list of variants that changed may change what another flag requires.
        let all = !Arc::ptr_eq(&declared, &base.declared);
        let dependents = renamed
            || self.specs.iter().any(|(slot, spec)| {
                base.flags
                    .get(*slot as usize)
                    .is_none_or(|known| known.spec.variants != spec.variants)
            });
        let mut flags = base.flags.clone();
        for (slot, known) in base.present() {
            let again = all
                || self.touched.contains(&slot)
                || (dependents && !known.spec.requires.is_empty());
            if again && !self.specs.contains_key(&slot) && !self.gone.contains(&slot) {
                let (spec, live) = (Arc::clone(&known.spec), Arc::clone(&known.live));
                flags[slot as usize] =
                    Arc::new(Compiled::new(spec, &declared, today, &resolve, live)?);
            }
        }
        for (slot, spec) in &self.specs {
            let live = match base.flags.get(*slot as usize) {
                Some(known) => Arc::clone(&known.live),
                None => Arc::new(Live::new(counters.next())),
            };
            let compiled =
                Arc::new(Compiled::new(Arc::clone(spec), &declared, today, &resolve, live)?);
            match flags.get_mut(*slot as usize) {
                Some(known) => *known = compiled,
                None => flags.push(compiled), // new slots come in order
            }
        }
        for ghost in &self.ghosts {
            let live = Arc::new(Live::new(counters.next()));
            let mut spec = FlagSpec::new(ghost.name.clone());
            spec.variants.clone_from(&ghost.variants);
            spec.arms.clone_from(&ghost.arms);
            (spec.off, spec.default) = (ghost.off.clone(), ghost.off.clone());
            spec.generation = ghost.generation;
            let ghost = Compiled::new(Arc::new(spec), &declared, today, &resolve, live)?;
            flags.push(Arc::new(ghost.gone()));
        }
        let mut required: BTreeMap<&str, u32> = BTreeMap::new();
        if !self.gone.is_empty() {
            let others = base.present().map(|(slot, _)| slot).chain(self.specs.keys().copied());
            for other in others.filter(|other| !self.gone.contains(other)) {
                let names = spec_of(other).requires.iter().map(|required| &*required.flag);
                required.extend(names.map(|name| (name, other)));
            }
        }
        for slot in &self.gone {
            let gone = &flags[*slot as usize];
            if let Some(by) = required.get(gone.spec.name.as_str()) {
                return Err(FlagError::StillRequired {
                    flag: gone.spec.name.clone(),
                    by: spec_of(*by).name.clone(),
                });
            }
            flags[*slot as usize] = Arc::new(gone.gone());
        }

        let tombstones = if self.tombstones.is_empty() {
            Arc::clone(&base.tombstones)
        } else {
            let mut all = (*base.tombstones).clone();
            all.extend(self.tombstones);
            Arc::new(all)
        };
        let table = Table { revision: base.revision + 1, flags, names, declared, tombstones };
        if self.specs.values().any(|spec| !spec.requires.is_empty()) {
            table.check_requirements()?;
        }
        if self.specs.values().any(|spec| spec.layer.is_some()) {
            table.check_layers()?;
        }
        Ok(table)
    }
}

fn check_declared(declared: &Declared) -> Result<(), FlagError> {
    let kinds: [(&'static str, Vec<&str>); 3] = [
        ("segment", declared.segments.iter().map(String::as_str).collect()),
        ("layer", declared.layers.iter().map(|layer| layer.name.as_str()).collect()),
        ("holdout", declared.holdouts.iter().map(|holdout| holdout.name.as_str()).collect()),
    ];
    for (kind, mut names) in kinds {
        if names.len() > MOST_DECLARED {
            return Err(FlagError::TooMany {
                flag: "(the set)".to_owned(),
                field: kind,
                count: names.len(),
                most: MOST_DECLARED,
            });
        }
        for name in &names {
            Name::new(name).map_err(|source| FlagError::Name {
                flag: "(the set)".to_owned(),
                field: kind,
                source,
            })?;
        }
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(FlagError::Duplicate { kind, name: pair[0].to_owned() });
        }
    }
    Ok(())
}

/// The most flags a set may hold, with those removed since the process started.
const MOST_FLAGS: usize = 100_000;
/// The most segments, layers or holdouts a set may declare: as many as a request can be told apart
/// by elsewhere in the crate.
const MOST_DECLARED: usize = 254;
