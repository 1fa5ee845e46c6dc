//! What flagd's JSON schema accepts, checked without a schema engine.
//!
//! Structure (flags, variants, metadata) is checked of every file; targeting only on request,
//! since flagd itself evaluates rules that its schema refuses.

use serde_json::{Map, Value};

use super::compile::shown;
use super::error::FlagdError;
use crate::strategy::flag::semver::Version;

/// Which of the two file shapes is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Shape {
    /// Flags as an object by key: what providers read.
    Provider,
    /// Flags as an object or as a list with keys: what the daemon reads.
    Daemon,
}

type Checked = Result<(), FlagdError>;

/// Checks a whole file, targeting included.
///
/// # Errors
///
/// [`FlagdError::Shape`] for what is wrong first.
pub fn check_file(file: &Value, shape: Shape) -> Checked {
    check(file, shape, true)
}

/// Checks a whole file, but for its targeting.
pub(super) fn check_flags(file: &Value, shape: Shape) -> Checked {
    check(file, shape, false)
}

/// Checks one targeting rule.
///
/// # Errors
///
/// [`FlagdError::Shape`] for what is wrong first.
pub fn check_targeting(rule: &Value) -> Checked {
    targeting(rule, "targeting")
}

fn check(file: &Value, shape: Shape, with_targeting: bool) -> Checked {
    let Value::Object(file) = file else { return wrong("(file)", "must be an object") };
    match (file.get("flags"), shape) {
        (Some(Value::Object(flags)), _) => {
            for (key, spec) in flags {
                flag(key, spec, with_targeting)?;
            }
        }
        (Some(Value::Array(flags)), Shape::Daemon) => {
            for (at, spec) in flags.iter().enumerate() {
                let Some(Value::String(key)) = spec.get("key") else {
                    return wrong(&format!("flags.{at}"), "must have a key, a text");
                };
                flag(key, spec, with_targeting)?;
            }
        }
        (None, _) => return wrong("flags", "is missing; give an object of flags by key"),
        _ => return wrong("flags", "must be an object of flags by key"),
    }
    if let Some(values) = file.get("metadata") {
        metadata(values, "metadata")?;
        for name in ["flagSetId", "version"] {
            if values.get(name).is_some_and(|value| !value.is_string()) {
                return wrong(&format!("metadata.{name}"), "must be a text");
            }
        }
    }
    match file.get("$evaluators") {
        None => Ok(()),
        Some(Value::Object(evaluators)) => {
            for (name, rule) in evaluators {
                let at = format!("$evaluators.{}", shown(name));
                if name.is_empty() {
                    return wrong(&at, "must have a name");
                }
                if with_targeting {
                    targeting(rule, &at)?;
                }
            }
            Ok(())
        }
        Some(_) => wrong("$evaluators", "must be an object of rules by name"),
    }
}

fn flag(key: &str, spec: &Value, with_targeting: bool) -> Checked {
    let at = format!("flags.{}", shown(key));
    if key.is_empty() {
        return wrong(&at, "must have a key of at least one character");
    }
    let Value::Object(spec) = spec else { return wrong(&at, "must be an object") };
    match spec.get("state").and_then(Value::as_str) {
        Some("ENABLED" | "DISABLED") => {}
        _ => return wrong(&format!("{at}.state"), "must be ENABLED or DISABLED"),
    }
    let in_variants = format!("{at}.variants");
    let Some(Value::Object(variants)) = spec.get("variants") else {
        return wrong(&in_variants, "is missing; give an object of values by name");
    };
    let mut values = variants.values();
    let Some(first) = values.next() else { return wrong(&in_variants, "must not be empty") };
    if variants.contains_key("") {
        return wrong(&in_variants, "must have names of at least one character");
    }
    if first.is_null() || first.is_array() {
        return wrong(&in_variants, "must be truths, numbers, texts or objects");
    }
    if values.any(|value| std::mem::discriminant(value) != std::mem::discriminant(first)) {
        return wrong(&in_variants, "must all be of one type");
    }
    match spec.get("defaultVariant") {
        None | Some(Value::Null | Value::String(_)) => {}
        Some(_) => return wrong(&format!("{at}.defaultVariant"), "must be a text or null"),
    }
    if let Some(values) = spec.get("metadata") {
        metadata(values, &format!("{at}.metadata"))?;
    }
    match spec.get("targeting") {
        None => Ok(()),
        Some(rule) if with_targeting => targeting(rule, &format!("{at}.targeting")),
        Some(Value::Object(_)) => Ok(()),
        Some(_) => wrong(&format!("{at}.targeting"), "must be an object"),
    }
}

fn metadata(values: &Value, at: &str) -> Checked {
    let Value::Object(values) = values else { return wrong(at, "must be an object") };
    for (name, value) in values {
        if !(value.is_string() || value.is_number() || value.is_boolean()) {
            return wrong(&format!("{at}.{}", shown(name)), "must be a text, number or truth");
        }
    }
    Ok(())
}

fn targeting(rule: &Value, at: &str) -> Checked {
    match rule {
        Value::Object(entries) if entries.is_empty() => Ok(()),
        Value::Object(entries) => operator(entries, at),
        _ => wrong(at, "must be a rule, an object with one operator"),
    }
}

