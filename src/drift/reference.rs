//! What the data looked like when all was well.
//!
//! A [`Reference`] is taken once, from whatever was good: the traffic of the baseline stage that a
//! rollout began with, a file of recorded requests, the training set. It keeps counts, never values,
//! and is small: at most [`FeatureReference::MAX_BYTES`] a feature, whatever the number of rows or
//! categories. Its bins are chosen then and never again, since counts in moving bins do not compare;
//! whatever was counted against one reference is refused by every other.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::drift::cells::{BELOW_OR_UNSEEN, Cells, FIRST, INVALID, MISSING};
use crate::drift::error::DriftError;
use crate::drift::gather::{Gather, Gathered};
use crate::drift::value::{Kind, Role, Value};
use crate::ids::Name;

/// The format of references that this release writes and reads.
pub const FORMAT: u32 = 1;

/// The most features a reference may have.
pub const MAX_FEATURES: usize = 10_000;

/// Where a reference was taken from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// The requests of a rollout's baseline stage, or of any time when all was well.
    Baseline,
    /// Recorded requests.
    File,
    /// The data the model was trained on. Training sets are often chosen, balanced or cleaned: then
    /// the first day of traffic has moved already.
    Training,
}

/// A feature to be measured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FeatureSpec {
    /// What people call it.
    pub name: Name,
    /// Numbers or categories.
    pub kind: Kind,
    /// What it is to the model.
    pub role: Role,
}

impl FeatureSpec {
    /// A feature of numbers.
    #[must_use]
    pub const fn numeric(name: Name) -> Self {
        Self { name, kind: Kind::Numeric, role: Role::Input }
    }

    /// A feature of categories.
    #[must_use]
    pub const fn categorical(name: Name) -> Self {
        Self { name, kind: Kind::Categorical, role: Role::Input }
    }

    /// As something else than an input: a prediction, a score, a latency, a label.
    #[must_use]
    pub const fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }
}

/// Takes a reference, row by row, in the order in which the rows came: from that it learns how much
/// neighbours resemble each other.
///
/// At most 24 KiB a feature while it is being taken.
///
/// ```
/// use pilotage::drift::reference::{FeatureSpec, ReferenceBuilder, Source};
/// use pilotage::drift::value::Value;
/// use pilotage::ids::Name;
///
/// let features = vec![
///     FeatureSpec::numeric(Name::new("amount")?),
///     FeatureSpec::categorical(Name::new("country")?),
/// ];
/// let mut builder = ReferenceBuilder::new(Name::new("v3")?, Source::Training, features)?;
/// for at in 0..2_000 {
///     let country = if at % 3 == 0 { "PT" } else { "IS" };
///     builder.row(&[Value::Number(f64::from(at % 97)), Value::Category(country)])?;
/// }
/// let reference = builder.finish();
/// assert_eq!(reference.rows(), 2_000);
/// let stored = serde_json::to_string(&reference)?;
/// assert_eq!(reference, serde_json::from_str(&stored)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a reference is finished by `finish`"]
pub struct ReferenceBuilder {
    of: Name,
    source: Source,
    features: Vec<(FeatureSpec, Gather)>,
    rows: u64,
}

impl ReferenceBuilder {
    /// Begins a reference of the model (or data) named `of`.
    ///
    /// # Errors
    ///
    /// [`DriftError`] without features, with more than [`MAX_FEATURES`], or with two of one name.
    pub fn new(of: Name, source: Source, features: Vec<FeatureSpec>) -> Result<Self, DriftError> {
        check_names(features.iter().map(|feature| &feature.name))?;
        let features = features.into_iter().map(|feature| {
            let gather = Gather::new(feature.kind);
            (feature, gather)
        });
        Ok(Self { of, source, features: features.collect(), rows: 0 })
    }

