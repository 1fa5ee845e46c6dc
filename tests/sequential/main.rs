//! What the statistics that may be looked at at any time promise: an answer or an error for any
//! input, and error rates that hold.

mod bad_input;
mod planned_looks;
mod promises;
