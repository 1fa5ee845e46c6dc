//! One flag, held by whoever asks it on every request.

use std::fmt;
use std::sync::Arc;

use super::compile::Compiled;
use super::context::Context;
use super::error::FlagError;
use super::evaluation::{Decision, Evaluation, ask};
use super::leftover::Leftover;
use super::set::FlagSet;
use super::spec::{FlagSpec, Ramp};
use super::usage::Usage;
use crate::share::TrafficShare;

/// One flag of a [`FlagSet`], found once. Clones are cheap; it follows renames, and after the flag
/// was removed it answers off, whatever its name came to mean later.
#[derive(Clone)]
pub struct FeatureFlag {
    pub(super) set: FlagSet,
    pub(super) slot: u32,
}

impl FlagSet {
    /// A handle to one flag, for those who ask on every request: it skips the search by name.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`].
    pub fn flag(&self, name: &str) -> Result<FeatureFlag, FlagError> {
        let (slot, _) = self.inner.table.load().live(name)?;
        Ok(FeatureFlag { set: self.clone(), slot })
    }
}

impl FeatureFlag {
    /// A flag that stands alone, in a set of its own. The segments it names are declared with it.
    ///
    /// # Errors
    ///
    /// [`FlagError`] when the definition does not hold together.
    pub fn alone(spec: FlagSpec) -> Result<Self, FlagError> {
        let mut set = FlagSet::builder();
        for segment in &spec.segments {
            set = set.segment(segment.clone());
        }
        let name = spec.name.clone();
        set.flag(spec).build()?.flag(&name)
    }

    /// Whether the flag is on for this request: whether it answers another variant than its off
    /// variant. No lock, no allocation.
    #[inline]
    #[must_use]
    pub fn is_on(&self, context: &Context<'_>) -> bool {
        self.decide(context).is_on
    }

    /// The flag's answer in numbers, the quickest form. No lock, no allocation.
    #[inline]
    pub fn decide(&self, context: &Context<'_>) -> Decision {
        self.set.inner.table.read(|table| {
            let flag = &table.flags[self.slot as usize];
            Decision::of(flag, ask(table, flag, context))
        })
    }

    /// The flag's answer to this request: value, variant, reason. No lock, no allocation.
    #[inline]
    pub fn evaluate(&self, context: &Context<'_>) -> Evaluation {
        let table = self.set.inner.table.load();
        let answer = ask(&table, &table.flags[self.slot as usize], context);
        Evaluation { table, slot: self.slot, answer }
    }

    /// Kills the flag: one atomic addition. Every call that starts after this returned answers the
    /// off variant, until [`FeatureFlag::clear_kill`].
    pub fn kill(&self) {
        self.set.inner.table.load().flags[self.slot as usize].live.kill();
    }

    /// Lifts a kill: see [`FlagSet::clear_kill`].
    ///
    /// # Errors
    ///
    /// As [`FlagSet::clear_kill`].
    pub fn clear_kill(&self, limit: TrafficShare) -> Result<(), FlagError> {
        let live = Arc::clone(&self.compiled().live);
        self.set.lift(self.slot, &live, limit)
    }

    /// Whether it is killed.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.set.inner.table.load().flags[self.slot as usize].live.is_killed()
    }

    /// Changes the flag.
    ///
    /// # Errors
    ///
    /// [`FlagError`] when the definition would not hold together; nothing is changed then.
    pub fn update(&self, mut edit: impl FnMut(&mut FlagSpec)) -> Result<(), FlagError> {
        self.set.change(|draft| {
            edit(draft.at(self.slot)?);
            Ok(())
        })
    }

    /// Sets the exposed share at once. Going down is always safe; on the way up prefer
    /// [`FeatureFlag::ramp`].
    ///
    /// # Errors
    ///
    /// As [`FeatureFlag::update`].
    pub fn set_share(&self, share: TrafficShare) -> Result<(), FlagError> {
        self.update(|spec| {
            spec.share = Some(share);
            spec.ramp = None;
        })
    }

    /// Lets [`FlagSet::tick`] move the share or the limit step by step.
    ///
    /// # Errors
    ///
    /// As [`FeatureFlag::update`].
    pub fn ramp(&self, ramp: Ramp) -> Result<(), FlagError> {
        self.update(|spec| spec.ramp = Some(ramp))
    }

    /// Always exposes this subject: takes it off the deny list and puts it on the allow list.
    ///
    /// # Errors
    ///
    /// As [`FeatureFlag::update`].
    pub fn enable_for(&self, subject: &str) -> Result<(), FlagError> {
        self.update(|spec| {
            spec.deny.remove(subject);
            spec.allow.insert(subject.to_owned());
        })
    }

    /// Never exposes this subject: takes it off the allow list and puts it on the deny list.
    ///
    /// # Errors
    ///
    /// As [`FeatureFlag::update`].
    pub fn disable_for(&self, subject: &str) -> Result<(), FlagError> {
        self.update(|spec| {
            spec.allow.remove(subject);
            spec.deny.insert(subject.to_owned());
        })
    }

    /// Makes a variant what everybody gets: see [`Draft::promote`](super::Draft::promote).
    ///
    /// # Errors
    ///
    /// As [`Draft::promote`](super::Draft::promote).
    pub fn promote(&self, variant: &str) -> Result<Leftover, FlagError> {
        let slot = self.slot;
        self.set.change(|draft| {
            let name = draft.at(slot)?.name.clone();
            draft.promote(&name, variant)
        })
    }

    /// Its definition as it stands.
    #[must_use]
    pub fn spec(&self) -> Arc<FlagSpec> {
        Arc::clone(&self.compiled().spec)
    }

    /// How often it was asked since the process started.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.compiled().live.counter.read()
    }

    /// The set it belongs to.
    #[must_use]
    pub const fn set(&self) -> &FlagSet {
        &self.set
    }

    fn compiled(&self) -> Arc<Compiled> {
        Arc::clone(&self.set.inner.table.load().flags[self.slot as usize])
    }
}

impl fmt::Debug for FeatureFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeatureFlag")
            .field("spec", &self.compiled().spec)
            .field("killed", &self.is_killed())
            .finish_non_exhaustive()
    }
}
