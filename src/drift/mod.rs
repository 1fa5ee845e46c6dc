//! How far data moved from a reference, and how a deployed model is.
//!
//! A promoted model goes stale. This wing says so early, with a stated rate of false alarms, and says
//! what moved.
//!
//! | | |
//! |--|--|
//! | [`mod@reference`] | what the data looked like when all was well: bins chosen once, counts, no values |
//! | [`stream`] | counts values as they are served, from any thread, some of the rows |
//! | [`population`] | what was counted, as numbers that add up |
//! | [`compare`] | one window against the reference: PSI, Jensen-Shannon, Wasserstein, Kolmogorov-Smirnov, chi-square |
//! | [`detector`] | an alarm for a rate, with a stated mean time between false alarms |
//! | [`accuracy`], [`labels`] | how often the model is right, by labels that are due |
//! | [`dependence`] | how much neighbours resemble each other, by which all evidence is divided |
//! | [`monitor`] | the machine that is told all of it and says what people must know |
//! | [`state`] | what a monitor must not lose over a restart |
//! | [`report`] | how the model is, on one page |
//!
//! # Which detector for which stream
//!
//! | stream | what holds |
//! |--|--|
//! | independent requests | everything as stated |
//! | neighbours alike | everything as stated for counts over longer than the likeness lasts, as far as the reference is long enough to show it: fifty times as long, in rows, is. The design effect is measured and divides all evidence |
//! | a daily or weekly season | feed whole seasons at a time (a window of whole weeks; batches of whole days), and take the reference from whole seasons. Within a batch the order does not matter |
//! | a level that wanders | it moves, and is said to: no reference of the past describes it. Watch the accuracy instead, or differences |
//!
//! Memory: 5 to 16 KiB a feature for reference, counts and watch together, whatever the traffic.

pub mod accuracy;
pub(crate) mod cells;
pub mod compare;
pub mod dependence;
pub mod detector;
pub mod error;
pub(crate) mod exact;
pub(crate) mod gather;
pub(crate) mod judge;
pub mod labels;
pub mod monitor;
pub(crate) mod page;
pub mod population;
pub mod reference;
pub mod report;
pub mod settings;
pub mod state;
pub mod stream;
pub mod value;
pub mod verdict;
pub(crate) mod watch;