/// Anything that may stand as an argument.
fn argument(value: &Value, at: &str) -> Checked {
    match value {
        Value::Object(entries) if reference(entries).is_some() => Ok(()),
        Value::Object(entries) => operator(entries, at),
        _ => Ok(()), // the schema does not look into lists
    }
}

fn reference(entries: &Map<String, Value>) -> Option<&str> {
    if entries.len() == 1 { entries.get("$ref")?.as_str() } else { None }
}

fn operator(entries: &Map<String, Value>, at: &str) -> Checked {
    let mut all = entries.iter();
    let (Some((name, given)), None) = (all.next(), all.next()) else {
        return wrong(at, "must have exactly one operator");
    };
    let at = &format!("{at}.{}", shown(name));
    let of = |fewest: usize, most: usize| {
        let Value::Array(list) = given else { return wrong(at, "must have a list of arguments") };
        if !(fewest..=most).contains(&list.len()) {
            return wrong(
                at,
                &format!("must have {fewest} to {most} arguments, not {}", list.len()),
            );
        }
        list.iter().try_for_each(|value| argument(value, at))
    };
    match name.as_str() {
        "var" => var(given, at),
        "missing" => texts(given, at),
        "missing_some" => match given.as_array().map(Vec::as_slice) {
            Some([Value::Number(_), names]) => texts(names, at),
            _ => wrong(at, "must have a number and a list of names"),
        },
        "==" | "===" | "!=" | "!==" | ">" | ">=" | "%" | "/" | "map" | "filter" | "all"
        | "none" | "some" | "in" => of(2, 2),
        "substr" | "<" | "<=" => of(2, 3),
        "*" => of(2, MANY),
        "reduce" => of(3, 3),
        "if" | "or" | "and" | "+" | "-" | "max" | "min" | "merge" | "cat" => of(1, MANY),
        "!" | "!!" => match given {
            Value::Array(_) => of(1, 1),
            single => argument(single, at),
        },
        "starts_with" | "ends_with" => match given.as_array().map(Vec::as_slice) {
            Some(both @ [_, _]) => both.iter().try_for_each(|value| match value {
                Value::String(_) => Ok(()),
                Value::Object(entries) => operator(entries, at),
                _ => wrong(at, "must compare texts"),
            }),
            _ => wrong(at, "must have two arguments"),
        },
        "sem_ver" => match given.as_array().map(Vec::as_slice) {
            Some([left, Value::String(sign), right]) => {
                if !["=", "!=", ">", "<", ">=", "<=", "~", "^"].contains(&sign.as_str()) {
                    return wrong(at, "must compare with =, !=, >, <, >=, <=, ~ or ^");
                }
                version(left, at)?;
                version(right, at)
            }
            _ => wrong(at, "must have a version, a sign and a version"),
        },
        "fractional" => fractional(given, at),
        _ => wrong(at, "is not an operator"),
    }
}

fn var(given: &Value, at: &str) -> Checked {
    match given {
        Value::String(path) if path.starts_with("$flagd.") => match path.as_str() {
            "$flagd.timestamp" | "$flagd.flagKey" => Ok(()),
            _ => wrong(at, "must be $flagd.timestamp or $flagd.flagKey, of flagd's own"),
        },
        _ => Ok(()),
    }
}

fn texts(given: &Value, at: &str) -> Checked {
    match given.as_array() {
        Some(list) if list.iter().all(Value::is_string) => Ok(()),
        _ => wrong(at, "must be a list of names"),
    }
}

fn version(given: &Value, at: &str) -> Checked {
    match given {
        Value::String(version) if Version::parse(version).is_some() => Ok(()),
        Value::Object(entries) if entries.len() == 1 => match entries.get("var") {
            Some(path) => var(path, at),
            None => wrong(at, "must compare versions or variables"),
        },
        _ => wrong(at, "must compare semantic versions such as 1.4.0"),
    }
}

fn fractional(given: &Value, at: &str) -> Checked {
    let Value::Array(list) = given else { return wrong(at, "must have a list of buckets") };
    let buckets = match list.split_first() {
        None => return wrong(at, "must have at least one bucket"),
        Some((Value::Object(key), buckets)) => {
            operator(key, at)?;
            buckets
        }
        Some(_) => &list[..],
    };
    buckets.iter().try_for_each(|bucket| match bucket.as_array().map(Vec::as_slice) {
        Some([variant]) => argument(variant, at),
        Some([variant, weight]) => {
            argument(variant, at)?;
            match weight {
                Value::Object(entries) => operator(entries, at),
                Value::Number(weight) if is_whole(weight) => Ok(()),
                _ => wrong(at, "must have whole weights of 0 or more"),
            }
        }
        _ => wrong(at, "must have buckets of the form [variant] or [variant, weight]"),
    })
}

/// JSON schema counts `1.0` as an integer.
fn is_whole(weight: &serde_json::Number) -> bool {
    weight.as_u64().is_some()
        || weight.as_f64().is_some_and(|weight| weight >= 0.0 && weight.fract() == 0.0)
}

fn wrong<T>(at: &str, problem: &str) -> Result<T, FlagdError> {
    Err(FlagdError::Shape { at: at.to_owned(), problem: problem.to_owned() })
}

const MANY: usize = usize::MAX;