    /// One more row: a value for each feature, in their order.
    ///
    /// # Errors
    ///
    /// [`DriftError::RowLength`] when there are more or fewer values than features; nothing is
    /// counted then.
    pub fn row(&mut self, values: &[Value<'_>]) -> Result<(), DriftError> {
        let (found, expected) = (values.len(), self.features.len());
        if found != expected {
            return Err(DriftError::RowLength { found, expected });
        }
        self.rows += 1;
        for ((_, gather), value) in self.features.iter_mut().zip(values) {
            gather.push(*value);
        }
        Ok(())
    }

    /// The reference. A short one is a reference too: what is compared with it is then judged "not
    /// enough".
    #[must_use]
    pub fn finish(self) -> Reference {
        let features = self.features.into_iter().map(|(spec, gather)| FeatureReference {
            name: spec.name,
            role: spec.role,
            gathered: gather.finish(),
        });
        let mut reference = Reference {
            of: self.of,
            source: self.source,
            rows: self.rows,
            features: features.collect(),
            id: String::new(),
        };
        reference.id = reference.fingerprint();
        reference
    }
}

/// What the data looked like when all was well. Serialisable; see the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredReference", into = "StoredReference")]
pub struct Reference {
    of: Name,
    source: Source,
    rows: u64,
    features: Vec<FeatureReference>,
    id: String,
}

/// A reference as it is stored, before it is known to be one of this release.
///
/// To deserialise a [`Reference`] is to deserialise this and to try: go through this one where the
/// reason of a refusal matters as a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredReference {
    format: u32,
    id: String,
    of: Name,
    source: Source,
    rows: u64,
    features: Vec<FeatureReference>,
}

/// One feature of a reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureReference {
    name: Name,
    role: Role,
    #[serde(flatten)]
    pub(crate) gathered: Gathered,
}

impl Reference {
    /// Which model, or data, it is of.
    #[must_use]
    pub const fn of(&self) -> &Name {
        &self.of
    }

    /// Where it was taken from.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// How many rows it was taken from.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Its features, in the order of a row.
    #[must_use]
    pub fn features(&self) -> &[FeatureReference] {
        &self.features
    }

    /// The place of a feature in a row.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.features.iter().position(|feature| feature.name.as_str() == name)
    }

    /// A fingerprint of all it says: the same for the same rows, another for any other reference.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Bytes of memory it holds, those of its features included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.features.iter().map(FeatureReference::memory_bytes).sum::<usize>()
    }

    fn fingerprint(&self) -> String {
        let mut hash = Xxh3::new();
        let mut text = |part: &dyn fmt::Debug| hash.update(format!("{part:?};").as_bytes());
        text(&(FORMAT, &self.of, self.source, self.rows));
        for feature in &self.features {
            text(&(&feature.name, feature.role, &feature.gathered));
        }
        format!("{:016x}", hash.digest())
    }
}

impl TryFrom<StoredReference> for Reference {
    type Error = DriftError;

    fn try_from(stored: StoredReference) -> Result<Self, DriftError> {
        if stored.format != FORMAT {
            return Err(DriftError::Format { found: stored.format, expected: FORMAT });
        }
        check_names(stored.features.iter().map(|feature| &feature.name))?;
        for feature in &stored.features {
            feature.check(stored.rows)?;
        }
        let StoredReference { id, of, source, rows, features, .. } = stored;
        let reference = Self { of, source, rows, features, id };
        if reference.id != reference.fingerprint() {
            let what = "its fingerprint is not that of its contents".to_owned();
            return Err(DriftError::Damaged { what });
        }
        Ok(reference)
    }
}

impl From<Reference> for StoredReference {
    fn from(reference: Reference) -> Self {
        let Reference { of, source, rows, features, id } = reference;
        Self { format: FORMAT, id, of, source, rows, features }
    }
}

impl FeatureReference {
    /// No feature of a reference takes more bytes than this.
    pub const MAX_BYTES: usize = 7 * 1024;

