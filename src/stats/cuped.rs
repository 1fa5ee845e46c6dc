//! A difference of means with what was known before the assignment taken out of it.

use crate::stats::error::StatsError;
use crate::stats::means::{Part, TTest, compare};
use crate::stats::moments::PairMoments;
use crate::stats::special::real;
use serde::{Deserialize, Serialize};

/// A difference of adjusted means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CupedDiff {
    /// The test of `b - a`.
    pub test: TTest,
    /// Adjusted mean of A.
    pub mean_a: f64,
    /// Adjusted mean of B.
    pub mean_b: f64,
    /// How much of the covariate was taken out.
    pub theta: f64,
    /// Share of the variance that remains, from 0 to 1: what CUPED saves in samples.
    pub variance_left: f64,
}

/// Valid for one look only: the difference `b - a` of means, with the part that a covariate
/// explains removed (CUPED).
///
/// Each unit is a pair of the covariate (first) and the metric (second). The covariate must have
/// been measured *before* the assignment: one that the candidate can influence biases the answer.
/// The slope is that of all units together. A covariate that does not vary changes nothing.
///
/// Source: A. Deng, Y. Xu, R. Kohavi and T. Walker, WSDM 2013.
///
/// # Errors
///
/// [`StatsError::TooFew`] with fewer than two units in an arm, [`StatsError::Degenerate`] when
/// nothing varies and the adjusted means differ, [`StatsError::OutOfRange`] or
/// [`StatsError::NotFinite`] for a bad `alpha`.
pub fn cuped_diff(a: &PairMoments, b: &PairMoments, alpha: f64) -> Result<CupedDiff, StatsError> {
    for (name, arm) in [("a", a), ("b", b)] {
        if arm.n() < 2 {
            let len = usize::try_from(arm.n()).unwrap_or(usize::MAX);
            return Err(StatsError::TooFew { name, len, needed: 2 });
        }
    }
    let ((xx_a, yy_a, xy_a), (xx_b, yy_b, xy_b)) = (a.deviations(), b.deviations());
    let (n_a, n_b) = (real(a.n()), real(b.n()));
    // The slope over all units, as the published libraries take it: what lies between the arms'
    // means is part of it. Random assignment makes that part vanish as the arms grow.
    let (apart, gap) = (n_a * n_b / (n_a + n_b), b.mean_x() - a.mean_x());
    let xx = xx_a + xx_b + apart * gap * gap;
    let xy = xy_a + xy_b + apart * gap * (b.mean_y() - a.mean_y());
    let theta = if xx > 0.0 { xy / xx } else { 0.0 };
    let centre = a.mean_x() + (b.mean_x() - a.mean_x()) * (n_b / (n_a + n_b));
    let left = |xx: f64, yy: f64, xy: f64| (yy - 2.0 * theta * xy + theta * theta * xx).max(0.0);
    let part = |arm: &PairMoments, rest: f64| {
        let n = real(arm.n());
        let mean = arm.mean_y() - theta * (arm.mean_x() - centre);
        Part { n, mean, error_squared: rest / (n - 1.0) / n }
    };
    let (rest_a, rest_b) = (left(xx_a, yy_a, xy_a), left(xx_b, yy_b, xy_b));
    let (one, two) = (part(a, rest_a), part(b, rest_b));
    let before = yy_a + yy_b;
    let variance_left = if before > 0.0 { ((rest_a + rest_b) / before).min(1.0) } else { 1.0 };
    let test = compare(two.mean - one.mean, [one, two], [1.0, 1.0], alpha)?;
    Ok(CupedDiff { test, mean_a: one.mean, mean_b: two.mean, theta, variance_left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_covariate_that_explains_much_saves_as_much() {
        let (mut a, mut b) = (PairMoments::new(), PairMoments::new());
        for i in 0..200 {
            let before = f64::from(i % 17);
            let noise = f64::from(i * 7 % 5) * 0.1;
            a.push(before, 2.0 * before + noise);
            b.push(before + 1.0, 2.0 * (before + 1.0) + noise + 0.3);
        }
        let cuped = cuped_diff(&a, &b, 0.05).unwrap();
        assert!((cuped.theta - 2.0).abs() < 0.01);
        assert!((cuped.test.effect - 0.3).abs() < 0.02, "{cuped:?}");
        assert!(cuped.variance_left < 0.001);
    }

    #[test]
    fn a_covariate_that_does_not_vary_changes_nothing() {
        let a = PairMoments::of(("x", &[5.0, 5.0, 5.0]), ("y", &[1.0, 2.0, 3.0])).unwrap();
        let b = PairMoments::of(("x", &[5.0, 5.0, 5.0]), ("y", &[2.0, 2.5, 4.0])).unwrap();
        let cuped = cuped_diff(&a, &b, 0.05).unwrap();
        assert_eq!((cuped.theta, cuped.variance_left), (0.0, 1.0));
    }
}
