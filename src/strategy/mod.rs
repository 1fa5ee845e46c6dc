//! The strategies, each a pure machine named for what it decides. They never import each other.

pub mod ab_test;
pub mod baseline;
pub mod blue_green;
pub mod canary;
pub mod conclusion;
pub mod flag;
pub mod full;
pub mod shadow;
