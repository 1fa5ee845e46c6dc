//! Strings strategies into a plan, and keeps its history.

pub mod pipeline;
pub mod plan;
pub mod trial;
