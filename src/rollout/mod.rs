//! Strings strategies into a plan, and keeps its history.

pub mod freeze;
pub mod human;
pub mod orders;
pub mod pipeline;
pub mod plan;
pub mod plan_builder;
mod plan_check;
pub mod plan_error;
mod plan_text;
pub mod stage;
pub mod state;
mod timing;
mod tree;
pub mod trial;
