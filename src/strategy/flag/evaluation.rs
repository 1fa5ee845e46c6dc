//! One answer of a flag, and why.

use std::fmt;
use std::sync::Arc;

use arc_swap::Guard;
use serde::{Deserialize, Serialize};

use super::compile::{Compiled, Served, State};
use super::context::Context;
use super::table::Table;
use super::usage::Answered;
use super::value::Value;
use crate::route::bucket::{hash_of, millionth};
use crate::share::TrafficShare;

/// Why a flag answered what it answered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The kill switch is on.
    Killed,
    /// The flag is archived and answers what it was archived with.
    Archived,
    /// The flag was removed; it is off.
    Gone,
    /// The caller was written for another generation of the flag; it is off.
    OtherGeneration,
    /// Its time has not come, or is over.
    Scheduled,
    /// A flag that this one requires answered something else.
    Prerequisite,
    /// The subject is on the deny list.
    Denied,
    /// The subject is on the allow list.
    Allowed,
    /// The subject belongs to a holdout.
    HeldOut,
    /// The subject belongs to another flag of the layer.
    OtherInLayer,
    /// The limit on all exposure keeps the subject off.
    Limited,
    /// The subject's segment is exposed.
    Segment,
    /// A rule over attributes decided.
    Rule,
    /// A rule over attributes left it to a share of its own, whichever way the subject fell.
    RuleShare,
    /// The subject falls within the exposed share.
    Share,
    /// The subject falls outside the exposed share.
    OutsideShare,
    /// A random draw stood in for the missing subject, whichever way it fell.
    Drawn,
    /// The answer depends on the subject, and none was given.
    MissingSubject,
    /// Nothing concerned the subject.
    Default,
}

impl Reason {
    /// Its name in snake case, as stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Archived => "archived",
            Self::Gone => "gone",
            Self::OtherGeneration => "other_generation",
            Self::Scheduled => "scheduled",
            Self::Prerequisite => "prerequisite",
            Self::Denied => "denied",
            Self::Allowed => "allowed",
            Self::HeldOut => "held_out",
            Self::OtherInLayer => "other_in_layer",
            Self::Limited => "limited",
            Self::Segment => "segment",
            Self::Rule => "rule",
            Self::RuleShare => "rule_share",
            Self::Share => "share",
            Self::OutsideShare => "outside_share",
            Self::Drawn => "drawn",
            Self::MissingSubject => "missing_subject",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One answer of a flag, in numbers. Small, and free to keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Decision {
    /// The place of the variant among [`FlagSpec::variants`](super::FlagSpec::variants) as they
    /// were when the flag was asked.
    pub variant: u8,
    /// Whether that is another than the flag's off variant.
    pub is_on: bool,
    /// Why.
    pub reason: Reason,
    /// The version of the definition that answered.
    pub version: u64,
}

impl Decision {
    #[inline]
    pub(super) fn of(flag: &Compiled, answer: Answer) -> Self {
        let Answer { variant, reason } = answer;
        Self { variant, is_on: variant != flag.off, reason, version: flag.spec.version }
    }
}

/// One answer of a flag: value, variant, reason. It borrows the set as it was when the flag was
/// asked; drop it when done, as a few at a time cost nothing and hundreds a reference count.
#[must_use]
pub struct Evaluation {
    pub(super) table: Guard<Arc<Table>>,
    pub(super) slot: u32,
    pub(super) answer: Answer,
}

/// The numbers of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    pub(super) variant: u8,
    pub(super) reason: Reason,
}

impl Answer {
    /// The same answer, where the share that decided was a rule's.
    #[inline]
    fn by_rule(self) -> Self {
        match self.reason {
            Reason::Share | Reason::OutsideShare => Self { reason: Reason::RuleShare, ..self },
            _ => self,
        }
    }
}

impl Evaluation {
    /// Whether the variant is another than the flag's off variant.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.answer.variant != self.compiled().off
    }

    /// The variant's name.
    #[must_use]
    pub fn variant(&self) -> &str {
        &self.compiled().spec.variants[usize::from(self.answer.variant)].name
    }

    /// What the variant carries.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.compiled().spec.variants[usize::from(self.answer.variant)].value
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.answer.reason
    }

    /// The flag's name.
    #[must_use]
    pub fn flag(&self) -> &str {
        &self.compiled().spec.name
    }

    /// The version of the flag's definition that answered.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.compiled().spec.version
    }

    /// The definition that answered.
    #[must_use]
    pub fn spec(&self) -> &super::spec::FlagSpec {
        &self.compiled().spec
    }

    fn compiled(&self) -> &Compiled {
        &self.table.flags[self.slot as usize]
    }
}

impl fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluation")
            .field("flag", &self.flag())
            .field("variant", &self.variant())
            .field("value", self.value())
            .field("reason", &self.reason())
            .field("version", &self.version())
            .finish()
    }
}

