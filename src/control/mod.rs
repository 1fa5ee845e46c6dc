//! Feeds the machines from the world and carries out what they say.
//!
//! A [`Pilot`] takes one candidate through a plan; a [`driver::Driver`] is a thread that ticks it;
//! [`blue_green::BlueGreen`] is for who wants two warm models and a switch, and nothing else.
//! Here, and nowhere below, there are threads, and calls into a user's switches and alerters.

pub mod ab_test;
pub mod alert_queue;
pub mod blue_green;
mod change;
pub mod drift_watch;
pub mod drill;
pub mod driver;
mod file_identity;
mod file_lock;
pub mod flag_gate;
mod found;
mod hold;
pub mod journal_file;
mod journal_writer;
pub mod orders;
pub mod pilot;
pub mod plane;
pub mod pool;
mod reins;
pub mod resume;
mod room;
pub mod shadow_mode;
pub mod shadow_page;
pub mod start;
pub mod start_error;
mod state;
pub mod status;
mod stop_file;
mod store_error;
mod switch_worker;
mod unattended;

pub use driver::Driver;
pub use pilot::Pilot;
