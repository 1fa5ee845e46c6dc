//! How many samples a comparison of two rates needs, and what it sees with those it has.
//!
//! The effect is Cohen's h, which depends on the base rate: two points are far harder to see at
//! 50 % than at 95 %. There is no number of samples that is enough for "2 %".

use crate::stats::check::{closed_unit, positive};
use crate::stats::error::{StatsError, open_unit};
use crate::stats::proportion::Alternative;
use crate::stats::special::{normal_isf, normal_pdf, normal_sf};
use serde::{Deserialize, Serialize};

/// What a planned comparison of two rates is like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Design {
    /// Rate of the first arm, from 0 to 1.
    pub p1: f64,
    /// Rate of the second arm, from 0 to 1.
    pub p2: f64,
    /// Level of the test, strictly between 0 and 1.
    pub alpha: f64,
    /// Samples of the second arm per sample of the first, above 0.
    pub ratio: f64,
    /// What counts as evidence: [`Alternative::Larger`] is that the *second* rate is.
    pub alternative: Alternative,
}

/// How many samples a comparison needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleSize {
    /// The effect, [`cohen_h`].
    pub effect: f64,
    /// Samples of the first arm, not rounded.
    pub first: f64,
    /// Samples of the second arm, not rounded.
    pub second: f64,
}

/// Cohen's h, the distance of two rates on the scale where their variance is constant:
/// `2 asin sqrt p2 - 2 asin sqrt p1`.
///
/// Computed as one angle, so that it keeps its digits when the rates are close or tiny.
///
/// Source: J. Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), chapter 6.
///
/// # Errors
///
/// [`StatsError`] when a rate is not finite or not from 0 to 1.
pub fn cohen_h(p1: f64, p2: f64) -> Result<f64, StatsError> {
    closed_unit("p1", p1)?;
    closed_unit("p2", p2)?;
    if p1 == p2 {
        return Ok(0.0);
    }
    let (q1, q2) = (1.0 - p1, 1.0 - p2);
    let sine = (p2 - p1) / ((p2 * q1).sqrt() + (p1 * q2).sqrt());
    Ok(2.0 * sine.atan2((p1 * p2).sqrt() + (q1 * q2).sqrt()))
}

/// The probability that one z test with `n1` samples in the first arm finds the difference.
///
/// Valid for one planned look; a test that is watched needs more.
///
/// # Errors
///
/// [`StatsError`] when a number is not finite or outside its range.
///
/// ```
/// use pilotage::stats::power::{Design, power_two_proportions_cohen_h};
/// use pilotage::stats::proportion::Alternative::TwoSided;
///
/// let design = Design { p1: 0.85, p2: 0.90, alpha: 0.05, ratio: 1.0, alternative: TwoSided };
/// let power = power_two_proportions_cohen_h(design, 20.0)?;
/// assert!((power - 0.077).abs() < 0.001); // twenty samples an arm see almost nothing
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
pub fn power_two_proportions_cohen_h(design: Design, n1: f64) -> Result<f64, StatsError> {
    let plan = Plan::check(design)?;
    positive("n1", n1)?;
    Ok(plan.power((n1 * plan.share).sqrt()))
}

/// The number of samples in each arm with which one z test finds the difference with probability
/// `power`.
///
/// Valid for one planned look; a test that is watched needs more.
///
/// # Errors
///
/// [`StatsError`] when a number is not finite or outside its range; [`StatsError::Degenerate`]
/// when no number of samples is enough, because the rates are equal or differ in the direction
/// that does not count; [`StatsError::OutOfRange`] when `power` is not above `alpha`, which needs
/// no samples.
///
/// ```
/// use pilotage::stats::power::{Design, sample_size_two_proportions_cohen_h};
/// use pilotage::stats::proportion::Alternative::TwoSided;
///
/// let design = Design { p1: 0.50, p2: 0.52, alpha: 0.05, ratio: 1.0, alternative: TwoSided };
/// let size = sample_size_two_proportions_cohen_h(design, 0.8)?;
/// assert_eq!(size.first.ceil(), 9806.0);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
pub fn sample_size_two_proportions_cohen_h(
    design: Design,
    power: f64,
) -> Result<SampleSize, StatsError> {
    let plan = Plan::check(design)?;
    open_unit("power", power)?;
    if power <= design.alpha {
        return Err(StatsError::OutOfRange {
            name: "power",
            value: power,
            expected: "above alpha",
        });
    }
    if plan.effect == 0.0 {
        return Err(StatsError::Degenerate { what: "the two rates are equal" });
    }
    let wrong = match design.alternative {
        Alternative::TwoSided => false,
        Alternative::Larger => plan.effect < 0.0,
        Alternative::Smaller => plan.effect > 0.0,
    };
    if wrong {
        let what = "the rates differ in the direction that does not count";
        return Err(StatsError::Degenerate { what });
    }
    // One tail alone decides to many digits; a few Newton steps add the other.
    let mut root = (plan.critical + normal_isf(1.0 - power)).max(1e-3) / plan.effect.abs();
    for _ in 0..100 {
        let step = (power - plan.power(root)) / plan.slope(root);
        let next = (root + step).clamp(0.2 * root, 5.0 * root);
        let done = (next - root).abs() <= 1e-14 * root;
        root = next;
        if done {
            break;
        }
    }
    let first = root * root / plan.share;
    Ok(SampleSize { effect: plan.effect, first, second: first * design.ratio })
}

