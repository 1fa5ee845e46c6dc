//! Feeds the machines from the world and carries out what they say.

pub mod dispatch;
