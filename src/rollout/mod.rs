//! Strings strategies into a plan, and keeps its history.

mod cbor_marks;
mod cbor_reader;
mod cbor_writer;
pub mod freeze;
pub mod history;
pub mod history_line;
pub mod human;
pub mod journal;
mod journal_cbor;
pub mod journal_error;
mod journal_frame;
pub mod journal_stops;
pub mod lint;
pub mod orders;
pub mod pipeline;
pub mod plan;
pub mod plan_builder;
mod plan_check;
pub mod plan_error;
mod plan_text;
pub mod replay;
pub mod salvage;
pub mod stage;
pub mod state;
mod timing;
mod tree;
pub mod trial;
