//! Rehearses decisions against invented or recorded traffic, from a seed.

pub mod fault;
pub mod latency;
pub mod rehearsal;
pub mod rng;
pub mod traffic;
pub mod world;
