//! Where a subject falls, for ever.
//!
//! `seed = XXH3-64(salt)`, `h = XXH3-64(subject, seed)`, and a subject is inside a share of `p`
//! when `h < p · 2^64`. No modulo, so a share may be as fine as a millionth; a growing share only
//! ever adds subjects; and the same salt and subject give the same answer on every replica,
//! platform and release. That makes the algorithm a wire contract: it has a version tag, and a
//! table of answers made by another library is among the tests.
//!
//! Two salts follow from the one a user gives. The *arm* salt is that salt; the *exposure* salt is
//! derived from it. So when a test is opened to more people, nobody already in it changes arms.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::route::siphash::SipKey;
use crate::share::TrafficShare;

/// Ids longer than this many bytes are known by their two ends and their length, so that a hostile
/// id of a mebibyte costs no more than one of this size.
pub const LONGEST_ID: usize = 4096;

/// The seed that belongs to a salt.
#[must_use]
pub fn seed_of(salt: &str) -> u64 {
    xxh3_64(salt.as_bytes())
}

/// The hash of a subject under a seed, evenly spread over all 64 bits.
#[inline]
#[must_use]
pub fn hash_of(subject: &[u8], seed: u64) -> u64 {
    if subject.len() > LONGEST_ID {
        return hash_of_ends(subject, seed);
    }
    xxh3_64_with_seed(subject, seed)
}

#[cold]
fn hash_of_ends(subject: &[u8], seed: u64) -> u64 {
    let (head, tail) = (&subject[..LONGEST_ID / 2], &subject[subject.len() - LONGEST_ID / 2..]);
    let seed = xxh3_64_with_seed(&(subject.len() as u64).to_le_bytes(), seed);
    xxh3_64_with_seed(tail, xxh3_64_with_seed(head, seed))
}

/// Which millionth of the whole a hash falls into: `floor(h · 10^6 / 2^64)`, from 0 to 999,999.
#[inline]
#[must_use]
pub const fn millionth(hash: u64) -> u32 {
    ((hash as u128 * TrafficShare::ALL.ppm() as u128) >> 64) as u32
}

/// Whether a hash lies inside a share: exactly `h < p · 2^64`.
#[inline]
#[must_use]
pub const fn inside(hash: u64, share: TrafficShare) -> bool {
    millionth(hash) < share.ppm()
}

/// A whole number as its decimal text, which is how numbers are hashed: `42` and `"42"` are the
/// same subject, in every language that can print a number.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 20],
    from: u8,
}

impl Decimal {
    /// The text of `number`.
    #[must_use]
    pub const fn of(number: u64) -> Self {
        let mut decimal = Self { digits: [0; 20], from: 20 };
        let mut rest = number;
        loop {
            decimal.from -= 1;
            decimal.digits[decimal.from as usize] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return decimal;
            }
        }
    }

    /// The text of `number`, with its sign.
    #[must_use]
    pub const fn of_signed(number: i64) -> Self {
        let mut decimal = Self::of(number.unsigned_abs());
        if number < 0 {
            // 19 digits at most, so there is room for the sign.
            decimal.from -= 1;
            decimal.digits[decimal.from as usize] = b'-';
        }
        decimal
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.from as usize..]
    }
}

/// How subjects are assigned: an algorithm with its version, and the salt that makes this rollout
/// independent of every other. It is stored with a rollout and survives a rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scheme {
    /// XXH3-64 seeded by the salt, as this module's head describes it.
    #[serde(rename = "xxh3-64/1")]
    Xxh3 {
        /// The salt, any text.
        salt: String,
    },
}

impl Scheme {
    /// The default scheme with this salt.
    #[must_use]
    pub fn new(salt: impl Into<String>) -> Self {
        Self::Xxh3 { salt: salt.into() }
    }

    /// The salt.
    #[must_use]
    pub fn salt(&self) -> &str {
        let Self::Xxh3 { salt } = self;
        salt
    }
}

/// A scheme made ready: its seeds are computed.
///
/// ```
/// use pilotage::route::bucket::{Bucketing, Scheme, inside};
/// use pilotage::share::TrafficShare;
///
/// let bucketing = Bucketing::new(&Scheme::new("checkout-2026"));
/// let hash = bucketing.arm_hash(b"user-42");
/// assert_eq!(hash, bucketing.arm_hash(b"user-42"));
/// assert!(inside(hash, TrafficShare::ALL));
/// assert!(!inside(hash, TrafficShare::NONE));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucketing {
    arm: u64,
    exposure: u64,
    key: Option<SipKey>,
    /// The longest id that is hashed in one go, 0 where there is a key: so the quick way asks once.
    in_one_go: usize,
}

