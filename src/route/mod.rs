//! Says which arm a subject belongs to.
//!
//! [`bucket`] turns a salt and a subject into a number, for ever the same; [`switch`] holds the
//! split of traffic those numbers are compared with. Neither knows what a model is. [`ownership`] says
//! who may move it. [`audience`] and
//! [`layer`] say who takes part at all, [`arms`] is for more candidates than one. [`splitters`]
//! holds how other programs split, for agreement with them.

pub mod arms;
pub mod audience;
pub mod bucket;
pub mod layer;
pub mod owner;
pub mod ownership;
pub mod siphash;
pub mod splitters;
pub mod switch;
