//! More arms than two.
//!
//! Several candidates against one baseline at once: each further arm has a fixed place in this
//! table, and its share of those who take part is counted from the far end of their numbering. The
//! candidate's share grows from the near end, so growing the one never moves a subject of the
//! others. What is left in the middle is the baseline's.

use serde::{Deserialize, Serialize};

use crate::ids::Arm;
use crate::route::bucket::millionth;
use crate::share::TrafficShare;

/// The most arms of a router, baseline and candidate among them.
pub const MOST_ARMS: usize = 8;

/// The shares of the arms beyond baseline and candidate.
///
/// They are served as long as the candidate has a share: taking that back takes all back, in one
/// store, and ends the table.
///
/// ```
/// use pilotage::ids::Arm;
/// use pilotage::route::arms::ArmTable;
/// use pilotage::share::TrafficShare;
///
/// let ten = TrafficShare::percent(10.0)?;
/// let table = ArmTable::new([(Arm::new(2), ten), (Arm::new(3), ten)])?;
/// assert_eq!(table.arm(u64::MAX), Some(Arm::new(2)));
/// assert_eq!(table.arm(0), None); // the candidate's end
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(Arm, TrafficShare)>", into = "Vec<(Arm, TrafficShare)>")]
pub struct ArmTable {
    /// In the order in which they were given, which is their order from the far end.
    shares: Vec<(Arm, TrafficShare)>,
}

/// A table that cannot be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ArmTableError {
    /// Baseline and candidate are the split's, and there are 8 arms at the most.
    #[error("arm {arm} cannot stand in the table; give arms from 2 to 7")]
    Arm {
        /// Its number.
        arm: usize,
    },
    /// An arm is given twice.
    #[error("arm {arm} is given twice; give it one share")]
    Repeated {
        /// Its number.
        arm: usize,
    },
    /// Together they are more than everybody.
    #[error(
        "the shares add up to {ppm} parts per million; the most is 1000000 with the candidate's"
    )]
    OverFull {
        /// Their sum.
        ppm: u64,
    },
    /// The router was not built for so many arms.
    #[error(
        "arm {arm} is beyond the {arms} arms of this router; build it with Size {{ arms: 8, .. }}"
    )]
    NoRoom {
        /// Its number.
        arm: usize,
        /// How many there are.
        arms: usize,
    },
}

impl ArmTable {
    /// A table of these arms. To grow an arm without moving subjects of another, give it last.
    ///
    /// # Errors
    ///
    /// [`ArmTableError`] when an arm cannot stand here or is given twice, or they are too much.
    pub fn new(
        shares: impl IntoIterator<Item = (Arm, TrafficShare)>,
    ) -> Result<Self, ArmTableError> {
        let mut table = Self { shares: Vec::new() };
        for (arm, share) in shares {
            if !(2..MOST_ARMS).contains(&arm.index()) {
                return Err(ArmTableError::Arm { arm: arm.index() });
            }
            if table.shares.iter().any(|(known, _)| *known == arm) {
                return Err(ArmTableError::Repeated { arm: arm.index() });
            }
            table.shares.push((arm, share));
        }
        let ppm = table.ppm();
        if ppm > TrafficShare::ALL.ppm().into() {
            return Err(ArmTableError::OverFull { ppm });
        }
        Ok(table)
    }

    /// The arms and their shares.
    #[must_use]
    pub fn shares(&self) -> &[(Arm, TrafficShare)] {
        &self.shares
    }

    /// The arm of a subject with this hash, `None` where it is the candidate's or the baseline's.
    #[must_use]
    pub fn arm(&self, hash: u64) -> Option<Arm> {
        let mut from_the_end = TrafficShare::ALL.ppm() - 1 - millionth(hash);
        for (arm, share) in &self.shares {
            match from_the_end.checked_sub(share.ppm()) {
                None => return Some(*arm),
                Some(rest) => from_the_end = rest,
            }
        }
        None
    }

    /// What they have together, in parts per million.
    #[must_use]
    pub fn ppm(&self) -> u64 {
        self.shares.iter().map(|(_, share)| u64::from(share.ppm())).sum()
    }
}

impl TryFrom<Vec<(Arm, TrafficShare)>> for ArmTable {
    type Error = ArmTableError;

    fn try_from(shares: Vec<(Arm, TrafficShare)>) -> Result<Self, ArmTableError> {
        Self::new(shares)
    }
}

impl From<ArmTable> for Vec<(Arm, TrafficShare)> {
    fn from(table: ArmTable) -> Self {
        table.shares
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(ppm: u32) -> TrafficShare {
        TrafficShare::from_ppm(ppm).unwrap()
    }

    proptest! {
        #[test]
        fn the_last_arm_grows_without_moving_anybody_from_another(
            hash: u64, first in 0_u32..=400_000, small in 0_u32..=300_000, more in 0_u32..=300_000,
        ) {
            let table = |last| ArmTable::new([(Arm::new(2), share(first)), (Arm::new(5), share(last))]);
            let (before, after) = (table(small).unwrap(), table(small + more).unwrap());
            match before.arm(hash) {
                Some(arm) => prop_assert_eq!(after.arm(hash), Some(arm)),
                None => prop_assert!(after.arm(hash).is_none_or(|arm| arm == Arm::new(5))),
            }
        }
    }

    #[test]
    fn each_arm_gets_what_it_was_given() {
        let table =
            ArmTable::new([(Arm::new(2), share(250_000)), (Arm::new(7), share(1))]).unwrap();
        let step = u64::MAX / 1_000_000;
        let at = |ppm: u64| table.arm(ppm * step + step / 2);
        assert_eq!((at(999_999), at(750_000)), (Some(Arm::new(2)), Some(Arm::new(2))));
        assert_eq!((at(749_999), at(749_998)), (Some(Arm::new(7)), None));
    }

    #[test]
    fn tables_that_cannot_be_say_why() {
        let error = |shares: &[(u8, u32)]| {
            let shares = shares.iter().map(|(arm, ppm)| (Arm::new(*arm), share(*ppm)));
            ArmTable::new(shares.collect::<Vec<_>>()).unwrap_err()
        };
        assert_eq!(error(&[(1, 5)]), ArmTableError::Arm { arm: 1 });
        assert_eq!(error(&[(8, 5)]), ArmTableError::Arm { arm: 8 });
        assert_eq!(error(&[(2, 5), (2, 5)]), ArmTableError::Repeated { arm: 2 });
        assert_eq!(
            error(&[(2, 600_000), (3, 400_001)]),
            ArmTableError::OverFull { ppm: 1_000_001 }
        );
        assert!(serde_json::from_str::<ArmTable>("[[1,5]]").is_err());
    }
}
