//! Which disagreements are frequent, in bounded memory.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::ids::Segment;
use crate::observe::explorer::case::Case;

/// Counts of patterns, the most frequent ones kept, each with a few of its cases.
///
/// At most so many patterns are kept. One that is new takes the place of the rarest and inherits
/// its count, which is then the most by which its own is too high. So a count is never too low, and
/// every pattern that makes up more than one in so many disagreements is kept, whatever the others
/// do: a million patterns that occur once cannot push it out.
///
/// Source: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in
/// data streams", ICDT 2005 (Space-Saving).
#[derive(Debug)]
pub(crate) struct Patterns {
    most: usize,
    places: HashMap<Key, usize>,
    kept: Vec<Kept>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    segment: Segment,
    from: Box<str>,
    to: Box<str>,
}

#[derive(Debug)]
struct Kept {
    key: Key,
    count: u64,
    too_high: u64,
    /// Cases offered since the pattern is kept.
    offered: u64,
    cases: Vec<Case>,
}

/// A pattern of disagreement: what the stable model's class turned into.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pattern {
    /// The segment it was seen in.
    pub segment: Segment,
    /// The class of the baseline's answer.
    pub from: String,
    /// The class of the candidate's.
    pub to: String,
    /// How often, at the most.
    pub count: u64,
    /// By how much that may be too high.
    pub too_high: u64,
    /// A few cases, each seen with the same chance.
    pub cases: Vec<Case>,
}

impl Patterns {
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.max(1), places: HashMap::new(), kept: Vec::new() }
    }

    /// Counts a case under its pattern, and keeps it by chance (`roll`, uniform) among at most
    /// `cases` that take at most `bytes`.
    pub(crate) fn add(&mut self, case: Case, roll: u64, cases: usize, bytes: usize) {
        let at = self.count(Key {
            segment: case.facts.segment,
            from: case.from.as_str().into(),
            to: case.to.as_str().into(),
        });
        let kept = &mut self.kept[at];
        kept.offered += 1;
        keep(&mut kept.cases, case, kept.offered, roll, cases, bytes);
    }

    fn count(&mut self, key: Key) -> usize {
        if let Some(at) = self.places.get(&key).copied() {
            self.kept[at].count += 1;
            return at;
        }
        let fresh = |key, count| Kept {
            key,
            count: count + 1,
            too_high: count,
            offered: 0,
            cases: Vec::new(),
        };
        if self.kept.len() < self.most {
            self.places.insert(key.clone(), self.kept.len());
            self.kept.push(fresh(key, 0));
            return self.kept.len() - 1;
        }
        let rarest = (0..self.kept.len()).min_by_key(|at| self.kept[*at].count).unwrap_or(0);
        self.places.remove(&self.kept[rarest].key);
        self.places.insert(key.clone(), rarest);
        self.kept[rarest] = fresh(key, self.kept[rarest].count);
        rarest
    }

    /// Those kept, the most frequent first.
    pub(crate) fn top(&self) -> Vec<Pattern> {
        let mut top: Vec<Pattern> = (self.kept.iter())
            .map(|kept| Pattern {
                segment: kept.key.segment,
                from: kept.key.from.to_string(),
                to: kept.key.to.to_string(),
                count: kept.count,
                too_high: kept.too_high,
                cases: kept.cases.clone(),
            })
            .collect();
        top.sort_by(|x, y| {
            let place = |p: &Pattern| (p.segment, p.from.clone(), p.to.clone());
            y.count.cmp(&x.count).then_with(|| place(x).cmp(&place(y)))
        });
        top
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = &Case> {
        self.kept.iter().flat_map(|kept| &kept.cases)
    }

    pub(crate) fn cases_mut(&mut self) -> impl Iterator<Item = &mut Case> {
        self.kept.iter_mut().flat_map(|kept| &mut kept.cases)
    }

    pub(crate) fn bytes(&self) -> usize {
        let of = |kept: &Kept| {
            let names = 2 * (kept.key.from.len() + kept.key.to.len() + size_of::<Key>());
            size_of::<Kept>() + names + kept.cases.iter().map(Case::bytes).sum::<usize>()
        };
        self.kept.iter().map(of).sum()
    }
}

/// Keeps the `offered`th case among at most `most`, so that each is kept with the same chance.
/// Source: J. Vitter, ACM Transactions on Mathematical Software 11 (1985), algorithm R.
pub(crate) fn keep(
    cases: &mut Vec<Case>,
    case: Case,
    offered: u64,
    roll: u64,
    most: usize,
    bytes: usize,
) {
    if case.bytes() > bytes / most.max(1) {
        return;
    }
    if cases.len() < most {
        cases.push(case);
    } else {
        // The upper half of a product is uniform below `offered`.
        let place = (u128::from(roll) * u128::from(offered)) >> 64;
        if let Some(old) = usize::try_from(place).ok().and_then(|place| cases.get_mut(place)) {
            *old = case;
        }
    }
}
