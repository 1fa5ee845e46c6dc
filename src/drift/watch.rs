//! One feature, watched request by request.
//!
//! Every question about a feature is one rate that may rise: the part of rows without a value, the
//! part of values out of range or never seen, the part at or below each bin's edge, the part of each
//! category, and the same for what is left. Each gets a bank of the detector of
//! [`crate::drift::detector`]; the weighted mean of their evidence is the feature's.
//!
//! The reference is a finite sample, so the true rate before the change is not known. Each question's
//! null is therefore the upper confidence bound of its rate in the reference. All bounds of all
//! features hold together with probability `1 − doubt`, and the threshold is raised by one over that: the
//! mean time between false alarms is then at least the stated one over references too, however small
//! they are. What a small reference costs is sight: a move inside its own uncertainty is not seen.

use serde::{Deserialize, Serialize};

use crate::drift::cells::{BELOW_OR_UNSEEN, FIRST, INVALID, MISSING};
use crate::drift::detector::{ALTERNATIVES, RateBank};
use crate::drift::population::FeatureCounts;
use crate::drift::reference::FeatureReference;
use crate::drift::value::Kind;
use crate::drift::verdict::Aspect;
use crate::stats::incomplete::beta_quantile;

/// The probability that some bound of the reference does not hold.
pub(crate) const DOUBT: f64 = 0.05;

/// How much of a feature's evidence each aspect has.
const OF_MISSING: f64 = 0.15;
const OF_OUTSIDE: f64 = 0.25;
const OF_VALUES: f64 = 0.6;

/// Evidence that one feature moved since some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FeatureWatch {
    questions: Vec<Question>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Question {
    aspect: Aspect,
    weight: f64,
    hits: Hits,
    bank: RateBank,
}

/// What counts as a hit, of what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Hits {
    /// No value, of rows.
    Missing,
    /// A value, of rows.
    Present,
    /// Out of range, unseen or invalid, of values.
    Outside,
    /// Cells `from..to` among those of the reference's own values (below belongs to the first bin,
    /// above to the last); with `rest` all others.
    Cells { from: u16, to: u16, rest: bool },
}

impl FeatureWatch {
    /// A watch that has seen nothing, where `features` are watched in all.
    pub(crate) fn new(feature: &FeatureReference, features: usize) -> Self {
        let asked = Self::asked(feature);
        let doubt = DOUBT / (features.max(1) * asked.len().max(1)) as f64;
        let values = asked.iter().filter(|(aspect, _)| *aspect == Aspect::Values).count().max(1);
        let questions = asked.iter().map(|&(aspect, hits)| {
            let weight = match aspect {
                Aspect::Missing => OF_MISSING / 2.0,
                Aspect::Range | Aspect::Unseen => OF_OUTSIDE,
                Aspect::Values => OF_VALUES / values as f64,
            };
            let effect = match aspect {
                Aspect::Missing => feature.gathered.missing_design_effect,
                _ => feature.gathered.design_effect,
            };
            let (hit, of) = match hits {
                // How often a category is new is known from how often one was.
                Hits::Outside if feature.kind() == Kind::Categorical => {
                    let (novel, since) = feature.gathered.novel;
                    let invalid = feature.gathered.counts[INVALID];
                    (novel + invalid, since + invalid)
                }
                // The range is that of the sample: what lies beyond it is two of n + 1 gaps.
                Hits::Outside => {
                    let (hits, of) = hits.count(feature, &feature.gathered.counts);
                    (hits + 1, of)
                }
                hits => hits.count(feature, &feature.gathered.counts),
            };
            let bound = upper_bound(hit as f64 / effect, of as f64 / effect, doubt);
            Question { aspect, weight, hits, bank: RateBank::new(bound, effect) }
        });
        Self { questions: questions.collect() }
    }

