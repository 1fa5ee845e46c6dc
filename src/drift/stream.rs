//! Counts values as they are served, from any number of threads.
//!
//! What a request pays is the sampling: a multiplication and a comparison for a row that is not
//! taken. A row that is taken costs a few tens of nanoseconds a value: a search among a dozen edges
//! or one short hash, and one relaxed addition. It waits for nobody. Only a category that the reference
//! never had allocates, for its name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::drift::cells::BELOW_OR_UNSEEN;
use crate::drift::error::DriftError;
use crate::drift::population::{FeatureCounts, MAX_APPEARED, Population, note_stranger};
use crate::drift::reference::Reference;
use crate::drift::value::Value;

/// Which rows are counted: a fixed part of them, chosen by a hash of whatever tells rows apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sampling {
    below: u64,
}

impl Sampling {
    /// Every row.
    pub const ALL: Self = Self { below: u64::MAX };

    /// About one row in `n`; 0 counts as 1.
    #[must_use]
    pub const fn one_in(n: u32) -> Self {
        let n = if n == 0 { 1 } else { n };
        Self { below: u64::MAX / n as u64 }
    }

    /// Whether the row with this key is counted. The key may be anything that differs from request to
    /// request: a request's number, a hash of its id. The same key always gives the same answer.
    #[inline]
    #[must_use]
    pub const fn takes(self, key: u64) -> bool {
        // The high bits of a product with an odd number near 2^64 / φ, folded once: neighbouring
        // keys fall far apart.
        let mixed = (key ^ (key >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) <= self.below
    }
}

/// Counts values from any number of threads. Clones are handles on the same counts.
///
/// Memory: the reference's, and 8 bytes a cell and 16 a feature: less than 8 KiB a feature in all.
///
/// ```
/// # use pilotage::drift::reference::{FeatureSpec, ReferenceBuilder, Source};
/// # use pilotage::ids::Name;
/// use pilotage::drift::stream::{Recorder, Sampling};
/// use pilotage::drift::value::Value;
///
/// # let features = vec![FeatureSpec::numeric(Name::new("amount")?)];
/// # let mut builder = ReferenceBuilder::new(Name::new("v3")?, Source::File, features)?;
/// # builder.row(&[Value::Number(1.0)])?;
/// # let reference = builder.finish();
/// let recorder = Recorder::new(reference, Sampling::one_in(10));
/// // In the request handler, or in whatever runs after the answer has left:
/// for request in 0..1_000 {
///     if recorder.takes(request) {
///         recorder.row(&[Value::Number(1.0)])?;
///     }
/// }
/// // Now and then, in the control plane:
/// let counted = recorder.drain();
/// assert!((50..150).contains(&counted.rows()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    reference: Reference,
    sampling: Sampling,
    rows: AtomicU64,
    /// Where each feature's cells begin in `cells`.
    starts: Vec<u32>,
    cells: Vec<AtomicU64>,
    /// Distances below and above the range, feature by feature, in 2^-20 widths of it.
    beyond: Vec<[AtomicU64; 2]>,
    appeared: Mutex<Vec<String>>,
    /// Names of categories that the reference never had, by feature; only ever tried for on the
    /// request path.
    strangers: Vec<Mutex<Vec<(String, u64)>>>,
}

const PARTS: f64 = (1_u64 << 20) as f64;

impl Recorder {
    /// A recorder of rows to be compared with `reference`.
    #[must_use]
    pub fn new(reference: Reference, sampling: Sampling) -> Self {
        let (mut starts, mut end) = (Vec::with_capacity(reference.features().len()), 0);
        for feature in reference.features() {
            starts.push(u32::try_from(end).unwrap_or(u32::MAX)); // 10,000 features of 24 cells
            end += feature.gathered.cells.len();
        }
        let beyond = reference.features().iter().map(|_| Default::default()).collect();
        let cells = (0..end).map(|_| AtomicU64::new(0)).collect();
        let (rows, appeared) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let strangers = reference.features().iter().map(|_| Mutex::new(Vec::new())).collect();
        let inner = Inner { reference, sampling, rows, starts, cells, beyond, appeared, strangers };
        Self { inner: Arc::new(inner) }
    }

