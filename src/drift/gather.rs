//! How a reference gets to know one feature, row by row, in bounded memory.
//!
//! Bins must be chosen before values can be counted in them. So the first [`WARM_UP`] numbers are
//! kept, some hundred narrow bins are laid over them and over what lies beside them, and everything
//! is counted exactly in those; at the end neighbours are put together until ten are left. The
//! counts are exact, whatever the bins.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::drift::cells::{
    Category, Cells, FIRST, Filter, INVALID, MAX_BINS, MAX_CATEGORIES, MISSING, kept_name, key_of,
    next_down,
};
use crate::drift::dependence::Blocks;
use crate::drift::value::{Kind, Value};

/// Numbers that are kept until the narrow bins are laid.
const WARM_UP: usize = 1_024;
/// Narrow bins over the range of the first numbers.
const NARROW: usize = 64;
/// Further edges on both sides of it, in widths of that range.
const BESIDE: [f64; 14] =
    [0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Categories that are counted one by one, the first that come.
const TRACKED: usize = 128;

/// What is known of one feature so far.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    rows: u64,
    missing: u64,
    invalid: u64,
    missing_blocks: Blocks,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Numeric(Box<Numbers>),
    Categorical(Box<Categories>),
}

/// What a feature was like, once all rows are in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gathered {
    pub(crate) cells: Cells,
    /// By cell.
    pub(crate) counts: Vec<u64>,
    /// Of the values, and of their being missing.
    #[serde(with = "crate::drift::exact")]
    pub(crate) design_effect: f64,
    #[serde(with = "crate::drift::exact")]
    pub(crate) missing_design_effect: f64,
    /// Categories that were new, of how many rows, in the latter part of the reference.
    pub(crate) novel: (u64, u64),
    /// Mean and root of the variance, of numbers.
    #[serde(with = "crate::drift::exact")]
    pub(crate) mean: f64,
    #[serde(with = "crate::drift::exact")]
    pub(crate) deviation: f64,
}

impl Gather {
    pub(crate) fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Numeric => Values::Numeric(Box::default()),
            Kind::Categorical => Values::Categorical(Box::new(Categories::new())),
        };
        Self { rows: 0, missing: 0, invalid: 0, missing_blocks: Blocks::default(), values }
    }

    pub(crate) fn push(&mut self, value: Value<'_>) {
        self.rows += 1;
        let missing = match value {
            Value::Missing | Value::Category("") => true,
            Value::Number(number) => number.is_nan(),
            Value::Category(_) => false,
        };
        self.missing_blocks.push(missing);
        if missing {
            self.missing += 1;
            return;
        }
        match (&mut self.values, value) {
            (Values::Numeric(numbers), Value::Number(number)) if number.is_finite() => {
                numbers.push(number);
            }
            (Values::Categorical(categories), Value::Category(name)) => categories.push(name),
            _ => self.invalid += 1,
        }
    }

    pub(crate) fn finish(self) -> Gathered {
        let mut gathered = match self.values {
            Values::Numeric(numbers) => numbers.finish(),
            Values::Categorical(categories) => categories.finish(),
        };
        gathered.counts[MISSING] = self.missing;
        gathered.counts[INVALID] = self.invalid;
        gathered.missing_design_effect = self.missing_blocks.design_effect();
        gathered
    }
}

#[derive(Clone, Debug, Default)]
struct Numbers {
    first: Vec<f64>,
    /// Edges of the narrow bins, once they are laid; `counts` has one more.
    edges: Vec<f64>,
    counts: Vec<u64>,
    quartiles: [f64; 3],
    blocks: [Blocks; 3],
    least: Option<f64>,
    greatest: Option<f64>,
    count: f64,
    mean: f64,
    squares: f64,
}

impl Numbers {
    fn push(&mut self, number: f64) {
        self.least = Some(self.least.map_or(number, |least| least.min(number)));
        self.greatest = Some(self.greatest.map_or(number, |greatest| greatest.max(number)));
        self.count += 1.0;
        let off = number - self.mean;
        self.mean += off / self.count;
        self.squares += off * (number - self.mean);
        if self.counts.is_empty() {
            self.first.push(number);
            if self.first.len() == WARM_UP {
                self.lay();
            }
        } else {
            self.count_in(number);
        }
    }

    fn count_in(&mut self, number: f64) {
        self.counts[self.edges.partition_point(|edge| *edge < number)] += 1;
        for (blocks, quartile) in self.blocks.iter_mut().zip(self.quartiles) {
            blocks.push(number <= quartile);
        }
    }

