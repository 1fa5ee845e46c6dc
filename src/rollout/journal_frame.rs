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
//! | 24..32 | generation: which opening for writing wrote it |
//! | 32..40 | XXH3-64 of the 32 bytes before |
//! | 40.. | payload |
//! | last 8 | XXH3-64 of the payload, seeded by the checksum of the head |
//!
//! Numbers are little-endian. The 40 bytes of the head mean the same in every version, so that an
//! older release knows a newer journal for what it is.
//!
//! Each opening for writing has a generation of its own, one more than any before it, and begins
//! with a snapshot. A frame of a lower generation than one before it was written by a process that
//! did not know of the later one; a frame that a later generation numbered anew was not seen by it.
//! Neither is part of the row, and neither is damage.
//!
//! A file that stops in the middle of its last frame was torn by a crash: that frame was never
//! acknowledged, so it is left out, and said. A whole frame whose checksum is wrong is damage, also
//! the last one: it was acknowledged once and may have held an abort.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::ids::Epoch;
use crate::rollout::journal_error::JournalError;

const MAGIC: [u8; 4] = *b"PLTJ";
/// The version that is written and read.
pub const VERSION: u16 = 2;
const HEAD: usize = 40;
/// How many bytes of the head its checksum covers.
const SUMMED: usize = HEAD - 8;
const SEAL: usize = 8;
/// The longest payload that is written or read, in bytes.
pub const MOST_PAYLOAD: usize = 16 << 20;

/// Where an entry stands in a journal, and under what it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Which opening for writing wrote it: 1 for the start of a rollout on a new file, one more than
    /// was found for everything that opens it after that.
    pub generation: u64,
    /// Its number: one more than the entry before it.
    pub revision: u64,
    /// The epoch of the split in force.
    pub epoch: Epoch,
}

/// A frame of a journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Frame<'a> {
    pub position: Position,
    pub payload: &'a [u8],
    pub standing: Standing,
}

