//! The statistics against a table made by published libraries.
//!
//! ```sh
//! cargo test --release --test statistics
//! PILOTAGE_REFERENCE=table.json cargo test --release --test statistics
//! ```
//!
//! The second reads another table of the same form, and says how many of its cases passed, which
//! failed, and with what.

mod boundary;
mod classical;
mod more;
mod sequential;

use pilotage::stats::error::StatsError;
use serde_json::Value;

#[test]
fn every_case_of_the_reference_table_is_met() {
    let (name, text) = match std::env::var("PILOTAGE_REFERENCE") {
        Ok(path) => {
            let text = std::fs::read_to_string(&path);
            (path.clone(), text.unwrap_or_else(|error| panic!("{path} cannot be read: {error}")))
        }
        Err(_) => ("tests/golden/statistics.json".into(), COMMITTED.into()),
    };
    let table: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name} is no JSON: {error}"));
    assert_eq!(table["schema"], 1, "{name} is of another schema");
    let cases = table["data"].as_array().unwrap_or_else(|| panic!("{name} holds no list `data`"));
    assert!(!cases.is_empty(), "{name} holds no case");

    let failed: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    for failure in &failed {
        say(format_args!("FAILED {failure}"));
    }
    say(format_args!("{name}: {} passed, {} failed", cases.len() - failed.len(), failed.len()));
    assert!(
        failed.is_empty(),
        "{} of {} cases failed:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

/// Says something whether or not the test passes: the harness holds back what is printed.
fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn check(case: &Value) -> Result<(), String> {
    let (function, args, want) =
        (case["function"].as_str().unwrap_or("?"), &case["args"], &case["expect"]);
    let fail = |what: String| Err(format!("{function}({}): {what}", shortened(args)));
    let answer = std::panic::catch_unwind(|| {
        classical::run(function, args)
            .or_else(|| more::run(function, args))
            .or_else(|| sequential::run(function, args))
    });
    let answer: Option<Result<Value, StatsError>> = match answer {
        Ok(answer) => answer,
        Err(_) => return fail("it panicked".into()),
    };
    let got = match answer {
        None => return fail("the crate has no such function".into()),
        Some(got) => got,
    };
    if let Some(reason) = want.get("error") {
        return match got {
            Err(_) => Ok(()),
            Ok(got) => fail(format!("an error was due ({reason}), got {got}")),
        };
    }
    let got = match got {
        Ok(got) => got,
        Err(error) => return fail(format!("{want} was due, got the error: {error}")),
    };
    let tolerance = |name: &str| case[name].as_f64().unwrap_or(0.0);
    let (rtol, atol) = (tolerance("rtol"), tolerance("atol"));
    for (field, want) in want.as_object().into_iter().flatten() {
        if field == "degenerate" {
            continue;
        }
        if !close(&got[field], want, rtol, atol) {
            return fail(format!("{field} is {}, not {want}", got[field]));
        }
    }
    Ok(())
}

/// Whether a value is the one wanted, within the case's tolerances.
fn close(got: &Value, want: &Value, rtol: f64, atol: f64) -> bool {
    match want {
        Value::Array(want) => got.as_array().is_some_and(|got| {
            got.len() == want.len()
                && got.iter().zip(want).all(|(got, want)| close(got, want, rtol, atol))
        }),
        Value::Bool(_) => got == want,
        _ => {
            let (Some(got), Some(want)) = (number(got), number(want)) else { return got == want };
            // A NaN is met by a NaN alone, and only where the table asks for it.
            if want.is_nan() || got.is_nan() || want.is_infinite() || got.is_infinite() {
                return got == want || (got.is_nan() && want.is_nan());
            }
            let vanishing = want.abs() < 1e-300 && got == 0.0;
            vanishing || (got - want).abs() <= atol + rtol * want.abs()
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

fn shortened(args: &Value) -> String {
    let text = args.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

const COMMITTED: &str = include_str!("../golden/statistics.json");
