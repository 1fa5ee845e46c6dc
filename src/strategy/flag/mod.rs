//! Feature flags that end: which subjects get which variant, at a cost nobody notices.
//!
//! A [`FlagSpec`] says what a flag does: whom it denies and allows, which segments and attributes
//! it turns on for, which share of the others, and how the exposed ones are split into variants.
//! A [`FlagSet`] holds flags by name and changes them as a whole or not at all, while readers
//! evaluate without a lock. A [`FeatureFlag`] is one flag of a set, held by whoever asks it on
//! every request.
//!
//! ```
//! use pilotage::share::TrafficShare;
//! use pilotage::strategy::flag::{Context, FlagSet, FlagSpec, Reason};
//!
//! let flags = FlagSet::builder()
//!     .segment("premium")
//!     .flag(
//!         FlagSpec::new("new-ranker")
//!             .share(TrafficShare::percent(5.0)?)
//!             .deny("user-13")
//!             .allow("user-7")
//!             .enable_segment("premium"),
//!     )
//!     .build()?;
//! let ranker = flags.flag("new-ranker")?;
//!
//! assert_eq!(ranker.evaluate(&Context::of("user-7")).reason(), Reason::Allowed);
//! assert!(!ranker.is_on(&Context::of("user-13").segment("premium")), "deny beats everything");
//!
//! ranker.kill(); // one atomic store: every later call is off
//! assert!(!ranker.is_on(&Context::of("user-7")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Order of decision
//!
//! The first that applies decides: kill switch, archive, schedule, prerequisites, deny list, allow
//! list, holdout, mutual-exclusion layer, limit, segments, attribute rules, share, default.
//! [`Reason`] says which one it was.
//!
//! # What is hashed
//!
//! `seed = XXH3-64(salt)`, kept; `h = XXH3-64(subject, seed)`; exposed if
//! `floor(h · 10^6 / 2^64) < share` in parts per million. The arm among several variants is
//! chosen with a second salt, so that a growing share never moves anybody from one variant to
//! another. Integer subjects are hashed as their decimal text. A request without a subject is
//! never drawn silently: it is off with [`Reason::MissingSubject`], unless the caller passes a
//! random number ([`Context::draw`]).
//!
//! # Time
//!
//! Nothing here reads a clock. Schedules and ramps move when [`FlagSet::tick`] is told the date;
//! turning off is instant at any time, turning on by ramp goes one step a tick at most.

mod compile;
mod context;
mod edit;
mod error;
mod evaluation;
mod handle;
mod leftover;
mod lifecycle;
mod local;
mod observed;
mod rule;
pub mod semver;
mod set;
mod spec;
mod stored;
mod table;
mod usage;
mod value;

pub use crate::date::Date;
pub use context::{Attribute, Context};
pub use edit::Draft;
pub use error::FlagError;
pub use evaluation::{Decision, Evaluation, Reason};
pub use handle::FeatureFlag;
pub use leftover::Leftover;
pub use lifecycle::{FlagReport, LifeStage, StaleFlags, Window, refuse_stale};
pub use rule::{Condition, Rule, Serve, Test};
pub use set::{FlagKey, FlagSet, FlagSetBuilder};
pub use spec::{
    ArmWeight, Dial, FlagSpec, HashVersion, Holdout, Kind, Layer, LayerRange, Ramp, Requirement,
    Variant,
};
pub use stored::{StoredFlag, StoredFlags, Tombstone};
pub use usage::Usage;
pub use value::Value;
