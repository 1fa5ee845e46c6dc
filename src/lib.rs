//! Bring a new AI model safely into production, inside the server that already runs there.
#![forbid(unsafe_code)]

pub mod clock;
pub mod ids;
pub mod outcome;
pub mod share;
pub mod stats;

pub mod alert;
pub mod route;

pub mod model;
pub mod observe;

pub mod judge;
pub mod serve;

pub mod machine;
pub mod strategy;

pub mod rollout;

pub mod control;
pub mod sim;
