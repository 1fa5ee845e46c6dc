//! Answers about numbers.
#![allow(missing_docs, reason = "doors are written last")]
#![allow(dead_code, reason = "rooms are being furnished")]

pub mod adwin;
pub mod anytime;
pub mod asymptotic;
pub mod bayes;
pub mod betting;
pub(crate) mod check;
pub mod cuped;
pub mod divergence;
pub mod eprocess;
pub(crate) mod eprocess_grid;
pub mod error;
pub mod exact;
pub mod imbalance;
pub(crate) mod incomplete;
pub mod interval;
pub mod means;
pub mod mixture;
pub mod moments;
pub mod multiplicity;
pub mod page_hinkley;
pub mod power;
pub mod predmix;
pub mod proportion;
pub(crate) mod quadrature;
pub mod quantile;
pub mod quantile_bound;
pub mod rank;
pub mod ratio;
pub mod sample_ratio;
pub(crate) mod special;
pub mod spending;
pub mod stratified;
pub mod surprise;
pub(crate) mod tails;
pub mod two_stream;
