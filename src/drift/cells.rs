//! A feature's values, sorted into a few cells that are chosen once.
//!
//! Everything drift is measured by is counted in cells: constant memory, exact addition, and no
//! value of a user's ever kept. Cell 0 is *missing*, 1 is *of the wrong kind or not finite*; numbers
//! then have *below the reference's range*, the bins, *above it*; categories have *unseen*, the
//! frequent ones, *all others*. A bin holds its upper edge and not its lower one, so a value that
//! many rows share has a bin of its own.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::drift::value::{Kind, Value};

/// Cell of values that are not there.
pub(crate) const MISSING: usize = 0;
/// Cell of values of the wrong kind, and of infinities.
pub(crate) const INVALID: usize = 1;
/// Cell of numbers below the range, or of categories never seen.
pub(crate) const BELOW_OR_UNSEEN: usize = 2;
/// The first of the cells that the reference's own values are in.
pub(crate) const FIRST: usize = 3;

/// The most bins a feature of numbers has.
pub const MAX_BINS: usize = 10;
/// The most categories that are counted by name.
pub const MAX_CATEGORIES: usize = 20;
/// The most bytes of a category's name that are kept; what is longer is told apart by its hash.
pub const MAX_CATEGORY_NAME: usize = 48;

/// A number beyond the range counts as so many widths of it at the most: one wild value must not
/// outweigh all others.
pub(crate) const MOST_WIDTHS: f64 = 16.0;

/// Which values belong to which cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cells {
    /// Edges, rising; the first is just below the least value, the last is the greatest.
    Numeric {
        #[serde(with = "crate::drift::exact::list")]
        edges: Vec<f64>,
    },
    /// The frequent categories, and a filter that knows the rest.
    Categorical { frequent: Vec<Category>, known: Filter },
}

/// A category that is counted by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Category {
    pub(crate) key: u64,
    pub(crate) name: String,
}

