//! Frames: how a journal's bytes are cut.
//!
//! | bytes | what |
//! |--|--|
//! | 0..4 | `PLTJ` |
//! | 4..6 | version of the format |
//! | 6..8 | epoch of the split when it was written |
//! | 8..12 | length of the payload |
//! | 12..16 | zero |
//! | 16..24 | revision: one more than the frame before it |
//! | 24..32 | XXH3-64 of the 24 bytes before |
//! | 32.. | payload |
//! | last 8 | XXH3-64 of the payload, seeded by the checksum of the head |
//!
//! Numbers are little-endian. The 32 bytes of the head mean the same in every version, so that an
//! older release knows a newer journal for what it is.
//!
//! A file that stops in the middle of its last frame was torn by a crash: that frame was never
//! acknowledged, so it is left out, and said. A whole frame whose checksum is wrong is damage, also
//! the last one: it was acknowledged once and may have held an abort.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::ids::Epoch;
use crate::rollout::journal_error::JournalError;

const MAGIC: [u8; 4] = *b"PLTJ";
/// The version that is written; it and every older one is read.
pub const VERSION: u16 = 1;
const HEAD: usize = 32;
const SEAL: usize = 8;
/// The longest payload that is written or read, in bytes.
pub const MOST_PAYLOAD: usize = 16 << 20;

/// A frame of a journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Frame<'a> {
    pub revision: u64,
    pub epoch: Epoch,
    pub payload: &'a [u8],
}

/// The end of a file that a crash tore.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Torn {
    /// The first byte that is left out.
    pub at: u64,
    /// How many bytes are left out.
    pub bytes: u64,
}

/// The bytes of a frame.
pub(super) fn encode(revision: u64, epoch: Epoch, payload: &[u8]) -> Result<Vec<u8>, JournalError> {
    if payload.len() > MOST_PAYLOAD {
        return Err(JournalError::TooLong { bytes: payload.len() as u64 });
    }
    let mut out = Vec::with_capacity(HEAD + payload.len() + SEAL);
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend(epoch.number().to_le_bytes());
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend(revision.to_le_bytes());
    let head = xxh3_64(&out);
    out.extend(head.to_le_bytes());
    out.extend(payload);
    out.extend(xxh3_64_with_seed(payload, head).to_le_bytes());
    Ok(out)
}

/// The frames that `bytes` hold, and what is left of a torn one.
pub(super) fn decode(bytes: &[u8]) -> Result<(Vec<Frame<'_>>, Option<Torn>), JournalError> {
    if bytes.is_empty() {
        return Err(JournalError::Empty);
    }
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let (mut rest, mut at) = (bytes, 0_u64);
    while !rest.is_empty() {
        let known = rest.len().min(MAGIC.len());
        if rest[..known] != MAGIC[..known] {
            return Err(match frames.last() {
                None => JournalError::Foreign,
                Some(last) => damaged(at, last.revision + 1, "it does not begin as a frame does"),
            });
        }
        let expected = frames.last().map_or(0, |last| last.revision + 1);
        let Some((frame, after)) = one(rest, at, expected)? else {
            break;
        };
        if frames.last().is_some_and(|last| last.revision.checked_add(1) != Some(frame.revision)) {
            return Err(damaged(at, expected, "a frame before it is missing"));
        }
        at += (rest.len() - after.len()) as u64;
        frames.push(frame);
        rest = after;
    }
    if frames.is_empty() {
        return Err(JournalError::Truncated { bytes: bytes.len() as u64 });
    }
    let torn = (!rest.is_empty()).then_some(Torn { at, bytes: rest.len() as u64 });
    Ok((frames, torn))
}

/// The first frame and what comes after it; `None` where the bytes end before it does.
fn one(bytes: &[u8], at: u64, expected: u64) -> Result<Option<(Frame<'_>, &[u8])>, JournalError> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
    let checksum = u64_at(head, 24);
    if xxh3_64(&head[..24]) != checksum {
        return Err(damaged(at, expected, "its head is not what was written"));
    }
    let version = u16_at(head, 4);
    if version > VERSION {
        return Err(JournalError::NewerVersion { version, known: VERSION });
    }
    let revision = u64_at(head, 16);
    let len = u32_at(head, 8) as usize;
    if version == 0 || len > MOST_PAYLOAD {
        return Err(damaged(at, revision, "its head says what is never written"));
    }
    let Some((payload, rest)) = rest.split_at_checked(len) else { return Ok(None) };
    let Some((seal, rest)) = rest.split_at_checked(SEAL) else { return Ok(None) };
    if xxh3_64_with_seed(payload, checksum) != u64_at(seal, 0) {
        return Err(damaged(at, revision, "its payload is not what was written"));
    }
    Ok(Some((Frame { revision, epoch: Epoch::new(u16_at(head, 6)), payload }, rest)))
}

fn damaged(at: u64, revision: u64, what: &str) -> JournalError {
    JournalError::Damaged { at, revision, what: what.to_owned() }
}

/// The little-endian number in the `len` bytes from `at`; missing bytes are zero.
fn number_at(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes.iter().skip(at).take(len).rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    number_at(bytes, at, 2) as u16
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    number_at(bytes, at, 4) as u32
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    number_at(bytes, at, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        (1..=3_u64)
            .flat_map(|revision| {
                let payload = vec![revision as u8; 10 * revision as usize];
                encode(revision, Epoch::new(7), &payload).unwrap()
            })
            .collect()
    }

    #[test]
    fn a_file_cut_anywhere_gives_its_whole_frames_and_says_what_is_left_out() {
        let file = file();
        let ends = [50, 110, 180];
        assert_eq!(file.len(), 180);
        for cut in 0..=file.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            match decode(&file[..cut]) {
                Err(JournalError::Empty) => assert_eq!(cut, 0),
                Err(JournalError::Truncated { bytes }) => {
                    assert_eq!((bytes, whole), (cut as u64, 0));
                }
                Err(error) => panic!("{cut}: {error}"),
                Ok((frames, torn)) => {
                    assert_eq!(frames.len(), whole, "{cut}");
                    assert_eq!(frames.last().unwrap().payload[0], whole as u8);
                    let left = (cut - ends[whole - 1]) as u64;
                    assert_eq!(torn.map_or(0, |torn| torn.bytes), left, "{cut}");
                }
            }
        }
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let file = file();
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&flipped).expect_err("a bit was flipped");
            let fits = matches!(error, JournalError::Damaged { .. } | JournalError::Foreign);
            assert!(fits, "{bit}: {error}");
        }
    }

    #[test]
    fn a_missing_or_repeated_frame_is_damage() {
        let file = file();
        for bytes in [[&file[..50], &file[110..]].concat(), [&file[..110], &file[50..]].concat()] {
            assert!(matches!(decode(&bytes), Err(JournalError::Damaged { .. })));
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut file = file();
        file[4..6].copy_from_slice(&9_u16.to_le_bytes());
        let head = xxh3_64(&file[..24]);
        file[24..32].copy_from_slice(&head.to_le_bytes());
        assert_eq!(decode(&file), Err(JournalError::NewerVersion { version: 9, known: 1 }));
        assert_eq!(decode(b"{\"plan\": 1}"), Err(JournalError::Foreign));
        assert_eq!(decode(&[0; 4096]), Err(JournalError::Foreign));
    }
}
