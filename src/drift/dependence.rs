//! How much neighbouring values resemble each other, as one number.
//!
//! Tests for independent values are over-confident on a stream whose neighbours are alike: 1,000
//! half-hours of one hot week are not 1,000 observations of the weather. The *design effect* is how
//! many times larger the variance of a count is than independence would make it; dividing the
//! evidence by it restores the level. It is estimated from blocks of doubling length, in constant
//! memory: whatever the correlation, the variance between long blocks has it all.
//!
//! Source: Flyvbjerg and Petersen, Journal of Chemical Physics 91 (1989) for the blocks; Rao and
//! Scott, Annals of Statistics 12 (1984) for the division.

use serde::{Deserialize, Serialize};

use crate::stats::incomplete::chi_square_sf;

/// Block lengths are `1, 2, 4, …, 2^(LEVELS − 1)`.
const LEVELS: usize = 20;

/// A block length speaks when there are so many blocks of it.
const MIN_BLOCKS: u64 = 12;

/// Dependence is taken for real when chance gives it less often than this, at any one length.
const LEVEL: f64 = 1e-4;

/// The design effect of a stream of yes and no, in its order: at least 1; 1 where nothing speaks
/// against independence.
///
/// ```
/// use pilotage::drift::dependence::design_effect;
///
/// // Errors that come in bursts of ten: a tenth of the information.
/// let bursts = (0..6_000_u64).map(|at| (at / 10).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61 == 0);
/// assert!(design_effect(bursts) > 4.0);
/// ```
#[must_use]
pub fn design_effect(stream: impl IntoIterator<Item = bool>) -> f64 {
    let mut blocks = Blocks::default();
    stream.into_iter().for_each(|hit| blocks.push(hit));
    blocks.design_effect()
}

/// Blocks of a stream of yes and no, of doubling length. 320 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Blocks {
    seen: u64,
    hits: u64,
    /// Hits in the block under way, by length.
    open: [u32; LEVELS],
    /// Sum of squares of the hits of full blocks, by length.
    squares: [f64; LEVELS],
}

impl Default for Blocks {
    fn default() -> Self {
        Self { seen: 0, hits: 0, open: [0; LEVELS], squares: [0.0; LEVELS] }
    }
}

impl Blocks {
    /// One more value of the stream.
    pub(crate) fn push(&mut self, hit: bool) {
        self.seen += 1;
        self.hits += u64::from(hit);
        for (level, open) in self.open.iter_mut().enumerate() {
            *open += u32::from(hit);
            if self.seen % (1 << level) == 0 {
                self.squares[level] += f64::from(*open).powi(2);
                *open = 0;
            }
        }
    }

    /// The design effect, at least 1; 1 where nothing speaks against independence.
    pub(crate) fn design_effect(&self) -> f64 {
        let n = self.seen as f64;
        let rate = self.hits as f64 / n;
        let variance = rate * (1.0 - rate);
        if self.seen == 0 || variance <= 0.0 {
            return 1.0;
        }
        let (mut most, mut dependent) = (1.0_f64, false);
        for (level, squares) in self.squares.iter().enumerate().skip(1) {
            let blocks = self.seen >> level;
            if blocks < MIN_BLOCKS {
                break;
            }
            let (count, length) = (blocks as f64, (1_u64 << level) as f64);
            let inside = (self.hits - u64::from(self.open[level])) as f64;
            let spread = (squares - inside * inside / count).max(0.0);
            let effect = spread / ((count - 1.0) * length * variance);
            most = most.max(effect);
            dependent |= chi_square_sf(effect * (count - 1.0), count - 1.0) < LEVEL;
        }
        if dependent { most } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that stays as it was with probability `stay`, and else is drawn anew.
    fn effect_of(stay: f64, n: u32) -> f64 {
        let (mut blocks, mut state, mut last) = (Blocks::default(), 7_u64, false);
        let mut unit = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        for _ in 0..n {
            if unit() >= stay {
                last = unit() < 0.3;
            }
            blocks.push(last);
        }
        blocks.design_effect()
    }

    #[test]
    fn independent_values_have_a_design_effect_of_one() {
        assert_eq!(effect_of(0.0, 20_000), 1.0);
    }

    #[test]
    fn values_that_stay_have_the_design_effect_of_their_chain() {
        // A chain that stays with probability s has (1 + s) / (1 − s): 19 for 0.9. The largest of
        // several noisy block lengths may well be half as much again.
        let effect = effect_of(0.9, 60_000);
        assert!((15.0..32.0).contains(&effect), "{effect}");
    }

    #[test]
    fn a_constant_stream_says_nothing_of_dependence() {
        let mut blocks = Blocks::default();
        (0..1_000).for_each(|_| blocks.push(true));
        assert_eq!(blocks.design_effect(), 1.0);
        assert_eq!(Blocks::default().design_effect(), 1.0);
    }
}