impl Cells {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Numeric { .. } => Kind::Numeric,
            Self::Categorical { .. } => Kind::Categorical,
        }
    }

    /// How many cells there are, the special ones included.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numeric { edges } => FIRST + edges.len(),
            Self::Categorical { frequent, .. } => FIRST + frequent.len() + 1,
        }
    }

    /// The cells the reference's own values are in.
    pub(crate) fn inside(&self) -> std::ops::Range<usize> {
        match self {
            Self::Numeric { edges } => FIRST..FIRST + edges.len().saturating_sub(1),
            Self::Categorical { frequent, .. } => FIRST..FIRST + frequent.len() + 1,
        }
    }

    /// The cell above the range, for numbers.
    pub(crate) fn above(&self) -> Option<usize> {
        match self {
            Self::Numeric { .. } => Some(self.len() - 1),
            Self::Categorical { .. } => None,
        }
    }

    /// The cell of `value`. Reads only; a dozen comparisons or one short hash.
    #[inline]
    pub(crate) fn of(&self, value: Value<'_>) -> usize {
        match (self, value) {
            (_, Value::Missing) | (_, Value::Category("")) => MISSING,
            (_, Value::Number(number)) if number.is_nan() => MISSING,
            (Self::Numeric { edges }, Value::Number(number)) if number.is_finite() => {
                BELOW_OR_UNSEEN + edges.partition_point(|edge| *edge < number)
            }
            (Self::Categorical { frequent, known }, Value::Category(name)) => {
                let key = key_of(name);
                match frequent.binary_search_by_key(&key, |category| category.key) {
                    Ok(at) => FIRST + at,
                    Err(_) if known.has(key) => FIRST + frequent.len(),
                    Err(_) => BELOW_OR_UNSEEN,
                }
            }
            _ => INVALID,
        }
    }

    /// By how many widths of the range `number` lies beyond it, at most [`MOST_WIDTHS`].
    pub(crate) fn beyond(&self, number: f64) -> f64 {
        let Self::Numeric { edges } = self else { return 0.0 };
        let (Some(low), Some(high)) = (edges.first(), edges.last()) else { return 0.0 };
        let off = if number > *high { number - high } else { low - number };
        (off.max(0.0) / self.width()).min(MOST_WIDTHS)
    }

    /// The width of the range of numbers; of a constant, its size, so that distances keep a meaning.
    pub(crate) fn width(&self) -> f64 {
        let Self::Numeric { edges } = self else { return 1.0 };
        let (Some(low), Some(high)) = (edges.first(), edges.last()) else { return 1.0 };
        let constant = next_up(*low) >= *high;
        let width = if constant { high.abs() } else { high - low };
        if width > 0.0 && width.is_finite() { width } else { 1.0 }
    }

    /// What people call a cell.
    pub(crate) fn name(&self, cell: usize) -> String {
        match (self, cell) {
            (_, MISSING) => "missing".to_owned(),
            (_, INVALID) => "invalid".to_owned(),
            (Self::Numeric { edges }, BELOW_OR_UNSEEN) => {
                format!("below {}", short(edges.first().copied().unwrap_or(f64::NAN)))
            }
            (Self::Numeric { edges }, cell) => {
                let at = cell - FIRST;
                match (edges.get(at), edges.get(at + 1)) {
                    (Some(low), Some(high)) if next_down(*high) <= *low => short(*high),
                    (Some(low), Some(high)) if at == 0 => {
                        format!("{} to {}", short(next_up(*low)), short(*high))
                    }
                    (Some(low), Some(high)) => format!("{} to {}", short(*low), short(*high)),
                    (Some(high), None) => format!("above {}", short(*high)),
                    _ => "?".to_owned(),
                }
            }
            (Self::Categorical { .. }, BELOW_OR_UNSEEN) => "unseen".to_owned(),
            (Self::Categorical { frequent, .. }, cell) => {
                frequent.get(cell - FIRST).map_or_else(|| "others".to_owned(), |at| at.name.clone())
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Numeric { edges } => edges.capacity() * size_of::<f64>(),
            Self::Categorical { frequent, known } => {
                let names: usize = frequent.iter().map(|at| at.name.capacity()).sum();
                frequent.capacity() * size_of::<Category>() + names + known.memory_bytes()
            }
        }
    }
}

