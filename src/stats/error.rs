//! What can be wrong with a number handed to [`crate::stats`].

/// A value that a statistical function cannot work with.
///
/// Every function of [`crate::stats`] checks its arguments at the door, so nothing below it ever
/// sees a value that is not a number. "Too little data" is not an error: it is an ordinary answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// A value is NaN or infinite where a finite one is needed.
    #[error("{name} is {value}; it must be a finite number")]
    NotFinite {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// A finite value lies outside its range.
    #[error("{name} is {value}; it must be {expected}")]
    OutOfRange {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        value: f64,
        /// The range in words, for example `in (0, 1)`.
        expected: &'static str,
    },
    /// There are more successes than trials.
    #[error("{successes} successes out of {trials} trials; successes cannot exceed trials")]
    MoreSuccessesThanTrials {
        /// Successes given.
        successes: f64,
        /// Trials given.
        trials: f64,
    },
    /// A sample or list is shorter than the method needs.
    #[error("{name} has {len} values; at least {needed} are needed")]
    TooFew {
        /// The argument's name.
        name: &'static str,
        /// How many were given.
        len: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Two lists that belong together differ in length.
    #[error("{left} has {left_len} values but {right} has {right_len}; they must match")]
    LengthMismatch {
        /// The first argument's name.
        left: &'static str,
        /// Its length.
        left_len: usize,
        /// The second argument's name.
        right: &'static str,
        /// Its length.
        right_len: usize,
    },
    /// The data carry no information for this question, for example a variance of zero.
    #[error("{what}, so the question has no answer")]
    Degenerate {
        /// What is degenerate about them.
        what: &'static str,
    },
}

/// `value`, if it is finite.
///
/// # Errors
///
/// [`StatsError::NotFinite`] otherwise.
pub(crate) fn finite(name: &'static str, value: f64) -> Result<f64, StatsError> {
    if value.is_finite() { Ok(value) } else { Err(StatsError::NotFinite { name, value }) }
}

/// `value`, if it is finite and strictly between 0 and 1: a level, a power, a quantile.
///
/// # Errors
///
/// [`StatsError::NotFinite`] or [`StatsError::OutOfRange`] otherwise.
pub(crate) fn open_unit(name: &'static str, value: f64) -> Result<f64, StatsError> {
    finite(name, value)?;
    if value > 0.0 && value < 1.0 {
        Ok(value)
    } else {
        Err(StatsError::OutOfRange { name, value, expected: "strictly between 0 and 1" })
    }
}
