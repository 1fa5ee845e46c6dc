//! Two or more arms side by side, until it is known which is better, or that none is.
//!
//! [`plan::ABTestPlan`] says what is compared and when one may look; [`test::ABTest`] is fed
//! measurements and answers with a [`report::Report`]. Nothing here may be read at a time it was
//! not planned to be read at: with a planned horizon the test itself takes the looks (O'Brien and
//! Fleming's boundary by default), with an open one every look is valid.

pub mod plan;
pub mod report;
pub mod segments;
pub mod stage;
pub mod test;
