//! A keyed hash, for where somebody outside chooses what is hashed.
//!
//! XXH3 is fast and anybody can compute it: whoever may choose a user id can choose an arm with
//! it. `SipHash` needs the key. The standard library has it inside, but offers no way to give it a
//! key that is not deprecated, and a stored assignment must not change with the library.
//!
//! Source: J.-P. Aumasson, D. J. Bernstein, "`SipHash`: a fast short-input PRF", INDOCRYPT 2012.

/// A 128-bit key as two little-endian words.
///
/// `Debug` shows no part of it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct SipKey(u64, u64);

impl SipKey {
    /// The key with these 16 bytes. Take them from a source of true randomness.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self(
            u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        )
    }

    /// SipHash-1-3 of `data`: for assignment, where an attacker sees at most which arm it chose.
    #[must_use]
    pub fn hash_1_3(&self, data: &[u8]) -> u64 {
        siphash::<1, 3>(*self, data)
    }

    /// SipHash-2-4 of `data`: for authentication.
    #[must_use]
    pub fn hash_2_4(&self, data: &[u8]) -> u64 {
        siphash::<2, 4>(*self, data)
    }
}

impl std::fmt::Debug for SipKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SipKey(***)")
    }
}

fn siphash<const C: usize, const D: usize>(key: SipKey, data: &[u8]) -> u64 {
    let mut state = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    let mut chunks = data.chunks_exact(8);
    for chunk in &mut chunks {
        absorb::<C>(&mut state, word(chunk));
    }
    absorb::<C>(&mut state, word(chunks.remainder()) | (data.len() as u64) << 56);
    state[2] ^= 0xff;
    for _ in 0..D {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn absorb<const C: usize>(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    for _ in 0..C {
        round(state);
    }
    state[0] ^= word;
}

/// Up to eight bytes, little-endian, the missing ones zero.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

const fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SipKey {
        SipKey::new(std::array::from_fn(|at| at as u8))
    }

    #[test]
    fn the_example_of_the_paper_comes_out() {
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(key().hash_2_4(&message), 0xa129_ca61_49be_45e5);
        assert_eq!(key().hash_2_4(&[]), 0x726f_db47_dd0e_0e31);
    }

    #[test]
    fn the_short_variant_agrees_with_the_standard_library() {
        use std::hash::Hasher;
        let zero = SipKey::new([0; 16]);
        for len in 0..40 {
            let message: Vec<u8> = (0..len).collect();
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&message);
            assert_eq!(zero.hash_1_3(&message), theirs.finish(), "{len} bytes");
        }
    }

    #[test]
    fn a_key_does_not_show() {
        assert_eq!(format!("{:?}", key()), "SipKey(***)");
    }
}
