//! What a user gets with an answer, and sends back with the truth.
//!
//! It holds the crate's ticket, what the model said and about which content, so that the server
//! remembers nothing until the truth arrives; and a keyed hash over all of it, because whoever
//! could make one up could make up evidence. The key lives as long as the process: so do tickets.

use std::fmt::Write;

use hmac::{Hmac, Mac};
use pilotage::serve::ticket::Ticket;
use sha2::{Digest, Sha256};

/// What a ticket says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// Which call it was.
    pub ticket: Ticket,
    /// A hash of the label that was answered.
    pub label: u64,
    /// A hash of the content it was answered about.
    pub content: u64,
    /// Whether the baseline answered for a candidate that failed: then the answer is no evidence
    /// about the arm that the ticket names.
    pub stand_in: bool,
}

/// A text that is no ticket of this server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReceiptError {
    /// It does not have the form of one.
    #[error("a ticket is {DIGITS} hexadecimal digits")]
    Mangled,
    /// It has, but this server did not write it.
    #[error("the ticket was not given out by this server since it started")]
    Unknown,
}

/// Writes tickets and tells its own from others.
pub struct Sealer {
    key: [u8; 32],
}

impl Sealer {
    /// A sealer with a key of its own.
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { key })
    }

    /// The ticket as text.
    #[must_use]
    pub fn seal(&self, receipt: &Receipt) -> String {
        let body = receipt.to_bytes();
        let mut text = String::with_capacity(DIGITS);
        for byte in body.iter().chain(&self.mac(&body).finalize().into_bytes()[..SEAL]) {
            let _ = write!(text, "{byte:02x}"); // writing to a string cannot fail
        }
        text
    }

    /// What a text that came back says.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`] when it is no ticket, or not one of this sealer.
    pub fn open(&self, text: &str) -> Result<Receipt, ReceiptError> {
        let bytes = bytes_of(text).ok_or(ReceiptError::Mangled)?;
        let (body, seal) = bytes.split_at(BODY);
        self.mac(body).verify_truncated_left(seal).map_err(|_| ReceiptError::Unknown)?;
        Receipt::from_bytes(body).ok_or(ReceiptError::Mangled)
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.key)
            .expect("HMAC takes keys of any length")
            .chain_update(body)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive() // the key is nobody's business
    }
}

impl Receipt {
    fn to_bytes(self) -> [u8; BODY] {
        let mut bytes = [0; BODY];
        bytes[..16].copy_from_slice(&self.ticket.to_bytes());
        bytes[16..24].copy_from_slice(&self.label.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.content.to_be_bytes());
        bytes[32] = u8::from(self.stand_in);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            ticket: Ticket::from_bytes(bytes.get(..16)?).ok()?,
            label: number(16)?,
            content: number(24)?,
            stand_in: *bytes.get(32)? == 1,
        })
    }
}

/// A hash that tells contents and labels apart: the first 8 bytes of SHA-256.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    Sha256::digest(bytes)[..8].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

fn bytes_of(text: &str) -> Option<[u8; BODY + SEAL]> {
    let digits = text.as_bytes();
    if digits.len() != DIGITS {
        return None;
    }
    let mut bytes = [0; BODY + SEAL];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

const BODY: usize = 33;
const SEAL: usize = 16;
const DIGITS: usize = 2 * (BODY + SEAL);

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        let ticket = Ticket::from_bytes(&[7; 16]).unwrap();
        Receipt { ticket, label: fingerprint(b"rust"), content: 42, stand_in: true }
    }

    #[test]
    fn a_ticket_comes_back_as_it_was_written() {
        let sealer = Sealer::new().unwrap();
        assert_eq!(sealer.open(&sealer.seal(&receipt())), Ok(receipt()));
    }

    #[test]
    fn a_ticket_with_any_digit_changed_is_unknown() {
        let sealer = Sealer::new().unwrap();
        let text = sealer.seal(&receipt());
        for at in 0..text.len() {
            let digit = if &text[at..=at] == "0" { "1" } else { "0" };
            let changed = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
            assert_eq!(sealer.open(&changed), Err(ReceiptError::Unknown), "{at}");
        }
    }

    #[test]
    fn what_is_no_ticket_is_called_mangled() {
        let sealer = Sealer::new().unwrap();
        for text in ["", "00", &"g".repeat(DIGITS), &"é".repeat(DIGITS / 2)] {
            assert_eq!(sealer.open(text), Err(ReceiptError::Mangled), "{text}");
        }
    }

    #[test]
    fn another_server_does_not_know_the_ticket() {
        let text = Sealer::new().unwrap().seal(&receipt());
        assert_eq!(Sealer::new().unwrap().open(&text), Err(ReceiptError::Unknown));
    }
}
