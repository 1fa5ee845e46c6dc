//! Flags by name: read without a lock, changed as a whole or not at all.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::compile::Compiled;
use super::context::Context;
use super::edit::{Change, Draft};
use super::error::FlagError;
use super::evaluation::{Answer, Decision, Evaluation, Reason, ask};
use super::leftover::Leftover;
use super::local::{Published, Retired};
use super::observed::Observed;
use super::spec::{Dial, FlagSpec, Holdout, Layer};
use super::table::Table;
use super::usage::{Answered, Counters, Usage};
use crate::date::Date;
use crate::share::TrafficShare;

/// Flags by name. Clones share the flags.
///
/// Readers take no lock and allocate nothing. A change is prepared apart, checked as a whole and
/// published by one store: a reader sees all of it or nothing. A kill is a store of its own, seen
/// by every call that starts after [`FlagSet::kill`] has returned.
#[derive(Clone)]
pub struct FlagSet {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) table: Published,
    pub(super) writer: Mutex<Writer>,
}

/// What only those who change the set need.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) counters: Counters,
    pub(super) today: Option<Date>,
    /// By slot.
    pub(super) observed: Vec<Observed>,
    pub(super) retired: Retired,
}

/// A flag's name as a caller knows it, with the generation it was written for.
///
/// Plain text is the first generation. A name whose flag was removed and that came back as the
/// second means something else now: callers that do not say so see it off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlagKey<'a> {
    name: &'a str,
    generation: u32,
}

impl<'a> FlagKey<'a> {
    /// The flag that has this name in this generation, from 1.
    #[must_use]
    pub const fn generation(name: &'a str, generation: u32) -> Self {
        Self { name, generation }
    }

    #[inline]
    fn ask(&self, table: &Table, flag: &Compiled, context: &Context<'_>) -> Answer {
        if flag.spec.generation == self.generation {
            return ask(table, flag, context);
        }
        flag.live.counter.count(Answered::Late);
        Answer { variant: flag.off, reason: Reason::OtherGeneration }
    }
}

impl<'a> From<&'a str> for FlagKey<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, generation: 1 }
    }
}

/// Builds a [`FlagSet`]. Setters check nothing; [`FlagSetBuilder::build`] checks the whole.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct FlagSetBuilder {
    segments: Vec<String>,
    layers: Vec<Layer>,
    holdouts: Vec<Holdout>,
    flags: Vec<FlagSpec>,
}

impl FlagSetBuilder {
    /// Declares a segment; a flag may only name declared ones.
    pub fn segment(mut self, segment: impl Into<String>) -> Self {
        self.segments.push(segment.into());
        self
    }

    /// Declares a mutual-exclusion layer, salted with its name.
    pub fn layer(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.layers.push(Layer { salt: format!("layer/{name}"), name });
        self
    }

    /// Declares a holdout of this share, salted with its name.
    pub fn holdout(mut self, name: impl Into<String>, share: TrafficShare) -> Self {
        let name = name.into();
        self.holdouts.push(Holdout { salt: format!("holdout/{name}"), name, share });
        self
    }

    /// Adds a flag.
    pub fn flag(mut self, spec: FlagSpec) -> Self {
        self.flags.push(spec);
        self
    }

    /// The set.
    ///
    /// # Errors
    ///
    /// [`FlagError`] for whatever is wrong first, with the flag, the field and the value.
    pub fn build(self) -> Result<FlagSet, FlagError> {
        let base = Table::empty();
        let mut change = Change::default();
        let mut names = BTreeSet::new();
        for (slot, mut spec) in (0..).zip(self.flags) {
            if !names.insert(spec.name.clone()) {
                return Err(FlagError::Duplicate { kind: "flag", name: spec.name });
            }
            spec.version = spec.version.max(1);
            change.specs.insert(slot, Arc::new(spec));
        }
        change.declared = Some(super::compile::Declared {
            segments: self.segments,
            layers: self.layers,
            holdouts: self.holdouts,
        });
        let mut counters = Counters::new();
        let table = change.apply(&base, None, &mut counters)?;
        let observed = vec![Observed::default(); table.flags.len()];
        let writer =
            Mutex::new(Writer { counters, today: None, observed, retired: Retired::default() });
        Ok(FlagSet { inner: Arc::new(Inner { table: Published::new(table), writer }) })
    }
}

