//! One observation, in two words.
//!
//! Sixteen bytes, without the user's id and without a time: the reader's time serves, and what is
//! not kept cannot leak.

use std::time::Duration;

use crate::ids::{Arm, Epoch, Segment};
use crate::observe::histogram::{bucket_middle, bucket_of};
use crate::outcome::{Marks, Outcome, Status};
use crate::route::switch::{ARM_BIT, Drawn, SUBJECT_BIT};

/// 24 bits of a subject's hash: enough to count a subject once in a window, too few to find it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SubjectTag(u32);

impl SubjectTag {
    /// How many different tags there are.
    pub const COUNT: u32 = 1 << 24;

    /// The lowest 24 bits of a hash.
    #[inline]
    #[must_use]
    pub const fn of(hash: u64) -> Self {
        Self(hash as u32 & (Self::COUNT - 1))
    }

    /// The tag as a number below [`SubjectTag::COUNT`].
    #[inline]
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Whether chance decided which arm served a call.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Draw {
    /// The hash decided: the call is evidence.
    #[default]
    Random,
    /// Somebody decided (a forced arm, a list, a holdout), or the subject does not take part. The
    /// call counts in totals and is no evidence.
    Chosen,
}

/// One call that ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Observation {
    /// Which arm served, or failed to.
    pub arm: Arm,
    /// Under which split it was assigned.
    pub epoch: Epoch,
    /// Of whom.
    pub segment: Segment,
    /// Whose call, or `None` when nobody knows.
    pub subject: Option<SubjectTag>,
    /// How long it took, in nanoseconds; kept to within 0.8 %.
    pub nanos: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it is evidence.
    pub draw: Draw,
    /// Whether this arm failed and the baseline answered in its stead.
    pub fell_back: bool,
    /// Whether this arm was as busy as it may be, and the baseline's model was asked in its stead.
    pub diverted: bool,
}

impl Observation {
    /// A call of `arm` under `epoch` that took `nanos` and ended as `outcome`.
    #[must_use]
    pub const fn new(arm: Arm, epoch: Epoch, nanos: u64, outcome: Outcome) -> Self {
        Self {
            arm,
            epoch,
            segment: Segment::NONE,
            subject: None,
            nanos,
            outcome,
            draw: Draw::Random,
            fell_back: false,
            diverted: false,
        }
    }

    /// What of it was known when it began.
    #[must_use]
    pub const fn key(&self) -> CallKey {
        let key = CallKey::new(self.arm, self.epoch, self.segment, self.subject, self.draw);
        if self.diverted { key.diverted() } else { key }
    }

    /// With the time it took.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self
    }
}

/// What is known of a call when it begins, in one word: it travels with the call and is most of
/// its record and of its ticket.
///
/// From the top: epoch 16 bits, arm 4, subject known 1, no evidence 1, diverted 1, one spare, eight
/// for how it ends (zero here), segment 8, subject 24.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CallKey(u64);

const KNOWN_SUBJECT: u64 = 1 << SUBJECT_BIT;
const CHOSEN: u64 = 1 << 42;
const DIVERTED: u64 = 1 << 41;

impl CallKey {
    /// A key. The arm's number is below 16.
    #[inline]
    #[must_use]
    pub const fn new(
        arm: Arm,
        epoch: Epoch,
        segment: Segment,
        subject: Option<SubjectTag>,
        draw: Draw,
    ) -> Self {
        let subject = match subject {
            Some(tag) => KNOWN_SUBJECT | tag.number() as u64,
            None => 0,
        };
        let draw = match draw {
            Draw::Random => 0,
            Draw::Chosen => CHOSEN,
        };
        Self(
            (epoch.number() as u64) << 48
                | (arm.index() as u64 & 0xf) << ARM_BIT
                | draw
                | (segment.index() as u64) << 24
                | subject,
        )
    }

    /// The key of a call of a subject with this hash and no segment, where the draw decided.
    #[inline]
    pub(crate) const fn drawn(drawn: Drawn, hash: u64) -> Self {
        Self(drawn.key_bits() | SubjectTag::of(hash).number() as u64)
    }

