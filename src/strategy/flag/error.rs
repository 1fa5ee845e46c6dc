//! What can be wrong with a flag, and how to put it right.

use crate::ids::NameError;

/// A change that was refused. Nothing of it took effect: the last good set stays in force.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagError {
    /// A name cannot be used.
    #[error("flag {flag}: {field}: {source}")]
    Name {
        /// The flag, or the set's part, it belongs to.
        flag: String,
        /// Which field holds the name.
        field: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
    /// Two things of one kind share a name.
    #[error("{kind} {name} is given twice; names must differ, so remove or rename one")]
    Duplicate {
        /// What kind of thing.
        kind: &'static str,
        /// The shared name.
        name: String,
    },
    /// There is no such flag.
    #[error("there is no flag {name}; add it to the set, or correct the name")]
    UnknownFlag {
        /// The name that was asked for.
        name: String,
    },
    /// A field names something the set or flag does not declare.
    #[error("flag {flag}: {field} names {value}, which is not declared; declare it or remove it")]
    Undeclared {
        /// The flag.
        flag: String,
        /// Which field.
        field: &'static str,
        /// The name it gives.
        value: String,
    },
    /// A value lies outside its range.
    #[error("flag {flag}: {field} is {value}; it must be {expected}")]
    OutOfRange {
        /// The flag, or the set's part.
        flag: String,
        /// Which field.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is possible, in words.
        expected: &'static str,
    },
    /// More of something than a set or flag may hold.
    #[error("flag {flag}: {count} {field} are more than the {most} that are possible")]
    TooMany {
        /// The flag, or the set.
        flag: String,
        /// Of what.
        field: &'static str,
        /// How many were given.
        count: usize,
        /// How many are possible.
        most: usize,
    },
    /// Flags that require one another in a circle, or a chain that is too long.
    #[error("flag {flag} requires itself through {through}, or its chain exceeds 16 flags; cut it")]
    Prerequisites {
        /// A flag of the circle.
        flag: String,
        /// The chain that leads back, in order.
        through: String,
    },
    /// Others still require the flag.
    #[error("flag {flag} cannot go while {by} requires it; remove that requirement first")]
    StillRequired {
        /// The flag.
        flag: String,
        /// Who requires it.
        by: String,
    },
    /// Two flags of a layer claim the same subjects.
    #[error("layer {layer}: the ranges of {first} and {second} overlap; move one of them")]
    LayerOverlap {
        /// The layer.
        layer: String,
        /// The flag whose range begins first.
        first: String,
        /// The flag that begins within it.
        second: String,
    },
    /// The name was used before and its flag was removed.
    #[error(
        "the name {name} belonged to a flag that was removed (generation {generation}); choose \
         another name, or insert it as a new generation, which old callers will see as off"
    )]
    Tombstone {
        /// The name.
        name: String,
        /// The generation of the flag that had it.
        generation: u32,
    },
    /// Only an archived flag can be removed.
    #[error("flag {flag} is not archived; archive it, wait until nobody asks it, then remove it")]
    NotArchived {
        /// The flag.
        flag: String,
    },
    /// An archived flag does not change any more.
    #[error("flag {flag} is archived and does not change any more; insert another one")]
    Archived {
        /// The flag.
        flag: String,
    },
    /// A killed flag must be cleared by name, with the limit it comes back at.
    #[error("flag {flag} was killed again while its kill was being cleared; it stays killed")]
    KilledAgain {
        /// The flag.
        flag: String,
    },
    /// A stored set was written by something else, or by a newer release.
    #[error("a stored set says {field} = {value}; this release reads {expected}")]
    Format {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it must say.
        expected: &'static str,
    },
}

impl FlagError {
    pub(super) fn range(
        flag: &str,
        field: &'static str,
        value: impl ToString,
        expected: &'static str,
    ) -> Self {
        Self::OutOfRange {
            flag: flag.to_owned(),
            field,
            value: shown(&value.to_string()),
            expected,
        }
    }

    pub(super) fn undeclared(flag: &str, field: &'static str, value: &str) -> Self {
        Self::Undeclared { flag: flag.to_owned(), field, value: shown(value) }
    }
}

/// A value as a message may show it: escaped, and no longer than a line.
fn shown(value: &str) -> String {
    let mut text: String = value.chars().take(80).flat_map(char::escape_debug).collect();
    if value.chars().nth(80).is_some() {
        text.push('…');
    }
    text
}