    /// What people call it.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// What it is to the model.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Numbers or categories.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.gathered.cells.kind()
    }

    /// How many rows had a value the reference can use.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.gathered.counts[FIRST..].iter().sum()
    }

    /// The part of the rows that had no value; `None` without rows.
    #[must_use]
    pub fn missing_rate(&self) -> Option<f64> {
        let rows: u64 = self.gathered.counts.iter().sum();
        (rows > 0).then(|| self.gathered.counts[MISSING] as f64 / rows as f64)
    }

    /// How many times larger the variance of a count of values is than if rows were independent; at
    /// least 1.
    #[must_use]
    pub const fn design_effect(&self) -> f64 {
        self.gathered.design_effect
    }

    /// Whether all values were the same: then only a departure can be seen, and the rest says
    /// nothing.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.inside_counts().iter().filter(|count| **count > 0).count() <= 1
    }

    /// The cells' names with their counts: the special ones first, then the bins or categories.
    pub fn cells(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let counts = self.gathered.counts.iter().enumerate();
        counts.map(|(cell, count)| (self.gathered.cells.name(cell), *count))
    }

    /// Bytes of memory it holds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.name.as_str().len()
            + self.gathered.counts.capacity() * size_of::<u64>()
            + self.gathered.cells.memory_bytes()
    }

    pub(crate) fn inside_counts(&self) -> &[u64] {
        &self.gathered.counts[self.gathered.cells.inside()]
    }

    fn check(&self, rows: u64) -> Result<(), DriftError> {
        let Gathered {
            cells, counts, design_effect, missing_design_effect, mean, deviation, ..
        } = &self.gathered;
        let sound = match cells {
            Cells::Numeric { edges } => {
                edges.iter().all(|edge| edge.is_finite())
                    && edges.windows(2).all(|pair| pair[0] < pair[1])
                    && edges.len() != 1
            }
            Cells::Categorical { frequent, known } => {
                frequent.windows(2).all(|pair| pair[0].key < pair[1].key) && known.is_sound()
            }
        };
        let total = counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count));
        let numbers = [*design_effect, *missing_design_effect, *mean, *deviation];
        let fits = sound
            && counts.len() == cells.len()
            && total == Some(rows)
            && counts.get(BELOW_OR_UNSEEN) == Some(&0)
            && counts.get(INVALID).is_some()
            && numbers.iter().all(|number| number.is_finite())
            && *design_effect >= 1.0
            && *missing_design_effect >= 1.0;
        if fits {
            Ok(())
        } else {
            Err(DriftError::Damaged { what: format!("feature {} contradicts itself", self.name) })
        }
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a Name>) -> Result<(), DriftError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(DriftError::SameName { name: name.clone() });
        }
    }
    match seen.len() {
        0 => Err(DriftError::NoFeatures),
        features if features > MAX_FEATURES => {
            Err(DriftError::TooManyFeatures { features, most: MAX_FEATURES })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn reference(rows: u32) -> Reference {
        let features =
            vec![FeatureSpec::numeric(name("x")), FeatureSpec::categorical(name("kind"))];
        let mut builder = ReferenceBuilder::new(name("v1"), Source::File, features).unwrap();
        for at in 0..rows {
            let kind = ["a", "b", "c"][at as usize % 3];
            builder.row(&[Value::Number(f64::from(at)), Value::Category(kind)]).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn a_reference_comes_back_from_storage_as_it_was() {
        for rows in [0, 1, 10, 5_000] {
            let reference = reference(rows);
            let stored = serde_json::to_string(&reference).unwrap();
            assert_eq!(serde_json::from_str::<Reference>(&stored).unwrap(), reference);
        }
    }

    #[test]
    fn a_reference_of_another_format_or_with_a_changed_count_is_refused() {
        let mut stored = StoredReference::from(reference(500));
        stored.format = 7;
        let error = Reference::try_from(stored.clone()).unwrap_err();
        assert_eq!(error, DriftError::Format { found: 7, expected: FORMAT });
        stored.format = FORMAT;
        stored.features[0].gathered.counts[FIRST] += 1;
        assert!(matches!(Reference::try_from(stored.clone()), Err(DriftError::Damaged { .. })));
        stored.rows += 1;
        stored.features[1].gathered.counts[FIRST] += 1;
        let error = Reference::try_from(stored).unwrap_err();
        assert!(error.to_string().contains("fingerprint"), "{error}");
    }

    #[test]
    fn the_same_rows_give_the_same_reference() {
        assert_eq!(reference(3_000).id(), reference(3_000).id());
        assert_ne!(reference(3_000).id(), reference(3_001).id());
    }

    #[test]
    fn features_that_cannot_be_told_apart_are_refused() {
        let twice = vec![FeatureSpec::numeric(name("x")), FeatureSpec::categorical(name("x"))];
        let error = ReferenceBuilder::new(name("v1"), Source::File, twice).unwrap_err();
        assert_eq!(error, DriftError::SameName { name: name("x") });
        let none = ReferenceBuilder::new(name("v1"), Source::File, Vec::new()).unwrap_err();
        assert_eq!(none, DriftError::NoFeatures);
    }

    #[test]
    fn a_row_of_another_length_is_refused_and_not_counted() {
        let features = vec![FeatureSpec::numeric(name("x"))];
        let mut builder = ReferenceBuilder::new(name("v1"), Source::File, features).unwrap();
        let error = builder.row(&[]).unwrap_err();
        assert_eq!(error, DriftError::RowLength { found: 0, expected: 1 });
        assert_eq!(builder.finish().rows(), 0);
    }
}
