//! What both directions of the journal's notation know.

use std::fmt;

use serde::{de, ser};

/// The deepest nesting that is read or written.
pub(super) const DEEPEST: usize = 96;

/// A value that cannot be written, or bytes that hold none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct CodecError(pub(super) String);

impl ser::Error for CodecError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

impl de::Error for CodecError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

pub(super) const UNSIGNED: u8 = 0;
pub(super) const NEGATIVE: u8 = 1;
pub(super) const TEXT: u8 = 3;
pub(super) const LIST: u8 = 4;
pub(super) const TABLE: u8 = 5;
pub(super) const FALSE: u8 = 0xf4;
pub(super) const TRUE: u8 = 0xf5;
pub(super) const NULL: u8 = 0xf6;
pub(super) const FLOAT: u8 = 0xfb;
pub(super) const STOP: u8 = 0xff;
/// A length that is not said beforehand.
pub(super) const OPEN: u8 = 31;

pub(super) fn too_deep() -> CodecError {
    CodecError(format!("it is nested deeper than {DEEPEST} levels"))
}
