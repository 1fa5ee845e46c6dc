//! Plans as TOML and JSON.
//!
//! The fields are those of [`crate::rollout::plan`]. What cannot be run is refused with the stage,
//! the field, the value and the remedy; what is no text of its format, with the line.
//!
//! ```
//! # #[cfg(feature = "toml")] {
//! use pilotage::adapt::plan_file;
//!
//! let plan = plan_file::from_toml(r#"
//!     [[stages]]
//!     kind = "canary"
//!     share = "5 %"
//!     at_least = "2h"
//!
//!     [[stages]]
//!     kind = "full"
//!     at_least = "48h"
//! "#)?;
//! assert_eq!(plan.stages().len(), 2);
//!
//! let error = plan_file::from_toml(r#"
//!     [[stages]]
//!     name = "first users"
//!     kind = "canary"
//!     share = "5"
//!     at_least = "2h"
//! "#).unwrap_err();
//! assert!(error.to_string().starts_with("stage first users: share is \"5\""), "{error}");
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::rollout::plan::{Plan, PlanError};

/// A plan that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanFileError {
    /// The plan cannot be run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The text is no text of its format.
    #[error("no {format}: {problem}")]
    Syntax {
        /// Which format was expected.
        format: &'static str,
        /// What is wrong, and where.
        problem: String,
    },
    /// Too large to be a plan.
    #[error("{bytes} bytes are too many for a plan; the most is {MOST_BYTES}")]
    TooLarge {
        /// How large it is, at least.
        bytes: u64,
    },
    /// The ending of the file says no format, or one whose feature is off.
    #[error("{path}: end the name with .json (feature `json`) or .toml (feature `toml`)")]
    Ending {
        /// The file.
        path: String,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: io::Error,
    },
}

/// The most bytes a plan may have: 1 MiB, about 500 times the standard plan.
pub const MOST_BYTES: usize = 1 << 20;

/// The plan in a TOML text.
///
/// # Errors
///
/// [`PlanFileError`]; nothing of the text is used then.
#[cfg(feature = "toml")]
#[cfg_attr(docsrs, doc(cfg(feature = "toml")))]
pub fn from_toml(text: &str) -> Result<Plan, PlanFileError> {
    let syntax = |error: toml::de::Error| PlanFileError::Syntax {
        format: "TOML",
        problem: one_line(&error.to_string()),
    };
    fits(text.len() as u64)?;
    Ok(Plan::read_from(toml::Deserializer::new(text)).map_err(syntax)??)
}

/// A plan as TOML; [`from_toml`] reads the same plan from it.
///
/// # Errors
///
/// [`PlanFileError::Syntax`] when the format cannot hold it.
#[cfg(feature = "toml")]
#[cfg_attr(docsrs, doc(cfg(feature = "toml")))]
pub fn to_toml(plan: &Plan) -> Result<String, PlanFileError> {
    let syntax = |error: toml::ser::Error| PlanFileError::Syntax {
        format: "TOML",
        problem: error.to_string(),
    };
    toml::to_string(plan).map_err(syntax)
}

/// The plan in a JSON text. A field given twice is refused.
///
/// # Errors
///
/// [`PlanFileError`]; nothing of the text is used then.
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub fn from_json(text: &str) -> Result<Plan, PlanFileError> {
    let syntax = |error: serde_json::Error| PlanFileError::Syntax {
        format: "JSON",
        problem: error.to_string(),
    };
    fits(text.len() as u64)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let plan = Plan::read_from(&mut reader).map_err(syntax)?;
    reader.end().map_err(syntax)?;
    Ok(plan?)
}

/// A plan as JSON, one field a line; [`from_json`] reads the same plan from it.
///
/// # Errors
///
/// [`PlanFileError::Syntax`] when the format cannot hold it.
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub fn to_json(plan: &Plan) -> Result<String, PlanFileError> {
    let syntax = |error: serde_json::Error| PlanFileError::Syntax {
        format: "JSON",
        problem: error.to_string(),
    };
    serde_json::to_string_pretty(plan).map_err(syntax)
}

