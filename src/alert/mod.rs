//! What people must know, and how they are told.
//!
//! A machine says *that* people must know ([`alert::Alert`]); an [`alerter::Alerter`] tells them;
//! [`policy::AlertPolicy`] says how often and for how long. Telling people never delays a rollback:
//! alerts wait in an [`AlertQueue`](crate::control::alert_queue::AlertQueue) with threads of its own.

#[expect(clippy::module_inception, reason = "the wing is named for its noun")]
pub mod alert;
pub mod alerter;
pub(crate) mod counts;
pub(crate) mod delivery;
mod incident;
pub mod policy;

pub use alert::{Alert, Severity};
pub use alerter::Alerter;
