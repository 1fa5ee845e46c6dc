//! Boundaries for a test that looks a planned number of times, by Lan and DeMets.
//!
//! A z test read at every look declares a winner between equals far more often than its level
//! says. Here the level `alpha` is spent over the looks by a function fixed in advance, and the
//! boundary of each look is what spends exactly its share, given that no earlier boundary was
//! crossed. Valid at the looks for which boundaries were computed and at no others; when and how
//! often these are may follow the calendar, but not the results.
//!
//! A look's *information* is the fraction of the planned sample size (or of the planned inverse
//! variance) reached; the last planned look has information 1. Everything is one-sided: for a
//! two-sided test of level 0.05, ask for 0.025 and compare `|z|`, which is exact but for the chance
//! of crossing both sides. Source: Lan and DeMets, Biometrika 70 (1983); the recursion is that of
//! Armitage and others, Journal of the Royal Statistical Society A 132 (1969).

use crate::stats::check::{in_range, positive};
use crate::stats::error::{StatsError, open_unit};
use crate::stats::quadrature::NODES;
use crate::stats::tails::{ln_normal_cdf, normal_upper_quantile};
use statrs::function::erf::erfc;

/// How the level is spent as information accrues.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spending {
    /// Like O'Brien and Fleming's boundary: hardly anything early, nearly all of the level at the
    /// end, so the final look costs almost nothing against a test with one look. The default
    /// choice when a horizon is planned.
    OBrienFleming,
    /// Like Pocock's: about the same boundary at each look. Stops large effects sooner and pays
    /// with power at the end.
    Pocock,
    /// `alpha` times information to the power `rho > 0`; larger is more patient.
    Power {
        /// The exponent.
        rho: f64,
    },
}

impl Spending {
    /// How much of `alpha` is spent when `information` has been reached; all of it from 1 on.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when `alpha` is not strictly between 0 and 1, `information` is not finite
    /// and above 0, or the exponent is not finite and above 0.
    pub fn spent(self, alpha: f64, information: f64) -> Result<f64, StatsError> {
        open_unit("alpha", alpha)?;
        positive("information", information)?;
        if let Self::Power { rho } = self {
            positive("rho", rho)?;
        }
        if information >= 1.0 {
            return Ok(alpha);
        }
        Ok(match self {
            Self::OBrienFleming => {
                let z = normal_upper_quantile((0.5 * alpha).ln());
                2.0 * ln_normal_cdf(-z / information.sqrt()).exp()
            }
            Self::Pocock => alpha * ((std::f64::consts::E - 1.0) * information).ln_1p(),
            Self::Power { rho } => alpha * information.powf(rho),
        })
    }
}

/// How far below zero paths are followed, in standard deviations.
const LOWEST: f64 = 8.0;

/// How far up while next to nothing is spent: beyond, probabilities underflow.
const HIGHEST: f64 = 38.0;

/// The same once more than [`HARDLY`] is spent.
const HIGH: f64 = 9.0;

/// A level too small for its paths to matter to later looks.
const HARDLY: f64 = 1e-12;

/// The least growth of information from look to look, relative to what there is.
const LEAST_GROWTH: f64 = 1e-6;

/// The boundaries of a test, one look at a time.
///
/// [`next`](Self::next) says what the z statistic must reach at the next look. Its memory is the
/// distribution of the paths that have crossed no boundary yet, on a few hundred points; the same
/// looks always rebuild the same state, so it need not be stored: keep the list of information
/// fractions.
///
/// ```
/// use pilotage::stats::spending::{Boundaries, Spending};
///
/// let mut looks = Boundaries::new(Spending::OBrienFleming, 0.025)?;
/// assert!((looks.next(0.5)? - 2.9626).abs() < 1e-4);
/// assert!((looks.next(1.0)? - 1.9686).abs() < 1e-4);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Boundaries {
    spending: Spending,
    alpha: f64,
    spent: f64,
    /// The latest look.
    look: Option<Look>,
    /// Where the paths were at the look before it, and how likely.
    paths: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    /// Information at the look before it; 0 if it is the first.
    since: f64,
    information: f64,
    /// The boundary in z; infinite when nothing was spent.
    z: f64,
    /// The boundary of the look before it, on the scale of the path.
    path_before: f64,
}

/// A point of a Brownian path and the probability mass around it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: f64,
    mass: f64,
}

impl Boundaries {
    /// Before the first look, with `alpha` the whole one-sided level.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when `alpha` or the exponent of a power family is out of range.
    pub fn new(spending: Spending, alpha: f64) -> Result<Self, StatsError> {
        spending.spent(alpha, 1.0)?;
        Ok(Self { spending, alpha, spent: 0.0, look: None, paths: Vec::new() })
    }