    /// Whether the row with this key is to be counted; see [`Sampling::takes`].
    #[inline]
    #[must_use]
    pub fn takes(&self, key: u64) -> bool {
        self.inner.sampling.takes(key)
    }

    /// Counts a row: a value for each feature of the reference, in their order.
    ///
    /// # Errors
    ///
    /// [`DriftError::RowLength`] when there are more or fewer; nothing is counted then.
    #[inline]
    pub fn row(&self, values: &[Value<'_>]) -> Result<(), DriftError> {
        let (found, expected) = (values.len(), self.inner.starts.len());
        if found != expected {
            return Err(DriftError::RowLength { found, expected });
        }
        self.inner.rows.fetch_add(1, Ordering::Relaxed);
        for (at, value) in values.iter().enumerate() {
            self.inner.count(at, *value);
        }
        Ok(())
    }

    /// Counts one value of one feature by itself, such as a latency that is known only later. A
    /// number beyond the features is ignored.
    #[inline]
    pub fn value(&self, feature: usize, value: Value<'_>) {
        if feature < self.inner.starts.len() {
            self.inner.count(feature, value);
        }
    }

    /// Counts a row of named values, in any order. Features the row lacks count as missing; those
    /// the reference does not know are noted as having appeared. Slower than [`Self::row`], and takes
    /// a short lock when a feature appears: not for the request path.
    pub fn named<'a>(&self, values: impl IntoIterator<Item = (&'a str, Value<'a>)>) {
        self.inner.rows.fetch_add(1, Ordering::Relaxed);
        for (name, value) in values {
            match self.inner.reference.position(name) {
                Some(at) => self.inner.count(at, value),
                None => self.appear(name),
            }
        }
    }

    fn appear(&self, name: &str) {
        let mut appeared = self.inner.appeared.lock();
        if appeared.len() < MAX_APPEARED && !appeared.iter().any(|known| known == name) {
            appeared.push(crate::drift::cells::kept_name(name));
        }
    }

    /// Everything counted since the last drain. A row that is being counted meanwhile may fall into
    /// two drains by parts; none of its values is lost or counted twice.
    #[must_use]
    pub fn drain(&self) -> Population {
        let Inner { reference, rows, starts, cells, beyond, appeared, strangers, .. } =
            &*self.inner;
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let rows = take(rows);
        let ends = starts.iter().skip(1).map(|start| *start as usize).chain([cells.len()]);
        let places = starts.iter().zip(ends).zip(beyond.iter().zip(strangers));
        let features = places.map(|((start, end), ([below, above], strangers))| FeatureCounts {
            strangers: std::mem::take(&mut *strangers.lock()),
            cells: cells[*start as usize..end].iter().map(take).collect(),
            below: take(below) as f64 / PARTS,
            above: take(above) as f64 / PARTS,
        });
        let features = features.collect();
        let appeared = std::mem::take(&mut *appeared.lock());
        Population::from_parts(reference, rows, features, appeared)
    }

    /// What rows are compared with.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.inner.reference
    }

    /// Bytes of memory it holds, the reference's included. Constant.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let Inner { reference, starts, cells, beyond, strangers, .. } = &*self.inner;
        size_of::<Inner>()
            + strangers.capacity() * size_of::<Mutex<Vec<(String, u64)>>>()
            + reference.memory_bytes()
            + starts.capacity() * size_of::<u32>()
            + cells.capacity() * size_of::<AtomicU64>()
            + beyond.capacity() * size_of::<[AtomicU64; 2]>()
    }
}

