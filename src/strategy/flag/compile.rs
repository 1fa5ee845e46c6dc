//! A flag as readers use it: names resolved to numbers, salts to seeds, lists to tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::FlagError;
use super::rule::{Rule, Serve};
use super::spec::{FlagSpec, Holdout, Layer};
use super::usage::Counter;
use super::value::Value;
use crate::date::Date;
use crate::ids::Name;
use crate::route::bucket::{hash_of, seed_of};
use crate::share::TrafficShare;

/// What stays the same while a flag's definition is replaced: its kill switch and its counters.
#[derive(Debug)]
pub(super) struct Live {
    kills: AtomicU64,
    cleared: AtomicU64,
    pub(super) counter: Counter,
}

impl Live {
    pub(super) const fn new(counter: Counter) -> Self {
        Self { kills: AtomicU64::new(0), cleared: AtomicU64::new(0), counter }
    }

    /// Killed while not every kill is cleared. A count rather than a flag, so that a kill that
    /// arrives while an older one is being cleared is not lost.
    #[inline]
    pub(super) fn is_killed(&self) -> bool {
        self.kills.load(Ordering::Acquire) != self.cleared.load(Ordering::Relaxed)
    }

    /// The kills so far, to hand to [`Live::clear`].
    pub(super) fn kills(&self) -> u64 {
        self.kills.load(Ordering::Acquire)
    }

    pub(super) fn kill(&self) {
        self.kills.fetch_add(1, Ordering::Release); // pairs with the Acquire in `is_killed`
    }

    /// Clears the kills up to `seen`; says whether no later one keeps the flag killed.
    pub(super) fn clear(&self, seen: u64) -> bool {
        self.cleared.store(seen, Ordering::Release);
        !self.is_killed()
    }
}

/// What a set declares besides its flags.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Declared {
    pub(super) segments: Vec<String>,
    pub(super) layers: Vec<Layer>,
    pub(super) holdouts: Vec<Holdout>,
}

/// Whether a flag answers by its rules at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// By its rules.
    Open,
    /// Off, its time has not come or is over.
    Closed,
    /// Always this variant.
    Archived(u8),
    /// Off, it was removed.
    Gone,
}

/// A flag as readers use it.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) state: State,
    pub(super) off: u8,
    pub(super) default: u8,
    pub(super) limit: TrafficShare,
    pub(super) share: Option<TrafficShare>,
    pub(super) seed: u64,
    pub(super) arm_seed: u64,
    pub(super) arms: Arms,
    pub(super) people: People,
    pub(super) segments: Box<[Box<str>]>,
    pub(super) rules: Box<[(Rule, Served)]>,
    pub(super) requires: Box<[(u32, u8)]>,
    pub(super) holdouts: Box<[(u64, TrafficShare)]>,
    pub(super) layer: Option<(u64, u32, u32)>,
    pub(super) live: Arc<Live>,
    pub(super) spec: Arc<FlagSpec>,
}

/// What a rule serves, resolved.
#[derive(Clone, Copy, Debug)]
pub(super) enum Served {
    Off,
    On,
    Variant(u8),
    Share(TrafficShare),
}

/// Finds the slot and definition of a flag by name.
pub(super) type Resolve<'a> = &'a dyn Fn(&str) -> Option<(u32, Arc<FlagSpec>)>;

