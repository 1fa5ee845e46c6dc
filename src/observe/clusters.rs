//! Pairs by who they came from.
//!
//! Requests of one subject, and files of one package, are alike: a model that is wrong about one is
//! likely wrong about the next. So a thousand of them may say no more than a hundred, and how much
//! less is measured here. Clusters fall into [`BUCKETS`] by a hash; whatever one cluster does stays
//! in its bucket, so the variance between buckets is honest however the pairs within hang together,
//! and memory is fixed.

use serde::{Deserialize, Serialize};

use crate::stats::moments::PairMoments;

/// How many buckets.
pub const BUCKETS: usize = 1_024;

/// Pairs and matches of each bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clusters {
    buckets: Vec<(u64, u64)>,
}

impl Clusters {
    /// Counts a pair of the cluster with this hash.
    pub fn add(&mut self, hash: u64, matched: bool) {
        if self.buckets.is_empty() {
            self.buckets = vec![(0, 0); BUCKETS];
        }
        // The upper bits: the lower ones may have chosen the sample.
        let at = (hash >> (u64::BITS - BUCKETS.trailing_zeros())) as usize;
        let bucket = &mut self.buckets[at];
        bucket.0 += 1;
        bucket.1 += u64::from(matched);
    }

    /// Buckets with pairs.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.buckets.iter().filter(|(pairs, _)| *pairs > 0).count()
    }

    /// Matches (first) and pairs of each bucket that has any, as units of a ratio.
    #[must_use]
    pub fn units(&self) -> PairMoments {
        let mut units = PairMoments::new();
        for (pairs, matches) in self.buckets.iter().filter(|(pairs, _)| *pairs > 0) {
            units.push(*matches as f64, *pairs as f64);
        }
        units
    }
}
