//! Answers requests: assign, call, record.
//!
//! A [`router`] is what a handler holds. Nothing here decides anything about a rollout.

mod answer;
pub mod builder;
mod catch;
pub mod executor;
pub mod guard;
pub(crate) mod inner;
pub mod late;
pub mod limit;
pub mod request;
pub mod router;
pub mod shadow_lane;
pub mod sink_queue;
mod slots;
pub mod stream;
pub mod ticket;
