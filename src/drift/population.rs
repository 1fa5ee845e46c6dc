//! What the data looks like now: counts, in the cells of one reference.

use serde::{Deserialize, Serialize};

use crate::drift::cells::{BELOW_OR_UNSEEN, FIRST, MISSING, kept_name};
use crate::drift::error::DriftError;
use crate::drift::reference::Reference;
use crate::drift::value::Value;

/// The most names of features that the reference does not know which are kept.
pub const MAX_APPEARED: usize = 32;

/// The most categories of one feature that are kept by name though the reference never had them.
pub const MAX_STRANGERS: usize = 8;

/// Counts of some rows, in the cells of one reference. Adds up, over time and over replicas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Population {
    reference: String,
    rows: u64,
    pub(crate) features: Vec<FeatureCounts>,
    appeared: Vec<String>,
}

/// Counts of one feature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FeatureCounts {
    pub(crate) cells: Vec<u64>,
    /// By how many widths of the reference's range, in all, numbers lay below it and above it. Each
    /// number counts at most 16 widths.
    pub(crate) below: f64,
    pub(crate) above: f64,
    /// Names of the first few categories that the reference never had, with their counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) strangers: Vec<(String, u64)>,
}

impl Population {
    /// No rows yet.
    #[must_use]
    pub fn new(reference: &Reference) -> Self {
        let empty = reference.features().iter().map(|feature| FeatureCounts {
            cells: vec![0; feature.gathered.cells.len()],
            ..FeatureCounts::default()
        });
        Self { reference: reference.id().to_owned(), features: empty.collect(), ..Self::default() }
    }

    pub(crate) fn from_parts(
        reference: &Reference,
        rows: u64,
        features: Vec<FeatureCounts>,
        appeared: Vec<String>,
    ) -> Self {
        Self { reference: reference.id().to_owned(), rows, features, appeared }
    }

    /// Counts one row. For many threads there is a [`Recorder`](crate::drift::stream::Recorder).
    ///
    /// # Errors
    ///
    /// [`DriftError::RowLength`] when it has not one value for each feature, and
    /// [`DriftError::AnotherReference`] when these counts belong to another; nothing is counted then.
    pub fn row(&mut self, reference: &Reference, values: &[Value<'_>]) -> Result<(), DriftError> {
        self.belongs_to(reference)?;
        if values.len() != self.features.len() {
            let (found, expected) = (values.len(), self.features.len());
            return Err(DriftError::RowLength { found, expected });
        }
        self.rows += 1;
        let places = reference.features().iter().zip(&mut self.features);
        for ((feature, counts), value) in places.zip(values) {
            let cells = &feature.gathered.cells;
            let cell = cells.of(*value);
            counts.cells[cell] += 1;
            if let (Value::Category(name), BELOW_OR_UNSEEN) = (value, cell) {
                note_stranger(&mut counts.strangers, name, 1);
            }
            if let (Value::Number(number), Some(above)) = (value, cells.above()) {
                if cell == BELOW_OR_UNSEEN {
                    counts.below += cells.beyond(*number);
                } else if cell == above {
                    counts.above += cells.beyond(*number);
                }
            }
        }
        Ok(())
    }

    /// Adds other counts of the same reference: of a later time, or of another replica.
    ///
    /// # Errors
    ///
    /// [`DriftError::AnotherReference`]; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), DriftError> {
        let alike = self.reference == other.reference
            && self.features.len() == other.features.len()
            && self
                .features
                .iter()
                .zip(&other.features)
                .all(|(a, b)| a.cells.len() == b.cells.len());
        if !alike {
            let (found, expected) = (other.reference.clone(), self.reference.clone());
            return Err(DriftError::AnotherReference { found, expected });
        }
        self.rows = self.rows.saturating_add(other.rows);
        for (mine, theirs) in self.features.iter_mut().zip(&other.features) {
            for (mine, theirs) in mine.cells.iter_mut().zip(&theirs.cells) {
                *mine = mine.saturating_add(*theirs);
            }
            mine.below += theirs.below;
            mine.above += theirs.above;
            for (name, count) in &theirs.strangers {
                note_stranger(&mut mine.strangers, name, *count);
            }
        }
        for name in &other.appeared {
            self.appear(name);
        }
        Ok(())
    }

    /// Notes a feature that the reference does not know; the first [`MAX_APPEARED`] are kept.
    pub fn appear(&mut self, name: &str) {
        if self.appeared.len() < MAX_APPEARED && !self.appeared.iter().any(|known| known == name) {
            self.appeared.push(name.to_owned());
        }
    }

    /// How many rows were counted.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Features that came with the rows and that the reference does not know.
    #[must_use]
    pub fn appeared(&self) -> &[String] {
        &self.appeared
    }

    /// How many values a feature had, missing ones apart; `None` when there is no such feature.
    #[must_use]
    pub fn values(&self, feature: usize) -> Option<u64> {
        Some(self.features.get(feature)?.cells[FIRST - 1..].iter().sum())
    }

    /// Whether it can have come about by counting.
    pub(crate) fn is_sound(&self) -> bool {
        self.appeared.len() <= MAX_APPEARED
            && self.features.iter().all(|counts| {
                [counts.below, counts.above].iter().all(|sum| sum.is_finite() && *sum >= 0.0)
                    && counts.strangers.len() <= MAX_STRANGERS
            })
    }

    /// Whether these are counts in the cells of `reference`.
    ///
    /// # Errors
    ///
    /// [`DriftError::AnotherReference`] when they are not.
    pub fn belongs_to(&self, reference: &Reference) -> Result<(), DriftError> {
        let lengths = reference.features().iter().map(|feature| feature.gathered.cells.len());
        if self.reference == reference.id()
            && lengths.eq(self.features.iter().map(|counts| counts.cells.len()))
        {
            return Ok(());
        }
        let (found, expected) = (self.reference.clone(), reference.id().to_owned());
        Err(DriftError::AnotherReference { found, expected })
    }
}

impl FeatureCounts {
    /// Counts by cell, where rows that brought no value at all for a feature count as missing: a
    /// feature that disappears leaves no values, not even missing ones.
    pub(crate) fn of_rows(&self, rows: u64) -> Vec<u64> {
        let mut cells = self.cells.clone();
        let recorded: u64 = cells.iter().sum();
        cells[MISSING] += rows.saturating_sub(recorded);
        cells
    }
}

/// Notes a category that the reference never had. The first [`MAX_STRANGERS`] have a name.
pub(crate) fn note_stranger(strangers: &mut Vec<(String, u64)>, name: &str, count: u64) {
    let kept = kept_name(name);
    if let Some((_, known)) = strangers.iter_mut().find(|(known, _)| *known == kept) {
        *known = known.saturating_add(count);
    } else if strangers.len() < MAX_STRANGERS {
        strangers.push((kept, count));
    }
}
