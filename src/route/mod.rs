//! (door)
