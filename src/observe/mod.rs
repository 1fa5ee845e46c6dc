//! Remembers what arms did, without locks.

pub mod histogram;
pub mod shadow;
pub mod snapshot;