    /// The boundary of the next look, at `information`: reject when z reaches it.
    ///
    /// Infinite when there is nothing to spend at this look: early under O'Brien and Fleming,
    /// where the share is below what a `f64` holds, or after information 1.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when `information` is not finite and above 0, or does not exceed the last
    /// look's by at least a millionth of it. Nothing is then changed.
    pub fn next(&mut self, information: f64) -> Result<f64, StatsError> {
        let total = self.spending.spent(self.alpha, information)?;
        let share = (total - self.spent).max(0.0);
        let Some(last) = self.look else {
            let z = normal_upper_quantile(share.ln());
            self.look = Some(Look { since: 0.0, information, z, path_before: 0.0 });
            self.spent = total;
            return Ok(z);
        };
        in_range(
            "information",
            information,
            last.information * (1.0 + LEAST_GROWTH),
            f64::MAX,
            "more than at the look before, by a millionth at least",
        )?;
        let step = (information - last.information).sqrt();
        self.paths = self.advance(last, step);
        let boundary = if share > 0.0 { self.solve(share, last, step) } else { f64::INFINITY };
        let z = boundary / information.sqrt();
        self.look = Some(Look {
            since: last.information,
            information,
            z,
            path_before: last.z * last.information.sqrt(),
        });
        self.spent = self.spent.max(total);
        Ok(z)
    }

    /// How much of the level the looks so far have spent.
    #[must_use]
    pub fn spent(&self) -> f64 {
        self.spent
    }

    /// The paths at the look `last` that have crossed nothing, on points close enough together
    /// for the steps before and after it, the latter of standard deviation `step`.
    fn advance(&self, last: Look, step: f64) -> Vec<Point> {
        let scale = last.information.sqrt();
        let before = (last.information - last.since).sqrt();
        let cap = if self.spent < HARDLY { HIGHEST } else { HIGH };
        let high = last.z.min(cap) * scale;
        let low = -(LOWEST + (-last.z).max(0.0)) * scale;
        let widest = scale.min(2.0 * before).min(2.0 * step);
        let panels = ((high - low) / widest).ceil().max(1.0);
        let half = 0.5 * (high - low) / panels;
        let mut points = Vec::new();
        let mut middle = low + half;
        while middle < high {
            for (node, weight) in NODES {
                for at in [middle - half * node, middle + half * node] {
                    points.push(Point { at, mass: half * weight });
                }
            }
            middle += 2.0 * half;
        }
        points.sort_by(|a, b| a.at.total_cmp(&b.at));
        for point in &mut points {
            point.mass *= self.density(point.at, last, before);
        }
        points
    }

    /// The density at `at` of the paths that had crossed nothing before the look `look`.
    fn density(&self, at: f64, look: Look, step: f64) -> f64 {
        if look.since == 0.0 {
            return normal_density(at / step) / step;
        }
        // Where a path that is here now was one look ago, and so which points can matter.
        let kept = look.since / look.information;
        let centre = at * kept;
        let spread = 9.0 * step * kept.sqrt();
        let from = self.paths.partition_point(|p| p.at < centre.min(look.path_before) - spread);
        let sum: f64 = self.paths[from..]
            .iter()
            .take_while(|p| p.at <= centre + spread)
            .map(|p| p.mass * (-0.5 * ((at - p.at) / step).powi(2)).exp())
            .sum();
        sum * INVERSE_SQRT_TAU / step
    }

    /// The boundary on the scale of the path that is first crossed now with probability `share`.
    fn solve(&self, share: f64, last: Look, step: f64) -> f64 {
        let information = last.information + step * step;
        // No boundary is higher than one that no earlier look had thinned the paths for.
        let mut high = normal_upper_quantile(share.ln()) * information.sqrt();
        let mut low = f64::NEG_INFINITY;
        let mut at = high.min(last.z * last.information.sqrt() + 4.0 * step);
        for _ in 0..200 {
            let (mut crossing, mut density) = (0.0, 0.0);
            for point in &self.paths {
                let z = (at - point.at) / step;
                if z < HIGHEST {
                    crossing += point.mass * 0.5 * erfc(z * std::f64::consts::FRAC_1_SQRT_2);
                    density += point.mass * normal_density(z);
                }
            }
            density /= step;
            if crossing > share {
                low = at;
            } else {
                high = at;
            }
            // Newton on the logarithm, which is concave; halving where that runs off.
            let newton = at + (crossing / share).ln() * crossing / density;
            let next = if newton.is_finite() && newton > low && newton <= high {
                newton
            } else if low.is_finite() {
                0.5 * (low + high)
            } else {
                high - 4.0 * step
            };
            if (next - at).abs() <= 1e-13 * information.sqrt() {
                return next;
            }
            at = next;
        }
        at
    }
}

