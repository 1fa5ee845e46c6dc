//! Names and small numbers that say which.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Which arm of a rollout: the baseline, the candidate, or a further one of a wider test.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Arm(u8);

impl Arm {
    /// The model that serves today.
    pub const BASELINE: Self = Self(0);
    /// The model that is to be proved.
    pub const CANDIDATE: Self = Self(1);

    /// The arm with this number; `0` is the baseline, `1` the candidate.
    #[must_use]
    pub const fn new(index: u8) -> Self {
        Self(index)
    }

    /// Its number, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("baseline"),
            1 => f.write_str("candidate"),
            other => write!(f, "arm {other}"),
        }
    }
}

/// Counts the splits that were ever in force, so that an observation of an older one is known as
/// such. It wraps after 65,536 changes; only equality means anything.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(u16);

impl Epoch {
    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The next one, wrapping.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// A declared group of subjects, by its place in the declaration. `0` is "no segment given", and
/// undeclared names fall into [`Segment::OTHER`].
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Segment(u8);

impl Segment {
    /// No segment was given.
    pub const NONE: Self = Self(0);
    /// A name that was not declared.
    pub const OTHER: Self = Self(255);
    /// How many segments may be declared.
    pub const MAX_DECLARED: usize = 254;

    /// The segment with this number: `1..=254` are the declared ones, in their order.
    #[must_use]
    pub const fn new(index: u8) -> Self {
        Self(index)
    }

    /// Its number.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A name people read: of a model, a rollout, a stage, a segment.
///
/// 1 to 128 bytes without control characters, so that it is safe in a log line, a metric label and
/// a key. Clones are cheap.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// A name that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was given.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than [`Name::MAX_LEN`].
    #[error("a name of {len} bytes is too long; the most is 128")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Holds a control character, such as a line break.
    #[error("the name {shown} holds a control character; remove it")]
    Control {
        /// The name, escaped.
        shown: String,
    },
}

impl Name {
    /// The most bytes a name may have.
    pub const MAX_LEN: usize = 128;

    /// A name, checked.
    ///
    /// # Errors
    ///
    /// [`NameError`] when it is empty, longer than 128 bytes or holds a control character.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(NameError::TooLong { len: name.len() });
        }
        if name.chars().any(char::is_control) {
            return Err(NameError::Control { shown: name.escape_debug().collect() });
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_break_a_log_line_is_refused() {
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new("x".repeat(129)), Err(NameError::TooLong { len: 129 }));
        let error = Name::new("v2\nROLLED BACK").unwrap_err();
        assert!(error.to_string().contains("v2\\nROLLED"), "{error}");
        assert_eq!(Name::new("v2.1").unwrap().as_str(), "v2.1");
    }

    #[test]
    fn epochs_wrap() {
        assert_eq!(Epoch::new(u16::MAX).next(), Epoch::new(0));
    }
}
