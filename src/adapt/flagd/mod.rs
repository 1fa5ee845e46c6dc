//! Flags as [flagd](https://flagd.dev) files define them.
//!
//! [`FlagdFlags::parse`] reads a flag definition file and compiles its targeting once;
//! [`FlagdFlags::evaluate`] answers with value, variant, reason, error code and metadata.
//! [`FlagdSet`] holds the file in force and replaces it as a whole or not at all.
//!
//! ```
//! use pilotage::adapt::flagd::{FlagdFlags, Options, Wanted, FlagdReason};
//! use serde_json::json;
//!
//! let file = br#"{"flags": {"ranker": {
//!     "state": "ENABLED",
//!     "variants": {"old": "v2", "new": "v3"},
//!     "defaultVariant": "old",
//!     "targeting": {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "new"]}
//! }}}"#;
//! let flags = FlagdFlags::parse(file, &Options::default())?;
//! let context = json!({"targetingKey": "u1", "email": "ada@example.com"});
//! let answer = flags.evaluate("ranker", Wanted::Text, &context, 0);
//! assert_eq!(answer.value, Some(&json!("v3")));
//! assert_eq!(answer.reason, FlagdReason::TargetingMatch);
//! # Ok::<(), pilotage::adapt::flagd::FlagdError>(())
//! ```
//!
//! # What a rule means
//!
//! Operators do what they do in `JsonLogic`'s reference implementation, coercion included, with three
//! differences: an attribute that is null takes `var`'s default, as in flagd itself; texts are cut
//! and indexed by characters, and have no members; a list never equals a list, not even itself.
//! `lower` and `upper` change ASCII letters, as in newer releases of flagd than its schema.
//!
//! # What a file may not do
//!
//! A file larger than [`Options::max_bytes`], nested deeper than 127 levels, with a key given twice
//! or without valid UTF-8 is refused before anything of it is used. What a targeting rule may cost
//! is bounded: an evaluation that takes more than 100,000 steps (a rule that doubles itself
//! through references, a list that is folded over itself) ends with a parse error for that flag,
//! and the caller's default. There are no regular expressions.
//!
//! A flag whose targeting cannot be compiled answers with a parse error; the other flags of the
//! file are not concerned. With [`Strictness::Schema`] such a file is refused as a whole, as
//! flagd's own JSON schema would.

mod coerce;
mod compile;
mod definition;
mod error;
mod evaluate;
mod fractional;
mod schema;
mod set;

pub use definition::{FlagdCode, FlagdFlags, FlagdReason, Options, Resolution, Strictness, Wanted};
pub use error::FlagdError;
pub use fractional::Fractional;
pub use schema::{Shape, check_file, check_targeting};
pub use set::FlagdSet;
