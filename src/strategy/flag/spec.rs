//! What a flag does, as data.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::Rule;
use super::value::Value;
use crate::date::Date;
use crate::share::TrafficShare;

/// What a flag does. Plain data: setters check nothing, the [`FlagSet`](super::FlagSet) that takes
/// it checks the whole.
///
/// A new one is a release flag with the variants `off` and `on` that is off for everybody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FlagSpec {
    pub(super) name: String,
    #[serde(default = "first")]
    pub(super) generation: u32,
    #[serde(default)]
    pub(super) version: u64,
    #[serde(default)]
    pub(super) hash: HashVersion,
    pub(super) salt: String,
    pub(super) arm_salt: String,
    /// What it is for, which sets how long it may live.
    #[serde(default)]
    pub kind: Kind,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When it was made; from there its age counts.
    #[serde(default)]
    pub created: Date,
    /// When it is expected to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Date>,
    /// From this date it may be on; before, it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<Date>,
    /// From this date it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes: Option<Date>,
    /// How long it may stay at 100 % before it is called stale, in seconds, instead of its kind's
    /// habit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after_secs: Option<u64>,
    /// How long it may live before it is called stale, in seconds, instead of its kind's habit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_secs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) archived: Option<String>,
    /// The variant of those who are not exposed, and of everybody once the flag is killed.
    pub off: String,
    /// The variant of those whom nothing else concerns, when no [`share`](Self::share) is set.
    pub default: String,
    /// The fraction of all other subjects that is exposed; `None` leaves them at
    /// [`default`](Self::default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<TrafficShare>,
    /// The fraction of subjects that may be exposed at all, by segment, rule, share or default.
    /// Only the allow list is above it.
    #[serde(default = "everybody")]
    pub limit: TrafficShare,
    /// Subjects that are never exposed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub deny: BTreeSet<String>,
    /// Subjects that are always exposed, unless denied.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allow: BTreeSet<String>,
    /// Segments whose subjects are exposed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub segments: BTreeSet<String>,
    /// Holdouts it belongs to, by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub holdouts: BTreeSet<String>,
    // The fields that are tables of their own in TOML come last.
    /// Its variants, 1 to 255.
    pub variants: Vec<Variant>,
    /// How exposed subjects are split.
    pub arms: Vec<ArmWeight>,
    /// Rules over attributes, in order; the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Flags that must answer a certain variant first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Requirement>,
    /// Its range in a mutual-exclusion layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerRange>,
    /// A share that is on its way somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
}

/// What a flag is for.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Brings something new to everybody, and is then removed: stale after 48 hours at 100 %, or
    /// at the age of 40 days.
    #[default]
    Release,
    /// Compares variants: stale at the age of 40 days.
    Experiment,
    /// Eases an operation, such as a migration: stale at the age of 7 days.
    Operational,
    /// Switches something off in an emergency: never stale.
    KillSwitch,
    /// Says who may use something: never stale.
    Permission,
}

/// The algorithm that assigns subjects. A stored set names it, so that another one is never
/// mistaken for it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HashVersion {
    /// XXH3-64 of the subject, seeded with XXH3-64 of the salt.
    #[default]
    #[serde(rename = "xxh3-64/1")]
    Xxh3V1,
}

/// One of the answers a flag can give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// What it carries.
    pub value: Value,
}

/// How many of the exposed subjects get a variant, relative to the other weights.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmWeight {
    /// The variant's name.
    pub variant: String,
    /// Its weight; the sum of all must be from 1 to `u32::MAX`.
    pub weight: u32,
}

/// Another flag that must answer a certain variant, or this one is off.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The other flag's name.
    pub flag: String,
    /// The variant it must answer.
    pub variant: String,
}

/// The subjects of a layer that a flag may expose: a contiguous range of its hash.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRange {
    /// The layer's name.
    pub layer: String,
    /// Where the range begins, in parts per million of the layer's subjects.
    pub from: TrafficShare,
    /// How much of the layer it covers; `from + size` must not exceed the whole.
    pub size: TrafficShare,
}

/// A group of flags that never expose the same subject together.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// The salt that orders its subjects.
    pub salt: String,
}