/// Asks the flag in this slot, and counts the answer.
#[inline]
pub(super) fn ask(table: &Table, flag: &Compiled, context: &Context<'_>) -> Answer {
    let answer = decide(table, flag, context);
    let answered = match flag.state {
        State::Archived(_) | State::Gone => Answered::Late,
        State::Open | State::Closed if answer.variant == flag.off => Answered::Off,
        State::Open | State::Closed => Answered::On,
    };
    flag.live.counter.count(answered);
    answer
}

/// The answer of one flag. The order of the steps is the one the module documents.
#[inline]
pub(super) fn decide(table: &Table, flag: &Compiled, context: &Context<'_>) -> Answer {
    let off = |reason| Answer { variant: flag.off, reason };
    if flag.live.is_killed() {
        return off(Reason::Killed);
    }
    match flag.state {
        State::Open => {}
        State::Closed => return off(Reason::Scheduled),
        State::Gone => return off(Reason::Gone),
        State::Archived(variant) => return Answer { variant, reason: Reason::Archived },
    }
    // Checked without circles and at most 16 deep when the set was changed.
    for (slot, variant) in &flag.requires {
        let other = &table.flags[*slot as usize];
        if decide(table, other, context).variant != *variant {
            return off(Reason::Prerequisite);
        }
    }

    let mut scratch = None;
    let subject = context.subject.bytes(&mut scratch);
    let hashed = subject.map(|subject| (subject, hash_of(subject, flag.seed)));
    let drawn = context.subject.is_drawn();
    if let (Some((subject, hash)), false, false) = (hashed, flag.people.is_empty(), drawn) {
        match flag.people.denied(hash, subject) {
            Some(true) => return off(Reason::Denied),
            Some(false) => return flag.exposed(subject, Reason::Allowed),
            None => {}
        }
    }
    for (seed, share) in &flag.holdouts {
        match subject {
            Some(subject) if millionth(hash_of(subject, *seed)) < share.ppm() => {
                return off(Reason::HeldOut);
            }
            Some(_) => {}
            None => return off(Reason::MissingSubject),
        }
    }
    if let Some((seed, from, to)) = flag.layer {
        match subject {
            Some(subject) if (from..to).contains(&millionth(hash_of(subject, seed))) => {}
            Some(_) => return off(Reason::OtherInLayer),
            None => return off(Reason::MissingSubject),
        }
    }
    let at = hashed.map(|(_, hash)| millionth(hash));
    if flag.limit != TrafficShare::ALL {
        match at {
            Some(at) if at < flag.limit.ppm() => {}
            Some(_) => return off(Reason::Limited),
            None => return off(Reason::MissingSubject),
        }
    }
    if !flag.segments.is_empty() && in_segment(flag, context) {
        return flag.exposed_to(subject, Reason::Segment);
    }
    for (rule, served) in &flag.rules {
        if rule.matches(context) {
            return match *served {
                Served::Off => off(Reason::Rule),
                Served::On => flag.exposed_to(subject, Reason::Rule),
                Served::Variant(variant) => Answer { variant, reason: Reason::Rule },
                Served::Share(share) => flag.shared(share, at, subject, drawn).by_rule(),
            };
        }
    }
    match flag.share {
        Some(share) => flag.shared(share, at, subject, drawn),
        None => Answer { variant: flag.default, reason: Reason::Default },
    }
}

impl Compiled {
    #[inline]
    fn shared(
        &self,
        share: TrafficShare,
        at: Option<u32>,
        subject: Option<&[u8]>,
        drawn: bool,
    ) -> Answer {
        let by = |reason| if drawn { Reason::Drawn } else { reason };
        let off = |reason| Answer { variant: self.off, reason };
        match at {
            Some(at) if at < share.ppm() => self.exposed_to(subject, by(Reason::Share)),
            Some(_) => off(by(Reason::OutsideShare)),
            // With everybody or nobody exposed, it does not matter who asks.
            None if share == TrafficShare::ALL => self.exposed_to(None, Reason::Share),
            None if share == TrafficShare::NONE => off(Reason::OutsideShare),
            None => off(Reason::MissingSubject),
        }
    }

    #[inline]
    fn exposed_to(&self, subject: Option<&[u8]>, reason: Reason) -> Answer {
        match (self.arms.only(), subject) {
            (Some(variant), _) => Answer { variant, reason },
            (None, Some(subject)) => self.exposed(subject, reason),
            (None, None) => Answer { variant: self.off, reason: Reason::MissingSubject },
        }
    }

    #[inline]
    fn exposed(&self, subject: &[u8], reason: Reason) -> Answer {
        let variant = match self.arms.only() {
            Some(variant) => variant,
            None => self.arms.pick(hash_of(subject, self.arm_seed)).unwrap_or(self.off),
        };
        Answer { variant, reason }
    }
}

#[inline]
fn in_segment(flag: &Compiled, context: &Context<'_>) -> bool {
    let enabled = |segment: &str| flag.segments.iter().any(|known| **known == *segment);
    context.segment.is_some_and(enabled) || context.segments.iter().any(|segment| enabled(segment))
}
