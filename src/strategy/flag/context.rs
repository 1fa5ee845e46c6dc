//! What is known about a request when a flag is asked.

use crate::route::bucket::Decimal;

/// What is known about a request: whom it is for, and what is true of it. Borrowed, and cheap to
/// copy.
///
/// ```
/// use pilotage::strategy::flag::{Attribute, Context};
/// let attributes = [("country", Attribute::Text("DE")), ("age", Attribute::Int(41))];
/// let context = Context::of("user-7").segment("premium").attributes(&attributes);
/// # let _ = context;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Context<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) segment: Option<&'a str>,
    pub(super) segments: &'a [&'a str],
    pub(super) attributes: &'a [(&'a str, Attribute<'a>)],
}

/// The value of one attribute of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Attribute<'a> {
    /// A truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number. One that is not finite matches nothing.
    Float(f64),
    /// A text.
    Text(&'a str),
}

/// For whom a flag is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Subject<'a> {
    /// Nobody known.
    #[default]
    Missing,
    /// Nobody known, and the caller asked for a draw with this random number.
    Draw(u64),
    Text(&'a str),
    Unsigned(u64),
    Signed(i64),
}

impl<'a> Context<'a> {
    /// A request for this subject: a user, a session, a conversation. An empty id is a missing
    /// one: it would send every anonymous request to the same side.
    pub const fn of(subject: &'a str) -> Self {
        let subject = if subject.is_empty() { Subject::Missing } else { Subject::Text(subject) };
        Self { subject, ..Self::EMPTY }
    }

    /// A request for the subject with this number; the same as [`Context::of`] its decimal text.
    pub const fn of_number(subject: u64) -> Self {
        Self { subject: Subject::Unsigned(subject), ..Self::EMPTY }
    }

    /// A request for the subject with this signed number; the same as [`Context::of`] its decimal
    /// text.
    pub const fn of_signed(subject: i64) -> Self {
        Self { subject: Subject::Signed(subject), ..Self::EMPTY }
    }

    /// A request of nobody known: percentages answer off with
    /// [`Reason::MissingSubject`](super::Reason::MissingSubject).
    pub const fn anonymous() -> Self {
        Self::EMPTY
    }

    /// A request of nobody known that is to be drawn by chance: `random` is 64 uniform random
    /// bits of the caller's. The answer then differs from call to call.
    pub const fn draw(random: u64) -> Self {
        Self { subject: Subject::Draw(random), ..Self::EMPTY }
    }

    /// Adds the segment the subject belongs to.
    pub const fn segment(mut self, segment: &'a str) -> Self {
        self.segment = Some(segment);
        self
    }

    /// Adds several segments the subject belongs to, replacing those of an earlier call.
    pub const fn segments(mut self, segments: &'a [&'a str]) -> Self {
        self.segments = segments;
        self
    }

    /// Adds attributes by name, replacing those of an earlier call. Of two with the same name the
    /// first counts.
    pub const fn attributes(mut self, attributes: &'a [(&'a str, Attribute<'a>)]) -> Self {
        self.attributes = attributes;
        self
    }

    pub(super) fn attribute(&self, name: &str) -> Option<Attribute<'a>> {
        self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    const EMPTY: Self =
        Self { subject: Subject::Missing, segment: None, segments: &[], attributes: &[] };
}

impl Subject<'_> {
    /// The bytes that are hashed, with `scratch` for those that are not text already.
    #[inline]
    pub(super) fn bytes<'b>(&'b self, scratch: &'b mut Option<Decimal>) -> Option<&'b [u8]> {
        let decimal = match *self {
            Self::Text(text) => return Some(text.as_bytes()),
            Self::Missing => return None,
            Self::Draw(number) | Self::Unsigned(number) => Decimal::of(number),
            Self::Signed(number) => Decimal::of_signed(number),
        };
        Some(scratch.insert(decimal).as_bytes())
    }

    /// Whether a draw stands in for the subject.
    pub(super) const fn is_drawn(&self) -> bool {
        matches!(self, Self::Draw(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_hashed_as_their_decimal_text() {
        for number in [0, 1, 9, 10, 12_345, u64::MAX] {
            let mut scratch = None;
            assert_eq!(
                Subject::Unsigned(number).bytes(&mut scratch).unwrap(),
                number.to_string().as_bytes()
            );
        }
        for number in [i64::MIN, -1, 0, 7, i64::MAX] {
            let mut scratch = None;
            assert_eq!(
                Subject::Signed(number).bytes(&mut scratch).unwrap(),
                number.to_string().as_bytes()
            );
        }
    }

    #[test]
    fn an_empty_id_is_nobody() {
        assert!(matches!(Context::of("").subject, Subject::Missing));
    }
}
