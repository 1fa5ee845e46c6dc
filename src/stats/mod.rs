//! Answers about numbers.
#![allow(missing_docs, reason = "doors are written last")]
#![allow(dead_code, reason = "rooms are being furnished")]

pub mod adwin;
pub mod anytime;
pub mod betting;
pub(crate) mod check;
pub(crate) mod eprocess_grid;
pub mod error;
pub mod page_hinkley;
pub mod predmix;
