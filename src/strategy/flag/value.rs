//! What a variant carries, and what a rule compares with.

use serde::{Deserialize, Serialize};

/// What a variant carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Value {
    /// A truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// A text, such as a model's version.
    Text(String),
}