/// The plan in a file, whose ending says the format.
///
/// # Errors
///
/// [`PlanFileError`]; nothing of the file is used then.
pub fn read(path: impl AsRef<Path>) -> Result<Plan, PlanFileError> {
    let path = path.as_ref();
    let shown = || path.display().to_string().escape_debug().collect::<String>();
    let parse = match path.extension().and_then(|ending| ending.to_str()) {
        #[cfg(feature = "json")]
        Some("json") => from_json,
        #[cfg(feature = "toml")]
        Some("toml") => from_toml,
        _ => return Err(PlanFileError::Ending { path: shown() }),
    };
    let mut text = String::new();
    let most = MOST_BYTES as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(most).read_to_string(&mut text))
        .map_err(|source| PlanFileError::Io { path: shown(), source })?;
    parse(&text)
}

fn fits(bytes: u64) -> Result<(), PlanFileError> {
    if bytes > MOST_BYTES as u64 { Err(PlanFileError::TooLarge { bytes }) } else { Ok(()) }
}

/// TOML draws the line under its message; a log has one.
#[cfg(feature = "toml")]
fn one_line(problem: &str) -> String {
    problem.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(all(test, feature = "json", feature = "toml"))]
mod tests {
    use super::*;

    /// A plan with everything in it.
    const WHOLE: &str = r#"
        alpha = 0.01
        beta = 0.1
        not_before = "2026-03-30T08:00:00Z"
        start_by_hand = true
        deadline = 2026-04-10
        when_late = "roll_back"
        fresh_drill = "168h"
        freezes = [
            { days = ["fri"], from = "18:00", to = "24:00" },
            { days = ["Saturday", "sun"], from = "00:00", to = "24:00" },
            { from = "2026-12-20", until = "2027-01-02T06:00:00Z" },
        ]

        [[stages]]
        kind = "baseline"
        at_least = 3600

        [[stages]]
        kind = "shadow"
        at_least = "24h"
        agreement = { above = 0.9 }
        quality = { margin = 0.02 }

        [[stages]]
        name = "first users"
        kind = "canary"
        share = "0.05 %"
        warm_up = "5m"
        at_least = "2h30m"
        at_most = "1d 12h"
        min_samples = 500
        approval = true
        when_inconclusive = "roll_back"
        when_underpowered = { extend = { by = "6h", times = 2 } }
        guardrails = ["error_rate", { guardrail = "p95", limit = 1.4 }, { measure = { score = { low = 0, high = 1 } }, name = "cost", action = "pause", no_data = "skip" }]

        [[stages]]
        kind = "ab_test"
        share = "50 %"
        at_least = "24h"
        comparison = { of = ["truths"], margin = 0.01, segments = ["free", "premium"], horizon = { planned = { per_arm = 5000, looks = 24, spending = "o_brien_fleming" } } }

        [[stages]]
        kind = "full"
        at_least = "48h"
    "#;

    #[test]
    fn a_plan_survives_both_formats() {
        let whole = from_toml(WHOLE).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(whole.stages()[2].share.ppm(), 500);
        for plan in [whole, Plan::standard(), Plan::quick()] {
            let text = to_toml(&plan).unwrap();
            assert_eq!(from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}")), plan);
            let text = to_json(&plan).unwrap();
            assert_eq!(from_json(&text).unwrap_or_else(|error| panic!("{error}\n{text}")), plan);
        }
    }

