//! The token that joins a later truth to its request.
//!
//! Sixteen bytes that say which arm, split and segment served the request, whose it was (24 bits
//! of a hash), when, and a nonce: so nothing has to be remembered until the truth arrives, and a
//! truth posted twice is seen.
//!
//! A plain [`Ticket`] is as honest as whoever carries it. Where it travels through clients, seal
//! it: a [`SealedTicket`] has eight more bytes that only the holder of the key can make.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::ids::{Arm, Epoch, Segment};
use crate::observe::record::CallKey;
use crate::route::siphash::SipKey;

/// Joins a later truth to its request. 16 bytes; text form 32 hexadecimal digits.
///
/// From the top: epoch 16 bits, arm 4, kind 3, router 9, segment 8, subject 24, when 32 (in units
/// of 16.8 ms: it wraps after 2.3 years), nonce 32.
#[derive(Clone, Copy, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ticket(u128);

/// A ticket with 8 bytes of authentication. Text form 48 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SealedTicket {
    ticket: Ticket,
    seal: u64,
}

/// Text or bytes that are not a ticket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Of the wrong length.
    #[error("a ticket has {expected} bytes, not {len}; send it back as it was given")]
    Length {
        /// How long it should be.
        expected: usize,
        /// How long it was.
        len: usize,
    },
    /// Something else than hexadecimal digits.
    #[error(
        "a ticket is hexadecimal digits only, but byte {at} is not; send it back as it was given"
    )]
    Digit {
        /// Where.
        at: usize,
    },
    /// The seal does not belong to the ticket: it was altered, or sealed with another key.
    #[error("the ticket's seal is not of this key; it was altered or belongs to another service")]
    Forged,
}

/// What a ticket says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Served {
    pub key: CallKey,
    pub router: RouterTag,
    pub at: Moment,
    pub nonce: u32,
}

/// Nine bits of a router's name, in the place where a ticket has them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RouterTag(u64);

const ROUTER_BITS: u64 = 0x1ff << 32;

impl RouterTag {
    /// The tag in nine bits of a hash.
    pub(crate) const fn of(hash: u64) -> Self {
        Self(hash & ROUTER_BITS)
    }
}

/// A ticket's unit of time, as a power of two of nanoseconds.
pub(crate) const TIME_UNIT: u32 = 24;

impl Ticket {
    /// The key has room for the router's nine bits where a record says how the call ended.
    #[inline]
    pub(crate) const fn of(served: &Served) -> Self {
        let high = served.key.word() | served.router.0;
        let low = (served.at.as_nanos() >> TIME_UNIT) << 32 | served.nonce as u64;
        Self((high as u128) << 64 | low as u128)
    }

    pub(crate) const fn served(self) -> Served {
        let (high, low) = ((self.0 >> 64) as u64, self.0 as u64);
        Served {
            key: CallKey::from_word(high),
            router: RouterTag(high & ROUTER_BITS),
            at: Moment::from_nanos((low >> 32) << TIME_UNIT),
            nonce: low as u32,
        }
    }

    /// Which arm served the request (or failed to).
    #[must_use]
    pub const fn arm(self) -> Arm {
        self.served().key.arm()
    }

    /// Under which split.
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        self.served().key.epoch()
    }

    /// Of which segment.
    #[must_use]
    pub const fn segment(self) -> Segment {
        self.served().key.segment()
    }

    /// How old it is at `now`, to within 17 ms; wrong for tickets of another process, whose clock
    /// began elsewhere.
    #[must_use]
    pub const fn age(self, now: Moment) -> Duration {
        now.since(self.served().at)
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The ticket with these bytes. Every sixteen bytes are a ticket; whether it is one of this
    /// router's shows when a truth is posted with it.
    ///
    /// # Errors
    ///
    /// [`TicketError::Length`] when these are not 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        let error = TicketError::Length { expected: 16, len: bytes.len() };
        Ok(Self(u128::from_be_bytes(bytes.try_into().map_err(|_| error)?)))
    }

    /// The ticket with a seal of `key`, to travel through clients.
    #[must_use]
    pub fn seal(self, key: &SipKey) -> SealedTicket {
        SealedTicket { ticket: self, seal: key.hash_2_4(&self.to_bytes()) }
    }
}

impl SealedTicket {
    /// The ticket, if the seal is of `key`.
    ///
    /// # Errors
    ///
    /// [`TicketError::Forged`] when it is not.
    pub fn open(self, key: &SipKey) -> Result<Ticket, TicketError> {
        // Two words are compared at once: no byte of the right seal shows by its timing.
        if self.ticket.seal(key).seal == self.seal {
            Ok(self.ticket)
        } else {
            Err(TicketError::Forged)
        }
    }

