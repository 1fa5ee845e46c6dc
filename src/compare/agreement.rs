//! Agreement beyond chance, for answers that are classes.
//!
//! Two models that both say "fine" to nine requests in ten agree on four in five even if neither
//! looks at the request. Cohen's kappa takes out what such models would agree on by chance: 1 is
//! full agreement, 0 no more than chance, below 0 less.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// The most classes counted one by one.
pub const MOST_CLASSES: usize = 256;
/// The most bytes of a class's name that are kept.
pub const MOST_NAME: usize = 64;

/// How often each model gave each class, and how often both gave the same.
///
/// Memory: at most [`MOST_CLASSES`] names of [`MOST_NAME`] bytes. The classes that came first are
/// counted; later ones are lumped together, which makes the agreement expected by chance look
/// larger and so kappa smaller than it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Classes {
    counts: HashMap<String, Marginal>,
    lumped: Marginal,
    pairs: u64,
    same: u64,
}

/// How often the baseline and the candidate gave a class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct Marginal {
    baseline: u64,
    candidate: u64,
}

/// What kappa says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kappa {
    /// A value.
    Known {
        /// From -1 to 1.
        kappa: f64,
        /// Its standard error, taking the chance agreement as known (Cohen 1960). It is no
        /// evidence of its own: valid for one look, and for independent pairs.
        error: f64,
        /// The part of pairs that agree.
        observed: f64,
        /// The part that would by chance.
        expected: f64,
    },
    /// Both models gave one and the same class to everything: they agree, and there is nothing to
    /// agree beyond. No number is right here, neither 0 nor 1.
    OneClass {
        /// How many pairs.
        pairs: u64,
    },
    /// No pairs yet.
    NoPairs,
}

impl Classes {
    /// Counts a pair of answers, by their classes' names.
    pub fn add(&mut self, baseline: &str, candidate: &str) {
        self.pairs += 1;
        self.same += u64::from(baseline == candidate);
        self.marginal(baseline).baseline += 1;
        self.marginal(candidate).candidate += 1;
    }

    fn marginal(&mut self, class: &str) -> &mut Marginal {
        let name = cut(class, MOST_NAME);
        if !self.counts.contains_key(name) {
            if self.counts.len() >= MOST_CLASSES {
                return &mut self.lumped;
            }
            self.counts.insert(name.to_owned(), Marginal::default());
        }
        self.counts.get_mut(name).unwrap_or(&mut self.lumped)
    }

    /// Pairs counted.
    #[must_use]
    pub const fn pairs(&self) -> u64 {
        self.pairs
    }

    /// Answers of either model that were of a class beyond [`MOST_CLASSES`].
    #[must_use]
    pub const fn lumped(&self) -> u64 {
        self.lumped.baseline.saturating_add(self.lumped.candidate)
    }

    /// Cohen's kappa. Source: J. Cohen, Educational and Psychological Measurement 20 (1960).
    #[must_use]
    pub fn kappa(&self) -> Kappa {
        if self.pairs == 0 {
            return Kappa::NoPairs;
        }
        let pairs = self.pairs as f64;
        let parts = self.counts.values().chain([&self.lumped]);
        let mut products: Vec<f64> = parts
            .map(|count| (count.baseline as f64 / pairs) * (count.candidate as f64 / pairs))
            .collect();
        // In a fixed order, since a map's is not: the same counts, the same bits.
        products.sort_unstable_by(f64::total_cmp);
        let expected: f64 = products.iter().sum();
        let only = |count: &Marginal| (count.baseline, count.candidate) == (self.pairs, self.pairs);
        if self.counts.values().any(only) {
            return Kappa::OneClass { pairs: self.pairs };
        }
        let observed = self.same as f64 / pairs;
        let room = 1.0 - expected;
        if room <= 0.0 {
            return Kappa::OneClass { pairs: self.pairs };
        }
        let kappa = (observed - expected) / room;
        let error = (observed * (1.0 - observed) / pairs).sqrt() / room;
        Kappa::Known { kappa, error, observed, expected }
    }
}

/// The beginning of `text`, at most `bytes` long and never within a character.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: &[(&str, &str, u64)]) -> Classes {
        let mut classes = Classes::default();
        for (baseline, candidate, times) in counts {
            (0..*times).for_each(|_| classes.add(baseline, candidate));
        }
        classes
    }

    #[test]
    fn a_known_table_has_its_kappa() {
        // 20 and 15 of 50 agree; chance alone gives (25 · 30 + 25 · 20) / 50² = 0.5.
        let classes = of(&[("y", "y", 20), ("y", "n", 5), ("n", "y", 10), ("n", "n", 15)]);
        let Kappa::Known { kappa, expected, observed, .. } = classes.kappa() else {
            panic!("{classes:?}")
        };
        assert!((kappa - 0.4).abs() < 1e-12 && (expected - 0.5).abs() < 1e-12);
        assert!((observed - 0.7).abs() < 1e-12);
    }

    #[test]
    fn agreement_on_the_common_class_is_no_agreement() {
        let classes =
            of(&[("fine", "fine", 81), ("fine", "bad", 9), ("bad", "fine", 9), ("bad", "bad", 1)]);
        let Kappa::Known { kappa, observed, .. } = classes.kappa() else { panic!("{classes:?}") };
        assert!(observed > 0.8 && kappa.abs() < 1e-9, "{kappa}");
    }

    #[test]
    fn one_class_alone_has_no_kappa() {
        assert_eq!(of(&[]).kappa(), Kappa::NoPairs);
        assert_eq!(of(&[("a", "a", 9)]).kappa(), Kappa::OneClass { pairs: 9 });
        let constant = of(&[("a", "b", 9)]).kappa();
        assert!(matches!(constant, Kappa::Known { kappa, .. } if kappa == 0.0), "{constant:?}");
    }

    #[test]
    fn a_million_classes_take_the_memory_of_a_few() {
        let mut classes = Classes::default();
        for number in 0..100_000 {
            let name = format!("{number:0>100}");
            classes.add(&name, &name);
        }
        assert_eq!(classes.counts.len(), 1); // names are cut, and these begin alike
        for number in 0..100_000 {
            classes.add(&number.to_string(), "same");
        }
        assert_eq!(classes.counts.len(), MOST_CLASSES);
        assert!(classes.lumped() > 90_000);
        assert!(matches!(classes.kappa(), Kappa::Known { .. }));
    }
}
