//! The strategies, each a pure machine named for what it decides. They never import each other.

pub mod blue_green;
