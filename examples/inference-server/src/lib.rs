//! A real model behind HTTP, and its successor rolled out through Pilotage.

pub mod args;
pub mod compare;
pub mod fault;
pub mod features;
pub mod model;
pub mod pack;
