//! What cannot be measured.

use crate::ids::Name;
use crate::stats::error::StatsError;

/// Why drift cannot be measured as asked.
///
/// Too little data is none of these: it is the verdict [`NotEnough`](crate::drift::verdict::Verdict::NotEnough).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DriftError {
    /// A reference without a feature.
    #[error("a reference needs at least one feature; declare one before the first row")]
    NoFeatures,
    /// Two features have one name.
    #[error("two features are named {name}; give each its own name")]
    SameName {
        /// The name.
        name: Name,
    },
    /// More features than a reference may hold.
    #[error("{features} features are too many; the most is {most}")]
    TooManyFeatures {
        /// How many were given.
        features: usize,
        /// How many there may be.
        most: usize,
    },
    /// A number outside its range.
    #[error("{name} is {value}; it must be {expected}")]
    OutOfRange {
        /// Which setting.
        name: &'static str,
        /// What was given.
        value: f64,
        /// The range, in words.
        expected: &'static str,
    },
    /// A reference that was written by another version of the format.
    #[error(
        "the reference has format {found}, and this release reads format {expected}; \
         take the reference anew"
    )]
    Format {
        /// Its format.
        found: u32,
        /// What this release reads.
        expected: u32,
    },
    /// A reference whose parts contradict each other: it was altered or cut.
    #[error("the reference is damaged: {what}; take it anew")]
    Damaged {
        /// What does not fit.
        what: String,
    },
    /// Counts that were made against another reference than the one they are compared with.
    #[error(
        "these counts belong to reference {found}, not to {expected}; bins of different references \
         do not compare"
    )]
    AnotherReference {
        /// Whose counts they are.
        found: String,
        /// Which reference is in force.
        expected: String,
    },
    /// A row of more or fewer values than there are features.
    #[error("a row of {found} values, where the reference has {expected} features")]
    RowLength {
        /// Values in the row.
        found: usize,
        /// Features there are.
        expected: usize,
    },
    /// A number the statistics cannot use.
    #[error(transparent)]
    Stats(#[from] StatsError),
}

/// `value`, if it is finite and inside `low..=high`.
pub(crate) fn within(
    name: &'static str,
    value: f64,
    (low, high): (f64, f64),
    expected: &'static str,
) -> Result<f64, DriftError> {
    if value.is_finite() && value >= low && value <= high {
        Ok(value)
    } else {
        Err(DriftError::OutOfRange { name, value, expected })
    }
}
