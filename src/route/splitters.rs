//! How other programs split traffic, exactly as they do it.
//!
//! For moving to this crate or from it without moving anybody, and for living beside them. New
//! flags and rollouts use [`bucket`](super::bucket): of the functions here some step by 1 %, some
//! take a modulo, one reads floating-point weights.

/// `MurmurHash3` in its 32-bit form for x86, the same on every platform.
///
/// Source: A. Appleby, `MurmurHash3` (public domain algorithm).
#[must_use]
pub fn murmur3_x86_32(bytes: &[u8], seed: u32) -> u32 {
    let scramble =
        |word: u32| word.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593);
    let mut chunks = bytes.chunks_exact(4);
    let mut hash = seed;
    for chunk in &mut chunks {
        let word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        hash = (hash ^ scramble(word)).rotate_left(13);
        hash = hash.wrapping_mul(5).wrapping_add(0xE654_6B64);
    }
    let rest = chunks.remainder();
    let tail = rest.iter().rev().fold(0_u32, |tail, byte| tail << 8 | u32::from(*byte));
    hash ^= scramble(tail) ^ bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ hash >> 13).wrapping_mul(0xC2B2_AE35);
    hash ^ hash >> 16
}

/// Unleash's normalised value of a subject in a group, from 1 to `normalizer`: the gradual rollout
/// to `p` percent takes those up to `p` of 100.
///
/// `None` when `normalizer` is 0.
#[must_use]
pub fn unleash_normalised(group: &str, subject: &str, normalizer: u32, seed: u32) -> Option<u32> {
    let hash = murmur3_x86_32(format!("{group}:{subject}").as_bytes(), seed);
    Some(hash.checked_rem(normalizer)? + 1)
}

/// LaunchDarkly's and others' bucketing number: the first 15 hexadecimal digits of the SHA-1 of
/// `salt.subject`.
#[must_use]
pub fn sha1_15(text: &[u8]) -> u64 {
    let digest = sha1(text);
    let head = u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    head >> 4
}

/// GrowthBook's hash of a subject, from 0 to 1; `None` for versions other than 1 and 2.
#[must_use]
pub fn growthbook_hash(seed: &str, subject: &str, version: u32) -> Option<f64> {
    match version {
        1 => Some(f64::from(fnv1a_32(&format!("{subject}{seed}")) % 1000) / 1000.0),
        2 => {
            let inner = fnv1a_32(&format!("{seed}{subject}"));
            Some(f64::from(fnv1a_32(&inner.to_string()) % 10_000) / 10_000.0)
        }
        _ => None,
    }
}

/// GrowthBook's equal weights of `variations`: 1 each over their number.
#[must_use]
pub fn growthbook_equal_weights(variations: usize) -> Vec<f64> {
    vec![1.0 / variations as f64; variations]
}

/// GrowthBook's ranges of the hash, one for each variation: `coverage` is clamped to 0 to 1, and
/// weights that do not fit the number of variations or do not sum to 1 (within 0.01) are replaced
/// by equal ones.
#[must_use]
pub fn growthbook_bucket_ranges(
    variations: usize,
    coverage: f64,
    weights: Option<&[f64]>,
) -> Vec<(f64, f64)> {
    let coverage = if coverage.is_nan() { 0.0 } else { coverage.clamp(0.0, 1.0) };
    let sums_to_one = |weights: &&[f64]| {
        let sum: f64 = weights.iter().sum();
        weights.len() == variations && (0.99..=1.01).contains(&sum)
    };
    let equal = growthbook_equal_weights(variations);
    let weights = weights.filter(sums_to_one).unwrap_or(&equal);
    let mut start = 0.0;
    weights
        .iter()
        .map(|weight| {
            let range = (start, start + coverage * weight);
            start += weight;
            range
        })
        .collect()
}

/// The variation whose range holds the hash, if one does.
#[must_use]
pub fn growthbook_choose(hash: f64, ranges: &[(f64, f64)]) -> Option<usize> {
    ranges.iter().position(|(start, end)| hash >= *start && hash < *end)
}

/// Whether GrowthBook counts a subject to its part of a namespace.
#[must_use]
pub fn growthbook_in_namespace(subject: &str, namespace: &str, from: f64, to: f64) -> bool {
    let hash = growthbook_hash(&format!("__{namespace}"), subject, 1);
    hash.is_some_and(|hash| hash >= from && hash < to)
}

/// FNV-1a with 32 bits. Source: draft-eastlake-fnv.
fn fnv1a_32(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// SHA-1, for agreement with others, never for security. Source: FIPS 180-4.
fn sha1(text: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    let mut padded = text.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() < text.len() + 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(text.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for at in 16..80 {
            let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words[at] = mixed.rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (round, word) in words.iter().enumerate() {
            let (mix, constant) = match round / 20 {
                0 => ((b & c) | (!b & d), 0x5A82_7999),
                1 => (b ^ c ^ d, 0x6ED9_EBA1),
                2 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(mix)
                .wrapping_add(e)
                .wrapping_add(constant)
                .wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (word, add) in state.iter_mut().zip([a, b, c, d, e]) {
            *word = word.wrapping_add(add);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values_are_met() {
        // FIPS 180-4 examples, and the verification values of MurmurHash3.
        assert_eq!(sha1_15(b"abc"), 0x0A99_93E3_6470_6816);
        assert_eq!(murmur3_x86_32(b"", 0), 0);
        assert_eq!(murmur3_x86_32(b"", 1), 0x514E_28B7);
        assert_eq!(murmur3_x86_32(b"hello, world", 0), 0x149B_BB7F);
        assert_eq!(unleash_normalised("g", "s", 0, 0), None);
    }
}