    /// The key in a word, whose other bits are cleared.
    #[inline]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word & !(0x1ff << 32))
    }

    /// The key as a word.
    #[inline]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The last three bits of the epoch and the arm, which stand side by side: below 128.
    #[inline]
    pub(crate) const fn class(self) -> usize {
        (self.0 >> ARM_BIT) as usize & 0x7f
    }

    /// Under which split the call was assigned.
    #[inline]
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        Epoch::new((self.0 >> 48) as u16)
    }

    /// To which arm.
    #[inline]
    #[must_use]
    pub const fn arm(self) -> Arm {
        Arm::new((self.0 >> ARM_BIT) as u8 & 0xf)
    }

    /// Of which segment.
    #[inline]
    #[must_use]
    pub const fn segment(self) -> Segment {
        Segment::new((self.0 >> 24) as u8)
    }

    /// Whose it is, where known.
    #[inline]
    #[must_use]
    pub const fn subject(self) -> Option<SubjectTag> {
        if self.0 & KNOWN_SUBJECT == 0 { None } else { Some(SubjectTag::of(self.0)) }
    }

    /// The key of the same call, where its arm was as busy as it may be and the baseline's model is
    /// asked in its stead.
    #[inline]
    #[must_use]
    pub const fn diverted(self) -> Self {
        Self(self.0 | DIVERTED)
    }

    /// Whether it is such a call.
    #[inline]
    #[must_use]
    pub const fn is_diverted(self) -> bool {
        self.0 & DIVERTED != 0
    }

    /// Whether it is evidence.
    #[inline]
    #[must_use]
    pub const fn draw(self) -> Draw {
        if self.0 & CHOSEN == 0 { Draw::Random } else { Draw::Chosen }
    }
}

/// A packed observation: the call's key with how it ended (status 3 bits, marks 5, at bit 32), and
/// a second word of flags 20 bits, latency bucket 12, score 32.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Words(pub [u64; 2]);

const SCORED: u64 = 1 << 44;
const TRUTH_KNOWN: u64 = 1 << 45;
const RIGHT: u64 = 1 << 46;
const FELL_BACK: u64 = 1 << 47;

impl Words {
    /// Packs what is known when a call ends.
    #[inline]
    #[must_use]
    pub fn of(key: CallKey, nanos: u64, outcome: &Outcome, fell_back: bool) -> Self {
        let ended = (outcome.status.index() << 5) as u64 | outcome.marks.bits() as u64;
        let mut second = (bucket_of(nanos) as u64) << 32;
        if let Some(score) = outcome.score {
            second |= SCORED | u64::from(score.to_bits());
        }
        if let Some(right) = outcome.correct {
            second |= if right { TRUTH_KNOWN | RIGHT } else { TRUTH_KNOWN };
        }
        if fell_back {
            second |= FELL_BACK;
        }
        Self([key.0 | ended << 32, second])
    }

    /// Packs an answer without more to say of it.
    #[inline]
    #[must_use]
    pub const fn answered(key: CallKey, nanos: u64) -> Self {
        // The status is number 0.
        Self([key.0, (bucket_of(nanos) as u64) << 32])
    }

    /// Packs an observation.
    #[must_use]
    pub fn pack(seen: &Observation) -> Self {
        Self::of(seen.key(), seen.nanos, &seen.outcome, seen.fell_back)
    }

    /// The call's key.
    #[inline]
    #[must_use]
    pub const fn key(self) -> CallKey {
        CallKey::from_word(self.0[0])
    }

