//! Rehearses decisions against invented or recorded traffic, from a seed.

pub mod latency;
pub mod rng;
pub mod traffic;
