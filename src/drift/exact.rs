//! Numbers stored as text, so that they come back to the last bit.
//!
//! A bin's edge that moves by one part in 10^16 counts other values, and not every reader of JSON
//! rounds a number correctly. Rust's own parser does, so the edge travels as text.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("{number:?}"))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    parse(&String::deserialize(from)?)
}

fn parse<E: Error>(text: &str) -> Result<f64, E> {
    text.parse().map_err(|_| E::custom(format!("{text:?} is not a number")))
}

/// The same for lists.
pub(crate) mod list {
    use super::{Deserialize, Deserializer, Serializer, parse};

    pub(crate) fn serialize<S: Serializer>(numbers: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(numbers.iter().map(|number| format!("{number:?}")))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| parse(text)).collect()
    }
}
