//! What a stream remembers of itself until it ends.
//!
//! Each item touches this alone: no counter that streams share is written to before the end.

use crate::observe::histogram::{BUCKETS, bucket_of};

/// The times and counts of one stream. All times are nanoseconds since its call began.
#[derive(Debug)]
pub(crate) struct StreamMeter {
    items: u64,
    first: Option<u64>,
    /// Since when the reader waits, while it does.
    asked: Option<u64>,
    /// For how long it has waited in all.
    waited: u64,
    /// Of that, after the first item and until the last.
    gap_nanos: u64,
    /// Waits for items after the first, by bucket: 4.7 KB, there from the first item on.
    gaps: Option<Box<[u16; BUCKETS]>>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StreamEnd {
    /// It came to its end.
    Complete,
    /// The model broke it off, or never began it.
    Broken,
    /// The model broke it off, for which its own account blames nobody.
    Excused,
    /// The reader went away.
    Abandoned,
}

/// So many gaps of one bucket that the stream's own counter has no room for more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "they are in no counter any more"]
pub(crate) struct FullBucket(pub usize);

impl FullBucket {
    /// How many.
    pub(crate) const GAPS: u64 = u16::MAX as u64;
}

impl StreamMeter {
    /// A stream that begins, and whose reader waits from now on.
    pub(crate) const fn new() -> Self {
        Self { items: 0, first: None, asked: Some(0), waited: 0, gap_nanos: 0, gaps: None }
    }

    /// The reader asks for an item, perhaps again for the same one.
    #[inline]
    pub(crate) fn asked(&mut self, now: impl FnOnce() -> u64) {
        if self.asked.is_none() {
            self.asked = Some(now());
        }
    }

    /// An item is given.
    #[inline]
    pub(crate) fn item(&mut self, now: u64) -> Option<FullBucket> {
        let wait = self.stop_waiting(now);
        self.items += 1;
        if self.first.is_none() {
            self.first = Some(wait);
            self.gaps = Some(Box::new([0; BUCKETS]));
            return None;
        }
        self.gap_nanos = self.gap_nanos.saturating_add(wait);
        let bucket = bucket_of(wait);
        let count = &mut self.gaps.as_mut()?[bucket];
        *count += 1;
        (*count == u16::MAX).then(|| {
            *count = 0;
            FullBucket(bucket)
        })
    }

    /// The stream is over, one way or the other.
    pub(crate) fn end(&mut self, now: u64) {
        self.stop_waiting(now);
    }

    /// Ends the reader's wait, if there is one, and says how long it was.
    #[inline]
    fn stop_waiting(&mut self, now: u64) -> u64 {
        let wait = self.asked.take().map_or(0, |asked| now.saturating_sub(asked));
        self.waited = self.waited.saturating_add(wait);
        wait
    }

    /// How many items were given.
    pub(crate) const fn items(&self) -> u64 {
        self.items
    }

    /// How long the reader waited for the first, if it was given.
    pub(crate) const fn first(&self) -> Option<u64> {
        self.first
    }

    /// How long it waited in all.
    pub(crate) const fn waited(&self) -> u64 {
        self.waited
    }

    /// How long it waited for items after the first.
    pub(crate) const fn gap_nanos(&self) -> u64 {
        self.gap_nanos
    }

    /// The mean wait for an item after the first, where there was one.
    pub(crate) fn pace(&self) -> Option<u64> {
        let gaps = self.items.checked_sub(1)?;
        self.gap_nanos.checked_div(gaps)
    }

    /// The gaps that were not handed over yet, as `(bucket, count)`.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let counts = self.gaps.iter().flat_map(|counts| counts.iter().enumerate());
        counts.filter(|(_, count)| **count > 0).map(|(bucket, count)| (bucket, u64::from(*count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reader_takes_between_items_is_no_wait() {
        let mut meter = StreamMeter::new();
        assert_eq!(meter.item(40), None);
        for round in 0..3 {
            meter.asked(|| 100 * round + 100);
            meter.asked(|| 100 * round + 105);
            assert_eq!(meter.item(100 * round + 110), None);
        }
        meter.asked(|| 500);
        meter.end(503);
        meter.end(900);
        assert_eq!((meter.items(), meter.first(), meter.pace()), (4, Some(40), Some(10)));
        assert_eq!((meter.gap_nanos(), meter.waited()), (30, 73));
        assert_eq!(meter.gaps().collect::<Vec<_>>(), [(bucket_of(10), 3)]);
    }

    #[test]
    fn a_stream_of_any_length_loses_no_gap() {
        let mut meter = StreamMeter::new();
        let mut handed_over = 0;
        for item in 0..200_001_u64 {
            meter.asked(|| item);
            handed_over += meter.item(item).map_or(0, |_| FullBucket::GAPS);
        }
        let left: u64 = meter.gaps().map(|(_, count)| count).sum();
        assert_eq!(handed_over + left, 200_000);
        assert!(handed_over > 0);
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_negative_wait() {
        let mut meter = StreamMeter::new();
        assert_eq!(meter.item(1_000), None);
        meter.asked(|| 900);
        assert_eq!(meter.item(800), None);
        assert_eq!((meter.gap_nanos(), meter.pace()), (0, Some(0)));
        assert_eq!(StreamMeter::new().pace(), None);
    }
}