impl FlagSet {
    /// Begins a set.
    pub fn builder() -> FlagSetBuilder {
        FlagSetBuilder::default()
    }

    /// Whether the flag is on; one that does not exist is off.
    #[inline]
    #[must_use]
    pub fn is_on<'k>(&self, key: impl Into<FlagKey<'k>>, context: &Context<'_>) -> bool {
        self.decide(key, context).is_some_and(|decision| decision.is_on)
    }

    /// The flag's answer in numbers, or `None` when no flag has this name. The quickest form.
    #[inline]
    pub fn decide<'k>(
        &self,
        key: impl Into<FlagKey<'k>>,
        context: &Context<'_>,
    ) -> Option<Decision> {
        let key = key.into();
        self.inner.table.read(|table| {
            let flag = &table.flags[table.slot(key.name)? as usize];
            Some(Decision::of(flag, key.ask(table, flag, context)))
        })
    }

    /// The flag's answer, or `None` when no flag has this name.
    #[inline]
    pub fn evaluate<'k>(
        &self,
        key: impl Into<FlagKey<'k>>,
        context: &Context<'_>,
    ) -> Option<Evaluation> {
        let key = key.into();
        let table = self.inner.table.load();
        let slot = table.slot(key.name)?;
        let answer = key.ask(&table, &table.flags[slot as usize], context);
        Some(Evaluation { table, slot, answer })
    }

    /// Kills a flag: from now on every call answers its off variant, whatever else changes, until
    /// [`FlagSet::clear_kill`]. To outlive the process the set has to be stored.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`].
    pub fn kill(&self, name: &str) -> Result<(), FlagError> {
        let table = self.inner.table.load();
        table.live(name)?.1.live.kill();
        Ok(())
    }

    /// Lifts a kill. The flag comes back no further than `limit`, whatever it was before; ramps
    /// are dropped. [`TrafficShare::NONE`] and a ramp of the limit is the careful way. A flag that
    /// is not killed is left alone.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`]; [`FlagError::KilledAgain`] when another kill arrived meanwhile,
    /// which stands.
    pub fn clear_kill(&self, name: &str, limit: TrafficShare) -> Result<(), FlagError> {
        let (slot, live) = {
            let table = self.inner.table.load();
            let (slot, flag) = table.live(name)?;
            (slot, Arc::clone(&flag.live))
        };
        self.lift(slot, &live, limit)
    }

    pub(super) fn lift(
        &self,
        slot: u32,
        live: &super::compile::Live,
        limit: TrafficShare,
    ) -> Result<(), FlagError> {
        if !live.is_killed() {
            return Ok(());
        }
        let seen = live.kills();
        let limited = self.change(|draft| {
            let spec = draft.at(slot)?;
            spec.limit = limit;
            spec.ramp = None;
            Ok(spec.name.clone())
        });
        let name = match limited {
            Ok(name) => name,
            // An archived flag answers one variant; there is nothing to limit.
            Err(FlagError::Archived { flag }) => flag,
            Err(other) => return Err(other),
        };
        if live.clear(seen) { Ok(()) } else { Err(FlagError::KilledAgain { flag: name }) }
    }

    /// Changes one flag.
    ///
    /// # Errors
    ///
    /// As [`FlagSet::change`].
    pub fn update(&self, name: &str, mut edit: impl FnMut(&mut FlagSpec)) -> Result<(), FlagError> {
        self.change(|draft| {
            edit(draft.flag(name)?);
            Ok(())
        })
    }

    /// Changes any number of flags as a whole or not at all.
    ///
    /// `edit` prepares the change on a [`Draft`] of the set as it stands; should somebody else
    /// have changed the set meanwhile, it is called again on the newer one. No lock is held while
    /// it runs, so it may use the set. The work grows with the number of flags in the set: about
    /// 50 microseconds among 10,000.
    ///
    /// # Errors
    ///
    /// The error of `edit`, or [`FlagError`] when the whole does not hold together; nothing is
    /// changed then.
    pub fn change<R>(
        &self,
        mut edit: impl FnMut(&mut Draft<'_>) -> Result<R, FlagError>,
    ) -> Result<R, FlagError> {
        loop {
            let base = self.inner.table.load_full();
            let mut draft = Draft::new(&base);
            let result = edit(&mut draft)?;
            let change = draft.finish();
            if change.is_empty() {
                return Ok(result);
            }
            let mut writer = self.inner.writer.lock();
            if Arc::ptr_eq(&base, &self.inner.table.load()) {
                self.publish(&base, change, &mut writer)?;
                return Ok(result);
            }
        }
    }

    /// Promotes a variant: see [`Draft::promote`].
    ///
    /// # Errors
    ///
    /// As [`Draft::promote`] and [`FlagSet::change`].
    pub fn promote(&self, name: &str, variant: &str) -> Result<Leftover, FlagError> {
        self.change(|draft| draft.promote(name, variant))
    }

    /// Tells the set the date: schedules open and close, ramps take one step at most, and the
    /// lifecycle notes who was used and who stands at 100 %. To be called every minute or so;
    /// a flag with a schedule is off until the first call. Says how many flags changed.
    ///
    /// # Errors
    ///
    /// [`FlagError`], which would be a broken invariant: moving on in time makes no good set bad.
    pub fn tick(&self, today: Date) -> Result<usize, FlagError> {
        let mut writer = self.inner.writer.lock();
        writer.today = Some(today);
        let base = self.inner.table.load_full();
        let mut change = Change::default();
        for (slot, flag) in base.present() {
            let spec = &flag.spec;
            if spec.opens.is_some() || spec.closes.is_some() {
                change.touched.insert(slot);
            }
            let due = spec.ramp.filter(|ramp| ramp.next <= today && !flag.live.is_killed());
            if let (Some(ramp), None) = (due, &spec.archived) {
                let mut next = FlagSpec::clone(spec);
                let at = match ramp.dial {
                    Dial::Share => spec.share.unwrap_or_default(),
                    Dial::Limit => spec.limit,
                };
                let then = ramp.stepped(at);
                match ramp.dial {
                    Dial::Share => next.share = Some(then),
                    Dial::Limit => next.limit = then,
                }
                let later = today.after(Duration::from_secs(ramp.every_secs));
                next.ramp = (then != ramp.to).then_some(super::spec::Ramp { next: later, ..ramp });
                next.version += 1;
                change.specs.insert(slot, Arc::new(next));
            }
        }
        let ramped = change.specs.len();
        let mut moved = 0;
        if !change.is_empty() {
            moved = self.publish(&base, change, &mut writer)?;
        }
        let table = self.inner.table.load();
        for (slot, flag) in table.present() {
            writer.observed[slot as usize].note(flag, today);
        }
        Ok(moved.max(ramped))
    }

    /// The names of the flags that were not removed.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.inner.table.load().present().map(|(_, flag)| flag.spec.name.clone()).collect()
    }

    /// The definition of a flag as it stands.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`].
    pub fn spec(&self, name: &str) -> Result<Arc<FlagSpec>, FlagError> {
        Ok(Arc::clone(&self.inner.table.load().live(name)?.1.spec))
    }

    /// Whether a flag is killed.
    ///
    /// # Errors
    ///
    /// [`FlagError::UnknownFlag`].
    pub fn is_killed(&self, name: &str) -> Result<bool, FlagError> {
        Ok(self.inner.table.load().live(name)?.1.live.is_killed())
    }

    /// How often a flag, or a removed one of this name, was asked since the process started.
    #[must_use]
    pub fn usage(&self, name: &str) -> Option<Usage> {
        let table = self.inner.table.load();
        table.slot(name).map(|slot| table.flags[slot as usize].live.counter.read())
    }

    /// Counts the changes to the set.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.inner.table.load().revision
    }

    /// Publishes a change to `base`, which the caller knows to be the present table: it holds the
    /// lock. Says how many flags answer by other rules than before.
    pub(super) fn publish(
        &self,
        base: &Table,
        change: Change,
        writer: &mut Writer,
    ) -> Result<usize, FlagError> {
        let table = change.apply(base, writer.today, &mut writer.counters)?;
        let moved = table
            .flags
            .iter()
            .enumerate()
            .filter(|(slot, flag)| {
                base.flags.get(*slot).is_none_or(|known| {
                    known.state != flag.state || !Arc::ptr_eq(&known.spec, &flag.spec)
                })
            })
            .count();
        writer.observed.resize(table.flags.len(), Observed::default());
        self.inner.table.store(table, &mut writer.retired);
        Ok(moved)
    }
}

impl fmt::Debug for FlagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.inner.table.load();
        f.debug_struct("FlagSet")
            .field("revision", &table.revision)
            .field("flags", &table.present().count())
            .finish_non_exhaustive()
    }
}
