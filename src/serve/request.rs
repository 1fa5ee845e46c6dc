//! Who asks.

use crate::ids::{Arm, Segment};

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
    pub(crate) subject: Subject<'a>,
    pub(crate) segment: Group<'a>,
    pub(crate) forced: Option<Forced>,
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
    pub fn of(subject: impl Into<Subject<'a>>) -> Self {
        Self { subject: subject.into(), segment: Group::None, forced: None }
    }

    /// A request of nobody known. Which arm serves it is drawn by chance, each time anew, and it
    /// counts as a subject of its own.
    pub const fn anonymous() -> Self {
        Self { subject: Subject::Unknown, segment: Group::None, forced: None }
    }

    /// The segment the subject belongs to, by its declared name. A name that was not declared
    /// counts in [`Segment::OTHER`].
    pub const fn segment(mut self, name: &'a str) -> Self {
        self.segment = Group::Named(name);
        self
    }

    /// The segment, by its number, which saves looking its name up; see
    /// [`Router::segment`](crate::serve::router::Router::segment).
    pub const fn segment_number(mut self, segment: Segment) -> Self {
        self.segment = Group::Numbered(segment);
        self
    }

    /// Wants a certain arm, by the leave of an [`OverrideKey`]. The call is served by that arm if
    /// there is a model, counts in totals, and is no evidence.
    pub const fn force(mut self, forced: Forced) -> Self {
        self.forced = Some(forced);
        self
    }
}

/// Whoever holds it may force arms of one router. Given out by
/// [`Router::override_key`](crate::serve::router::Router::override_key); keep it where operators
/// are told from users.
#[derive(Clone, Debug)]
pub struct OverrideKey {
    pub(crate) router: u64,
}

/// Leave to be served by a certain arm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forced {
    pub(crate) router: u64,
    pub(crate) arm: Arm,
}

impl OverrideKey {
    /// Leave to be served by `arm`.
    #[must_use]
    pub const fn force(&self, arm: Arm) -> Forced {
        Forced { router: self.router, arm }
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
