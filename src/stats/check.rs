//! Checks of arguments, shared by the functions that may be looked at at any time.

use super::error::{StatsError, finite};

/// `value`, if it is finite and in `[0, 1]`.
///
/// # Errors
///
/// [`StatsError::NotFinite`] or [`StatsError::OutOfRange`] otherwise.
pub(crate) fn closed_unit(name: &'static str, value: f64) -> Result<f64, StatsError> {
    in_range(name, value, 0.0, 1.0, "between 0 and 1")
}

/// `value`, if it is finite and above 0.
///
/// # Errors
///
/// [`StatsError::NotFinite`] or [`StatsError::OutOfRange`] otherwise.
pub(crate) fn positive(name: &'static str, value: f64) -> Result<f64, StatsError> {
    finite(name, value)?;
    if value > 0.0 {
        Ok(value)
    } else {
        Err(StatsError::OutOfRange { name, value, expected: "above 0" })
    }
}

/// The largest count taken, 2^64: beyond it nothing was counted.
const MOST: f64 = 18_446_744_073_709_551_616.0;

/// `value`, if it is finite, whole, at least 0 and at most 2^64.
///
/// # Errors
///
/// [`StatsError::NotFinite`] or [`StatsError::OutOfRange`] otherwise.
pub(crate) fn count(name: &'static str, value: f64) -> Result<f64, StatsError> {
    finite(name, value)?;
    if (0.0..=MOST).contains(&value) && value.fract() == 0.0 {
        Ok(value)
    } else {
        Err(StatsError::OutOfRange { name, value, expected: "a whole number from 0 to 2^64" })
    }
}

/// `(successes, trials)`, if both are counts and there are no more successes than trials.
///
/// # Errors
///
/// Those of [`count`], or [`StatsError::MoreSuccessesThanTrials`].
pub(crate) fn successes_of(
    names: (&'static str, &'static str),
    successes: f64,
    trials: f64,
) -> Result<(f64, f64), StatsError> {
    count(names.0, successes)?;
    count(names.1, trials)?;
    if successes > trials {
        return Err(StatsError::MoreSuccessesThanTrials { successes, trials });
    }
    Ok((successes, trials))
}

/// `value`, if it is finite and in `[lo, hi]`.
///
/// # Errors
///
/// [`StatsError::NotFinite`] or [`StatsError::OutOfRange`] with `expected` otherwise.
pub(crate) fn in_range(
    name: &'static str,
    value: f64,
    lo: f64,
    hi: f64,
    expected: &'static str,
) -> Result<f64, StatsError> {
    finite(name, value)?;
    if value >= lo && value <= hi {
        Ok(value)
    } else {
        Err(StatsError::OutOfRange { name, value, expected })
    }
}
