//! One value of one feature.

use serde::{Deserialize, Serialize};

/// One value of one feature, as it came with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number. NaN counts as missing, an infinity as out of range.
    Number(f64),
    /// A category. An empty text counts as missing.
    Category(&'a str),
    /// Nothing.
    Missing,
}

/// What kind of values a feature has. Decided once, when it is declared: a feature of numbers that
/// gets a category counts it as out of range, one of categories that gets a number as unseen.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Numbers, in bins.
    Numeric,
    /// Categories, the frequent ones by name.
    Categorical,
}

/// What a feature is to the model. All are measured alike; people read them apart.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// What the model is given.
    #[default]
    Input,
    /// What the model answers.
    Prediction,
    /// How sure the model says it is.
    Score,
    /// How long it took, in any one unit.
    Latency,
    /// What the truth turned out to be.
    Label,
}
