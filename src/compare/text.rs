//! Texts.

use std::collections::HashSet;

use crate::compare::comparator::{Comparator, Exact, Incomparable};
use crate::compare::edit::distance;

/// The longest text that is compared, in bytes.
pub const MOST_BYTES: usize = 1 << 22;

/// How much work an edit distance may be: steps of 64 cells, a few nanoseconds each. This is two
/// texts of 32,000 characters, or one of 1,000,000 beside one of 1,000.
pub const MOST_STEPS: u64 = 1 << 24;

/// The words that both texts have, over the words that either has (Jaccard): 1 is the same words,
/// in any order and number; 0 is no word in common. Words are runs of letters and digits. Two texts
/// without words are the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenJaccard;

impl<T: AsRef<str> + ?Sized> Comparator<T> for TokenJaccard {
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable> {
        let (a, b) = both(baseline, candidate)?;
        let words = |text| -> HashSet<&str> { words(text).collect() };
        let (a, b) = (words(a), words(b));
        let shared = a.intersection(&b).count();
        let either = a.len() + b.len() - shared;
        Ok(if either == 0 { 1.0 } else { shared as f64 / either as f64 })
    }
}

/// One minus the edit distance (Levenshtein) over the longer text's number of characters: 1 is the
/// same text, 0 shares no character in order. Pairs that would take more than [`MOST_STEPS`] are
/// too large.
#[derive(Clone, Copy, Debug, Default)]
pub struct EditDistance;

impl<T: AsRef<str> + ?Sized> Comparator<T> for EditDistance {
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable> {
        let (a, b) = both(baseline, candidate)?;
        let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
        let longer = a.len().max(b.len());
        if longer == 0 {
            return Ok(1.0);
        }
        let apart = distance(&a, &b, MOST_STEPS).ok_or(Incomparable::TooLarge)?;
        Ok(1.0 - apart as f64 / longer as f64)
    }
}

/// Compares texts in lower case, with every run of spaces as one and none at the ends. 0 and 1 mean
/// what they mean to the comparator within; [`Exact`] by default.
///
/// Letters are compared as they are encoded: a composed `é` is not a decomposed one.
///
/// ```
/// use pilotage::compare::comparator::Comparator;
/// use pilotage::compare::text::{EditDistance, Normalised};
///
/// let same: Normalised = Normalised::default();
/// assert_eq!(same.compare("  The quick\nFOX", "the Quick fox "), Ok(1.0));
/// let near = Normalised::new(EditDistance);
/// assert_eq!(near.compare("Flow", " flaw"), Ok(0.75));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Normalised<C = Exact>(C);

impl<C> Normalised<C> {
    /// Compares normalised texts by `comparator`.
    pub const fn new(comparator: C) -> Self {
        Self(comparator)
    }
}

impl<T: AsRef<str> + ?Sized, C: Comparator<str>> Comparator<T> for Normalised<C> {
    fn compare(&self, baseline: &T, candidate: &T) -> Result<f64, Incomparable> {
        let (a, b) = both(baseline, candidate)?;
        let normal = |text: &str| {
            let mut normal = String::with_capacity(text.len());
            for word in text.split_whitespace() {
                if !normal.is_empty() {
                    normal.push(' ');
                }
                normal.extend(word.chars().flat_map(char::to_lowercase));
            }
            normal
        };
        self.0.compare(&normal(a), &normal(b))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn both<'a, T: AsRef<str> + ?Sized>(
    baseline: &'a T,
    candidate: &'a T,
) -> Result<(&'a str, &'a str), Incomparable> {
    let (a, b) = (baseline.as_ref(), candidate.as_ref());
    if a.len().max(b.len()) > MOST_BYTES { Err(Incomparable::TooLarge) } else { Ok((a, b)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_once_in_any_order() {
        assert_eq!(TokenJaccard.compare("to be or not to be", "not to be, or be"), Ok(1.0));
        assert_eq!(TokenJaccard.compare("red car", "red bus"), Ok(1.0 / 3.0));
        assert_eq!(TokenJaccard.compare("", "..."), Ok(1.0));
        assert_eq!(TokenJaccard.compare("a", ""), Ok(0.0));
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        assert_eq!(EditDistance.compare("größe", "große"), Ok(0.8));
        assert_eq!(EditDistance.compare("kitten", "sitting"), Ok(1.0 - 3.0 / 7.0));
        assert_eq!(EditDistance.compare("", ""), Ok(1.0));
        assert_eq!(EditDistance.compare(&String::new(), &"abc".to_owned()), Ok(0.0));
    }

    #[test]
    fn texts_of_megabytes_are_refused_or_quick() {
        let (a, b) = ("a".repeat(MOST_BYTES), "b".repeat(MOST_BYTES));
        assert_eq!(EditDistance.compare(&a, &b), Err(Incomparable::TooLarge));
        assert_eq!(EditDistance.compare(&a, &a), Ok(1.0));
        assert_eq!(TokenJaccard.compare(&a, &b), Ok(0.0));
        let more = "a".repeat(MOST_BYTES + 1);
        assert_eq!(TokenJaccard.compare(&more, &a), Err(Incomparable::TooLarge));
    }
}