    /// The epoch.
    #[inline]
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        Epoch::new((self.0[0] >> 48) as u16)
    }

    /// The arm's number.
    #[inline]
    #[must_use]
    pub const fn arm(self) -> usize {
        (self.0[0] >> 44) as usize & 0xf
    }

    /// The number of the status.
    #[inline]
    #[must_use]
    pub const fn status(self) -> usize {
        (self.0[0] >> 37) as usize & 0b111
    }

    /// The marks.
    #[inline]
    #[must_use]
    pub const fn marks(self) -> Marks {
        Marks::from_bits((self.0[0] >> 32) as u8)
    }

    /// The segment.
    #[inline]
    #[must_use]
    pub const fn segment(self) -> Segment {
        self.key().segment()
    }

    /// The subject, where known.
    #[inline]
    #[must_use]
    pub const fn subject(self) -> Option<SubjectTag> {
        self.key().subject()
    }

    /// Whether the call is evidence.
    #[inline]
    #[must_use]
    pub const fn draw(self) -> Draw {
        self.key().draw()
    }

    /// The latency's bucket.
    #[inline]
    #[must_use]
    pub const fn bucket(self) -> usize {
        (self.0[1] >> 32) as usize & 0xfff
    }

    /// The score, where one was given.
    #[inline]
    #[must_use]
    pub const fn score(self) -> Option<f32> {
        if self.0[1] & SCORED == 0 { None } else { Some(f32::from_bits(self.0[1] as u32)) }
    }

    /// Whether the answer was right, where known.
    #[inline]
    #[must_use]
    pub const fn correct(self) -> Option<bool> {
        if self.0[1] & TRUTH_KNOWN == 0 { None } else { Some(self.0[1] & RIGHT != 0) }
    }

    /// Whether the baseline answered instead.
    #[inline]
    #[must_use]
    pub const fn fell_back(self) -> bool {
        self.0[1] & FELL_BACK != 0
    }

    /// Whether the baseline's model was asked because the arm was as busy as it may be.
    #[inline]
    #[must_use]
    pub const fn diverted(self) -> bool {
        self.key().is_diverted()
    }

    /// The observation again, its latency as the middle of its bucket; `None` when these words
    /// were not packed here.
    #[must_use]
    pub fn unpack(self) -> Option<Observation> {
        let mut outcome = Outcome::ok();
        outcome.status = *Status::ALL.get(self.status())?;
        outcome.marks = self.marks();
        outcome.score = self.score();
        outcome.correct = self.correct();
        Some(Observation {
            arm: self.key().arm(),
            epoch: self.epoch(),
            segment: self.segment(),
            subject: self.subject(),
            nanos: bucket_middle(self.bucket()),
            outcome,
            draw: self.draw(),
            fell_back: self.fell_back(),
            diverted: self.diverted(),
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_hold_the_whole_observation(
            (epoch, segment, tag) in any::<(u16, u8, Option<u32>)>(),
            arm in 0..16_u8,
            bucket in 0..2_368_usize,
            status in 0..5_usize,
            (marks, score, correct) in any::<(u8, Option<f32>, Option<bool>)>(),
            (chosen, fell_back, diverted) in any::<(bool, bool, bool)>(),
        ) {
            let mut outcome = Outcome::ok();
            outcome.status = Status::ALL[status];
            outcome.marks = Marks::from_bits(marks);
            outcome.score = score;
            outcome.correct = correct;
            let seen = Observation {
                arm: Arm::new(arm),
                epoch: Epoch::new(epoch),
                segment: Segment::new(segment),
                subject: tag.map(|tag| SubjectTag::of(tag.into())),
                nanos: bucket_middle(bucket),
                outcome,
                draw: if chosen { Draw::Chosen } else { Draw::Random },
                fell_back,
                diverted,
            };
            prop_assert_eq!(Words::pack(&seen).unpack(), Some(seen));
        }
    }

    #[test]
    fn a_score_that_is_no_number_arrives_as_such() {
        let seen = Observation::new(
            Arm::CANDIDATE,
            Epoch::new(1),
            u64::MAX,
            Outcome::ok().with_score(f32::NAN),
        );
        let words = Words::pack(&seen);
        assert!(words.score().is_some_and(f32::is_nan));
        assert_eq!(words.bucket(), bucket_of(u64::MAX));
    }
}