const INVERSE_SQRT_TAU: f64 = 0.398_942_280_401_432_7;

fn normal_density(z: f64) -> f64 {
    INVERSE_SQRT_TAU * (-0.5 * z * z).exp()
}

/// The boundaries, in z, of looks at these information fractions, with `alpha` one-sided.
///
/// The fractions rise, by a millionth at least; see [`Boundaries`] for one look at a time.
///
/// # Errors
///
/// [`StatsError`] when the list is empty, a fraction is not finite and above 0 or does not exceed
/// the one before it, or `alpha` is not strictly between 0 and 1.
pub fn lan_demets(
    spending: Spending,
    information: &[f64],
    alpha: f64,
) -> Result<Vec<f64>, StatsError> {
    if information.is_empty() {
        return Err(StatsError::TooFew { name: "information", len: 0, needed: 1 });
    }
    let mut boundaries = Boundaries::new(spending, alpha)?;
    information.iter().map(|&information| boundaries.next(information)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(looks: u32) -> Vec<f64> {
        (1..=looks).map(|look| f64::from(look) / f64::from(looks)).collect()
    }

    #[test]
    fn five_looks_have_the_published_boundaries() {
        let obf = lan_demets(Spending::OBrienFleming, &equal(5), 0.025).unwrap();
        for (got, want) in obf.iter().zip([4.8769, 3.3569, 2.6803, 2.2898, 2.0310]) {
            assert!((got - want).abs() < 2e-4, "{got} against {want}");
        }
        let pocock = lan_demets(Spending::Pocock, &equal(5), 0.025).unwrap();
        for (got, want) in pocock.iter().zip([2.4380, 2.4268, 2.4101, 2.3966, 2.3859]) {
            assert!((got - want).abs() < 2e-4, "{got} against {want}");
        }
    }

    #[test]
    fn one_look_is_the_fixed_horizon_test() {
        let z = lan_demets(Spending::OBrienFleming, &[1.0], 0.025).unwrap();
        assert!((z[0] - 1.959_963_984_540_054).abs() < 1e-12);
    }

    #[test]
    fn a_look_that_follows_at_once_hardly_disturbs_the_next() {
        // A path has no time to move between 0.5 and 0.50001; the final boundary stays.
        let plain = lan_demets(Spending::Pocock, &[0.5, 1.0], 0.025).unwrap();
        let doubled = lan_demets(Spending::Pocock, &[0.5, 0.500_01, 1.0], 0.025).unwrap();
        assert!((plain[1] - doubled[2]).abs() < 1e-3, "{plain:?} {doubled:?}");
    }

    #[test]
    fn what_has_been_spent_is_what_was_promised() {
        for looks in [1, 7, 100] {
            for spending in
                [Spending::OBrienFleming, Spending::Pocock, Spending::Power { rho: 3.0 }]
            {
                let mut boundaries = Boundaries::new(spending, 0.01).unwrap();
                let mut last = f64::INFINITY;
                for information in equal(looks) {
                    last = boundaries.next(information).unwrap();
                }
                assert!((boundaries.spent() - 0.01).abs() < 1e-15);
                assert!(last > 2.3 && last < 3.6, "{last}");
            }
        }
    }

    #[test]
    fn more_information_than_planned_has_nothing_left_to_spend() {
        let z = lan_demets(Spending::OBrienFleming, &[0.5, 1.0, 1.2], 0.025).unwrap();
        assert_eq!(z[2], f64::INFINITY);
        // But a last look that overshoots takes all that is left.
        let late = lan_demets(Spending::OBrienFleming, &[0.5, 1.2], 0.025).unwrap();
        assert!(late[1] > 1.9 && late[1] < 2.0, "{late:?}");
    }

    #[test]
    fn looks_that_do_not_advance_are_errors() {
        for information in
            [&[][..], &[0.0, 1.0], &[0.5, 0.5], &[0.5, 0.4], &[f64::NAN], &[0.5, f64::INFINITY]]
        {
            assert!(lan_demets(Spending::Pocock, information, 0.025).is_err(), "{information:?}");
        }
        for alpha in [0.0, 1.0, f64::NAN] {
            assert!(lan_demets(Spending::Pocock, &[1.0], alpha).is_err());
        }
        assert!(Boundaries::new(Spending::Power { rho: 0.0 }, 0.025).is_err());
    }

    #[test]
    fn a_refused_look_leaves_the_boundaries_as_they_were() {
        let mut boundaries = Boundaries::new(Spending::Pocock, 0.025).unwrap();
        boundaries.next(0.5).unwrap();
        let before = boundaries.clone();
        assert!(boundaries.next(0.5).is_err());
        assert_eq!(boundaries, before);
    }
}
