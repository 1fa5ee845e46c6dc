//! Rehearses decisions against invented traffic, from a seed.

pub mod rng;
pub mod traffic;