/// Whether a frame is part of the row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It is.
    Counts,
    /// The first of a generation that is not the first.
    Begins,
    /// It is not: a process wrote it that did not know of a later one, or that a later one did not
    /// know of.
    Intruded,
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
pub(super) fn encode(position: Position, payload: &[u8]) -> Result<Vec<u8>, JournalError> {
    let Position { generation, revision, epoch } = position;
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
    out.extend(generation.to_le_bytes());
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
    // The last frame of the row.
    let mut last: Option<Position> = None;
    while !rest.is_empty() {
        let known = rest.len().min(MAGIC.len());
        let expected = last.map_or(0, |last| last.revision.saturating_add(1));
        let read = if rest[..known] == MAGIC[..known] {
            one(rest, at, expected)
        } else if all.frames.is_empty() {
            Err(JournalError::Foreign)
        } else {
            Err(damaged(at, expected, "it does not begin as a frame does"))
        };
        let (mut frame, after) = match read {
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
        frame.standing = match last {
            None => Standing::Counts,
            Some(last) if frame.position.generation < last.generation => Standing::Intruded,
            Some(last) => {
                let begins = frame.position.generation > last.generation;
                let next = frame.position.revision;
                if next > expected || (next < expected && !begins) {
                    all.wrong = Some(damaged(at, expected, "a frame before it is missing"));
                    return all;
                }
                if begins {
                    // What a later generation numbers anew it did not see.
                    for seen in all.frames.iter_mut().filter(|one| one.position.revision >= next) {
                        seen.standing = Standing::Intruded;
                    }
                    Standing::Begins
                } else {
                    Standing::Counts
                }
            }
        };
        if frame.standing != Standing::Intruded {
            last = Some(frame.position);
        }
        at += (rest.len() - after.len()) as u64;
        all.frames.push(frame);
        all.ends.push(at);
        rest = after;
    }
    all
}

/// The whole frames among bytes that need not be a journal, and whether there is anything else.
pub(super) fn frames_among(bytes: &[u8]) -> (Vec<Frame<'_>>, bool) {
    let (mut rest, mut frames, mut covered) = (bytes, Vec::new(), 0);
    while let Some(at) = rest.windows(MAGIC.len()).position(|four| four == MAGIC) {
        rest = match one(&rest[at..], 0, 0) {
            Ok(Some((frame, after))) => {
                covered += rest.len() - at - after.len();
                frames.push(frame);
                after
            }
            Ok(None) | Err(_) => &rest[at + 1..],
        };
    }
    (frames, covered < bytes.len())
}

/// How many whole frames can still be found among bytes that are damaged.
pub(super) fn whole_among(bytes: &[u8]) -> u64 {
    frames_among(bytes).0.len() as u64
}

/// The first frame and what comes after it; `None` where the bytes end before it does.
fn one(bytes: &[u8], at: u64, expected: u64) -> Result<Option<(Frame<'_>, &[u8])>, JournalError> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
    let checksum = u64_at(head, SUMMED);
    if xxh3_64(&head[..SUMMED]) != checksum {
        return Err(damaged(at, expected, "its head is not what was written"));
    }
    let version = u16_at(head, 4);
    if version > VERSION {
        return Err(JournalError::NewerVersion { version, known: VERSION });
    }
    let revision = u64_at(head, 16);
    let len = u32_at(head, 8) as usize;
    if version < VERSION || len > MOST_PAYLOAD {
        return Err(damaged(at, revision, "its head says what is never written"));
    }
    let Some((payload, rest)) = rest.split_at_checked(len) else { return Ok(None) };
    let Some((seal, rest)) = rest.split_at_checked(SEAL) else { return Ok(None) };
    if xxh3_64_with_seed(payload, checksum) != u64_at(seal, 0) {
        return Err(damaged(at, revision, "its payload is not what was written"));
    }
    let epoch = Epoch::new(u16_at(head, 6));
    let position = Position { generation: u64_at(head, 24), revision, epoch };
    Ok(Some((Frame { position, payload, standing: Standing::Counts }, rest)))
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

    fn frame(generation: u64, revision: u64) -> Vec<u8> {
        let payload = vec![revision as u8; 10 * revision as usize];
        encode(Position { generation, revision, epoch: Epoch::new(7) }, &payload).unwrap()
    }

    fn file() -> Vec<u8> {
        (1..=3).flat_map(|revision| frame(1, revision)).collect()
    }

    fn row(bytes: &[u8]) -> Vec<(u64, u64, Standing)> {
        let (frames, _) = decode(bytes).unwrap();
        let place =
            |frame: &Frame| (frame.position.generation, frame.position.revision, frame.standing);
        frames.iter().map(place).collect()
    }

    #[test]
    fn a_file_cut_anywhere_gives_its_whole_frames_and_says_what_is_left_out() {
        let file = file();
        let ends = [58, 126, 204];
        assert_eq!(file.len(), 204);
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
        for bytes in [[&file[..58], &file[126..]].concat(), [&file[..126], &file[58..]].concat()] {
            assert!(matches!(decode(&bytes), Err(JournalError::Damaged { .. })));
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut file = file();
        file[4..6].copy_from_slice(&9_u16.to_le_bytes());
        let head = xxh3_64(&file[..SUMMED]);
        file[SUMMED..HEAD].copy_from_slice(&head.to_le_bytes());
        assert_eq!(decode(&file), Err(JournalError::NewerVersion { version: 9, known: 2 }));
        assert_eq!(decode(b"{\"plan\": 1}"), Err(JournalError::Foreign));
        assert_eq!(decode(&[0; 4096]), Err(JournalError::Foreign));
    }

    #[test]
    fn a_frame_that_an_earlier_writer_wrote_late_is_no_part_of_the_row() {
        use Standing::{Begins, Counts, Intruded};
        // The first writer got to 2; the second went on at 3; the first wrote its own 3 and 4.
        let late = [[1, 1], [1, 2], [2, 3], [1, 3], [1, 4], [2, 4]];
        let bytes: Vec<u8> = late.iter().flat_map(|[of, number]| frame(*of, *number)).collect();
        let standings = [Counts, Counts, Begins, Intruded, Intruded, Counts];
        let got: Vec<Standing> = row(&bytes).into_iter().map(|one| one.2).collect();
        assert_eq!(got, standings);
        // The first wrote 3 before the second, who did not see it, began with its own.
        let bytes = [frame(1, 1), frame(1, 2), frame(1, 3), frame(2, 3), frame(2, 4)].concat();
        let got: Vec<Standing> = row(&bytes).into_iter().map(|one| one.2).collect();
        assert_eq!(got, [Counts, Counts, Intruded, Begins, Counts]);
    }

    #[test]
    fn a_later_generation_that_leaves_a_number_out_is_damage() {
        let whole = [frame(1, 1), frame(1, 2), frame(2, 3)].concat();
        assert_eq!(row(&whole).len(), 3);
        for gap in [[frame(1, 1), frame(2, 3)], [frame(1, 2), frame(1, 2)]] {
            assert!(matches!(decode(&gap.concat()), Err(JournalError::Damaged { .. })));
        }
    }

    #[test]
    fn among_other_bytes_whole_frames_are_found_and_the_rest_is_said() {
        let (first, second) = (frame(1, 1), frame(2, 2));
        let both = [&first[..], &second].concat();
        let (frames, rest) = frames_among(&both);
        assert_eq!((frames.len(), rest), (2, false));
        assert_eq!(frames_among(&[]), (Vec::new(), false));
        for bytes in [
            [&first[..], &second[..20], &second].concat(),
            [&b"PLT"[..], &first, &second].concat(),
            [&first[..], &second, &[0]].concat(),
        ] {
            let (frames, rest) = frames_among(&bytes);
            assert_eq!((frames.len(), rest), (2, true));
        }
    }
}
