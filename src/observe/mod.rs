//! Remembers what arms did, without locks.
//!
//! Requests write [`record`]s of sixteen bytes into [`ring`]s through a [`recorder`]; whoever
//! drains it turns them into counts that add up ([`snapshot`]) and [`window`]s that [`sink`]s are
//! fed with.

pub(crate) mod bulkhead;
pub mod clusters;
pub mod explorer;
pub mod fold;
pub mod histogram;
#[expect(unsafe_code, reason = "one locked instruction a call instead of two")]
pub(crate) mod lender;
pub mod overflow;
pub mod record;
pub mod recorder;
pub mod ring;
pub mod shadow;
pub mod sink;
pub mod snapshot;
pub mod solo_ring;
pub mod stream_counts;
pub(crate) mod stream_meter;
pub(crate) mod streams;
pub mod subjects;
pub(crate) mod thread_place;
pub mod window;
