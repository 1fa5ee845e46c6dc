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
    let walked = walk(bytes);
    match walked.wrong {
        Some(error) => Err(error),
        None => Ok((walked.frames, walked.torn)),
    }
}

/// As many frames as hold together, from the first byte on.
#[derive(Debug)]
pub(super) struct Walked<'a> {
    pub frames: Vec<Frame<'a>>,
    /// The byte after each of them.
    pub ends: Vec<u64>,
    pub torn: Option<Torn>,
    /// What is wrong after them, or with the first.
    pub wrong: Option<JournalError>,
}

pub(super) fn walk(bytes: &[u8]) -> Walked<'_> {
    let mut all = Walked { frames: Vec::new(), ends: Vec::new(), torn: None, wrong: None };
    if bytes.is_empty() {
        all.wrong = Some(JournalError::Empty);
        return all;
    }
    let (mut rest, mut at) = (bytes, 0_u64);
    while !rest.is_empty() {
        let known = rest.len().min(MAGIC.len());
        let expected = all.frames.last().map_or(0, |last| last.revision.saturating_add(1));
        let read = if rest[..known] == MAGIC[..known] {
            one(rest, at, expected)
        } else if all.frames.is_empty() {
            Err(JournalError::Foreign)
        } else {
            Err(damaged(at, expected, "it does not begin as a frame does"))
        };
        let (frame, after) = match read {
            Ok(Some((frame, _))) if !all.frames.is_empty() && frame.revision != expected => {
                all.wrong = Some(damaged(at, expected, "a frame before it is missing"));
                return all;
            }
            Ok(Some(whole)) => whole,
            Ok(None) if all.frames.is_empty() => {
                all.wrong = Some(JournalError::Truncated { bytes: bytes.len() as u64 });
                return all;
            }
            Ok(None) => {
                all.torn = Some(Torn { at, bytes: rest.len() as u64 });
                return all;
            }
            Err(error) => {
                all.wrong = Some(error);
                return all;
            }
        };
        at += (rest.len() - after.len()) as u64;
        all.frames.push(frame);
        all.ends.push(at);
        rest = after;
    }
    all
}

/// How many whole frames can still be found among bytes that are damaged.
pub(super) fn whole_among(bytes: &[u8]) -> u64 {
    let (mut rest, mut found) = (bytes, 0);
    while let Some(at) = rest.windows(MAGIC.len()).position(|four| four == MAGIC) {
        rest = match one(&rest[at..], 0, 0) {
            Ok(Some((_, after))) => {
                found += 1;
                after
            }
            Ok(None) | Err(_) => &rest[at + 1..],
        };
    }
    found
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