/// A category's key.
pub(crate) fn key_of(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// A category's name as it is kept: short, and safe in a log line.
pub(crate) fn kept_name(name: &str) -> String {
    let mut kept = String::new();
    for letter in name.chars().map(|letter| if letter.is_control() { '?' } else { letter }) {
        if kept.len() + letter.len_utf8() > MAX_CATEGORY_NAME {
            kept.push('…');
            break;
        }
        kept.push(letter);
    }
    kept
}

fn short(number: f64) -> String {
    if number != 0.0 && !(1e-3..1e6).contains(&number.abs()) {
        return format!("{number:.3e}");
    }
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The greatest number below `x`. (`f64::next_down` is younger than the oldest compiler we support.)
pub(crate) fn next_down(x: f64) -> f64 {
    -next_up(-x)
}

/// The least number above `x`.
pub(crate) fn next_up(x: f64) -> f64 {
    if x == 0.0 {
        f64::from_bits(1)
    } else if x > 0.0 {
        f64::from_bits(x.to_bits() + 1).min(f64::MAX)
    } else {
        f64::from_bits(x.to_bits() - 1)
    }
}

/// Remembers which keys it was given, in 4 KiB whatever their number: a Bloom filter.
///
/// Beyond [`Filter::CAPACITY`] keys it would take strangers for friends more than once in a hundred
/// times, so it then says that it knows everybody: a feature with so many categories has no unseen
/// ones, only others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Filter {
    bits: Vec<u64>,
    keys: u32,
}

impl Filter {
    const WORDS: usize = 512;
    /// 32,768 bits at four a key: one false friend in 110 at this number.
    pub(crate) const CAPACITY: u32 = 3_000;

    pub(crate) fn new() -> Self {
        Self { bits: vec![0; Self::WORDS], keys: 0 }
    }

    /// Notes a key; whether it was new.
    pub(crate) fn insert(&mut self, key: u64) -> bool {
        if self.has(key) {
            return false;
        }
        self.keys += 1;
        if self.is_full() {
            self.bits = Vec::new();
        } else {
            for at in places(key) {
                self.bits[at / 64] |= 1 << (at % 64);
            }
        }
        true
    }

    #[inline]
    pub(crate) fn has(&self, key: u64) -> bool {
        places(key)
            .into_iter()
            .all(|at| self.bits.get(at / 64).is_none_or(|word| word >> (at % 64) & 1 == 1))
    }

    /// Whether it has given up telling strangers from friends.
    pub(crate) fn is_full(&self) -> bool {
        self.keys > Self::CAPACITY
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.bits.len() == if self.is_full() { 0 } else { Self::WORDS }
    }

    fn memory_bytes(&self) -> usize {
        self.bits.capacity() * size_of::<u64>()
    }
}

/// Four places of a key among 32,768.
#[inline]
fn places(key: u64) -> [usize; 4] {
    [0, 15, 30, 45].map(|shift| (key >> shift) as usize & 0x7fff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric() -> Cells {
        Cells::Numeric { edges: vec![next_down(1.0), 1.0, 2.0, 4.0] }
    }

    #[test]
    fn a_value_at_an_edge_is_in_the_bin_below_it() {
        let cells = numeric();
        let of = |number| cells.of(Value::Number(number));
        assert_eq!([0.99, 1.0, 1.01, 2.0, 2.01, 4.0, 4.01].map(of), [2, 3, 4, 4, 5, 5, 6]);
        assert_eq!(cells.inside(), 3..6);
        assert_eq!((cells.len(), cells.above()), (7, Some(6)));
        let names = [2, 3, 4, 6].map(|cell| cells.name(cell));
        assert_eq!(names, ["below 1", "1", "1 to 2", "above 4"]);
    }

    #[test]
    fn what_is_no_number_has_cells_of_its_own() {
        let cells = numeric();
        assert_eq!(cells.of(Value::Number(f64::NAN)), MISSING);
        assert_eq!(cells.of(Value::Missing), MISSING);
        assert_eq!(cells.of(Value::Number(f64::INFINITY)), INVALID);
        assert_eq!(cells.of(Value::Category("one")), INVALID);
    }

    #[test]
    fn neighbours_of_a_number_are_one_step_away() {
        for x in [0.0, -0.0, 1.0, -1.0, 1e-310, -1e-310, 1e300] {
            assert!(next_down(x) < x && x < next_up(x), "{x}");
        }
        assert_eq!(next_up(next_down(1.5)), 1.5);
    }

    #[test]
    fn a_filter_knows_its_keys_and_few_strangers_until_it_is_full() {
        let mut filter = Filter::new();
        let key = |at: u32| key_of(&format!("category {at}"));
        (0..Filter::CAPACITY).for_each(|at| assert!(filter.insert(key(at)) || filter.has(key(at))));
        assert!((0..Filter::CAPACITY).all(|at| filter.has(key(at))));
        let strangers = (10_000..20_000).filter(|at| filter.has(key(*at))).count();
        assert!(strangers < 200, "{strangers}");
        (20_000..60_000).for_each(|at| assert!(filter.insert(key(at)) || filter.has(key(at))));
        assert!(filter.is_full() && filter.has(key(5_000_000)) && filter.is_sound());
    }

    #[test]
    fn a_long_name_is_kept_short_and_without_control_characters() {
        let kept = kept_name(&"ä\n".repeat(40));
        assert!(kept.len() <= MAX_CATEGORY_NAME + '…'.len_utf8() && !kept.contains('\n'), "{kept}");
    }
}
