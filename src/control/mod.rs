//! Feeds the machines from the world and carries out what they say.
//!
//! A [`Pilot`] takes one candidate through a plan; a [`driver::Driver`] is a thread that ticks it;
//! [`blue_green::BlueGreen`] is for two warm models and a switch, and nothing else. Here, and nowhere
//! below, there are threads, and calls into a user's journals, switches, sinks and alerters.
//!
//! # Who owns what, and who may wait for whom
//!
//! ```text
//!  an order (any thread)    a look (driver, host)    nobody looked (one thread a process)
//!        |                        |                          |
//!        | 1 return home          | reads counts             |
//!        v                        v                          v
//!  +-----------------------------------------------------------------+
//!  |  state: the machine, the step that waits, what was told         |  one lock, held for
//!  |  every change of the books, and every step up, happens here     |  moments, never while
//!  +-----------------------------------------------------------------+  code of the host's runs
//!     | hands over, never waits        |               |           |
//!     v                                v               v           v
//!  journal writer                switch worker     alert queue   sink queues
//!  one thread, one queue         two threads       one thread    one thread a sink
//!     |                                |               |           |
//!     v                                v               v           v
//!  JournalStore                  TrafficSwitch       Alerter     MetricsSink     may block for ever
//!
//!  and beside it, without any lock:   split word <- requests (one load)
//! ```
//!
//! - **The split** is one atomic word that every request reads. One [`Ownership`] at a time may give a
//!   candidate more in it; anybody may take back. An order of a former owner touches nothing.
//! - **Down waits for nobody.** An abort, a kill, a broken guardrail, a hand at the switch: the word
//!   first, then the state, then it is handed to the journal's writer and to the switch outside.
//!   A caller who stops waits up to 50 ms to be able to say that it is written
//!   ([`Receipt::recorded`]), and a millisecond where the store is known to hang.
//! - **Up waits for both.** What gives the candidate more is a proposal: written down, then asked of
//!   the switch outside, and only when both have answered is it brought into force, in the split and
//!   in the books at once, under the lock. Until then the rollout is where it was, and is judged
//!   there. A stop that comes in between withdraws the proposal.
//! - **Nobody waits while holding the lock**, and nobody who waits for a dependency holds anything.
//!   The order of locks is state, then the register of owners; a worker's own queue is below both.
//! - **A look** (tick) waits up to a tenth of a second for a store or switch that answers, and
//!   hardly at all for one that hangs, after it has decided and taken back.
//!
//! # When nobody looks
//!
//! A candidate with a share whose pilot or driver is dropped, or that was not looked at for a minute
//! ([`PilotBuilder::unattended_after`]), goes back to the baseline by itself, and people are told.
//! Requests know nothing of it.
//!
//! [`Ownership`]: crate::route::ownership::Ownership
//! [`Receipt::recorded`]: orders::Receipt::recorded
//! [`PilotBuilder::unattended_after`]: start::PilotBuilder::unattended_after

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
