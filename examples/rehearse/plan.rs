//! Where the plan comes from.

use std::time::Duration;

use pilotage::rollout::plan::Plan;
use serde_json::Value;

use crate::{Failure, numbers};

/// The plan called `name`: one of ours, or a file in TOML or JSON.
pub fn load(name: &str) -> Result<Plan, Failure> {
    match name {
        "standard" => return Ok(Plan::standard()),
        "quick" => return Ok(Plan::quick()),
        _ => {}
    }
    let size = std::fs::metadata(name).map(|file| file.len());
    if size.is_ok_and(|size| size > LARGEST) {
        return Err(Failure::data(format!("{name} is larger than a megabyte; that is no plan")));
    }
    let text = std::fs::read_to_string(name)
        .map_err(|error| Failure::input(format!("cannot read the plan {name}: {error}")))?;
    let plan = if name.ends_with(".json") || text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str(&text).map_err(|error| error.to_string())
    };
    plan.map_err(|error| Failure::data(format!("{name}: {}", error.trim())))
}

/// The shortest time the plan takes.
pub fn length(plan: &Plan) -> Duration {
    plan.stages().iter().map(|stage| stage.at_least).sum()
}

/// The plan with its times stretched.
pub fn scaled(plan: &Plan, factor: f64) -> Result<Plan, Failure> {
    if factor == 1.0 {
        return Ok(plan.clone());
    }
    if !(1e-6..=1e6).contains(&factor) {
        return Err(Failure::usage(format!("--scale {factor}: give from 0.000001 to 1000000")));
    }
    let failed = |error: serde_json::Error| Failure::data(format!("--scale {factor}: {error}"));
    let mut form = serde_json::to_value(plan).map_err(failed)?;
    let stages = form.get_mut("stages").and_then(Value::as_array_mut);
    for stage in stages.into_iter().flatten().filter_map(Value::as_object_mut) {
        for name in TIMES {
            let Some(value) = stage.get_mut(name) else { continue };
            if let Some(seconds) = value.as_f64() {
                *value = (seconds * factor).into();
            } else if let Some(time) = value.as_str().and_then(numbers::time) {
                *value = format!("{}ms", (time.as_secs_f64() * factor * 1e3).round()).into();
            }
        }
    }
    serde_json::from_value(form).map_err(failed)
}

/// The fields of a stage that are times.
const TIMES: [&str; 4] = ["at_least", "at_most", "tell_after", "warm_up"];
const LARGEST: u64 = 1 << 20;