/// A checked design.
struct Plan {
    effect: f64,
    critical: f64,
    /// `n1 * share` is the size at which each arm alone would be as informative as both are.
    share: f64,
    alternative: Alternative,
}

impl Plan {
    fn check(design: Design) -> Result<Self, StatsError> {
        let effect = cohen_h(design.p1, design.p2)?;
        open_unit("alpha", design.alpha)?;
        positive("ratio", design.ratio)?;
        let tail = match design.alternative {
            Alternative::TwoSided => 0.5 * design.alpha,
            Alternative::Larger | Alternative::Smaller => design.alpha,
        };
        Ok(Self {
            effect,
            critical: normal_isf(tail),
            share: design.ratio / (1.0 + design.ratio),
            alternative: design.alternative,
        })
    }

    /// Power where `root` is the square root of the effective size.
    fn power(&self, root: f64) -> f64 {
        let shift = self.effect * root;
        match self.alternative {
            Alternative::TwoSided => {
                (normal_sf(self.critical - shift) + normal_sf(self.critical + shift)).min(1.0)
            }
            Alternative::Larger => normal_sf(self.critical - shift),
            Alternative::Smaller => normal_sf(self.critical + shift),
        }
    }

    /// How fast power rises with `root`.
    fn slope(&self, root: f64) -> f64 {
        let shift = self.effect.abs() * root;
        let far = match self.alternative {
            Alternative::TwoSided => normal_pdf(self.critical + shift),
            Alternative::Larger | Alternative::Smaller => 0.0,
        };
        self.effect.abs() * (normal_pdf(self.critical - shift) - far).max(1e-300)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design(p1: f64, p2: f64, alternative: Alternative) -> Design {
        Design { p1, p2, alpha: 0.05, ratio: 1.0, alternative }
    }

    #[test]
    fn the_size_has_the_power_it_was_asked_for() {
        for (p1, p2) in [(0.5, 0.52), (1e-9, 2e-9), (0.0, 0.01), (0.9, 0.1), (0.75, 0.750_001)] {
            for power in [0.051, 0.5, 0.8, 0.999_999] {
                for ratio in [0.05, 1.0, 19.0] {
                    let design = Design { ratio, ..design(p1, p2, Alternative::TwoSided) };
                    let size = sample_size_two_proportions_cohen_h(design, power).unwrap();
                    let got = power_two_proportions_cohen_h(design, size.first).unwrap();
                    assert!((got - power).abs() < 1e-11, "{p1} {p2} {power} {ratio}: {got}");
                }
            }
        }
    }

    #[test]
    fn no_number_of_samples_shows_a_difference_that_is_not_there() {
        use Alternative::{Larger, Smaller, TwoSided};
        for (p1, p2, alternative) in [(0.5, 0.5, TwoSided), (0.5, 0.4, Larger), (0.4, 0.5, Smaller)]
        {
            let answer = sample_size_two_proportions_cohen_h(design(p1, p2, alternative), 0.8);
            assert!(matches!(answer, Err(StatsError::Degenerate { .. })), "{answer:?}");
        }
    }

    #[test]
    fn the_effect_is_that_of_the_two_angles() {
        let plain = |p: f64| 2.0 * p.sqrt().asin();
        for (p1, p2) in [(0.1, 0.7), (0.0, 1.0), (0.999, 0.2)] {
            assert!((cohen_h(p1, p2).unwrap() - (plain(p2) - plain(p1))).abs() < 1e-14);
        }
    }
}
