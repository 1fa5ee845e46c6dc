//! What `JsonLogic` makes of values of different types: the rules of JavaScript, as far as JSON
//! reaches.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Whether a value counts as true. An empty list does not.
pub(super) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) => true,
    }
}

/// The number a value stands for, NaN if none.
pub(super) fn number(value: &Value) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) if text.trim().is_empty() => 0.0,
        Value::String(text) => parse(text.trim()),
        Value::Array(_) | Value::Object(_) => f64::NAN,
    }
}

/// Rust would also read `nan` and `infinity`.
fn parse(text: &str) -> f64 {
    let looks_like_one = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if looks_like_one { text.parse().unwrap_or(f64::NAN) } else { f64::NAN }
}

/// A number as JSON holds it: whole where it is, null where it is none.
pub(super) fn from_number(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    if number.fract() == 0.0 && number.abs() < EXACT {
        return Value::Number((number as i64).into());
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// A value as text, as `cat` joins it.
pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64() {
            Some(float) if !number.is_i64() && !number.is_u64() => {
                Cow::Owned(from_number(float).to_string())
            }
            _ => Cow::Owned(number.to_string()),
        },
        Value::String(text) => Cow::Borrowed(text),
        Value::Array(list) => Cow::Owned(list.iter().map(text).collect::<Vec<_>>().join(",")),
        Value::Object(_) => Cow::Borrowed("[object Object]"),
    }
}

/// `==`: with coercion between numbers, texts and truths; null equals only null; lists and
/// objects equal nothing.
pub(super) fn loosely_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::String(left), Value::String(right)) => left == right,
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => false,
        _ => number(left) == number(right),
    }
}

/// `===`: the same type and value. `1` and `1.0` are the same number.
pub(super) fn strictly_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        (Value::Array(_) | Value::Object(_), _) => false,
        _ => left == right,
    }
}

/// The order of two values: texts by their letters, all others by their numbers; none if one is
/// no number.
pub(super) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    if let (Value::String(left), Value::String(right)) = (left, right) {
        return Some(left.cmp(right));
    }
    number(left).partial_cmp(&number(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_coerce_as_in_javascript() {
        assert!(loosely_equal(&json!(1), &json!("1")));
        assert!(loosely_equal(&json!(1), &json!(true)));
        assert!(!loosely_equal(&json!(0), &json!(null)));
        assert!(!loosely_equal(&json!("nan"), &json!("NaN")));
        assert!(!loosely_equal(&json!(f64::NAN), &json!("nan")));
        assert!(strictly_equal(&json!(1), &json!(1.0)));
        assert!(!strictly_equal(&json!(1), &json!("1")));
        assert!(number(&json!("inf")).is_nan() && number(&json!([1])).is_nan());
        assert_eq!(order(&json!("10"), &json!("9")), Some(Ordering::Less));
        assert_eq!(order(&json!("10"), &json!(9)), Some(Ordering::Greater));
        assert_eq!(order(&json!("x"), &json!(9)), None);
        assert_eq!(text(&json!(1.0)), "1");
        assert_eq!(text(&json!([1, null, "a"])), "1,,a");
        assert_eq!(from_number(0.1 + 0.2).to_string(), "0.30000000000000004");
        assert_eq!(from_number(f64::INFINITY), Value::Null);
    }

    #[test]
    fn emptiness_is_false() {
        for value in [json!(null), json!(0), json!(0.0), json!(""), json!([]), json!(false)] {
            assert!(!truthy(&value), "{value}");
        }
        for value in [json!("0"), json!([0]), json!({}), json!(-1)] {
            assert!(truthy(&value), "{value}");
        }
    }
}