/// Subjects that stay off for every flag that belongs to it, so that the sum of all changes can be
/// measured.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holdout {
    /// Its name.
    pub name: String,
    /// The salt that chooses its subjects.
    pub salt: String,
    /// The fraction of subjects held out.
    pub share: TrafficShare,
}

/// What a ramp turns.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dial {
    /// [`FlagSpec::share`].
    Share,
    /// [`FlagSpec::limit`].
    Limit,
}

/// A share on its way up (or down): one step at a time, a tick at most one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// What it turns.
    pub dial: Dial,
    /// Where it ends.
    pub to: TrafficShare,
    /// How far it goes at once; more than nothing.
    pub step: TrafficShare,
    /// The least time between two steps, in seconds.
    pub every_secs: u64,
    /// Not before this date; moved on with every step.
    pub next: Date,
}

impl Ramp {
    /// Where the dial stands after one more step from `now_at`.
    #[must_use]
    pub fn stepped(&self, now_at: TrafficShare) -> TrafficShare {
        let (at, to, step) = (now_at.ppm(), self.to.ppm(), self.step.ppm());
        let next =
            if at < to { to.min(at.saturating_add(step)) } else { to.max(at.saturating_sub(step)) };
        TrafficShare::from_ppm(next).unwrap_or(now_at)
    }
}

impl FlagSpec {
    /// A release flag with the variants `off` and `on`, off for everybody. Its salts are its name;
    /// they stay when it is renamed.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let of = |name: &str, value| Variant { name: name.to_owned(), value };
        Self {
            generation: 1,
            version: 0,
            hash: HashVersion::Xxh3V1,
            salt: name.clone(),
            arm_salt: format!("{name}/arm"),
            name,
            kind: Kind::Release,
            owner: None,
            created: Date::default(),
            ends: None,
            opens: None,
            closes: None,
            stale_after_secs: None,
            lifetime_secs: None,
            archived: None,
            off: "off".to_owned(),
            default: "off".to_owned(),
            share: None,
            limit: TrafficShare::ALL,
            deny: BTreeSet::new(),
            allow: BTreeSet::new(),
            segments: BTreeSet::new(),
            holdouts: BTreeSet::new(),
            variants: vec![of("off", Value::Bool(false)), of("on", Value::Bool(true))],
            arms: vec![ArmWeight { variant: "on".to_owned(), weight: 1 }],
            rules: Vec::new(),
            requires: Vec::new(),
            layer: None,
            ramp: None,
        }
    }

    /// A flag that chooses between models: those not exposed get `off`, the exposed are split over
    /// the `arms` (name, value, weight). Each variant's value is what the caller looks the model up
    /// by, so that a promotion moves names, not positions.
    #[must_use]
    pub fn choosing<'a>(
        name: impl Into<String>,
        off: (&str, Value),
        arms: impl IntoIterator<Item = (&'a str, Value, u32)>,
    ) -> Self {
        let mut spec = Self::new(name);
        spec.variants = vec![Variant { name: off.0.to_owned(), value: off.1 }];
        spec.arms.clear();
        for (name, value, weight) in arms {
            spec.variants.push(Variant { name: name.to_owned(), value });
            spec.arms.push(ArmWeight { variant: name.to_owned(), weight });
        }
        spec.off = off.0.to_owned();
        spec.default = off.0.to_owned();
        spec
    }

    /// Sets what it is for.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets who answers for it.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Sets when it was made.
    #[must_use]
    pub fn created(mut self, created: Date) -> Self {
        self.created = created;
        self
    }

    /// Sets when it is expected to be gone.
    #[must_use]
    pub fn ends(mut self, ends: Date) -> Self {
        self.ends = Some(ends);
        self
    }

    /// Sets from when it may be on.
    #[must_use]
    pub fn opens(mut self, opens: Date) -> Self {
        self.opens = Some(opens);
        self
    }

    /// Sets from when it is off.
    #[must_use]
    pub fn closes(mut self, closes: Date) -> Self {
        self.closes = Some(closes);
        self
    }

    /// Sets how long it may stay at 100 % before it is called stale.
    #[must_use]
    pub fn stale_after(mut self, window: Duration) -> Self {
        self.stale_after_secs = Some(window.as_secs());
        self
    }

    /// Sets the fraction of subjects that is exposed when no list, segment or rule decided.
    #[must_use]
    pub fn share(mut self, share: TrafficShare) -> Self {
        self.share = Some(share);
        self
    }

    /// Sets the fraction of subjects that may be exposed at all.
    #[must_use]
    pub fn limit(mut self, limit: TrafficShare) -> Self {
        self.limit = limit;
        self
    }

    /// Never exposes this subject.
    #[must_use]
    pub fn deny(mut self, subject: impl Into<String>) -> Self {
        self.deny.insert(subject.into());
        self
    }

    /// Always exposes this subject, unless it is denied.
    #[must_use]
    pub fn allow(mut self, subject: impl Into<String>) -> Self {
        self.allow.insert(subject.into());
        self
    }

    /// Exposes the subjects of this segment.
    #[must_use]
    pub fn enable_segment(mut self, segment: impl Into<String>) -> Self {
        self.segments.insert(segment.into());
        self
    }

    /// Adds a rule after those already there.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Sets the variant of those whom nothing else concerns.
    #[must_use]
    pub fn default_variant(mut self, variant: impl Into<String>) -> Self {
        self.default = variant.into();
        self
    }

    /// Demands that another flag answers this variant.
    #[must_use]
    pub fn requires(mut self, flag: impl Into<String>, variant: impl Into<String>) -> Self {
        self.requires.push(Requirement { flag: flag.into(), variant: variant.into() });
        self
    }

    /// Takes a range of a mutual-exclusion layer.
    #[must_use]
    pub fn in_layer(
        mut self,
        layer: impl Into<String>,
        from: TrafficShare,
        size: TrafficShare,
    ) -> Self {
        self.layer = Some(LayerRange { layer: layer.into(), from, size });
        self
    }

    /// Joins a holdout.
    #[must_use]
    pub fn in_holdout(mut self, holdout: impl Into<String>) -> Self {
        self.holdouts.insert(holdout.into());
        self
    }

    /// Sets both salts. Whoever already is in the flag moves: for flags in use this is
    /// [`Draft::resalt`](super::Draft::resalt).
    #[must_use]
    pub fn salts(mut self, exposure: impl Into<String>, arm: impl Into<String>) -> Self {
        self.salt = exposure.into();
        self.arm_salt = arm.into();
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which flag of this name it is, from 1: a name that was removed comes back as the next.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Counts its changes.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The salts of exposure and of arm.
    #[must_use]
    pub fn salt(&self) -> (&str, &str) {
        (&self.salt, &self.arm_salt)
    }

    /// The variant it was archived with, if it was.
    #[must_use]
    pub fn archived(&self) -> Option<&str> {
        self.archived.as_deref()
    }

    /// Whether it exposes everybody it is not told to spare: the state that a release ends in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let exposes_all = match self.share {
            Some(share) => share == TrafficShare::ALL,
            None => self.default != self.off,
        };
        self.archived.is_none() && exposes_all && self.limit == TrafficShare::ALL
    }
}

