//! What drift promises its users.

#[cfg(not(loom))]
mod bad_input;
#[cfg(not(loom))]
mod monitor;
#[cfg(not(loom))]
mod promises;
#[cfg(not(loom))]
mod restart;
#[cfg(not(loom))]
mod watch;
