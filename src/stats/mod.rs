//! Answers about numbers.
//!
//! Nothing here knows of models, arms or rollouts. Every function checks its arguments at the door
//! and answers with a typed error ([`error::StatsError`]) that names the value; what it returns is
//! never NaN. Data that say nothing are no evidence (a p-value of 1), and never a winner.
//!
//! Two kinds of answers live here, and their documentation says in its first line which one it is:
//!
//! - *valid for one look*: the textbook's. Reading them more than once, or stopping when one likes
//!   what they say, breaks their level: an hourly z test over two days finds a difference between
//!   equals in a third of all cases.
//! - *anytime-valid*: e-processes and confidence sequences, which hold at every look. All decisions
//!   of this crate rest on these.
//!
//! | question | valid for one look | at every look |
//! |--|--|--|
//! | how large is a rate | [`interval`] | [`mixture`] |
//! | do two rates differ | [`proportion`], [`exact`] | [`asymptotic`], [`eprocess`], [`two_stream`] |
//! | do two means or ratios differ | [`means`], [`ratio`], [`cuped`] | [`asymptotic`] |
//! | how large is a bounded mean | | [`betting`], [`predmix`] |
//! | do two samples differ in any way | [`rank`], [`divergence`] | |
//! | where is a quantile | [`quantile`] | [`quantile_bound`] |
//! | did traffic divide as planned | [`imbalance`] | [`sample_ratio`] |
//! | many questions at once | [`multiplicity`] | [`multiplicity::e_benjamini_hochberg`] |
//! | over strata, in pairs | [`stratified`] | [`crate::judge::paired`] |
//! | looks that were planned | | [`spending`] |
//! | how much data is needed | [`power`] | [`surprise`] |
//! | did something change | | [`adwin`], [`page_hinkley`] |
//! | what is probably true | [`bayes`] | |
//!
//! `statrs` gives the error function where eleven digits suffice. Its tails lose their digits (its
//! complementary error function is off by 1e-11 of the value, its incomplete beta function stops
//! short for large counts), so normal, beta and gamma tails are this crate's own; the reference table
//! in `tests/golden` is the judge.

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
pub(crate) mod kolmogorov;
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