    /// Lays narrow bins over the first numbers, and wider ones on both sides of them.
    fn lay(&mut self) {
        let mut sorted = self.first.clone();
        sorted.sort_by(f64::total_cmp);
        let (Some(&least), Some(&greatest)) = (sorted.first(), sorted.last()) else { return };
        let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize];
        self.quartiles = [at(0.25), at(0.5), at(0.75)];
        let mut edges: Vec<f64> = (0..=NARROW).map(|j| at(j as f64 / NARROW as f64)).collect();
        edges.push(next_down(least));
        // A value that many share gets a bin of its own: an edge just below it too.
        let enough = (sorted.len() / NARROW).max(2);
        edges.extend(
            sorted
                .chunk_by(|a, b| a == b)
                .filter(|same| same.len() >= enough)
                .flat_map(|same| [next_down(same[0]), same[0]]),
        );
        let width = greatest - least;
        let width = if width > 0.0 { width } else { greatest.abs().max(1.0) };
        for step in BESIDE {
            let far = width * step;
            edges.extend([least - far, greatest + far]);
        }
        edges.retain(|edge| edge.is_finite());
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        self.counts = vec![0; edges.len() + 1];
        self.edges = edges;
        for number in std::mem::take(&mut self.first) {
            self.count_in(number);
        }
    }

    fn finish(mut self) -> Gathered {
        if self.counts.is_empty() {
            self.lay();
        }
        let (edges, counts) = self.merged();
        let cells = Cells::Numeric { edges };
        let design_effect = self.blocks.iter().map(Blocks::design_effect).fold(1.0, f64::max);
        let mut all = vec![0; cells.len()];
        all[FIRST..FIRST + counts.len()].copy_from_slice(&counts);
        let variance = if self.count > 1.0 { self.squares / (self.count - 1.0) } else { 0.0 };
        Gathered {
            cells,
            counts: all,
            design_effect,
            missing_design_effect: 1.0,
            novel: (0, 0),
            mean: self.mean,
            deviation: variance.max(0.0).sqrt(),
        }
    }

    /// Neighbouring narrow bins put together until each holds about a tenth.
    fn merged(&self) -> (Vec<f64>, Vec<u64>) {
        let (Some(least), Some(greatest)) = (self.least, self.greatest) else {
            return (Vec::new(), Vec::new());
        };
        let bins = ((self.count / 20.0) as usize).clamp(2, MAX_BINS);
        let target = (self.count / bins as f64).max(1.0);
        let (mut edges, mut counts, mut open) = (vec![next_down(least)], Vec::new(), 0_u64);
        let upper = self.edges.iter().copied().chain([f64::INFINITY]);
        let mut last = next_down(least);
        for (edge, count) in upper.zip(&self.counts) {
            let edge = edge.min(greatest);
            // A full bin that comes next is not watered down by a half-empty one before it.
            let full = *count as f64 >= 0.8 * target;
            if full && open as f64 >= 0.2 * target {
                edges.push(last);
                counts.push(std::mem::take(&mut open));
            }
            open += count;
            last = edge;
            if open as f64 >= target || (full && open > 0) {
                edges.push(edge);
                counts.push(std::mem::take(&mut open));
            }
        }
        if open > 0 {
            if open as f64 * 3.0 < target && counts.len() > 1 {
                // A small rest joins its neighbour.
                *counts.last_mut().expect("there is one") += open;
                edges.pop();
            } else {
                counts.push(open);
            }
            edges.push(greatest);
        }
        *edges.last_mut().expect("there are at least two") = greatest;
        (edges, counts)
    }
}

#[derive(Clone, Debug)]
struct Categories {
    tracked: HashMap<u64, (String, u64)>,
    known: Filter,
    count: u64,
    /// New categories by the logarithm of the row they came in.
    novel: [u64; 64],
    blocks: [Blocks; 4],
}

impl Categories {
    fn new() -> Self {
        Self {
            tracked: HashMap::new(),
            known: Filter::new(),
            count: 0,
            novel: [0; 64],
            blocks: [Blocks::default(); 4],
        }
    }

    fn push(&mut self, name: &str) {
        let key = key_of(name);
        self.count += 1;
        if self.known.insert(key) {
            self.novel[self.count.ilog2() as usize] += 1;
        }
        // Four ways to divide the categories into two halves, whatever they are.
        for (bit, blocks) in self.blocks.iter_mut().enumerate() {
            blocks.push(key >> (60 + bit) & 1 == 1);
        }
        if let Some((_, count)) = self.tracked.get_mut(&key) {
            *count += 1;
        } else if self.tracked.len() < TRACKED {
            self.tracked.insert(key, (kept_name(name), 1));
        }
    }