impl Bucketing {
    /// The seeds of `scheme`.
    #[must_use]
    pub fn new(scheme: &Scheme) -> Self {
        let salt = scheme.salt();
        let exposure = format!("{salt}:exposure");
        Self { arm: seed_of(salt), exposure: seed_of(&exposure), key: None, in_one_go: LONGEST_ID }
    }

    /// With a secret key: subjects are first hashed by SipHash-1-3, so that nobody who chooses an
    /// id can choose an arm. Every replica needs the same key, and changing it moves everybody.
    #[must_use]
    pub const fn keyed(mut self, key: SipKey) -> Self {
        self.key = Some(key);
        self.in_one_go = 0;
        self
    }

    /// The hash that decides the arm.
    #[inline]
    #[must_use]
    pub fn arm_hash(&self, subject: &[u8]) -> u64 {
        self.hash(subject, self.arm)
    }

    /// As [`Bucketing::arm_hash`] for an id that is hashed in one go; `None` for all others.
    #[inline]
    pub(crate) fn quick_arm_hash(&self, subject: &[u8]) -> Option<u64> {
        let in_one_go = subject.len().wrapping_sub(1) < self.in_one_go;
        in_one_go.then(|| xxh3_64_with_seed(subject, self.arm))
    }

    /// The hash that decides whether the subject takes part at all.
    #[inline]
    #[must_use]
    pub fn exposure_hash(&self, subject: &[u8]) -> u64 {
        self.hash(subject, self.exposure)
    }

    #[inline]
    fn hash(&self, subject: &[u8], seed: u64) -> u64 {
        match &self.key {
            None => hash_of(subject, seed),
            Some(key) => keyed_hash(key, subject, seed),
        }
    }
}

#[cold]
fn keyed_hash(key: &SipKey, subject: &[u8], seed: u64) -> u64 {
    if subject.len() > LONGEST_ID {
        return key.hash_1_3(&(hash_of_ends(subject, seed) ^ seed).to_le_bytes());
    }
    // The outer hash mixes the seed in; the inner one is what needs the key.
    xxh3_64_with_seed(&key.hash_1_3(subject).to_le_bytes(), seed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_hash_as_their_decimal_text() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(Decimal::of(number).as_bytes(), number.to_string().as_bytes());
        }
        for number in [0, -1, 7, i64::MIN, i64::MAX] {
            assert_eq!(Decimal::of_signed(number).as_bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn the_ends_of_a_giant_id_and_its_length_count() {
        let id = vec![7; 1 << 20];
        let mut other_end = id.clone();
        *other_end.last_mut().unwrap() = 8;
        let hash = |id: &[u8]| hash_of(id, 1);
        assert_ne!(hash(&id), hash(&other_end));
        assert_ne!(hash(&id), hash(&id[..id.len() - 1]));
    }

    #[test]
    fn a_scheme_is_stored_with_its_version() {
        let stored = serde_json::to_string(&Scheme::new("a")).unwrap();
        assert_eq!(stored, r#"{"algorithm":"xxh3-64/1","salt":"a"}"#);
        assert_eq!(serde_json::from_str::<Scheme>(&stored).unwrap().salt(), "a");
        assert!(serde_json::from_str::<Scheme>(r#"{"algorithm":"xxh9","salt":"a"}"#).is_err());
    }

    #[test]
    fn a_key_changes_every_assignment_and_stays_put() {
        let open = Bucketing::new(&Scheme::new("a"));
        let keyed = open.keyed(SipKey::new([3; 16]));
        assert_ne!(open.arm_hash(b"user"), keyed.arm_hash(b"user"));
        assert_eq!(keyed.arm_hash(b"user"), keyed.arm_hash(b"user"));
        assert_ne!(keyed.arm_hash(b"user"), keyed.exposure_hash(b"user"));
    }

    proptest! {
        #[test]
        fn a_growing_share_only_adds_subjects(hash: u64, a in 0_u32..=1_000_000, b in 0_u32..=1_000_000) {
            let share = |ppm| TrafficShare::from_ppm(ppm).unwrap();
            prop_assert!(!inside(hash, share(a.min(b))) || inside(hash, share(a.max(b))));
        }

        #[test]
        fn inside_is_exactly_below_the_threshold(hash: u64, ppm in 0_u32..=1_000_000) {
            let exact = u128::from(hash) * 1_000_000 < u128::from(ppm) << 64;
            prop_assert_eq!(inside(hash, TrafficShare::from_ppm(ppm).unwrap()), exact);
        }
    }
}
