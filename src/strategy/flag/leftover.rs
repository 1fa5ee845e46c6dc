//! What a promotion leaves to do.

use std::collections::BTreeSet;
use std::fmt;

use super::spec::FlagSpec;
use crate::share::TrafficShare;

/// What a promotion leaves to do. Its text says it to people.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Leftover {
    /// The flag that has done its work: archive it, then remove it.
    pub flag: String,
    /// The variant that everybody gets now.
    pub promoted: String,
    /// The variant the kill switch still leads to; its model must stay warm until
    /// [`Draft::retire_off`](super::Draft::retire_off).
    pub fallback: String,
    /// Variants that nobody gets any more.
    pub unused_variants: Vec<String>,
    /// How many denied subjects were forgotten.
    pub denied: usize,
    /// How many allowed subjects were forgotten.
    pub allowed: usize,
    /// Segments that no longer matter.
    pub segments: BTreeSet<String>,
    /// How many rules were dropped.
    pub rules: usize,
    /// The share that was in force.
    pub share: Option<TrafficShare>,
    /// The limit that was in force.
    pub limit: TrafficShare,
}

impl Leftover {
    pub(super) fn of(spec: &FlagSpec, promoted: &str) -> Self {
        let unused = |name: &&String| **name != promoted && **name != spec.off;
        Self {
            flag: spec.name.clone(),
            promoted: promoted.to_owned(),
            fallback: spec.off.clone(),
            unused_variants: spec
                .variants
                .iter()
                .map(|v| &v.name)
                .filter(unused)
                .cloned()
                .collect(),
            denied: spec.deny.len(),
            allowed: spec.allow.len(),
            segments: spec.segments.clone(),
            rules: spec.rules.len(),
            share: spec.share,
            limit: spec.limit,
        }
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flag, promoted, fallback, .. } = self;
        write!(
            f,
            "{flag} now answers {promoted} to everybody; dropped {} denied and {} allowed \
             subjects, {} segments, {} rules",
            self.denied,
            self.allowed,
            self.segments.len(),
            self.rules
        )?;
        if let Some(share) = self.share {
            write!(f, ", a share of {share}")?;
        }
        write!(
            f,
            "; left to do: keep {fallback} warm or retire it, take {flag} out of the code, \
             archive it, remove it"
        )
    }
}
