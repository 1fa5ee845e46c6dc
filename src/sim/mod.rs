//! Rehearses decisions against invented or recorded traffic, from a seed.

mod attendant;
pub mod fault;
pub mod forecast;
pub mod inject;
pub mod latency;
pub mod rehearsal;
pub mod replay;
pub mod rng;
pub mod trace;
pub mod traffic;
pub mod world;
