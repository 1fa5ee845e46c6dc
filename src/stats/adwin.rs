//! A window that shortens itself when its older part stops looking like its newer part.
//!
//! Not a test with a stated error rate over a whole stream: `delta` bounds each comparison, and a
//! stream watched for ever raises a false alarm some day. Use it to notice drift, not to promote or
//! roll back; for that there are the e-processes.
//!
//! Values may have any scale as long as they are finite and at most 1e100 in size; the bound assumes
//! they are independent and, strictly, that they lie in `[0, 1]`. Memory is `max_buckets` pairs for
//! each doubling of the stream: a few kilobytes for ever.
//!
//! Source: Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SIAM
//! International Conference on Data Mining (2007), algorithm ADWIN2, with the clock, the grace period
//! and the restart after a detection that stream-learning libraries have made usual.

use super::check::{in_range, positive};
use super::error::{StatsError, open_unit};

/// Settings of an [`Adwin`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdwinSettings {
    /// Level of each comparison, strictly between 0 and 1. Smaller is slower and surer.
    pub delta: f64,
    /// Look for a change once in so many values, at least 1.
    pub clock: u32,
    /// Buckets of each size kept before two are merged, at least 2. More is finer and dearer.
    pub max_buckets: usize,
    /// The shortest part that is compared, in values, at least 1.
    pub min_window_length: u32,
    /// No look before more than so many values.
    pub grace_period: u32,
}

impl Default for AdwinSettings {
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, max_buckets: 5, min_window_length: 5, grace_period: 10 }
    }
}

/// The sum of `2^row` neighbouring values and the squared deviations from their mean.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    sum: f64,
    spread: f64,
}

/// Watches a stream of values for a change of its mean, up or down.
///
/// After a detection the window starts anew with the next value.
///
/// ```
/// use pilotage::stats::adwin::{Adwin, AdwinSettings};
///
/// let mut drift = Adwin::new(AdwinSettings::default())?;
/// let mut alarms = Vec::new();
/// for at in 0..2000 {
///     let level = if at < 1000 { 0.2 } else { 0.7 };
///     if drift.push(level + 0.01 * f64::from(at % 7))? {
///         alarms.push(at);
///     }
/// }
/// assert_eq!(alarms.len(), 1);
/// assert!(alarms[0] >= 1000 && alarms[0] < 1096);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Adwin {
    settings: AdwinSettings,
    /// `rows[r]` holds buckets of `2^r` values, oldest first.
    rows: Vec<Vec<Bucket>>,
    width: f64,
    sum: f64,
    spread: f64,
    until_look: u32,
    detected: bool,
}

impl Adwin {
    /// An empty window.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when a setting is out of its range.
    pub fn new(settings: AdwinSettings) -> Result<Self, StatsError> {
        open_unit("delta", settings.delta)?;
        positive("clock", f64::from(settings.clock))?;
        positive("min_window_length", f64::from(settings.min_window_length))?;
        in_range("max_buckets", settings.max_buckets as f64, 2.0, 1e6, "between 2 and a million")?;
        Ok(Self {
            settings,
            rows: vec![Vec::new()],
            width: 0.0,
            sum: 0.0,
            spread: 0.0,
            until_look: settings.clock,
            detected: false,
        })
    }

    /// Takes in one more value; `true` when a change has just been found.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when `value` is not finite or larger than 1e100; the window is then unchanged.
    pub fn push(&mut self, value: f64) -> Result<bool, StatsError> {
        in_range("value", value, -1e100, 1e100, "at most 1e100 in size")?;
        if self.detected {
            *self = Self::new(self.settings)?;
        }
        self.insert(value);
        self.until_look -= 1;
        if self.until_look == 0 {
            self.until_look = self.settings.clock;
            if self.width > f64::from(self.settings.grace_period) {
                while self.drop_oldest_if_changed() {
                    self.detected = true;
                }
            }
        }
        Ok(self.detected)
    }

    /// How many of the latest values the window holds.
    #[must_use]
    pub fn width(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let width = self.width as u64;
        width
    }