    fn finish(self) -> Gathered {
        let mut tracked: Vec<(u64, String, u64)> =
            self.tracked.into_iter().map(|(key, (name, count))| (key, name, count)).collect();
        // By count, then by key, so that the same rows give the same reference.
        tracked.sort_by_key(|(key, _, count)| (std::cmp::Reverse(*count), *key));
        // One that is hardly ever seen has no cell: it is one of the others.
        let rare = self.count / 500;
        tracked.retain(|(_, _, count)| *count > rare);
        tracked.truncate(MAX_CATEGORIES);
        tracked.sort_by_key(|(key, _, _)| *key);
        let mut counts = vec![0; FIRST];
        counts.extend(tracked.iter().map(|(_, _, count)| *count));
        counts.push(self.count - counts.iter().sum::<u64>());
        let frequent = tracked.into_iter().map(|(key, name, _)| Category { key, name });
        let mut frequent: Vec<Category> = frequent.collect();
        frequent.shrink_to_fit();
        // The last two powers of two hold at least half of the rows.
        let last = self.count.max(1).ilog2() as usize;
        let from = last.saturating_sub(1);
        let since = self.count - ((1_u64 << from) - 1).min(self.count);
        let novel = self.novel[from..=last].iter().sum();
        Gathered {
            cells: Cells::Categorical { frequent, known: self.known },
            counts,
            design_effect: self.blocks.iter().map(Blocks::design_effect).fold(1.0, f64::max),
            missing_design_effect: 1.0,
            novel: (novel, since),
            mean: 0.0,
            deviation: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(values: impl IntoIterator<Item = f64>) -> Gathered {
        let mut gather = Gather::new(Kind::Numeric);
        values.into_iter().for_each(|value| gather.push(Value::Number(value)));
        gather.finish()
    }

    #[test]
    fn bins_of_any_stream_hold_about_a_tenth_each_and_count_exactly() {
        // The second half lies beyond the first thousand that the narrow bins were laid over.
        let at = |j: u32| f64::from(j.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24);
        let gathered = gathered((0..20_000).map(|j| at(j) + if j < 2_000 { 0.0 } else { 0.5 }));
        let inside = gathered.cells.inside();
        assert!((8..=12).contains(&inside.len()), "{}", inside.len());
        assert_eq!(gathered.counts.iter().sum::<u64>(), 20_000);
        for count in &gathered.counts[inside] {
            assert!((600..=4_600).contains(count), "{:?}", gathered.counts);
        }
        let mut again = vec![0; gathered.counts.len()];
        for j in 0..20_000 {
            again[gathered.cells.of(Value::Number(at(j) + if j < 2_000 { 0.0 } else { 0.5 }))] += 1;
        }
        assert_eq!(again, gathered.counts);
    }

    #[test]
    fn a_constant_has_one_bin_and_any_other_value_is_out_of_range() {
        for constant in [0.003_467, 0.0, -5.0, 1e300] {
            let gathered = gathered(vec![constant; 3_000]);
            assert_eq!(gathered.cells.inside().len(), 1, "{constant}");
            assert_eq!(gathered.counts[FIRST], 3_000);
            let other = gathered.cells.of(Value::Number(constant + constant.abs() * 1e-9 + 1e-12));
            assert_eq!(Some(other), gathered.cells.above(), "{constant}");
        }
    }

    #[test]
    fn a_value_that_many_share_has_a_bin_of_its_own() {
        let gathered =
            gathered((0..6_000).map(|j| if j % 2 == 0 { 0.0 } else { f64::from(j) / 6_000.0 }));
        let zero = gathered.cells.of(Value::Number(0.0));
        assert_eq!(gathered.counts[zero], 3_000);
    }

    #[test]
    fn a_feature_without_any_value_is_gathered_all_the_same() {
        let nothing = gathered([f64::NAN; 50]);
        assert_eq!((nothing.counts[MISSING], nothing.cells.inside().len()), (50, 0));
        let mut gather = Gather::new(Kind::Categorical);
        gather.push(Value::Missing);
        assert_eq!(gather.finish().counts[MISSING], 1);
    }

    #[test]
    fn categories_by_the_million_take_no_more_than_a_few() {
        let mut gather = Gather::new(Kind::Categorical);
        for at in 0..200_000_u32 {
            let name = if at % 4 == 0 { "common".to_owned() } else { format!("id-{at}") };
            gather.push(Value::Category(&name));
        }
        let gathered = gather.finish();
        assert!(gathered.cells.memory_bytes() < 2_000);
        let common = gathered.cells.of(Value::Category("common"));
        assert_eq!(gathered.counts[common], 50_000);
        // So many that there are no unseen ones, only others.
        assert_eq!(gathered.cells.of(Value::Category("new")), gathered.cells.len() - 1);
    }
}
