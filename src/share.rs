//! How much traffic goes where.
//!
//! A [`TrafficShare`] is an exact fraction of requests. It is an integer count of parts per
//! million because shares are compared, summed and stored: two shares that add up to a whole
//! must do so on every machine, which `f64` does not promise.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A fraction of traffic, in parts per million: `0` is nobody, `1_000_000` is everybody.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct TrafficShare(u32);

/// A share that is not a fraction of traffic.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// Not a percentage.
    #[error("a share of {percent} % is not possible; give a number from 0 to 100")]
    Percent {
        /// What was given.
        percent: f64,
    },
    /// More than everybody.
    #[error("a share of {ppm} parts per million is not possible; the whole is 1000000")]
    PartsPerMillion {
        /// What was given.
        ppm: u32,
    },
}

impl TrafficShare {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Half of the requests.
    pub const HALF: Self = Self(500_000);
    /// Every request.
    pub const ALL: Self = Self(1_000_000);

    /// A share given in percent, rounded to the nearest millionth.
    ///
    /// # Errors
    ///
    /// [`ShareError::Percent`] when `percent` is not finite or lies outside `0.0..=100.0`.
    ///
    /// ```
    /// use pilotage::share::TrafficShare;
    /// let share = TrafficShare::percent(5.0)?;
    /// assert_eq!(share.ppm(), 50_000);
    /// assert_eq!(share.rest(), TrafficShare::percent(95.0)?);
    /// assert!(TrafficShare::percent(101.0).is_err());
    /// # Ok::<(), pilotage::share::ShareError>(())
    /// ```
    pub fn percent(percent: f64) -> Result<Self, ShareError> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(ShareError::Percent { percent });
        }
        Ok(Self((percent * 10_000.0).round() as u32))
    }

    /// A share given in parts per million.
    ///
    /// # Errors
    ///
    /// [`ShareError::PartsPerMillion`] when `ppm` exceeds `1_000_000`.
    pub const fn from_ppm(ppm: u32) -> Result<Self, ShareError> {
        if ppm > Self::ALL.0 { Err(ShareError::PartsPerMillion { ppm }) } else { Ok(Self(ppm)) }
    }

    /// Parts per million.
    #[must_use]
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// The share as a number from 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }

    /// What is left for everybody else. `share + share.rest()` is always the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }
}

impl fmt::Display for TrafficShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

impl TryFrom<u32> for TrafficShare {
    type Error = ShareError;

    fn try_from(ppm: u32) -> Result<Self, ShareError> {
        Self::from_ppm(ppm)
    }
}

impl From<TrafficShare> for u32 {
    fn from(share: TrafficShare) -> Self {
        share.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_percentages_are_refused_by_name() {
        for percent in [f64::NAN, f64::INFINITY, -0.1, 100.1] {
            let error = TrafficShare::percent(percent).unwrap_err();
            assert!(error.to_string().contains("0 to 100"), "{error}");
        }
    }

    #[test]
    fn a_share_and_its_rest_are_the_whole() {
        for ppm in [0, 1, 333_333, 999_999, 1_000_000] {
            let share = TrafficShare::from_ppm(ppm).unwrap();
            assert_eq!(share.ppm() + share.rest().ppm(), TrafficShare::ALL.ppm());
        }
        assert!(TrafficShare::from_ppm(1_000_001).is_err());
    }

    #[test]
    fn a_stored_share_above_the_whole_does_not_load() {
        assert!(serde_json::from_str::<TrafficShare>("1000001").is_err());
        assert_eq!(serde_json::from_str::<TrafficShare>("50000").unwrap().to_string(), "5 %");
    }
}
