//! What flags promise their users.

mod allocation;
mod assignment;
mod bad_input;
mod changes;
mod concurrency;
mod decisions;
mod persistence;
mod vectors;
