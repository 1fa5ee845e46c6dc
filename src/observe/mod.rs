//! Remembers what arms did, without locks.

pub mod histogram;
pub mod snapshot;