    /// Mean of the values in the window, once there is one.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.width > 0.0).then(|| self.sum / self.width)
    }

    /// All that is not a setting, bit for bit, for a state that is stored.
    pub(crate) fn words(&self) -> Vec<u64> {
        let mut words = vec![u64::from(self.until_look), u64::from(self.detected)];
        words.extend([self.sum, self.spread].map(f64::to_bits));
        for row in &self.rows {
            words.push(row.len() as u64);
            words.extend(row.iter().flat_map(|of| [of.sum.to_bits(), of.spread.to_bits()]));
        }
        words
    }

    /// The same settings with what [`Self::words`] gave; `None` where that cannot be.
    pub(crate) fn with_words(mut self, words: &[u64]) -> Option<Self> {
        let (head, mut rest) = words.split_at_checked(4)?;
        let number = |word: u64| Some(f64::from_bits(word)).filter(|number| number.is_finite());
        self.until_look = u32::try_from(head[0]).ok()?;
        self.detected = [false, true].get(usize::try_from(head[1]).ok()?).copied()?;
        (self.sum, self.spread) = (number(head[2])?, number(head[3]).filter(|sum| *sum >= 0.0)?);
        if !(1..=self.settings.clock).contains(&self.until_look) {
            return None;
        }
        (self.rows, self.width) = (Vec::new(), 0.0);
        while let Some((count, after)) = rest.split_first() {
            let count = usize::try_from(*count).ok()?;
            if count > self.settings.max_buckets || self.rows.len() > MOST_ROWS {
                return None;
            }
            let (row, after) = after.split_at_checked(2 * count)?;
            let buckets = row
                .chunks(2)
                .map(|of| Some(Bucket { sum: number(of[0])?, spread: number(of[1])? }));
            self.width += bucket_size(self.rows.len()) * count as f64;
            self.rows.push(buckets.collect::<Option<_>>()?);
            rest = after;
        }
        (!self.rows.is_empty()).then_some(self)
    }

    fn insert(&mut self, value: f64) {
        if self.width > 0.0 {
            let off = value - self.sum / self.width;
            self.spread += self.width * off * off / (self.width + 1.0);
        }
        self.width += 1.0;
        self.sum += value;
        self.rows[0].push(Bucket { sum: value, spread: 0.0 });
        let mut row = 0;
        while self.rows[row].len() > self.settings.max_buckets {
            if row + 1 == self.rows.len() {
                self.rows.push(Vec::new());
            }
            let size = bucket_size(row);
            let (old, new) = (self.rows[row][0], self.rows[row][1]);
            self.rows[row].drain(..2);
            let off = old.sum / size - new.sum / size;
            let spread = old.spread + new.spread + size * size * off * off / (size + size);
            self.rows[row + 1].push(Bucket { sum: old.sum + new.sum, spread });
            row += 1;
        }
    }

    /// Compares every older part with the rest; on the first difference the oldest bucket goes.
    fn drop_oldest_if_changed(&mut self) -> bool {
        let shortest = f64::from(self.settings.min_window_length);
        let (mut old, mut old_sum) = (0.0, 0.0);
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            for bucket in buckets {
                old += bucket_size(row);
                old_sum += bucket.sum;
                let new = self.width - old;
                if old >= shortest && new >= shortest {
                    let off = old_sum / old - (self.sum - old_sum) / new;
                    if off.abs() > self.cut(old, new) {
                        self.drop_oldest();
                        return true;
                    }
                }
            }
        }
        false
    }

    /// The difference of means that is too large to be chance.
    fn cut(&self, old: f64, new: f64) -> f64 {
        let shortest = f64::from(self.settings.min_window_length);
        let doubt = (2.0 * self.width.ln() / self.settings.delta).ln();
        let size = 1.0 / (old - shortest + 1.0) + 1.0 / (new - shortest + 1.0);
        let variance = (self.spread / self.width).max(0.0);
        (2.0 * size * variance * doubt).sqrt() + 2.0 / 3.0 * doubt * size
    }

    fn drop_oldest(&mut self) {
        let Some(row) = self.rows.iter().rposition(|buckets| !buckets.is_empty()) else { return };
        let bucket = self.rows[row].remove(0);
        let size = bucket_size(row);
        self.width -= size;
        self.sum -= bucket.sum;
        if self.width > 0.0 {
            let off = bucket.sum / size - self.sum / self.width;
            let between = size * self.width * off * off / (size + self.width);
            self.spread = (self.spread - bucket.spread - between).max(0.0);
        } else {
            self.spread = 0.0;
        }
        if row > 0 && self.rows[row].is_empty() {
            self.rows.truncate(row);
        }
    }
}

/// More rows than there are values to fill them.
const MOST_ROWS: usize = 64;

fn bucket_size(row: usize) -> f64 {
    2.0_f64.powi(i32::try_from(row).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_the_logarithm_of_the_stream() {
        let mut window = Adwin::new(AdwinSettings::default()).unwrap();
        for at in 0..200_000 {
            assert!(!window.push(f64::from(at % 2)).unwrap());
        }
        assert_eq!(window.width(), 200_000);
        let buckets: usize = window.rows.iter().map(Vec::len).sum();
        assert!(buckets < 100, "{buckets} buckets");
    }

    #[test]
    fn what_is_no_number_is_refused_and_changes_nothing() {
        let mut window = Adwin::new(AdwinSettings::default()).unwrap();
        window.push(0.5).unwrap();
        let before = window.clone();
        for bad in [f64::NAN, f64::INFINITY, 1e101] {
            assert!(window.push(bad).is_err());
        }
        assert_eq!(window, before);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let good = AdwinSettings::default();
        for bad in [
            AdwinSettings { delta: f64::NAN, ..good },
            AdwinSettings { delta: 1.0, ..good },
            AdwinSettings { clock: 0, ..good },
            AdwinSettings { max_buckets: 1, ..good },
            AdwinSettings { min_window_length: 0, ..good },
        ] {
            assert!(Adwin::new(bad).is_err(), "{bad:?}");
        }
    }
}
