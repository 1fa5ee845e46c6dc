//! Answers requests: assign, call, record.
//!
//! A [`router`] is what a handler holds. Nothing here decides anything about a rollout.

pub mod builder;
mod catch;
pub mod guard;
pub mod late;
pub mod request;
pub mod router;
mod slots;
pub mod ticket;