const fn first() -> u32 {
    1
}

const fn everybody() -> TrafficShare {
    TrafficShare::ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ppm(ppm: u32) -> TrafficShare {
        TrafficShare::from_ppm(ppm).unwrap()
    }

    #[test]
    fn a_ramp_goes_up_or_down_and_stops_at_its_end() {
        let ramp = |to| Ramp {
            dial: Dial::Share,
            to: ppm(to),
            step: ppm(400_000),
            every_secs: 60,
            next: Date::default(),
        };
        assert_eq!(ramp(1_000_000).stepped(ppm(700_000)), TrafficShare::ALL);
        assert_eq!(ramp(1_000_000).stepped(ppm(100_000)), ppm(500_000));
        assert_eq!(ramp(0).stepped(ppm(300_000)), TrafficShare::NONE);
        assert_eq!(ramp(300_000).stepped(ppm(300_000)), ppm(300_000));
    }

    #[test]
    fn a_field_nobody_knows_is_refused() {
        let mut json = serde_json::to_value(FlagSpec::new("x")).unwrap();
        assert!(serde_json::from_value::<FlagSpec>(json.clone()).is_ok());
        json["shrae"] = 1.into();
        let error = serde_json::from_value::<FlagSpec>(json).unwrap_err().to_string();
        assert!(error.contains("shrae"), "{error}");
    }
}
