//! Rates and means at one look, called by the names of the reference table.

use pilotage::stats::error::StatsError;
use serde_json::Value;

/// What `function` answers to `args`, or nothing if it is not one of this file's.
pub fn run(_function: &str, _args: &Value) -> Option<Result<Value, StatsError>> {
    None
}
