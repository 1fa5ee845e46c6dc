//! Who asks.

use crate::ids::{Arm, Segment};
use crate::route::switch::{Packed, Plainness, Slot, Split};

/// Who asks, as far as routing is concerned: a subject, and what group it belongs to.
///
/// ```
/// use pilotage::serve::request::Request;
///
/// let by_text = Request::of("user-42").segment("premium");
/// let by_number = Request::of(42_u64);           // the same subject as "42"
/// let nobody = Request::anonymous();             // a fresh draw for each request
/// # let _ = (by_text, by_number, nobody);
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Request<'a> {
    /// The id where it is bytes, otherwise empty.
    bytes: &'a [u8],
    other: Option<Other>,
    pub(crate) segment: Group<'a>,
    pub(crate) forced: Option<Forced>,
    /// Whether there is an id as bytes and nothing else: what the quick way asks once, instead of
    /// each field.
    plain: Plainness,
}

/// A subject that is no bytes.
#[derive(Clone, Copy, Debug)]
enum Other {
    Number(u64),
    Signed(i64),
    Unknown,
}

/// For whom an arm is chosen. An id of any length and any bytes will do; an empty one is a subject
/// like any other.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Subject<'a> {
    /// An id as bytes.
    Bytes(&'a [u8]),
    /// A number, hashed as its decimal text.
    Number(u64),
    /// A number with a sign, hashed likewise.
    Signed(i64),
    /// Nobody knows: every request is drawn anew.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Group<'a> {
    None,
    Named(&'a str),
    Numbered(Segment),
}

impl<'a> Request<'a> {
    /// A request of this subject: a text, bytes or a whole number.
    #[inline]
    pub fn of(subject: impl Into<Subject<'a>>) -> Self {
        let other = match subject.into() {
            Subject::Bytes(bytes) => {
                let (other, segment, forced) = (None, Group::None, None);
                return Self { bytes, other, segment, forced, plain: Plainness::PLAIN };
            }
            Subject::Number(number) => Other::Number(number),
            Subject::Signed(number) => Other::Signed(number),
            Subject::Unknown => Other::Unknown,
        };
        Self { other: Some(other), ..Self::anonymous() }
    }

    /// A request of nobody known. Which arm serves it is drawn by chance, each time anew, and it
    /// counts as a subject of its own.
    pub const fn anonymous() -> Self {
        let other = Some(Other::Unknown);
        Self { bytes: &[], other, segment: Group::None, forced: None, plain: Plainness::OTHER }
    }

    /// The segment the subject belongs to, by its declared name. A name that was not declared
    /// counts in [`Segment::OTHER`].
    pub const fn segment(mut self, name: &'a str) -> Self {
        self.segment = Group::Named(name);
        self.plain = Plainness::OTHER;
        self
    }

    /// The segment, by its number, which saves looking its name up; see
    /// [`Router::segment`](crate::serve::router::Router::segment).
    pub const fn segment_number(mut self, segment: Segment) -> Self {
        self.segment = Group::Numbered(segment);
        self.plain = Plainness::OTHER;
        self
    }

    /// Wants a certain arm, by the leave of an [`OverrideKey`]. The call is served by that arm if
    /// there is a model, counts in totals, and is no evidence.
    pub const fn force(mut self, forced: Forced) -> Self {
        self.forced = Some(forced);
        self.plain = Plainness::OTHER;
        self
    }

    /// Who asks.
    pub(crate) const fn subject(&self) -> Subject<'a> {
        match self.other {
            None => Subject::Bytes(self.bytes),
            Some(Other::Number(number)) => Subject::Number(number),
            Some(Other::Signed(number)) => Subject::Signed(number),
            Some(Other::Unknown) => Subject::Unknown,
        }
    }

    /// The id, where it is all that the request says and all that the split asks for.
    #[inline]
    pub(crate) const fn plain_id(&self, split: Packed) -> Option<&'a [u8]> {
        if split.is_plain_to(self.plain) { Some(self.bytes) } else { None }
    }
}

/// Whoever holds it may force arms of one router. Given out by
/// [`Router::override_key`](crate::serve::router::Router::override_key); keep it where operators
/// are told from users.
#[derive(Clone, Debug)]
pub struct OverrideKey {
    pub(crate) router: u64,
}

