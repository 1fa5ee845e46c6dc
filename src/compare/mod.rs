//! Says how alike two outputs are.
//!
//! A [`comparator::Comparator`] is given what the baseline and the candidate said to one request
//! and answers with a similarity from 0 to 1, or with the reason why there is none. What 0 and 1
//! mean differs from comparator to comparator, and each says so. A similarity from a threshold on
//! is a match; the similarity itself is kept as a metric.
//!
//! All of this runs off the request path, on a shadow lane's executor. Each comparator bounds its
//! own work: what would take too long is [`comparator::Incomparable::TooLarge`], not slow.

pub mod agreement;
pub mod boxes;
pub mod comparator;
mod edit;
pub mod numeric;
pub mod probability;
pub mod structured;
pub mod text;
pub mod vector;
