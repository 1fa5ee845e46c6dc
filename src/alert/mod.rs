//! What people must know, and how they are told.
//!
//! A machine says *that* people must know ([`alert::Alert`]); an [`alerter::Alerter`] tells them;
//! [`policy::AlertPolicy`] keeps one incident from becoming a storm. Telling people never delays
//! a rollback: alerts leave through a bounded queue on a thread of their own.

#[expect(clippy::module_inception, reason = "the wing is named for its noun")]
pub mod alert;
pub mod alerter;
pub mod policy;

pub use alert::{Alert, Severity};
pub use alerter::Alerter;