/// Leave to be served by a certain arm, or by whatever stands in a certain slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forced {
    router: u64,
    /// What is wanted under a split whose primary is the first slot, and under one whose primary
    /// is the second: two bits each, 0 for nothing, otherwise the arm's index and one. In one byte,
    /// since every request carries it.
    wanted: u8,
}

impl OverrideKey {
    /// Leave to be served by `arm`.
    #[must_use]
    pub const fn force(&self, arm: Arm) -> Forced {
        let wanted = if arm.index() < 2 { arm.index() as u8 + 1 } else { 0 };
        Forced { router: self.router, wanted: wanted | wanted << 2 }
    }

    /// Leave to be served by the model in `slot`, whichever arm that is under the split that the
    /// call meets.
    #[must_use]
    pub const fn force_slot(&self, slot: Slot) -> Forced {
        let of_first = Self::arm_of(slot, Slot::First);
        Forced { router: self.router, wanted: of_first | Self::arm_of(slot, Slot::Second) << 2 }
    }

    /// As [`OverrideKey::force_slot`], but only if the call meets a split with this `primary`:
    /// once the roles are swapped the request is like any other. So what was wanted before a
    /// promotion ends with it, in the same store.
    #[must_use]
    pub const fn force_slot_while(&self, slot: Slot, primary: Slot) -> Forced {
        let wanted = Self::arm_of(slot, primary) << (2 * primary.index());
        Forced { router: self.router, wanted }
    }

    const fn arm_of(slot: Slot, primary: Slot) -> u8 {
        1 + (slot.index() != primary.index()) as u8
    }
}

impl Forced {
    /// The arm that is forced on a call of this router under this split, if any is.
    pub(crate) const fn arm(self, router: u64, split: Split) -> Option<Arm> {
        if self.router != router {
            return None;
        }
        match self.wanted >> (2 * split.primary.index()) & 0b11 {
            1 => Some(Arm::BASELINE),
            2 => Some(Arm::CANDIDATE),
            _ => None,
        }
    }
}

impl<'a> From<&'a str> for Subject<'a> {
    fn from(id: &'a str) -> Self {
        Self::Bytes(id.as_bytes())
    }
}

impl<'a> From<&'a String> for Subject<'a> {
    fn from(id: &'a String) -> Self {
        Self::Bytes(id.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Subject<'a> {
    fn from(id: &'a [u8]) -> Self {
        Self::Bytes(id)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Subject<'a> {
    fn from(id: &'a [u8; N]) -> Self {
        Self::Bytes(id)
    }
}

impl<'a> From<&'a Vec<u8>> for Subject<'a> {
    fn from(id: &'a Vec<u8>) -> Self {
        Self::Bytes(id)
    }
}

impl From<u64> for Subject<'_> {
    fn from(id: u64) -> Self {
        Self::Number(id)
    }
}

impl From<u32> for Subject<'_> {
    fn from(id: u32) -> Self {
        Self::Number(id.into())
    }
}

impl From<i64> for Subject<'_> {
    fn from(id: i64) -> Self {
        Self::Signed(id)
    }
}

impl From<i32> for Subject<'_> {
    fn from(id: i32) -> Self {
        Self::Signed(id.into())
    }
}

impl<'a, S: Into<Subject<'a>>> From<Option<S>> for Subject<'a> {
    /// No id is nobody known.
    fn from(id: Option<S>) -> Self {
        id.map_or(Self::Unknown, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forced_follows_the_slot_or_ends_with_the_roles() {
        let key = OverrideKey { router: 7 };
        let first = Split::default();
        let second = first.promoted();
        let under = |forced: Forced| [first, second].map(|split| forced.arm(7, split));
        let (base, cand) = (Some(Arm::BASELINE), Some(Arm::CANDIDATE));
        assert_eq!(under(key.force(Arm::CANDIDATE)), [cand, cand]);
        assert_eq!(under(key.force(Arm::new(2))), [None, None]);
        assert_eq!(under(key.force_slot(Slot::First)), [base, cand]);
        assert_eq!(under(key.force_slot(Slot::Second)), [cand, base]);
        assert_eq!(under(key.force_slot_while(Slot::First, Slot::First)), [base, None]);
        assert_eq!(under(key.force_slot_while(Slot::Second, Slot::First)), [cand, None]);
        assert_eq!(under(key.force_slot_while(Slot::First, Slot::Second)), [None, cand]);
        assert_eq!(key.force_slot(Slot::First).arm(8, first), None, "another router's key");
    }
}