impl Compiled {
    /// Checks a definition and compiles it.
    pub(super) fn new(
        spec: Arc<FlagSpec>,
        declared: &Declared,
        today: Option<Date>,
        resolve: Resolve<'_>,
        live: Arc<Live>,
    ) -> Result<Self, FlagError> {
        let flag = spec.name.as_str();
        Name::new(flag).map_err(|source| FlagError::Name {
            flag: flag.escape_debug().take(160).collect(),
            field: "name",
            source,
        })?;
        check_variants(&spec)?;
        let variant = |field, name: &str| {
            position(&spec, name).ok_or_else(|| FlagError::undeclared(flag, field, name))
        };
        let state = match &spec.archived {
            Some(serves) => State::Archived(variant("archived", serves)?),
            None => scheduled(&spec, today),
        };
        let rules = check_rules(&spec, &variant)?;
        let most = |field, count, most| {
            if count <= most {
                return Ok(());
            }
            Err(FlagError::TooMany { flag: flag.to_owned(), field, count, most })
        };
        most("denied and allowed subjects", spec.deny.len() + spec.allow.len(), MOST_PEOPLE)?;
        most("requirements", spec.requires.len(), MOST_REQUIREMENTS)?;
        for segment in &spec.segments {
            if !declared.segments.contains(segment) {
                return Err(FlagError::undeclared(flag, "segments", segment));
            }
        }
        let requires = spec.requires.iter().map(|required| {
            let (slot, other) = resolve(&required.flag)
                .ok_or_else(|| FlagError::undeclared(flag, "requires.flag", &required.flag))?;
            let variant = position(&other, &required.variant).ok_or_else(|| {
                FlagError::undeclared(flag, "requires.variant", &required.variant)
            })?;
            Ok((slot, variant))
        });
        let holdouts = spec.holdouts.iter().map(|name| {
            let holdout = declared.holdouts.iter().find(|holdout| holdout.name == *name);
            let holdout = holdout.ok_or_else(|| FlagError::undeclared(flag, "holdouts", name))?;
            Ok((seed_of(&holdout.salt), holdout.share))
        });
        let layer = match &spec.layer {
            None => None,
            Some(range) => {
                let layer = declared.layers.iter().find(|layer| layer.name == range.layer);
                let layer =
                    layer.ok_or_else(|| FlagError::undeclared(flag, "layer", &range.layer))?;
                let (from, to) = (range.from.ppm(), range.from.ppm() + range.size.ppm());
                if to > TrafficShare::ALL.ppm() {
                    return Err(FlagError::range(
                        flag,
                        "layer.from + layer.size",
                        to,
                        "at most 1000000 parts per million",
                    ));
                }
                Some((seed_of(&layer.salt), from, to))
            }
        };
        if spec.ramp.is_some_and(|ramp| ramp.step == TrafficShare::NONE) {
            return Err(FlagError::range(flag, "ramp.step", 0, "more than nothing"));
        }
        let seed = seed_of(&spec.salt);
        Ok(Self {
            state,
            off: variant("off", &spec.off)?,
            default: variant("default", &spec.default)?,
            limit: spec.limit,
            share: spec.share,
            seed,
            arm_seed: seed_of(&spec.arm_salt),
            arms: Arms::new(&spec, &variant)?,
            people: People::new(&spec, seed),
            segments: spec.segments.iter().map(|name| name.as_str().into()).collect(),
            rules,
            requires: requires.collect::<Result<_, FlagError>>()?,
            holdouts: holdouts.collect::<Result<_, FlagError>>()?,
            layer,
            live,
            spec,
        })
    }

    /// The same flag after it was removed: off for whoever still asks.
    pub(super) fn gone(&self) -> Self {
        Self {
            state: State::Gone,
            off: self.off,
            default: self.off,
            limit: TrafficShare::NONE,
            share: None,
            seed: self.seed,
            arm_seed: self.arm_seed,
            arms: Arms::default(),
            people: People::default(),
            segments: Box::default(),
            rules: Box::default(),
            requires: Box::default(),
            holdouts: Box::default(),
            layer: None,
            live: Arc::clone(&self.live),
            spec: Arc::clone(&self.spec),
        }
    }

    pub(super) const fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }
}

/// The split of exposed subjects.
#[derive(Debug, Default)]
pub(super) struct Arms {
    only: Option<u8>,
    upto: Box<[(u64, u8)]>,
}

