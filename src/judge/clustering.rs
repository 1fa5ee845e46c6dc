//! How much pairs hang together, and what that does to the certainty.
//!
//! E-processes and intervals alike take pairs for independent. Files of one package are not, nor
//! are the requests of one user: a candidate that is wrong about one is often wrong about the rest.
//! The rate is then right and its certainty too high. How much too high is the *design effect*: the
//! variance of the rate between clusters over what it would be between independent pairs. A hundred
//! pairs with a design effect of 4 are worth 25.

use serde::{Deserialize, Serialize};

use crate::observe::clusters::Clusters;
use crate::stats::moments::PairMoments;
use crate::stats::ratio::ratio_estimate;

/// What clusters do to the certainty of an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Clustering {
    /// Clusters, or buckets of them, that have pairs.
    pub clusters: u64,
    /// Pairs.
    pub pairs: u64,
    /// The part that agrees.
    pub agreement: f64,
    /// Its standard error if pairs were independent.
    pub plain_error: f64,
    /// Its standard error between clusters, by the delta method.
    pub cluster_error: f64,
    /// The square of the second over the first: 1 where pairs are independent.
    pub design_effect: f64,
}

impl Clustering {
    /// From a lane's clusters; `None` for fewer than [`FEWEST`], or where nothing varies.
    #[must_use]
    pub fn of(clusters: &Clusters) -> Option<Self> {
        Self::of_units(&clusters.units())
    }

    /// From matches (first) and pairs of each cluster; `None` for fewer than [`FEWEST`], or where
    /// nothing varies. Source: A. Deng, U. Knoblich and J. Lu, KDD 2018.
    #[must_use]
    pub fn of_units(units: &PairMoments) -> Option<Self> {
        if units.n() < FEWEST {
            return None;
        }
        let estimate = ratio_estimate("agreement", units).ok()?;
        let agreement = estimate.ratio.clamp(0.0, 1.0);
        let pairs = units.mean_y() * units.n() as f64;
        let plain = agreement * (1.0 - agreement) / pairs;
        let clustered = estimate.variance / units.n() as f64;
        (plain > 0.0).then(|| Self {
            clusters: units.n(),
            pairs: pairs.round() as u64,
            agreement,
            plain_error: plain.sqrt(),
            cluster_error: clustered.sqrt(),
            design_effect: clustered / plain,
        })
    }

    /// Whether the design effect is above 1 by more than chance: three times the deviation it has
    /// for independent pairs.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.design_effect > 1.0 + 3.0 * (2.0 / self.clusters as f64).sqrt()
    }

    /// How many independent pairs these are worth.
    #[must_use]
    pub fn effective_pairs(&self) -> f64 {
        self.pairs as f64 / self.design_effect.max(1.0)
    }

    /// As many matches and pairs as these are worth, at the same rate. An approximation: evidence
    /// from them is as honest as the design effect is known.
    #[must_use]
    pub fn effective(&self, matches: u64, pairs: u64) -> (u64, u64) {
        let worth = |count: u64| (count as f64 / self.design_effect.max(1.0)).floor() as u64;
        (worth(matches), worth(pairs))
    }
}

/// The fewest clusters whose variance says anything.
pub const FEWEST: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_always_come_alike_are_worth_one_each() {
        let mut units = PairMoments::new();
        for cluster in 0..200_u32 {
            // Five pairs each, all alike; one cluster in five disagrees.
            units.push(if cluster % 5 == 0 { 0.0 } else { 5.0 }, 5.0);
        }
        let clustering = Clustering::of_units(&units).unwrap();
        assert!((clustering.design_effect - 5.0).abs() < 0.1, "{clustering:?}");
        assert!(clustering.is_clear());
        assert!((clustering.effective_pairs() - 200.0).abs() < 5.0);
    }

    #[test]
    fn independent_pairs_are_not_found_to_hang_together() {
        let mut rng = crate::sim::rng::Rng::new(7);
        let mut clear = 0;
        for _ in 0..100 {
            let mut units = PairMoments::new();
            for _ in 0..200 {
                let pairs = 1 + rng.below(9);
                let matches = (0..pairs).filter(|_| rng.chance(0.9)).count();
                units.push(matches as f64, pairs as f64);
            }
            clear += u32::from(Clustering::of_units(&units).unwrap().is_clear());
        }
        // Beyond three deviations of a skewed quantity: about 1 %, five at the most.
        assert!(clear <= 5, "{clear} of 100");
    }

    #[test]
    fn few_clusters_say_nothing() {
        let mut units = PairMoments::new();
        (0..29).for_each(|_| units.push(1.0, 2.0));
        assert_eq!(Clustering::of_units(&units), None);
        assert_eq!(Clustering::of(&Clusters::default()), None);
    }
}