    /// Its bytes: the ticket's, then the seal's.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.ticket.to_bytes());
        bytes[16..].copy_from_slice(&self.seal.to_be_bytes());
        bytes
    }

    /// The sealed ticket with these bytes; the seal is checked by [`SealedTicket::open`].
    ///
    /// # Errors
    ///
    /// [`TicketError::Length`] when these are not 24 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        let error = TicketError::Length { expected: 24, len: bytes.len() };
        let bytes: [u8; 24] = bytes.try_into().map_err(|_| error)?;
        let (ticket, seal) = bytes.split_at(16);
        let seal = seal.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Ok(Self { ticket: Ticket::from_bytes(ticket)?, seal })
    }
}

/// `N` bytes from `2 N` hexadecimal digits.
fn bytes_of<const N: usize>(text: &str) -> Result<[u8; N], TicketError> {
    if text.len() != 2 * N {
        return Err(TicketError::Length { expected: 2 * N, len: text.len() });
    }
    let mut bytes = [0; N];
    for (at, digit) in text.bytes().enumerate() {
        let value = char::from(digit).to_digit(16).ok_or(TicketError::Digit { at })?;
        bytes[at / 2] = bytes[at / 2] << 4 | value as u8;
    }
    Ok(bytes)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.to_bytes(), f)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.served().key;
        f.debug_struct("Ticket")
            .field("epoch", &key.epoch())
            .field("arm", &key.arm())
            .field("segment", &key.segment())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SealedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.to_bytes(), f)
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        Self::from_bytes(&bytes_of::<16>(text)?)
    }
}

impl FromStr for SealedTicket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        Self::from_bytes(&bytes_of::<24>(text)?)
    }
}

impl TryFrom<String> for Ticket {
    type Error = TicketError;

    fn try_from(text: String) -> Result<Self, TicketError> {
        text.parse()
    }
}

impl From<Ticket> for String {
    fn from(ticket: Ticket) -> Self {
        ticket.to_string()
    }
}

impl TryFrom<String> for SealedTicket {
    type Error = TicketError;

    fn try_from(text: String) -> Result<Self, TicketError> {
        text.parse()
    }
}

impl From<SealedTicket> for String {
    fn from(ticket: SealedTicket) -> Self {
        ticket.to_string()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::record::{Draw, SubjectTag};

    proptest! {
        #[test]
        fn a_ticket_says_what_it_was_given(
            (epoch, arm, segment, router, nonce) in any::<(u16, u8, u8, u16, u32)>(),
            (tag, chosen, units) in any::<(Option<u32>, bool, u32)>(),
        ) {
            let served = Served {
                key: CallKey::new(
                    Arm::new(arm & 0xf),
                    Epoch::new(epoch),
                    Segment::new(segment),
                    tag.map(|tag| SubjectTag::of(tag.into())),
                    if chosen { Draw::Chosen } else { Draw::Random },
                ),
                router: RouterTag::of(u64::from(router) << 32),
                at: Moment::from_nanos(u64::from(units) << TIME_UNIT),
                nonce,
            };
            let ticket = Ticket::of(&served);
            prop_assert_eq!(ticket.served(), served);
            prop_assert_eq!(ticket.to_string().parse(), Ok(ticket));
            let stored = serde_json::to_string(&ticket).unwrap();
            prop_assert_eq!(serde_json::from_str::<Ticket>(&stored).unwrap(), ticket);
        }

        #[test]
        fn no_text_whatever_panics(text in ".{0,60}") {
            let _ = text.parse::<Ticket>();
            let _ = text.parse::<SealedTicket>();
        }

        #[test]
        fn a_seal_holds_against_any_flipped_bit(bits in any::<u128>(), flip in 0_usize..192) {
            let key = SipKey::new([7; 16]);
            let sealed = Ticket(bits).seal(&key);
            prop_assert_eq!(sealed.open(&key), Ok(Ticket(bits)));
            prop_assert_eq!(sealed.open(&SipKey::new([8; 16])), Err(TicketError::Forged));
            let mut bytes = sealed.to_bytes();
            bytes[flip / 8] ^= 1 << (flip % 8);
            let forged = SealedTicket::from_bytes(&bytes).unwrap();
            prop_assert_eq!(forged.open(&key), Err(TicketError::Forged));
        }
    }

    #[test]
    fn a_mangled_ticket_is_refused_with_the_reason() {
        let length = "abc".parse::<Ticket>().unwrap_err();
        assert_eq!(length, TicketError::Length { expected: 32, len: 3 });
        let digit = "z".repeat(32).parse::<Ticket>().unwrap_err();
        assert_eq!(digit, TicketError::Digit { at: 0 });
    }
}