impl Arms {
    fn new(
        spec: &FlagSpec,
        variant: &dyn Fn(&'static str, &str) -> Result<u8, FlagError>,
    ) -> Result<Self, FlagError> {
        let flag = spec.name.as_str();
        let sum = spec.arms.iter().map(|arm| u64::from(arm.weight)).sum::<u64>();
        if sum == 0 || sum > u64::from(u32::MAX) {
            return Err(FlagError::range(
                flag,
                "the sum of arms.weight",
                sum,
                "from 1 to 4294967295",
            ));
        }
        let mut upto = Vec::with_capacity(spec.arms.len());
        let mut before = 0_u64;
        for arm in &spec.arms {
            let number = variant("arms.variant", &arm.variant)?;
            if arm.weight > 0 {
                before += u64::from(arm.weight);
                // A hash belongs to the first arm whose end lies above it.
                let end = (u128::from(before) << 64) / u128::from(sum);
                upto.push((u64::try_from(end).unwrap_or(u64::MAX), number));
            }
        }
        let only = if let [(_, only)] = upto[..] { Some(only) } else { None };
        Ok(Self { only, upto: upto.into() })
    }

    /// The variant of everybody, if there is but one.
    #[inline]
    pub(super) const fn only(&self) -> Option<u8> {
        self.only
    }

    /// The variant of a subject with this hash under the arm's salt.
    pub(super) fn pick(&self, hash: u64) -> Option<u8> {
        let arm = self.upto.iter().find(|(end, _)| hash < *end).or(self.upto.last());
        arm.map(|(_, variant)| *variant)
    }
}

/// Denied and allowed subjects in one open-addressed table, keyed by the hash that exposure needs
/// anyway. Subjects come from the definition; a request only looks one up, so chosen ids cannot
/// lengthen its chains.
#[derive(Debug, Default)]
pub(super) struct People {
    slots: Box<[u32]>,
    entries: Box<[Person]>,
}

#[derive(Debug)]
struct Person {
    hash: u64,
    id: Box<[u8]>,
    denied: bool,
}

impl People {
    fn new(spec: &FlagSpec, seed: u64) -> Self {
        let person = |id: &String, denied| Person {
            hash: hash_of(id.as_bytes(), seed),
            id: id.as_bytes().into(),
            denied,
        };
        let denied = spec.deny.iter().map(|id| person(id, true));
        let allowed = spec.allow.difference(&spec.deny).map(|id| person(id, false));
        let entries: Box<[Person]> = denied.chain(allowed).collect();
        if entries.is_empty() {
            return Self::default();
        }
        let mut slots = vec![0_u32; (entries.len() * 2).next_power_of_two()];
        let mask = slots.len() - 1;
        for (number, person) in (1..).zip(&entries) {
            let mut at = person.hash as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = number;
        }
        Self { slots: slots.into(), entries }
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the subject is denied (`true`), allowed (`false`) or not listed.
    #[inline]
    pub(super) fn denied(&self, hash: u64, id: &[u8]) -> Option<bool> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(number @ 1..) = self.slots.get(at).copied() {
            let person = &self.entries[number as usize - 1];
            if person.hash == hash && *person.id == *id {
                return Some(person.denied);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

fn scheduled(spec: &FlagSpec, today: Option<Date>) -> State {
    if spec.opens.is_none() && spec.closes.is_none() {
        return State::Open;
    }
    let open = today.is_some_and(|today| {
        spec.opens.is_none_or(|opens| opens <= today)
            && spec.closes.is_none_or(|closes| today < closes)
    });
    if open { State::Open } else { State::Closed }
}

fn check_variants(spec: &FlagSpec) -> Result<(), FlagError> {
    let flag = spec.name.as_str();
    if spec.variants.is_empty() {
        return Err(FlagError::range(flag, "variants", "empty", "at least one variant"));
    }
    if spec.variants.len() > MOST_VARIANTS {
        return Err(FlagError::TooMany {
            flag: flag.to_owned(),
            field: "variants",
            count: spec.variants.len(),
            most: MOST_VARIANTS,
        });
    }
    for (at, variant) in spec.variants.iter().enumerate() {
        Name::new(&variant.name).map_err(|source| FlagError::Name {
            flag: flag.to_owned(),
            field: "variants.name",
            source,
        })?;
        if spec.variants[..at].iter().any(|earlier| earlier.name == variant.name) {
            return Err(FlagError::Duplicate {
                kind: "variant",
                name: format!("{} of flag {flag}", variant.name),
            });
        }
        if let Value::Float(number) = variant.value {
            if !number.is_finite() {
                return Err(FlagError::range(flag, "variants.value", number, "a finite number"));
            }
        }
    }
    Ok(())
}

fn check_rules(
    spec: &FlagSpec,
    variant: &dyn Fn(&'static str, &str) -> Result<u8, FlagError>,
) -> Result<Box<[(Rule, Served)]>, FlagError> {
    if spec.rules.len() > MOST_RULES {
        return Err(FlagError::TooMany {
            flag: spec.name.clone(),
            field: "rules",
            count: spec.rules.len(),
            most: MOST_RULES,
        });
    }
    let compiled = spec.rules.iter().map(|rule| {
        rule.check(&spec.name)?;
        let served = match &rule.serve {
            Serve::Off => Served::Off,
            Serve::On => Served::On,
            Serve::Variant(name) => Served::Variant(variant("rules.serve", name)?),
            Serve::Share(share) => Served::Share(*share),
        };
        Ok((rule.clone(), served))
    });
    compiled.collect()
}

fn position(spec: &FlagSpec, variant: &str) -> Option<u8> {
    let at = spec.variants.iter().position(|known| known.name == variant)?;
    u8::try_from(at).ok()
}

/// The most variants a flag may have.
const MOST_VARIANTS: usize = 255;
/// The most rules a flag may have.
const MOST_RULES: usize = 256;
/// The most flags a flag may require directly.
const MOST_REQUIREMENTS: usize = 16;
/// The most subjects that may be denied and allowed by one flag.
const MOST_PEOPLE: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::flag::spec::ArmWeight;

    #[test]
    fn arms_cover_the_whole_hash_without_gap() {
        let mut spec = FlagSpec::choosing(
            "x",
            ("a", Value::Int(0)),
            [("b", Value::Int(1), 1), ("c", Value::Int(2), 0), ("d", Value::Int(3), 2)],
        );
        let variant = |_: &'static str, name: &str| Ok(position(&spec, name).unwrap());
        let arms = Arms::new(&spec, &variant).unwrap();
        let third = (u128::from(u64::MAX) + 1) / 3;
        assert_eq!(arms.pick(0), Some(1));
        assert_eq!(arms.pick(third as u64 - 1), Some(1));
        assert_eq!(arms.pick(third as u64 + 1), Some(3));
        assert_eq!(arms.pick(u64::MAX), Some(3));
        spec.arms = vec![ArmWeight { variant: "b".into(), weight: u32::MAX }; 2];
        let variant = |_: &'static str, name: &str| Ok(position(&spec, name).unwrap());
        let error = Arms::new(&spec, &variant).unwrap_err().to_string();
        assert!(error.contains("8589934590"), "{error}");
    }

    #[test]
    fn a_kill_that_arrives_while_another_is_cleared_is_kept() {
        let live = Live::new(super::super::usage::Counters::new().next());
        live.kill();
        let seen = live.kills();
        live.kill();
        assert!(!live.clear(seen));
        assert!(live.is_killed());
        assert!(live.clear(live.kills()));
        assert!(!live.is_killed());
    }

    #[test]
    fn listed_people_are_found_and_nobody_else() {
        let mut spec = FlagSpec::new("x");
        spec.allow.extend((0..1000).map(|id| format!("a{id}")));
        spec.deny.extend((500..1500).map(|id| format!("a{id}")));
        let people = People::new(&spec, 7);
        for id in 0..2000 {
            let name = format!("a{id}");
            let expected = match id {
                0..500 => Some(false),
                500..1500 => Some(true),
                _ => None,
            };
            assert_eq!(
                people.denied(hash_of(name.as_bytes(), 7), name.as_bytes()),
                expected,
                "{id}"
            );
        }
    }
}