    #[test]
    fn an_error_names_stage_field_value_and_remedy() {
        for (old, new, wanted) in [
            ("\"0.05 %\"", "\"5\"", &["stage first users", "share", "\"5\"", "5 %"][..]),
            ("\"0.05 %\"", "\"120 %\"", &["stage first users", "share", "120 %", "everybody"]),
            ("\"0.05 %\"", "5", &["stage first users", "share", "5", "percent or parts"]),
            ("\"0.05 %\"", "\"50 %\"", &["A/B 50 %", "50 %", "rise"]),
            ("\"2h30m\"", "\"2 moons\"", &["stage first users", "at_least", "2 moons", "2h30m"]),
            ("\"2h30m\"", "\"0s\"", &["stage first users", "at_least", "0s", "more than 0"]),
            ("\"2h30m\"", "\"9000d\"", &["stage first users", "at_least", "216000h", "366d"]),
            ("\"2h30m\"", "nan", &["stage first users", "at_least", "NaN"]),
            ("\"1d 12h\"", "\"1h\"", &["stage first users", "at_most", "1h", "2h30m"]),
            ("min_samples = 500", "min_samples = 0", &["stage first users", "min_samples", "0"]),
            ("min_samples = 500", "min_samples = -5", &["stage first users", "min_samples", "-5"]),
            (
                "min_samples = 500",
                "min_sample = 5",
                &["stage first users", "min_sample", "min_samples,"],
            ),
            ("approval = true", "approval = \"yes\"", &["stage first users", "approval", "yes"]),
            ("alpha = 0.01", "alpha = nan", &["alpha", "NaN", "0 and 1"]),
            ("alpha = 0.01", "alpha = 2", &["alpha", "2", "0 and 1"]),
            ("alpha = 0.01", "alfa = 0.01", &["alfa", "alpha"]),
            ("limit = 1.4", "limit = nan", &["stage first users", "guardrails", "limit", "NaN"]),
            (
                "limit = 1.4",
                "limits = 1.4",
                &["stage first users", "guardrails", "limits", "limit"],
            ),
            ("\"error_rate\"", "\"errorrate\"", &["stage first users", "guardrails", "errorrate"]),
            ("times = 2", "times = 0", &["stage first users", "when_underpowered", "times", "0"]),
            ("margin = 0.01", "margin = -1", &["A/B 50 %", "comparison", "margin", "-1"]),
            ("margin = 0.01", "margins = 1", &["stage 4", "comparison", "margins"]),
            ("above = 0.9 ", "above = 90 ", &["stage shadow", "agreement.above", "90"]),
            ("\"fri\"", "\"freitag\"", &["freezes", "freitag", "fri"]),
            ("\"18:00\"", "\"25:00\"", &["freezes", "25:00"]),
            ("2026-04-10", "2026-03-01", &["deadline", "2026-03-01", "not_before"]),
            ("\"168h\"", "\"0h\"", &["fresh_drill", "0s"]),
            ("kind = \"full\"", "kind = \"ful\"", &["stage 5", "kind", "ful"]),
            ("\"first users\"", "\"shadow\"", &["stage shadow", "twice"]),
            ("\"first users\"", "\"a\\nb\"", &["name", "control"]),
        ] {
            let text = WHOLE.replace(old, new);
            assert_ne!(text, WHOLE, "{old} is not in the plan");
            let error = from_toml(&text).unwrap_err().to_string();
            for part in wanted {
                assert!(error.contains(part), "{new}: {part} is not in: {error}");
            }
            assert!(error.len() < 600 && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn text_that_is_no_plan_is_refused_quickly() {
        let stage = "[[stages]]\nkind='canary'\nshare='5 %'\nat_least='1h'\n";
        let error = from_toml(&stage.repeat(10_000)).unwrap_err().to_string();
        assert!(error.contains("10000 stages"), "{error}");
        for deep in [
            "[".repeat(1_000_000),
            "{\"stages\":".repeat(100_000),
            "[".repeat(20) + &"]".repeat(20),
        ] {
            let error = from_json(&deep).unwrap_err();
            assert!(matches!(error, PlanFileError::Syntax { .. }), "{error}");
        }
        assert!(from_toml(&format!("stages = {}", "[".repeat(1_000_000))).is_err());
        assert!(matches!(
            from_json(&" ".repeat(MOST_BYTES + 1)),
            Err(PlanFileError::TooLarge { .. })
        ));
        for text in [
            "",
            "[]",
            "{}",
            "null",
            "7",
            "{\"stages\":{}}",
            "{\"stages\":[]}",
            "{\"stages\":[7]}",
            "{\"alpha\":0.1,\"alpha\":0.1,\"stages\":[]}",
            "{} x",
        ] {
            assert!(from_json(text).is_err(), "{text}");
        }
        assert!(matches!(read("plan.yaml"), Err(PlanFileError::Ending { .. })));
        assert!(matches!(read("no such file.toml"), Err(PlanFileError::Io { .. })));
    }
}
