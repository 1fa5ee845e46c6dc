//! Two arms with yes/no outcomes, compared exactly at any count. Anytime-valid.
//!
//! The null is "both arms have the same rate", whatever that rate is. Outcomes come in blocks, each
//! with some of arm A and some of arm B; before a block, both rates are estimated from the blocks
//! before it, and the block is weighed by how much better two rates explain it than one between
//! them. Because the estimates never see the block they are used on, the product is an e-process:
//! under the null it ever reaches `1/α` with probability at most `α`. No normal approximation is
//! made, so this is the test for few events.
//!
//! Assumes independent outcomes with a constant rate in each arm. A rate that drifts on *both* arms
//! alike is no longer the null: use [`crate::stats::eprocess::eprocess_rate_ratio_grid`] there. Block
//! sizes may differ from block to block as long as they are chosen before its outcomes are seen.
//!
//! Source: Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that
//! allow for optional stopping", Journal of Statistical Planning and Inference 230 (2024).

use super::check::{positive, successes_of};
use super::error::StatsError;

/// The pseudo-count that makes early estimates neither bold nor deaf; the authors' choice.
pub const USUAL_PSEUDO_COUNT: f64 = 0.18;

/// Evidence against "both arms have the same rate", block by block. Anytime-valid.
///
/// ```
/// use pilotage::stats::two_stream::{TwoStreamTest, USUAL_PSEUDO_COUNT};
///
/// let mut test = TwoStreamTest::new(USUAL_PSEUDO_COUNT)?;
/// for at in 0..60 {
///     test.push(at % 10 == 0, at % 2 == 0)?; // 10 % against 50 %
/// }
/// assert!(test.log_e() > (1.0_f64 / 0.05).ln());
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TwoStreamTest {
    pseudo_count: f64,
    a: Seen,
    b: Seen,
    log_e: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    successes: f64,
    trials: f64,
}

impl Seen {
    fn estimate(self, pseudo_count: f64) -> f64 {
        (self.successes + pseudo_count) / (self.trials + 2.0 * pseudo_count)
    }
}

impl TwoStreamTest {
    /// A test that has seen nothing. `pseudo_count` is added to the successes and to the failures
    /// of each arm when rates are estimated; see [`USUAL_PSEUDO_COUNT`].
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless `pseudo_count` is finite and above 0.
    pub fn new(pseudo_count: f64) -> Result<Self, StatsError> {
        positive("pseudo_count", pseudo_count)?;
        Ok(Self { pseudo_count, a: Seen::default(), b: Seen::default(), log_e: 0.0 })
    }

    /// Weighs one outcome of each arm.
    ///
    /// # Errors
    ///
    /// None in practice: [`StatsError`] is that of [`Self::push_block`].
    pub fn push(&mut self, a: bool, b: bool) -> Result<(), StatsError> {
        self.push_block((f64::from(u8::from(a)), 1.0), (f64::from(u8::from(b)), 1.0))
    }

    /// Weighs a block: `(successes, trials)` of each arm. A block with nothing on one arm teaches
    /// the estimates and is no evidence.
    ///
    /// # Errors
    ///
    /// [`StatsError`] unless all are whole numbers from 0 up, successes at most trials; the test is
    /// then unchanged.
    pub fn push_block(&mut self, a: (f64, f64), b: (f64, f64)) -> Result<(), StatsError> {
        successes_of(("a successes", "a trials"), a.0, a.1)?;
        successes_of(("b successes", "b trials"), b.0, b.1)?;
        if a.1 > 0.0 && b.1 > 0.0 {
            let rate_a = self.a.estimate(self.pseudo_count);
            let rate_b = self.b.estimate(self.pseudo_count);
            let part = a.1 / (a.1 + b.1);
            let common = part * rate_a + (1.0 - part) * rate_b;
            self.log_e += gain(a, rate_a, common) + gain(b, rate_b, common);
        }
        self.a = Seen { successes: self.a.successes + a.0, trials: self.a.trials + a.1 };
        self.b = Seen { successes: self.b.successes + b.0, trials: self.b.trials + b.1 };
        Ok(())
    }

    /// Natural logarithm of the evidence: at least `ln(1/α)` at any time refutes equal rates at
    /// level `α`. Zero before any block.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e
    }
}

/// The log likelihood ratio of `rate` to `common` for so many successes of so many trials. A count
/// of zero adds nothing, whatever the rates.
fn gain((successes, trials): (f64, f64), rate: f64, common: f64) -> f64 {
    let failures = trials - successes;
    let weigh = |count: f64, ratio: f64| if count > 0.0 { count * ratio.ln() } else { 0.0 };
    weigh(successes, rate / common) + weigh(failures, (1.0 - rate) / (1.0 - common))
}

/// Natural logarithm of the evidence after outcomes `a` and `b`, taken in pairs in their order.
/// Anytime-valid: see [`TwoStreamTest`].
///
/// # Errors
///
/// [`StatsError::LengthMismatch`] unless both have the same length; [`StatsError`] unless
/// `pseudo_count` is finite and above 0.
pub fn eprocess_two_proportions_plugin(
    a: &[bool],
    b: &[bool],
    pseudo_count: f64,
) -> Result<f64, StatsError> {
    if a.len() != b.len() {
        return Err(StatsError::LengthMismatch {
            left: "a",
            left_len: a.len(),
            right: "b",
            right_len: b.len(),
        });
    }
    let mut test = TwoStreamTest::new(pseudo_count)?;
    a.iter().zip(b).try_for_each(|(a, b)| test.push(*a, *b))?;
    Ok(test.log_e())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All outcomes of four blocks, each weighed by its chance under a common rate.
    #[test]
    fn under_the_null_the_evidence_averages_one_at_most() {
        for rate in [0.03, 0.4, 0.9_f64] {
            let mut mean = 0.0;
            for outcome in 0..256_u32 {
                let mut test = TwoStreamTest::new(USUAL_PSEUDO_COUNT).unwrap();
                let mut chance = 1.0;
                for block in 0..4 {
                    let bit = |at: u32| (outcome >> (2 * block + at)) & 1 == 1;
                    for yes in [bit(0), bit(1)] {
                        chance *= if yes { rate } else { 1.0 - rate };
                    }
                    test.push(bit(0), bit(1)).unwrap();
                }
                mean += chance * test.log_e().exp();
            }
            assert!(mean <= 1.0 + 1e-12, "{mean} at {rate}");
            assert!(mean > 0.5, "{mean} at {rate}");
        }
    }

    #[test]
    fn bad_blocks_are_refused_and_change_nothing() {
        let mut test = TwoStreamTest::new(0.18).unwrap();
        test.push_block((1.0, 19.0), (1.0, 1.0)).unwrap();
        let before = test.clone();
        for bad in [(2.0, 1.0), (f64::NAN, 1.0), (-1.0, 1.0), (0.5, 1.0), (1.0, f64::INFINITY)] {
            assert!(test.push_block(bad, (0.0, 1.0)).is_err());
            assert!(test.push_block((0.0, 1.0), bad).is_err());
        }
        assert_eq!(test, before);
    }

    #[test]
    fn evidence_is_finite_for_huge_blocks() {
        let mut test = TwoStreamTest::new(0.18).unwrap();
        for _ in 0..5 {
            test.push_block((0.0, 1e18), (1e18, 1e18)).unwrap();
            assert!(test.log_e().is_finite());
        }
    }
}