    fn asked(feature: &FeatureReference) -> Vec<(Aspect, Hits)> {
        let outside = match feature.kind() {
            Kind::Numeric => Aspect::Range,
            Kind::Categorical => Aspect::Unseen,
        };
        let mut asked = vec![
            (Aspect::Missing, Hits::Missing),
            (Aspect::Missing, Hits::Present),
            (outside, Hits::Outside),
        ];
        let cells = feature.gathered.cells.inside().len() as u16;
        let mut ask = |from, to, rest| {
            asked.push((Aspect::Values, Hits::Cells { from, to, rest }));
        };
        for cell in 0..cells {
            match feature.kind() {
                // Numbers: more low ones, more high ones, more in one place.
                Kind::Numeric => {
                    if cell + 1 < cells {
                        ask(0, cell + 1, false);
                        ask(0, cell + 1, true);
                    }
                    if cell > 0 && cell + 1 < cells {
                        ask(cell, cell + 1, false);
                    }
                }
                // Categories: more of each, less of each; of two, less of one is more of the other.
                Kind::Categorical if cells > 1 => {
                    ask(cell, cell + 1, false);
                    if cells > 2 {
                        ask(cell, cell + 1, true);
                    }
                }
                Kind::Categorical => {}
            }
        }
        asked
    }

    /// Takes in a batch of `rows`.
    pub(crate) fn push(&mut self, feature: &FeatureReference, counts: &FeatureCounts, rows: u64) {
        let cells = counts.of_rows(rows);
        for question in &mut self.questions {
            let (hits, of) = question.hits.count(feature, &cells);
            question.bank.push(hits, of);
        }
    }

    /// Evidence on the scale of requests: before a change it averages at most the requests seen.
    pub(crate) fn evidence(&self) -> f64 {
        self.questions.iter().map(|question| question.weight * question.bank.evidence()).sum()
    }

    /// The aspect that has most of the evidence.
    pub(crate) fn aspect(&self) -> Aspect {
        let sum = |aspect: Aspect| {
            let own = self.questions.iter().filter(|question| question.aspect == aspect);
            own.map(|question| question.weight * question.bank.evidence()).sum::<f64>()
        };
        let all = [Aspect::Missing, Aspect::Range, Aspect::Unseen, Aspect::Values];
        let mut best = (Aspect::Values, -1.0);
        for aspect in all {
            if sum(aspect) > best.1 {
                best = (aspect, sum(aspect));
            }
        }
        best.0
    }

    /// All that is not a setting, for a state that is stored.
    pub(crate) fn words(&self) -> Vec<u64> {
        self.questions.iter().flat_map(|question| question.bank.words()).collect()
    }

    /// Goes on from what [`Self::words`] gave; `None` where that cannot be.
    pub(crate) fn set_words(&mut self, words: &[u64]) -> Option<()> {
        if words.len() != self.questions.len() * ALTERNATIVES {
            return None;
        }
        let mut places = self.questions.iter_mut().zip(words.chunks(ALTERNATIVES));
        places.try_for_each(|(question, words)| question.bank.set_words(words))
    }

    pub(crate) fn clear(&mut self) {
        self.questions.iter_mut().for_each(|question| question.bank.clear());
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.questions.capacity() * size_of::<Question>()
    }
}

impl Hits {
    /// How many hits there are in `cells`, of how many.
    fn count(self, feature: &FeatureReference, cells: &[u64]) -> (u64, u64) {
        let values: u64 = cells[BELOW_OR_UNSEEN..].iter().sum();
        let above = feature.gathered.cells.above();
        let present = values + cells[INVALID];
        let outside = cells[BELOW_OR_UNSEEN] + above.map_or(0, |above| cells[above]);
        match self {
            Self::Missing => (cells[MISSING], cells[MISSING] + present),
            Self::Present => (present, cells[MISSING] + present),
            Self::Outside => (outside + cells[INVALID], present),
            Self::Cells { from, to, rest } => {
                let last = feature.gathered.cells.inside().len() as u16;
                let inside = FIRST + usize::from(from)..FIRST + usize::from(to);
                let mut hits: u64 = cells[inside].iter().sum();
                let numeric = above.is_some();
                if numeric && from == 0 {
                    hits += cells[BELOW_OR_UNSEEN];
                }
                if let (Some(above), true) = (above, to == last) {
                    hits += cells[above];
                }
                // Unseen categories are asked for on their own.
                let of = if numeric { values } else { values - cells[BELOW_OR_UNSEEN] };
                (if rest { of - hits } else { hits }, of)
            }
        }
    }
}

/// The upper bound of a rate, at level `doubt`, by Clopper and Pearson; 1 where nothing was seen.
pub(crate) fn upper_bound(hits: f64, of: f64, doubt: f64) -> f64 {
    if of <= hits || of <= 0.0 {
        return 1.0;
    }
    beta_quantile(hits + 1.0, of - hits, 1.0 - doubt).x
}