impl Inner {
    #[inline]
    fn count(&self, feature: usize, value: Value<'_>) {
        let cells = &self.reference.features()[feature].gathered.cells;
        let cell = cells.of(value);
        self.cells[self.starts[feature] as usize + cell].fetch_add(1, Ordering::Relaxed);
        if let (Value::Category(name), BELOW_OR_UNSEEN) = (value, cell) {
            // Not waited for: a name that is not noted now is noted the next time it comes.
            if let Some(mut strangers) = self.strangers[feature].try_lock() {
                note_stranger(&mut strangers, name, 1);
            }
        }
        if let (Value::Number(number), Some(above)) = (value, cells.above()) {
            if cell == BELOW_OR_UNSEEN || cell == above {
                // At most MOST_WIDTHS of 2^20 parts: 2^40 such rows before this wraps.
                let parts = (cells.beyond(number) * PARTS) as u64;
                let side = usize::from(cell == above);
                self.beyond[feature][side].fetch_add(parts, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::reference::{FeatureSpec, ReferenceBuilder, Source};
    use crate::ids::Name;

    fn recorder() -> Recorder {
        let name = |name: &str| Name::new(name).unwrap();
        let features = vec![FeatureSpec::numeric(name("x")), FeatureSpec::categorical(name("k"))];
        let mut builder = ReferenceBuilder::new(name("v1"), Source::File, features).unwrap();
        for at in 0..1_000 {
            builder.row(&[Value::Number(f64::from(at)), Value::Category("a")]).unwrap();
        }
        Recorder::new(builder.finish(), Sampling::ALL)
    }

    #[test]
    fn a_sampling_takes_its_part_of_neighbouring_keys() {
        for n in [1, 2, 10, 1_000] {
            let taken = (0..100_000_u64).filter(|key| Sampling::one_in(n).takes(*key)).count();
            let expected = 100_000.0 / f64::from(n);
            // Five standard deviations of a binomial count.
            assert!((taken as f64 - expected).abs() <= 5.0 * expected.sqrt(), "{n}: {taken}");
        }
        assert!(Sampling::one_in(0).takes(1));
    }

    #[test]
    fn threads_lose_no_value_and_count_none_twice() {
        let recorder = recorder();
        let mut total = Population::new(recorder.reference());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for at in 0..5_000 {
                            let x = Value::Number(f64::from(at % 1_200));
                            recorder.row(&[x, Value::Category("b")]).unwrap();
                        }
                    })
                })
                .collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                total.merge(&recorder.drain()).unwrap();
            }
        });
        total.merge(&recorder.drain()).unwrap();
        assert_eq!(
            (total.rows(), total.values(0), total.values(1)),
            (20_000, Some(20_000), Some(20_000))
        );
        assert_eq!(total.features[1].cells[BELOW_OR_UNSEEN], 20_000);
    }

    #[test]
    fn both_ways_to_count_agree() {
        let recorder = recorder();
        let mut population = Population::new(recorder.reference());
        for number in [-500.0, 0.0, 3.5, 999.0, 2_000.0, f64::NAN, f64::NEG_INFINITY, 1e300] {
            let row = [Value::Number(number), Value::Missing];
            recorder.row(&row).unwrap();
            population.row(recorder.reference(), &row).unwrap();
        }
        let drained = recorder.drain();
        assert_eq!(drained.features[1], population.features[1]);
        assert_eq!(drained.features[0].cells, population.features[0].cells);
        assert!((drained.features[0].above - population.features[0].above).abs() < 1e-5);
        assert!(drained.features[0].above > 16.9, "1.0 widths and the most there can be");
    }

    #[test]
    fn a_feature_that_appears_is_noted_and_one_that_lacks_counts_as_missing() {
        let recorder = recorder();
        recorder.named([("k", Value::Category("a")), ("new\n", Value::Number(1.0))]);
        let drained = recorder.drain();
        assert_eq!(drained.appeared(), ["new?"]);
        assert_eq!(drained.features[0].of_rows(drained.rows())[0], 1);
        assert!(recorder.drain().appeared().is_empty());
    }
}
